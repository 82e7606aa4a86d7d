"""The options of the training loop, alike for every method."""

from dataclasses import dataclass
from typing import Literal

from kglm.options import Count, Options, Rate, Share, Size, Weight


@dataclass(frozen=True)
class Training(Options):
    """One run's training; the values of KaLM's Table 3 for WN18RR where it gives them; 0 epochs train nothing."""

    epochs: Count = 20
    maximum_steps: Count = 0  # end after so many steps, the learning rate's schedule with them; 0: all epochs
    batch_size: Size = 24  # triples a step, over all processes
    learning_rate: Weight = 1.0e-4
    other_learning_rate: Weight = 0.0  # of all that is not the language model; 0: the same
    scheduler: Literal["constant", "constant_with_warmup", "cosine", "linear"] = "cosine"
    warmup_ratio: Share = 0.0
    weight_decay: Weight = 0.001
    beta1: Rate = 0.9
    beta2: Rate = 0.999
    maximum_gradient_norm: Weight = 1.0
    precision: Literal["bf16", "fp32"] = "bf16"
    validate_every_epochs: Count = 1  # 0: never, and the last weights are kept
    validation_triples: Count = 0  # how many of valid, evenly spaced; 0: all
    save_every_steps: Count = 0  # checkpoints to resume from; 0: once an epoch
    log_every_steps: Size = 10
    keep_epochs: bool = False  # the weights after each epoch, for analyses by epoch
    encoding_batch_size: Size = 64  # texts at once where no gradient is needed

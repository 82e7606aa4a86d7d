"""The options of the training loop, alike for every method."""

from dataclasses import dataclass, fields

from kglm.errors import InputError


@dataclass(frozen=True)
class Training:
    """One run's training; the values of KaLM's Table 3 for WN18RR where it gives them; 0 epochs train nothing."""

    epochs: int = 20
    maximum_steps: int = 0  # end after so many steps, the learning rate's schedule with them; 0: all epochs
    batch_size: int = 24  # triples a step, over all processes
    learning_rate: float = 1.0e-4
    other_learning_rate: float = 0.0  # of all that is not the language model; 0: the same
    scheduler: str = "cosine"
    warmup_ratio: float = 0.0
    weight_decay: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    maximum_gradient_norm: float = 1.0
    precision: str = "bf16"  # bf16 or fp32
    validate_every_epochs: int = 1  # 0: never, and the last weights are kept
    validation_triples: int = 0  # how many of valid, evenly spaced; 0: all
    save_every_steps: int = 0  # checkpoints to resume from; 0: once an epoch
    log_every_steps: int = 10
    keep_epochs: bool = False  # the weights after each epoch, for analyses by epoch
    encoding_batch_size: int = 64  # texts at once where no gradient is needed

    @classmethod
    def of(cls, options: dict) -> "Training":
        """From a run's specification; InputError names an unknown key."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(options) - known):
            raise InputError(f"unknown key {unknown[0]!r}", "training", f"choose among {', '.join(sorted(known))}")
        return cls(**options)

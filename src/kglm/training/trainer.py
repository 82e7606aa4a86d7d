"""transformers' Trainer, with checkpoints that hold only what is trained and that are either whole or unseen.

A signal ends a training where all processes agree on it: after a step, or between two pieces of a validation. The
checkpoint is written before the validation, so that a long one never costs the steps before it; whoever goes on from
there validates first.
"""

import contextlib
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate.utils import gather_object
from safetensors.torch import save_file
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from kglm.artefacts import read_tensors
from kglm.errors import InputError
from kglm.files import atomic_directory, atomic_file, read_json, write_json
from kglm.methods._interface import Method, restore
from kglm.training.optimiser import average_rows, clip, with_rows
from kglm.training.options import Training
from kglm.training.schedule import Schedule

TOKENS = "tokens"  # of a batch: how many the language model reads of it
WEIGHTS, HISTORY = "trainable.safetensors", "history.json"
_FULL = 2**20  # bytes: a disk with less is full


class MethodTrainer(Trainer):
    """Trains a Method on a Schedule; `validate()` is called at validation steps and chooses the best weights.

    history: {"log": one row every few steps, "best": step and criterion of the best validation, "due": whether the
    validation after the last step is still to be made; "tokens" read in "seconds" of training,
    validation left out; "elapsed": seconds of all sittings, of the "earlier" ones}.
    A checkpoint counts only once its history.json stands in it, which is written last.
    """

    def __init__(
        self,
        method: Method,
        schedule: Schedule,
        options: Training,
        arguments: TrainingArguments,
        validate: Callable[[], dict[str, float]],
    ):
        self.options, self.validate = options, validate
        self.history = {"log": [], "best": None, "due": False, "tokens": 0, "seconds": 0.0, "earlier": 0.0}
        self._begun = self._lap = time.monotonic()
        self._sums: dict[str, torch.Tensor | int] = {}  # of the open row; on the device: reading them waits for it
        super().__init__(
            model=method,
            args=arguments,
            train_dataset=schedule,
            data_collator=lambda items: {**items[0], TOKENS: method.tokens_read(items[0])},
            callbacks=[_Interruption(self), _Epochs(self)],  # signals are noted before anything is validated
        )
        # Ours is a mean over the batch: the Trainer has to divide it by the accumulation steps.
        self.loss_is_scaled_for_ga = False
        self.model_accepts_loss_kwargs = False
        self.interrupted = False  # here; see `stopping`
        self._agreed, self._group = False, None
        if self.accelerator.num_processes > 1:  # on the CPU: a GPU is not waited for
            self._group = torch.distributed.new_group(backend="gloo")

    def _get_train_sampler(self, train_dataset=None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # the schedule is shuffled already

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """The Trainer's; with `other_learning_rate`, what is not the method's language model learns at that rate."""
        made_before = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        other = self.options.other_learning_rate
        if other and not made_before:
            inside = {id(p) for module in self.method.language_model() for p in module.parameters()}
            for group in list(optimizer.param_groups):
                outside = [p for p in group["params"] if id(p) not in inside]
                group["params"] = [p for p in group["params"] if id(p) in inside]
                optimizer.add_param_group({**group, "params": outside, "lr": other})
        if not made_before:
            self.optimizer = optimizer = with_rows(optimizer, self.method.sparse_parameters())
        return optimizer

    def training_step(self, *arguments, **options) -> torch.Tensor:
        """The Trainer's, and sparse gradients are exchanged, which data-parallel training leaves to each process."""
        loss = super().training_step(*arguments, **options)
        average_rows(self.method.sparse_parameters())
        return loss

    def _clip_grad_norm(self, model) -> torch.Tensor:
        if self.method.sparse_parameters():
            return clip(model.parameters(), self.args.max_grad_norm)
        return super()._clip_grad_norm(model)

    def _get_grad_norm(self, model, grad_norm=None):
        if grad_norm is None and self.method.sparse_parameters():
            grad_norm = clip(model.parameters(), float("inf"))
        return super()._get_grad_norm(model, grad_norm)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The method's own loss; its parts are added to the open row of the log."""
        tokens = inputs.pop(TOKENS)
        output = model(**inputs)
        for name, value in output.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach().double()
        self._sums["steps"] = self._sums.get("steps", 0) + 1
        self.history["tokens"] += tokens * self.accelerator.num_processes
        return (output["loss"], output) if return_outputs else output["loss"]

    def sums(self) -> dict[str, float]:
        """Those of the open row; InputError where the loss was not finite in one of its steps."""
        names = [name for name in self._sums if name != "steps"]
        if not names:
            return {}
        values = torch.stack([torch.as_tensor(self._sums[name]) for name in names]).tolist()
        found = {**dict(zip(names, values, strict=True)), "steps": self._sums["steps"]}
        if not math.isfinite(found["loss"]):
            last, count = self.state.global_step, found["steps"]
            where = f"step {last}" if count == 1 else f"one of the steps {last - count + 1} to {last}"
            raise InputError(f"the loss is {found['loss']}", where, "lower the learning rate")
        return found

    def stopping(self) -> bool:
        """Whether a signal has reached any of the processes; all have to ask at the same places.

        A process that left alone would let the others wait for ever in their next exchange.
        """
        if self._group is None:
            self._agreed = self.interrupted
        elif not self._agreed:
            flag = torch.tensor(int(self.interrupted))
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, group=self._group)
            self._agreed = bool(flag)
        return self._agreed

    def validate_now(self) -> None:
        """Validate, note the result, and keep the weights if they are the best so far; `Interrupted` by a signal."""
        self.count_seconds()
        with self._interruptible():
            metrics = self.validate()
        self._lap = time.monotonic()
        step = self.state.global_step
        self.history["log"].append({"step": step, "epoch": self.epoch_of(step), "valid": metrics})
        best, criterion = self.history["best"], self.method.criterion
        if best is None or metrics[criterion] > best[criterion]:
            self.history["best"] = {"step": step, "epoch": self.epoch_of(step), criterion: metrics[criterion]}
            self.write_weights("best")
        self.history["due"] = False
        self.log({f"valid_{name}": value for name, value in metrics.items()})

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Between two pieces that the language models are given, of which all processes have equally many."""

        def look(module, arguments):
            if self.stopping():
                raise Interrupted

        # A method may call a model or the backbone inside it.
        models = [module for module in self.method.modules() if isinstance(module, PreTrainedModel)]
        hooks = [model.register_forward_pre_hook(look) for model in models]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def epoch_of(self, step: int) -> float:
        """The epochs done after `step` steps."""
        return round(step / self.train_dataset.steps_per_epoch, 4)

    def close_row(self) -> None:
        """End the open row of the log: means over its steps and over the processes, each of which has its share."""
        sums, step = self.sums(), self.state.global_step
        steps = sums.pop("steps")
        means = {name: total / steps for name, total in sums.items()}
        if self.accelerator.num_processes > 1:
            shares = torch.tensor(list(means.values()), dtype=torch.float64, device=self.args.device)
            means = dict(zip(means, self.accelerator.reduce(shares, "mean").tolist(), strict=True))
        rate = self._get_learning_rate()
        self.history["log"].append({"step": step, "epoch": self.epoch_of(step), "learning_rate": rate, **means})
        self._sums = {}

    def count_seconds(self) -> None:
        """Add what has passed since the last time, or since a validation."""
        now = time.monotonic()
        self.history["seconds"] += now - self._lap
        self.history["elapsed"] = self.history["earlier"] + now - self._begun
        self._lap = now

    def write_weights(self, name: str) -> None:
        """The method's own weight folder, as checkpoints/<name>."""
        if self.args.should_save:
            with atomic_directory(Path(self.args.output_dir) / name) as directory:
                self.method.save(directory)

    @property
    def method(self) -> Method:
        return self.accelerator.unwrap_model(self.model)

    # Checkpoints

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        if self.args.should_save:  # all processes are asked
            with atomic_file(Path(output_dir) / WEIGHTS) as temporary:
                save_file(self.method.trainable(), temporary)

    def _save_checkpoint(self, model, trial) -> None:
        open_row = self.sums()
        try:
            super()._save_checkpoint(model, trial)
        except RuntimeError as error:  # torch's writer does not say why
            if shutil.disk_usage(self.args.output_dir).free < _FULL:
                raise InputError("the disk is full", self.args.output_dir, "free some space and run again") from error
            raise
        sums = gather_object([open_row])  # each process has its share of the open row
        if self.args.should_save:
            self.count_seconds()
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            write_json(self.history | {"sums": sums}, folder / HISTORY)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        folder = Path(resume_from_checkpoint)
        restore(self.method, read_tensors(folder / WEIGHTS, "pt"), folder / WEIGHTS)
        history = read_json(folder / HISTORY)
        kind = {"dtype": torch.float64, "device": self.args.device}
        own = history.pop("sums")[self.accelerator.process_index]
        self._sums = {name: value if name == "steps" else torch.tensor(value, **kind) for name, value in own.items()}
        self.history = self.history | history | {"earlier": history["elapsed"]}


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None."""
    whole = [path.parent for path in Path(folder).glob(f"checkpoint-*/{HISTORY}")]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


class Interrupted(Exception):
    """A signal came during a validation; the checkpoint of the step before it is there."""


class _Epochs(TrainerCallback):
    """Closes rows of the log, keeps the weights of each epoch, and validates once their checkpoint is written."""

    def __init__(self, trainer: MethodTrainer):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        options, schedule = self.trainer.options, self.trainer.train_dataset
        epoch, within = divmod(state.global_step, schedule.steps_per_epoch)
        last = state.global_step == schedule.steps  # a part of an epoch counts as one at the end
        epoch, whole = epoch + (last and within > 0), within == 0 or last
        if state.global_step % options.log_every_steps == 0 or whole:
            self.trainer.close_row()
        if whole and options.keep_epochs:
            self.trainer.write_weights(f"epochs/{epoch}")
        every = options.validate_every_epochs
        if every and whole and (last or epoch % every == 0):
            self.trainer.history["due"] = control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        if self.trainer.history["due"]:
            if self.trainer.stopping():
                control.should_training_stop = True  # here: after another step, other weights would be validated
            else:
                self.trainer.validate_now()

    def on_train_begin(self, args, state, control, **kwargs):
        if self.trainer.history["due"]:  # where the training was left
            self.trainer.validate_now()


class _Interruption(TrainerCallback):
    """SIGTERM and SIGUSR1 (preemption, a time limit) end the training after the step at hand, with a checkpoint.

    Workers that load data inherit the handler: a signal to the whole group of processes leaves them alive.
    """

    def __init__(self, trainer: MethodTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.former = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGUSR1)}

    def _note(self, number, frame):
        self.trainer.interrupted = True

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.stopping():
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        for number, handler in self.former.items():
            signal.signal(number, handler)

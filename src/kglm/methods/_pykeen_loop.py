"""PyKEEN's training loops, with the options, the log and the checkpoints that all methods share.

PyKEEN's own checkpoints are pickles, made at the end of an epoch alone. Here its loop takes its batches from an
iterator of ours. Between two batches a step is whole: there the log is written and a checkpoint saved, there a signal
is answered and the next learning rate set. A checkpoint holds the chance that its epoch began with, too: whoever goes
on from the middle of an epoch draws its batches once more, up to where it was left.
"""

import contextlib
import gc
import json
import logging
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, TensorDataset

from kglm.errors import InputError
from kglm.files import atomic_directory, write_json
from kglm.methods._interface import FOREIGN, REQUEUE, Method

# PyKEEN makes its folders when it is imported: not in a home directory, which may be read-only.
with tempfile.TemporaryDirectory() as _folder:
    os.environ.setdefault("PYSTOW_HOME", _folder)
    from pykeen.training import LCWATrainingLoop, SLCWATrainingLoop, TrainingCallback
    from pykeen.training.training_loop import NonFiniteLossError, NoTrainingBatchError
    from pykeen.utils import set_random_seed
logging.getLogger("pykeen").setLevel(logging.ERROR)

STATE, HISTORY = "state.safetensors", "history.json"
KEPT = 2  # checkpoints
# The learning rate's share by the share of the steps that are done after warming up.
SCHEDULES = {
    "constant": lambda done: 1.0,
    "constant_with_warmup": lambda done: 1.0,
    "linear": lambda done: max(0.0, 1 - done),
    "cosine": lambda done: max(0.0, (1 + math.cos(math.pi * done)) / 2),
}


class _Watched:
    """A loop whose batches pass through its course."""

    course: "Course"

    def _create_training_data_loader(self, *arguments, **keywords):
        return self.course.watched(super()._create_training_data_loader(*arguments, **keywords))


class _SLCWA(_Watched, SLCWATrainingLoop):
    """Each true triple beside drawn false ones."""


class _LCWA(_Watched, LCWATrainingLoop):
    """Each (head, relation) beside all entities."""


class _OneVsAll(_Watched, LCWATrainingLoop):
    """Each triple by itself beside all entities: (head, relation) weighs as much as it has tails."""

    def _create_training_data_loader(self, triples_factory: Any, sampler: None, **keywords: Any) -> "_Batches":
        triples = triples_factory._add_inverse_triples_if_necessary(triples_factory.mapped_triples)
        return self.course.watched(DataLoader(TensorDataset(triples), **keywords))

    @staticmethod
    def _get_batch_size(batch: tuple[torch.Tensor]) -> int:
        return len(batch[0])

    def _process_batch(
        self, batch: tuple[torch.Tensor], start: int, stop: int, label_smoothing: float = 0.0, slice_size: None = None
    ) -> torch.Tensor:
        triples = batch[0][start:stop].to(self.model.device)
        labels = torch.nn.functional.one_hot(triples[:, 2], self.num_targets).float()
        scores = self.model.score_t(triples[:, :2])
        loss = self.loss.process_lcwa_scores(scores, labels, label_smoothing, self.num_targets)
        return loss + self.model.collect_regularization_term()


LOOPS = {"slcwa": _SLCWA, "lcwa": _LCWA, "1vsall": _OneVsAll}


class Course(TrainingCallback):
    """One training by a loop of LOOPS.

    options: as of `kglm.training.options.Training`; validate() gives the figures of which the method's criterion
    chooses the best weights. history: {"log": one row every few steps, "best": where, "sums": of the open row;
    "earlier": seconds of former sittings}.
    """

    def __init__(self, method: Method, loop: Any, options: Any, folder: Path, validate: Callable[[], dict[str, float]]):
        super().__init__()
        self.method, self.loop, self.options = method, loop, options
        self.folder, self.validate = Path(folder), validate
        self.history: dict[str, Any] = {"log": [], "best": None, "sums": {}, "earlier": 0.0}
        self.begun = time.monotonic()
        self.step = self.saved = self.total = self.steps_per_epoch = 0
        self.began = self.now = {}  # the chance when the epoch began, and that of the checkpoint resumed from
        self.interrupted = False
        loop.course = self

    def run(self, triples: Any, label_smoothing: float, seed: int) -> dict:
        """Train on a triples factory, from the newest checkpoint if there is one; the history.

        Weights: <folder>/best, or <folder>/last where nothing was validated. Leaves with REQUEUE after a signal.
        """
        latest = last_checkpoint(self.folder)
        if latest:
            self._resume(latest)
        else:
            set_random_seed(seed)
        if not latest or self.step < self.total:
            with self._signals(), _frozen_garbage():
                self._train(triples, label_smoothing, latest is not None)
        if not self.options.validate_every_epochs:
            self._write_weights("last")
        return self.history

    def _train(self, triples: Any, label_smoothing: float, resumed: bool) -> None:
        where = "training"
        try:
            self.loop.train(
                triples,
                num_epochs=self.options.epochs,
                batch_size=self.options.batch_size,
                label_smoothing=label_smoothing,
                continue_training=resumed,  # else PyKEEN draws the first weights anew
                callbacks=self,
                checkpoint_directory=self.folder,
                pin_memory=torch.cuda.is_available(),
                use_tqdm=False,
                use_tqdm_batch=False,
            )
        except NonFiniteLossError:
            raise InputError("the loss is not finite", f"step {self.step + 1}", "lower the learning rate") from None
        except NoTrainingBatchError:
            remedy = "lower the batch size: batch normalisation drops a last, smaller batch"
            raise InputError("not one whole batch", where, remedy) from None

    # The steps

    def watched(self, loader: Any) -> "_Batches":
        """The batches of every epoch, from PyKEEN's loader."""
        self.steps_per_epoch = len(loader)
        self.total = self.steps_per_epoch * self.options.epochs
        if self.options.maximum_steps:
            self.total = min(self.total, self.options.maximum_steps)
        self.rate = _rate(self.options, self.total)
        return _Batches(self, loader)

    def batches(self, loader: Any) -> Iterator[Any]:
        """The batches of this epoch that are left."""
        done = self.step % self.steps_per_epoch
        if done:
            _set_chance(self.began)
        else:
            self.began = _chance()
        batches = iter(loader)
        for _ in range(done):
            next(batches)
        if done:
            _set_chance(self.now)
        for batch in batches:
            for group in self.loop.optimizer.param_groups:
                group["lr"] = self.options.learning_rate * self.rate(self.step)
            yield batch
            self.step += 1
            if self.step % self.options.log_every_steps == 0:
                self._close_row()
            if self.step == self.total:
                return
            if self.step % self.steps_per_epoch:
                self._end_of_step()

    def on_batch(self, epoch: int, batch: Any, batch_loss: float, **keywords: Any) -> None:
        """The loss is added to the open row of the log."""
        sums = self.history["sums"]
        sums["loss"] = sums.get("loss", 0.0) + batch_loss
        sums["steps"] = sums.get("steps", 0) + 1

    def post_batch(self, epoch: int, batch: Any, **keywords: Any) -> None:
        """Clip the gradients before the optimiser's turn; PyKEEN 1.11's own clipping fails, its loop unknown to it."""
        if self.options.maximum_gradient_norm:
            torch.nn.utils.clip_grad_norm_(self.model.get_grad_params(), self.options.maximum_gradient_norm)

    def post_epoch(self, epoch: int, epoch_loss: float, **keywords: Any) -> None:
        """Log, keep the weights, validate, save."""
        if self.history["sums"]:
            self._close_row()
        if self.options.keep_epochs:
            self._write_weights(f"epochs/{epoch}")
        every, last = self.options.validate_every_epochs, self.step == self.total
        if every and (last or epoch % every == 0):
            self._validate()
        self.loop._should_stop = last  # where `maximum_steps` ends it
        if not last:
            self._end_of_step()

    def _end_of_step(self) -> None:
        every = self.options.save_every_steps or self.steps_per_epoch
        if self.interrupted or self.step // every > self.saved // every:
            self._save()
        if self.interrupted:
            print(f"saved at step {self.step} of {self.total}", file=sys.stderr)
            sys.exit(REQUEUE)

    def _epoch(self) -> float:
        return round(self.step / self.steps_per_epoch, 4)

    def _close_row(self) -> None:
        sums, rate = self.history["sums"], self.loop.optimizer.param_groups[0]["lr"]
        row = {"step": self.step, "epoch": self._epoch(), "learning_rate": rate, "loss": sums["loss"] / sums["steps"]}
        self.history["log"].append(row)
        self.history["sums"] = {}

    def _validate(self) -> None:
        self.method.eval()  # throughout, so that it need prepare its scoring only once
        metrics, where = self.validate(), {"step": self.step, "epoch": self._epoch()}
        self.method.train()
        self.history["log"].append({**where, "valid": metrics})
        best, criterion = self.history["best"], self.method.criterion
        if best is None or metrics[criterion] > best[criterion]:
            self.history["best"] = {**where, criterion: metrics[criterion]}
            self._write_weights("best")

    def _write_weights(self, name: str) -> None:
        with atomic_directory(self.folder / name) as directory:
            self.method.save(directory)

    # Checkpoints

    def _tensors(self) -> dict[str, torch.Tensor]:
        return dict(self.method.named_parameters()) | dict(self.method.named_buffers())

    def _save(self) -> None:
        state = {f"method.{name}": tensor for name, tensor in self._tensors().items()}
        state |= {f"began.{name}": value for name, value in self.began.items()}
        state |= {f"now.{name}": value for name, value in _chance().items()}
        for number, values in self.loop.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in values.items()}
        counts = {"step": self.step, "total": self.total, "steps_per_epoch": self.steps_per_epoch}
        counts["elapsed"] = self.history["earlier"] + time.monotonic() - self.begun
        with atomic_directory(self.folder / f"checkpoint-{self.step}") as directory:
            save_file({name: tensor.detach().contiguous() for name, tensor in state.items()}, directory / STATE)
            write_json({**self.history, **counts}, directory / HISTORY)
        self.saved = self.step
        for old in _checkpoints(self.folder)[:-KEPT]:
            shutil.rmtree(old)

    def _resume(self, folder: Path) -> None:
        history, state = json.loads((folder / HISTORY).read_text("utf-8")), load_file(folder / STATE)
        self.began, self.now = _part(state, "began."), _part(state, "now.")
        self.step = self.saved = history.pop("step")
        self.total, self.steps_per_epoch = history.pop("total"), history.pop("steps_per_epoch")
        history["earlier"] = history.pop("elapsed")
        self.history, saved, own = history, _part(state, "method."), self._tensors()
        if {name: tensor.shape for name, tensor in saved.items()} != {name: own[name].shape for name in own}:
            raise InputError(FOREIGN, folder, "train this run again")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(saved[name])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _part(state, "optimizer.").items():
            number, _, key = name.partition(".")
            moments.setdefault(int(number), {})[key] = tensor
        groups = self.loop.optimizer.state_dict()["param_groups"]
        self.loop.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.loop._epoch = self.step // self.steps_per_epoch
        _set_chance(self.now)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGUSR1 (preemption, a time limit) end the training after the step at hand."""

        def note(number, frame):
            self.interrupted = True

        former = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGUSR1)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


class _Batches:
    """What PyKEEN's loop goes through, once an epoch."""

    def __init__(self, course: Course, loader: Any):
        self.course, self.loader = course, loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return self.course.batches(self.loader)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None."""
    return next(reversed(_checkpoints(folder)), None)


def _checkpoints(folder: Path) -> list[Path]:
    whole = [path.parent for path in Path(folder).glob(f"checkpoint-*/{HISTORY}")]
    return sorted(whole, key=lambda path: int(path.name.rpartition("-")[2]))


def _rate(options: Any, total: int) -> Callable[[int], float]:
    """The share of the learning rate after so many steps: transformers' schedules, whose import takes seconds."""
    warmup = round(options.warmup_ratio * total)

    def share(step: int) -> float:
        if step < warmup:
            return step / warmup
        return SCHEDULES[options.scheduler]((step - warmup) / max(1, total - warmup))

    return share


def _part(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _chance() -> dict[str, torch.Tensor]:
    """The state of torch's random generators; PyKEEN draws from no others."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_chance(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


@contextlib.contextmanager
def _frozen_garbage() -> Iterator[None]:
    """PyKEEN collects garbage after each epoch: what is there already need not be looked through each time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

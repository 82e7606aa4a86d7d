"""What is trained on at which step: a function of the seed and the step alone, so that a resumed run sees the same."""

import numpy as np
from torch.utils.data import Dataset

from kglm.methods._interface import Method
from kglm.training.options import Training


class Schedule(Dataset):
    """All steps of a run, as a dataset of finished batches; item step · parts + p is the share of process p.

    Each epoch is one permutation of the training triples (inverse ones included); its last step may be smaller, and
    is dropped only where it cannot be shared out evenly among the processes.
    """

    def __init__(self, method: Method, triples: np.ndarray, options: Training, seed: int, parts: int = 1):
        self.method, self.triples, self.seed, self.parts = method, triples, seed, parts
        self.batch_size = options.batch_size
        self.steps_per_epoch = -(-(len(triples) // parts * parts) // self.batch_size)
        self.steps = self.steps_per_epoch * options.epochs
        if options.maximum_steps:
            self.steps = min(self.steps, options.maximum_steps)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def __len__(self) -> int:
        return self.steps * self.parts

    def batch(self, step: int) -> np.ndarray:
        """The triples (b, 3) of a step, over all processes."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.triples))
        rows = self._order[position * self.batch_size : (position + 1) * self.batch_size]
        return self.triples[rows[: len(rows) // self.parts * self.parts]]

    def __getitem__(self, item: int) -> dict:
        step, part = divmod(item, self.parts)
        generator = np.random.default_rng([self.seed, 1, step])
        return self.method.collate(self.batch(step), generator, part, self.parts)

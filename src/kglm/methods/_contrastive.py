"""InfoNCE over the rows and columns of a similarity matrix, with known true pairs left out of the negatives."""

import numpy as np
import torch
import torch.distributed as distributed

from kglm.kg.graph import Graph


def info_nce(
    similarity: torch.Tensor,
    excluded: torch.Tensor,
    temperature: torch.Tensor,
    margin: float,
    further: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean of the row and column losses (KaLM, Equations 1 and 2).

    similarity: (b, b), the positive pairs on the diagonal; excluded: bool (b, b), pairs that are no negatives (its
    diagonal is not looked at); the additive margin is taken off the positives; further: (b, m), logits of more
    negatives of the rows, −inf where there is none. Returns a scalar.
    """
    diagonal = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    logits = (similarity - margin * diagonal) / temperature
    logits = logits.masked_fill(excluded & ~diagonal, float("-inf"))
    targets = torch.arange(len(similarity), device=similarity.device)
    rows = logits if further is None else torch.cat([logits, further], dim=1)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(rows, targets) + cross_entropy(logits.T, targets)) / 2


def similarities(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Inner products (n, m) of the rows of (n, d) and (m, d), in float32 inside autocast, too.

    Autocast would multiply in bfloat16, whose 8 bits leave a few hundred distinct cosines: at a temperature of 0.05
    its steps of 0.004 are 0.08 of a logit.
    """
    with torch.autocast(first.device.type, enabled=False):
        return first.float() @ second.float().T


class KnownTriples(torch.nn.Module):
    """Which pairs (query i, tail j) of a batch are true triples of the training split, inverse ones included."""

    def __init__(self, graph: Graph):
        super().__init__()
        self._relations, self._entities = 2 * graph.relation_count, graph.entity_count
        triples = graph.split("train", inverse=True)
        keys = self._keys(
            torch.from_numpy(triples[:, 0]), torch.from_numpy(triples[:, 1]), torch.from_numpy(triples[:, 2])
        )
        self.register_buffer("keys", torch.unique(keys), persistent=False)

    def _keys(self, heads: torch.Tensor, relations: torch.Tensor, tails: torch.Tensor) -> torch.Tensor:
        return (heads * self._relations + relations) * self._entities + tails

    def forward(self, triples: torch.Tensor, tails: torch.Tensor | None = None) -> torch.Tensor:
        """Triples (b, 3) and tails (m,) or (b, m), by default their own: bool (b, m)."""
        tails = triples[:, 2] if tails is None else tails
        keys = self._keys(triples[:, 0, None], triples[:, 1, None], tails)
        position = torch.searchsorted(self.keys, keys).clamp_(max=max(len(self.keys) - 1, 0))
        return self.keys[position] == keys


def same_tail(triples: torch.Tensor) -> torch.Tensor:
    """Triples (b, 3) -> bool (b, b): columns whose tail is that of the row."""
    return triples[:, 2, None] == triples[None, :, 2]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context, local: torch.Tensor) -> torch.Tensor:
        context.rank, context.rows = distributed.get_rank(), len(local)
        parts = [torch.empty_like(local) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, local.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        return gradient[context.rank * context.rows : (context.rank + 1) * context.rows]


def gather(local: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in rank order, with gradients to each; every process must hold equally many rows.

    The loss over the gathered rows is the same on every process; the mean that data-parallel training takes over
    the processes then gives the gradients of one process with the whole batch.
    """
    alone = not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1)
    return local if alone else _Gather.apply(local)


def mean_over_processes(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """total / count, so that the mean of its gradients over the processes is that of global total / global count."""
    if distributed.is_available() and distributed.is_initialized():
        count = count.clone()
        distributed.all_reduce(count)
        return total * distributed.get_world_size() / count
    return total / count


def as_tensor(triples: np.ndarray) -> torch.Tensor:
    """Triples (b, 3) as int64."""
    return torch.from_numpy(np.ascontiguousarray(triples, dtype=np.int64))

"""Who is near whom in the training graph, and how much weight its entities and relations carry.

KG-BiLM lets entity tokens see each other where a path of at most h training triples joins them, whichever way the
triples point (Section 3.3 and Appendix C.1), and masks entities by PageRank and relation entropy (Appendix C.2).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sparse

from kglm.errors import InputError
from kglm.kg.graph import Graph

TABLE_BYTES = 2**26

_ROWS = 512  # of the table made at once
_NEIGHBOURS = 16  # of an entity that are tried at first
_PAIRS = 1024  # whose walks of more than one step are held at once


def adjacency(graph: Graph) -> sparse.csr_matrix:
    """bool (E, E): which entities a training triple joins, either way round; the diagonal is empty."""
    triples = graph.split("train")
    heads, tails = triples[triples[:, 0] != triples[:, 2]][:, [0, 2]].T.astype(np.int32)
    rows, columns = np.concatenate([heads, tails]), np.concatenate([tails, heads])
    shape = (graph.entity_count, graph.entity_count)
    return sparse.csr_matrix((np.ones(len(rows), bool), (rows, columns)), shape)


@dataclass(frozen=True)
class Neighbourhood:
    """Which entities lie within `hops` of each other.

    steps: bool (E, E), adjacency and diagonal, its columns sorted: one hop or none. table_bytes: a graph for which
    the answers of all pairs take no more, one bit each, has them in a table, once somebody asks.
    """

    hops: int
    steps: sparse.csr_matrix
    table_bytes: int = TABLE_BYTES

    @classmethod
    def of(cls, graph: Graph, hops: int, table_bytes: int = TABLE_BYTES) -> "Neighbourhood":
        """From the training triples."""
        if hops < 0:
            raise InputError(f"{hops} hops", "neighbourhood", "give 0 or more")
        steps = sparse.csr_matrix(adjacency(graph) + sparse.eye_array(graph.entity_count, dtype=bool, format="csr"))
        steps.sort_indices()
        return cls(hops, steps, table_bytes)

    @cached_property
    def table(self) -> np.ndarray | None:
        """uint8 (E + 1, ⌈(E + 1) / 8⌉): bit j (the lowest first) of row i says whether i and j are near.

        The last row and bit, for no entity, are 0. None where it would be too large.
        """
        fits = self.steps.shape[0] ** 2 / 8 <= self.table_bytes
        return _table(self.steps, self.hops) if fits else None

    def near(self, sequences: np.ndarray) -> np.ndarray:
        """Entity numbers int64 (b, m), -1 for none -> bool (b, m, m): entities within `hops` of each other.

        An entity is near itself; -1 is near nothing.
        """
        numbers = np.where(sequences < 0, self.steps.shape[0], sequences)
        if self.table is not None:
            return _look_up(self.table, numbers)
        first, second = np.broadcast_arrays(numbers[:, :, None], numbers[:, None, :])
        near = first == second
        asked = (first < second) & (second < self.steps.shape[0])
        pairs, places = np.unique(np.column_stack([first[asked], second[asked]]), axis=0, return_inverse=True)
        near[asked] = self._near_pairs(*pairs.T)[places.reshape(-1)]
        near |= near.transpose(0, 2, 1)
        near[(numbers == self.steps.shape[0])[:, :, None] | (numbers == self.steps.shape[0])[:, None, :]] = False
        return near

    def around(self, entities: np.ndarray) -> sparse.csr_matrix:
        """Entity numbers (n,) -> bool (n, E): what lies within `hops` of each, itself included."""
        return _walks(self.steps, entities, self.hops)

    def _near_pairs(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Entities (n,) that differ from their partners (n,) -> bool (n,)."""
        if self.hops == 0:
            return np.zeros(len(first), bool)
        if self.hops == 1:
            return _joined(self.steps, first, second)
        if self.hops == 2:
            return _meet(self.steps, first, second)
        return np.concatenate(
            [np.empty(0, bool)]
            + [self._common(first[at : at + _PAIRS], second[at : at + _PAIRS]) for at in range(0, len(first), _PAIRS)]
        )

    def _common(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Whether walks from both ends, half the hops each, have an entity in common."""
        further = _walks(self.steps, first, self.hops - self.hops // 2)
        nearer = _walks(self.steps, second, self.hops // 2)
        return further.multiply(nearer).getnnz(axis=1) > 0


def _joined(steps: sparse.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """steps[rows, columns], bool (n,), by bisection: SciPy's own look-up would first read the whole matrix."""
    low, high = steps.indptr[rows].astype(np.int64), steps.indptr[rows + 1].astype(np.int64)
    end, last = high, len(steps.indices) - 1
    while (low < high).any():
        middle = (low + high) // 2
        less = (low < high) & (steps.indices[np.minimum(middle, last)] < columns)
        low, high = np.where(less, middle + 1, low), np.where(less, high, np.minimum(high, middle))
    return (low < end) & (steps.indices[np.minimum(low, last)] == columns)


def _meet(steps: sparse.csr_matrix, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether entities (n,) and (n,) are joined or have a neighbour in common: bool (n,).

    The neighbours of the one that has fewer are tried, some of them and then more: two that have very many usually
    share one of the first.
    """
    degree = np.diff(steps.indptr).astype(np.int64)
    swap = degree[first] > degree[second]
    few, many = np.where(swap, second, first), np.where(swap, first, second)
    found, tried, count = np.zeros(len(few), bool), np.zeros(len(few), np.int64), _NEIGHBOURS
    waiting = np.arange(len(few))
    while len(waiting):
        size = np.minimum(degree[few[waiting]] - tried[waiting], count)
        pair = np.repeat(waiting, size)
        within = np.arange(len(pair)) - np.repeat(np.cumsum(size) - size, size)
        between = steps.indices[steps.indptr[few[pair]] + tried[pair] + within]
        found[pair[_joined(steps, many[pair], between)]] = True
        tried[waiting] += size
        waiting = waiting[~found[waiting] & (tried[waiting] < degree[few[waiting]])]
        count *= 4
    return found


def _walks(steps: sparse.csr_matrix, entities: np.ndarray, hops: int) -> sparse.csr_matrix:
    """bool (n, E): what is within `hops` of each entity."""
    if not hops:
        ones = np.ones(len(entities), bool)
        return sparse.csr_matrix((ones, (np.arange(len(entities)), entities)), (len(entities), steps.shape[1]))
    rows = steps[entities]
    for _ in range(hops - 1):
        rows = rows @ steps
    return rows


def _table(steps: sparse.csr_matrix, hops: int) -> np.ndarray:
    count = steps.shape[0]
    table = np.zeros((count + 1, count // 8 + 1), np.uint8)
    for at in range(0, count, _ROWS):
        entities = np.arange(at, min(at + _ROWS, count))
        packed = np.packbits(_walks(steps, entities, hops).toarray(), axis=1, bitorder="little")
        table[at : at + len(packed), : packed.shape[1]] = packed
    return table


def _look_up(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    cells = (numbers * table.shape[1])[:, :, None] + (numbers >> 3)[:, None, :]
    bits = (1 << (numbers & 7)).astype(np.uint8)
    return table.reshape(-1).take(cells) & bits[:, None, :] != 0


def page_rank(graph: Graph, damping: float = 0.85, tolerance: float = 1e-10) -> np.ndarray:
    """float64 (E,), summing to 1: where a walk along training triples, from head to tail, is found at last.

    It begins anew at any entity with the probability 1 - damping, and wherever no triple leads on (Page et al., "The
    PageRank Citation Ranking", 1999). Each triple is a link of its own. Power iteration until two results differ by
    less than `tolerance` in sum.
    """
    count, (heads, _, tails) = graph.entity_count, graph.split("train").T
    links = sparse.csr_matrix((np.ones(len(heads)), (tails, heads)), (count, count))
    leaving = np.bincount(heads, minlength=count)
    rank, before = np.full(count, 1 / max(count, 1)), np.full(count, np.inf)
    while np.abs(rank - before).sum() > tolerance:
        before = rank
        anew = 1 - damping * before[leaving > 0].sum()
        rank = damping * (links @ (before / leaving.clip(min=1))) + anew / count
    return rank


def relation_entropy(graph: Graph) -> np.ndarray:
    """float64 (R,), in nats: the entropy of the tails that a relation has in the training triples; 0 without any."""
    pairs, counts = np.unique(graph.split("train")[:, [1, 2]], axis=0, return_counts=True)
    relations = pairs[:, 0]
    totals = np.bincount(relations, counts, graph.relation_count)
    shares = counts / totals[relations]
    return np.bincount(relations, -shares * np.log(shares), graph.relation_count)

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

    def near(self, sequences: np.ndarray, without: np.ndarray | None = None) -> np.ndarray:
        """Entity numbers int64 (b, m), -1 for none -> bool (b, m, m): entities within `hops` of each other.

        An entity is near itself; -1 is near nothing. without: int64 (b, 2), two entities of each row whose joint no
        path of that row may use, -1 for none.
        """
        near = self._near(sequences)
        if without is None or not self.hops:
            return near
        different = sequences[:, :, None] != sequences[:, None, :]
        doubtful = self._may_use(sequences, without) if self.hops <= 2 else without[:, :1, None] >= 0
        rows, i, j = np.nonzero(np.triu(near & different & doubtful, 1))
        asked = np.column_stack([sequences[rows, i], sequences[rows, j], without[rows]])
        pairs, places = np.unique(asked, axis=0, return_inverse=True)
        found = self._near_pairs(pairs[:, 0], pairs[:, 1], pairs[:, 2:])[places.reshape(-1)]
        near[rows, i, j] = near[rows, j, i] = found
        return near

    def _may_use(self, sequences: np.ndarray, joints: np.ndarray) -> np.ndarray:
        """Which pairs (b, m, m) a path of two steps or fewer over the joint (b, 2) can join.

        It begins or ends with the joint: from one end of it over the other to what is joined to that.
        """
        used = np.zeros((*sequences.shape, sequences.shape[1]), bool)
        for end, middle in (joints.T, joints.T[::-1]):
            at_end = (sequences == end[:, None]) & (sequences >= 0)
            rows, beyond = np.nonzero(at_end.any(axis=1)[:, None] & (sequences >= 0))
            joined = np.zeros(sequences.shape, bool)
            joined[rows, beyond] = _joined(self.steps, middle[rows], sequences[rows, beyond])
            used |= at_end[:, :, None] & joined[:, None, :]
        return used | used.transpose(0, 2, 1)

    def _near(self, sequences: np.ndarray) -> np.ndarray:
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

    def _near_pairs(self, first: np.ndarray, second: np.ndarray, without: np.ndarray | None = None) -> np.ndarray:
        """Entities (n,) that differ from their partners (n,) -> bool (n,); `without` (n, 2) as in `near`."""
        if self.hops == 0:
            return np.zeros(len(first), bool)
        if self.hops == 1:
            return _joined(self.steps, first, second, without)
        if self.hops == 2:
            return _meet(self.steps, first, second, without)
        found = [np.empty(0, bool)]
        for at in range(0, len(first), _PAIRS):
            part = slice(at, at + _PAIRS)
            found.append(self._common(first[part], second[part], None if without is None else without[part]))
        return np.concatenate(found)

    def _common(self, first: np.ndarray, second: np.ndarray, without: np.ndarray | None = None) -> np.ndarray:
        """Whether walks from both ends, half the hops each, have an entity in common; `without` as in `_walks`."""
        further = _walks(self.steps, first, self.hops - self.hops // 2, without)
        nearer = _walks(self.steps, second, self.hops // 2, without)
        return further.multiply(nearer).getnnz(axis=1) > 0


def _joined(
    steps: sparse.csr_matrix, rows: np.ndarray, columns: np.ndarray, without: np.ndarray | None = None
) -> np.ndarray:
    """steps[rows, columns], bool (n,), by bisection: SciPy's own look-up would first read the whole matrix.

    False for the two entities of `without` (n, 2), whichever is the row.
    """
    low, high = steps.indptr[rows].astype(np.int64), steps.indptr[rows + 1].astype(np.int64)
    end, last = high, len(steps.indices) - 1
    while (low < high).any():
        middle = (low + high) // 2
        less = (low < high) & (steps.indices[np.minimum(middle, last)] < columns)
        low, high = np.where(less, middle + 1, low), np.where(less, high, np.minimum(high, middle))
    joined = (low < end) & (steps.indices[np.minimum(low, last)] == columns)
    return joined if without is None else joined & ~_is_joint(rows, columns, without)


def _is_joint(first: np.ndarray, second: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Whether entities (n,) and (n,) are the two of `without` (n, 2), either way round: bool (n,)."""
    one, other = without.T
    return (first == one) & (second == other) | (first == other) & (second == one)


def _meet(
    steps: sparse.csr_matrix, first: np.ndarray, second: np.ndarray, without: np.ndarray | None = None
) -> np.ndarray:
    """Whether entities (n,) and (n,) are joined or have a neighbour in common, but for the joint `without` (n, 2).

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
        barred = None if without is None else without[pair]
        joined = _joined(steps, many[pair], between, barred)
        if barred is not None:
            joined &= ~_is_joint(few[pair], between, barred)
        found[pair[joined]] = True
        tried[waiting] += size
        waiting = waiting[~found[waiting] & (tried[waiting] < degree[few[waiting]])]
        count *= 4
    return found


def _walks(
    steps: sparse.csr_matrix, entities: np.ndarray, hops: int, without: np.ndarray | None = None
) -> sparse.csr_matrix:
    """bool (n, E): what is within `hops` of each entity, not over the joint of its row in `without` (n, 2)."""
    shape = (len(entities), steps.shape[1])
    rows = sparse.csr_matrix((np.ones(len(entities), bool), (np.arange(len(entities)), entities)), shape)
    for step in range(hops):
        if without is not None:
            rows = _step_without(rows, steps, without)
            continue
        rows = rows @ steps if step else steps[entities]
    return rows


def _step_without(rows: sparse.csr_matrix, steps: sparse.csr_matrix, without: np.ndarray) -> sparse.csr_matrix:
    """`rows @ steps`, bool (n, E), by other ways than the joint (n, 2): ways are counted, those over it taken off."""
    numbers = np.arange(len(without))[:, None]
    there = rows[numbers, without].toarray().astype(np.int32)
    places = np.repeat(numbers, 2), without.reshape(-1)
    over_joint = sparse.csr_matrix((there[:, ::-1].reshape(-1), places), rows.shape)
    return rows.astype(np.int32) @ steps.astype(np.int32) - over_joint > 0


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

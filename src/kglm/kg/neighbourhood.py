"""Who is near whom in the training graph, and how much weight its entities and relations carry.

KG-BiLM lets entity tokens see each other where a path of at most h training triples joins them, whichever way the
triples point (Section 3.3 and Appendix C.1), and masks entities by PageRank and relation entropy (Appendix C.2).
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from kglm.errors import InputError
from kglm.kg.graph import Graph

# Up to so many bytes the answers for all pairs of entities are held, one bit each.
TABLE_BYTES = 2**28

_ROWS = 512  # of the table made at once
_DISTINCT = 2048  # entities multiplied at once where there is no table
_FILLED = 2**28  # bits of their rows, where more than two hops leave these hardly sparse


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

    steps: bool (E, E), adjacency and diagonal: one hop or none. table: uint8 (E + 1, ⌈(E + 1) / 8⌉), bit j (the
    lowest first) of row i says whether i and j are near; the last row and bit, for no entity, are 0. Without a
    table, near() multiplies the rows of the entities that it is asked about.
    """

    hops: int
    steps: sparse.csr_matrix
    table: np.ndarray | None

    @classmethod
    def of(cls, graph: Graph, hops: int, table_bytes: int = TABLE_BYTES) -> "Neighbourhood":
        """From the training triples; no table is made that would take more than `table_bytes`."""
        if hops < 0:
            raise InputError(f"{hops} hops", "neighbourhood", "give 0 or more")
        steps = adjacency(graph) + sparse.eye_array(graph.entity_count, dtype=bool, format="csr")
        fits = graph.entity_count**2 / 8 <= table_bytes
        return cls(hops, steps, _table(steps, hops) if fits else None)

    def near(self, sequences: np.ndarray) -> np.ndarray:
        """Entity numbers int64 (b, m), -1 for none -> bool (b, m, m): entities within `hops` of each other.

        An entity is near itself; -1 is near nothing.
        """
        numbers = np.where(sequences < 0, self.steps.shape[0], sequences)
        if self.table is not None:
            return _look_up(self.table, numbers)
        group = max(self._distinct_at_once() // max(numbers.shape[1], 1), 1)
        parts = [self._near_by_products(numbers[at : at + group]) for at in range(0, len(numbers), group)]
        return np.concatenate([np.zeros((0, *numbers.shape[1:], numbers.shape[1]), bool), *parts])

    def around(self, entities: np.ndarray) -> sparse.csr_matrix:
        """Entity numbers (n,) -> bool (n, E): what lies within `hops` of each, itself included."""
        return _walks(self.steps, entities, self.hops)

    def _distinct_at_once(self) -> int:
        return _DISTINCT if self.hops <= 2 else min(_DISTINCT, _FILLED // self.steps.shape[0])

    def _near_by_products(self, numbers: np.ndarray) -> np.ndarray:
        distinct, places = np.unique(numbers, return_inverse=True)
        places = places.reshape(numbers.shape)
        entities = distinct[distinct < self.steps.shape[0]]
        meeting = np.zeros((len(distinct), len(distinct)), bool)
        meeting[: len(entities), : len(entities)] = self._meeting(entities)
        return meeting[places[:, :, None], places[:, None, :]]

    def _meeting(self, entities: np.ndarray) -> np.ndarray:
        """(n,) -> bool (n, n): whether walks from both ends, half the hops each, have an entity in common."""
        further = _walks(self.steps, entities, self.hops - self.hops // 2)
        nearer = _walks(self.steps, entities, self.hops // 2)
        return (further @ nearer.T).toarray()


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

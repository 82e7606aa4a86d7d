"""False triples: a true one with its head or its tail replaced, so that no known true triple comes out.

The same draw serves the negatives that are stored with a dataset and those that a method draws as it trains (LMKE,
Section 4.1).
"""

from collections.abc import Callable, Sequence

import numpy as np

from kglm.errors import InputError
from kglm.kg.graph import SPLITS, Graph

_ROUNDS = 16  # of rejection; of the triples still left all replacements are then listed, one triple at a time


def triple_keys(triples: np.ndarray, graph: Graph) -> np.ndarray:
    """One int64 (n,) a triple (n, 3), different for different triples."""
    triples = np.asarray(triples, np.int64)
    return (triples[:, 0] * graph.relation_count + triples[:, 1]) * graph.entity_count + triples[:, 2]


def true_keys(graph: Graph, splits: Sequence[str] = SPLITS) -> np.ndarray:
    """The distinct keys of the true triples of some splits, sorted."""
    return np.unique(np.concatenate([triple_keys(graph.split(name), graph) for name in splits]))


def among(values: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Which values (n,) stand in the sorted pool; by sorting, for numpy hashes keys with regular gaps very slowly."""
    if not len(pool):
        return np.zeros(len(values), bool)
    return pool[np.searchsorted(pool, values).clip(max=len(pool) - 1)] == values


def corrupted(
    triples: np.ndarray,
    known_keys: np.ndarray,
    graph: Graph,
    generator: np.random.Generator,
) -> np.ndarray:
    """One false triple for each of `triples` (n, 3), int64 (n, 3).

    Head or tail, with equal chance, is replaced by an entity drawn uniformly from those that make neither the triple
    itself nor a known one; where there is none, the other end is. `known_keys` is sorted (see `true_keys`). InputError
    for a triple of which nothing else is left at either end.
    """
    triples = np.asarray(triples, np.int64)
    false, ends = triples.copy(), generator.choice([0, 2], len(triples))
    left = np.arange(len(triples))

    def refused(drawn: np.ndarray, of: np.ndarray) -> np.ndarray:
        return (drawn == of).all(axis=1) | among(triple_keys(drawn, graph), known_keys)

    for _ in range(_ROUNDS):
        if not len(left):
            break
        false[left, ends[left]] = generator.integers(graph.entity_count, size=len(left))
        left = left[refused(false[left], triples[left])]
    for row in left:
        false[row] = _from_the_rest(triples[row], ends[row], graph, refused, generator)
    return false


def _from_the_rest(
    triple: np.ndarray, end: int, graph: Graph, refused: Callable, generator: np.random.Generator
) -> np.ndarray:
    """A false triple (3,), drawn from all that this end of `triple` (3,) allows, or else the other end."""
    for column in (end, 2 - end):
        possible = np.repeat(triple[None], graph.entity_count, axis=0)
        possible[:, column] = np.arange(graph.entity_count)
        possible = possible[~refused(possible, triple)]
        if len(possible):
            return possible[generator.integers(len(possible))]
    head, tail = graph.entities["id"].iloc[triple[[0, 2]]]
    told = f"({head}, {graph.relations['id'].iloc[triple[1]]}, {tail})"
    what = f"every other head and every other tail makes a true triple of {told}, so that it has no false one"
    raise InputError(what, "negatives", "leave this triple out, or draw no negatives (as StAR, KG-BERT and LMKE do)")

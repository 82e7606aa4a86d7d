"""Splitting a graph: by triples, all entities known in train, or by entities, none of them known."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kglm.errors import InputError

# Beside 0 train, 1 valid and 2 test: triples that split_entities leaves out, and why.
BETWEEN_SETS, RELATION_NOT_IN_TRAIN = -1, -2


# Of two relations each has so large a part of the other's triples the other way round where one is the other's inverse.
_INVERSE = 0.8


def split_triples(triples: np.ndarray, ratio: Sequence[float], seed: int, where: object) -> np.ndarray:
    """The split, 0 train, 1 valid, 2 test, of each row of `triples`, integer (n, 3).

    What says the same goes to the same split: equal rows, (h, r, t) and (t, r, h), and (t, r', h) where r' is the
    inverse of r (see `inverse_relations`). The outcome depends on the set of triples and the seed alone. The distinct
    triples are shuffled, such groups whole; each group that is the first to mention an entity or a relation goes to
    train, so that valid and test hold nothing unseen. The others fill valid, test and then train by `ratio`; where
    they are too few, valid and test shrink in proportion. InputError where valid or test would be empty.
    """
    distinct, copies = np.unique(triples, axis=0, return_inverse=True)
    groups = _said_twice(distinct)
    order = np.random.default_rng(seed).permutation(int(groups.max()) + 1 if len(groups) else 0)
    shuffled = np.argsort(np.argsort(order)[groups], kind="stable")
    first = np.zeros(len(order), bool)
    first[groups[shuffled[_first_mentions(distinct[shuffled])]]] = True
    sizes, free = np.bincount(groups, minlength=len(order)), order[~first[order]]
    valid, test = wanted_sizes(len(distinct), ratio)
    most = int(sizes[free].sum())
    if valid + test > most:
        valid = most * valid // (valid + test)
        test = most - valid
    of_groups = np.zeros(len(order), np.int8)
    middles = np.cumsum(sizes[free]) - sizes[free] / 2  # the group on a boundary goes where more of it lies
    to_valid = int(np.searchsorted(middles, valid, side="right"))
    to_test = int(np.searchsorted(middles, sizes[free[:to_valid]].sum() + test, side="right"))
    of_groups[free[:to_valid]] = 1
    of_groups[free[to_valid:to_test]] = 2
    splits = of_groups[groups]
    found = np.bincount(splits, minlength=3)
    if not found[1:].all():
        what = f"{most} of {len(distinct)} triples could leave train: {found[1]} to valid, {found[2]} to test"
        raise InputError(what, where, "give more triples, a larger share, or three split files")
    return splits[copies.reshape(-1)]


def wanted_sizes(count: int, ratio: Sequence[float]) -> tuple[int, int]:
    """How many of so many distinct triples `ratio` asks for in valid and in test."""
    shares = np.asarray(ratio, float) / sum(ratio)
    valid, test = (int(np.floor(share * count + 0.5)) for share in shares[1:])
    return valid, test


def inverse_relations(triples: np.ndarray) -> np.ndarray:
    """Pairs (r, r') of relations that say the same the other way round: integer (k, 2), with each pair its mirror.

    triples: distinct rows (n, 3). r' is an inverse of r where at least four fifths of the triples of each stand,
    reversed, among those of the other. A symmetric relation is its own.
    """
    pairs, counts = _reversed_pairs(triples)
    if not len(pairs):
        return pairs
    of_relation = np.bincount(triples[:, 1])
    return pairs[(counts[:, None] >= _INVERSE * of_relation[pairs]).all(axis=1)]


def _reversed_pairs(triples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of relations (k, 2) and how many triples (h, r, t) there are to which (t, r', h) is one, too."""
    here, there = _matches(triples)
    if not len(here):
        return np.empty((0, 2), np.int64), np.empty(0, np.int64)
    linked = np.stack([triples[here, 1], triples[there, 1]], axis=1).astype(np.int64)
    return np.unique(linked, axis=0, return_counts=True)


def _matches(triples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (i, j) of all triples whose ends are each other's, reversed; no loop among them."""
    proper = np.flatnonzero(triples[:, 0] != triples[:, 2])
    rows = pd.DataFrame({"head": triples[proper, 0], "tail": triples[proper, 2], "row": proper})
    met = rows.merge(rows.rename(columns={"head": "tail", "tail": "head", "row": "other"}), on=["head", "tail"])
    return met["row"].to_numpy(), met["other"].to_numpy()


def _said_twice(distinct: np.ndarray) -> np.ndarray:
    """The group (n,) of each of the distinct triples, numbered in the order of their first members."""
    here, there = _matches(distinct)
    inverse = inverse_relations(distinct).astype(np.int64)
    one, other = distinct[here, 1].astype(np.int64), distinct[there, 1].astype(np.int64)
    count = int(distinct[:, 1].max()) + 1
    same = (one == other) | np.isin(one * count + other, inverse[:, 0] * count + inverse[:, 1])
    links = coo_array((np.ones(int(same.sum()), np.int8), (here[same], there[same])), shape=(len(distinct),) * 2)
    _, groups = connected_components(links, directed=False)
    _, first, groups = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[groups]


def _first_mentions(triples: np.ndarray) -> np.ndarray:
    """Which rows are the first to mention their head, their tail (as head or tail) or their relation."""
    first = np.zeros(len(triples), bool)
    _, mentions = np.unique(triples[:, [0, 2]].reshape(-1), return_index=True)
    first[mentions // 2] = True
    _, mentions = np.unique(triples[:, 1], return_index=True)
    first[mentions] = True
    return first


def split_entities(triples: np.ndarray, shares: Mapping[str, float], seed: int, where: object) -> np.ndarray:
    """The split of each row of `triples`, integer (n, 3), such that no entity stands in two splits.

    0 train, 1 valid, 2 test; BETWEEN_SETS where the two ends are not in one set, RELATION_NOT_IN_TRAIN where the
    relation of a valid or test triple is in no training triple. The entities of all rows are shuffled; the first
    go to valid and the next to test by `shares`, the others to train. The outcome depends on the set of triples and
    the seed alone. InputError where a split would be empty.
    """
    entities = np.unique(triples[:, [0, 2]])
    valid, test = (int(np.floor(shares[name] * len(entities) + 0.5)) for name in ("valid", "test"))
    sets = np.zeros(len(entities), np.int8)
    order = np.random.default_rng(seed).permutation(len(entities))
    sets[order[:valid]] = 1
    sets[order[valid : valid + test]] = 2
    heads, tails = (sets[np.searchsorted(entities, triples[:, end])] for end in (0, 2))
    splits = np.where(heads == tails, heads, np.int8(BETWEEN_SETS))
    known = np.isin(triples[:, 1], triples[splits == 0, 1])
    splits[(splits > 0) & ~known] = RELATION_NOT_IN_TRAIN
    counts = [int((splits == split).sum()) for split in range(3)]
    if not all(counts):
        what = "of {} triples {} would be in train, {} in valid and {} in test".format(len(triples), *counts)
        raise InputError(what, where, "choose other shares or another seed, or give more triples")
    return splits

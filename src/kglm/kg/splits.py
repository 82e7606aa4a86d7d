"""Splitting a graph: by triples, all entities known in train, or by entities, none of them known."""

from collections.abc import Mapping, Sequence

import numpy as np

from kglm.errors import InputError

# Beside 0 train, 1 valid and 2 test: triples that split_entities leaves out, and why.
BETWEEN_SETS, RELATION_NOT_IN_TRAIN = -1, -2


def split_triples(triples: np.ndarray, ratio: Sequence[float], seed: int, where: object) -> np.ndarray:
    """The split, 0 train, 1 valid, 2 test, of each row of `triples`, integer (n, 3).

    Equal rows go to the same split, and the outcome depends on the set of triples and the seed alone. The
    distinct triples are shuffled; each one that is the first to mention an entity or a relation goes to
    train, so that valid and test hold nothing unseen. The others fill test, valid and then train by `ratio`;
    where they are too few, valid and test shrink in proportion. InputError where valid or test would be
    empty.
    """
    distinct, copies = np.unique(triples, axis=0, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(distinct))
    shuffled = distinct[order]
    free = order[~_first_mentions(shuffled)]
    shares = np.asarray(ratio, float) / sum(ratio)
    valid, test = (int(np.floor(share * len(distinct) + 0.5)) for share in shares[1:])
    if valid + test > len(free):
        valid = len(free) * valid // (valid + test)
        test = len(free) - valid
    if not (valid and test):
        what = f"{len(free)} of {len(distinct)} triples could leave train: {valid} to valid, {test} to test"
        raise InputError(what, where, "give more triples, a larger share, or three split files")
    splits = np.zeros(len(distinct), np.int8)
    splits[free[:valid]] = 1
    splits[free[valid : valid + test]] = 2
    return splits[copies.reshape(-1)]


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

"""Splitting an own graph that comes as one file."""

from collections.abc import Sequence

import numpy as np

from kglm.errors import InputError


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

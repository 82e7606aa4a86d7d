"""What is ranked: the targets of the queries, and the known answers that are no candidates."""

from typing import NamedTuple

import numpy as np

from kglm.errors import InputError


class Ranks(NamedTuple):
    """Ranks of n targets among their candidates (target included): int64 (n,), but `realistic` is float64."""

    optimistic: np.ndarray
    realistic: np.ndarray
    pessimistic: np.ndarray
    candidates: np.ndarray


def ranks_of(greater: np.ndarray, not_less: np.ndarray, candidates: np.ndarray) -> Ranks:
    """Ranks from the numbers of candidates that score > and >= the target, itself among the latter.

    Berrendorf et al., "On the ambiguity of rank-based evaluation of entity alignment or link prediction
    methods", 2020.
    """
    optimistic = greater + 1
    return Ranks(optimistic, (optimistic + not_less) / 2, not_less, candidates)


def checked_targets(targets: np.ndarray, entity_count: int) -> np.ndarray:
    """Targets as int64 (n,); InputError where one is no number of an entity."""
    targets = _integers(targets, "targets")
    if len(targets) and not entity_count:
        raise InputError("there is no entity to rank", "entities", "give at least one")
    _check_entities(targets, entity_count, "targets")
    return targets


def filtered_pairs(
    known: tuple[np.ndarray, np.ndarray], targets: np.ndarray, entity_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct (query, entity) pairs that are no candidates, two sorted int64 arrays; no target is."""
    indptr, indices = _integers(known[0], "known indptr"), _integers(known[1], "known indices")
    ends = [*indptr[:1], *indptr[-1:]]
    if len(indptr) != len(targets) + 1 or ends != [0, len(indices)] or (np.diff(indptr) < 0).any():
        what = f"must rise from 0 to {len(indices)} (all indices) in {len(targets)} steps (one a query)"
        raise InputError(what, "known indptr", "give the CSR pair of these queries")
    _check_entities(indices, entity_count, "known indices")
    queries = np.repeat(np.arange(len(targets)), np.diff(indptr))
    other = indices != targets[queries]
    keys = queries[other] * entity_count + indices[other]
    if (np.diff(keys) <= 0).any():
        keys = np.unique(keys)
    return np.divmod(keys, max(entity_count, 1))


def among(
    candidates: np.ndarray, targets: np.ndarray, known: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Targets and known answers by their places in `candidates`, sorted numbers of entities.

    Known answers that are no candidates are left out; a target that is none is an InputError.
    """
    places, found = _places(candidates, targets)
    if not found.all():
        what = f"entity {targets[np.argmin(found)]} is asked for and is no candidate"
        raise InputError(what, "candidates", "rank a split among its own candidates")
    indptr, indices = known
    known_places, found = _places(candidates, indices)
    kept = np.concatenate([[0], np.cumsum(found)])
    return places, (kept[indptr], known_places[found])


def _places(candidates: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the numbers stand among the candidates, and whether they do."""
    places = np.searchsorted(candidates, numbers)
    return places, np.append(candidates, -1)[places] == numbers


def candidate_counts(filtered_queries: np.ndarray, query_count: int, entity_count: int) -> np.ndarray:
    """Number of candidates of each query, int64 (n,), from the queries of the filtered pairs."""
    return entity_count - np.bincount(filtered_queries, minlength=query_count)


def _integers(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or (len(values) and values.dtype.kind not in "iu"):
        raise InputError(f"has shape {values.shape} and type {values.dtype}", name, "give a list of integers")
    return values.astype(np.int64)


def _check_entities(numbers: np.ndarray, entity_count: int, name: str) -> None:
    wrong = np.flatnonzero((numbers < 0) | (numbers >= entity_count))
    if len(wrong):
        what = f"position {wrong[0]} holds {numbers[wrong[0]]}, but the entities are 0 to {entity_count - 1}"
        raise InputError(what, name, "number the entities by the rows of their embeddings")

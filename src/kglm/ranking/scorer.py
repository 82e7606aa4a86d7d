"""Filtered ranks where the score is anything: a callable scores a tile of queries × entities."""

from collections.abc import Callable, Iterator

import numpy as np

from kglm.errors import InputError
from kglm.ranking.candidates import Ranks, candidate_counts, checked_targets, filtered_pairs, ranks_of

# Scores of at most so many bytes are held: all entities for the queries of one strip.
_STRIP_BYTES = 2**28

Scorer = Callable[[slice, slice], np.ndarray]


def filtered_ranks_by(
    score: Scorer,
    entity_count: int,
    targets: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    tile: tuple[int, int] = (64, 4096),
) -> Ranks:
    """Ranks of targets (n,) among entities 0 … entity_count - 1 by score(query rows, entity rows), in fp32.

    `score` is called with two slices, of at most `tile` rows, once for each tile, in order and from this
    thread; it returns their scores (queries, entities). Infinite scores are scores like others. `known` as in
    `filtered_ranks`. InputError for NaN, scores of another shape, targets or indices out of range.
    """
    targets = checked_targets(targets, entity_count)
    queries, entities = filtered_pairs(known, targets, entity_count)
    pointers = np.searchsorted(queries, np.arange(len(targets) + 1))
    greater, not_less = (np.zeros(len(targets), np.int64) for _ in range(2))
    for rows, scores in _strips(score, len(targets), entity_count, tile):
        target_scores = np.take_along_axis(scores, targets[rows, None], axis=1)
        filtered = slice(pointers[rows.start], pointers[rows.stop])
        scores[queries[filtered] - rows.start, entities[filtered]] = np.nan  # neither > nor >= to anything
        greater[rows] = np.count_nonzero(scores > target_scores, axis=1)
        not_less[rows] = np.count_nonzero(scores >= target_scores, axis=1)
    return ranks_of(greater, not_less, candidate_counts(queries, len(targets), entity_count))


def _strips(
    score: Scorer, query_count: int, entity_count: int, tile: tuple[int, int]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Scores of some queries with all entities, float32, the targets' own among them."""
    height = min(tile[0], max(1, _STRIP_BYTES // (4 * max(entity_count, 1))))
    for start in range(0, query_count, height):
        rows = slice(start, min(start + height, query_count))
        scores = np.empty((rows.stop - rows.start, entity_count), np.float32)
        for first in range(0, entity_count, tile[1]):
            columns = slice(first, min(first + tile[1], entity_count))
            scores[:, columns] = _scored(score, rows, columns)
        yield rows, scores


def _scored(score: Scorer, rows: slice, columns: slice) -> np.ndarray:
    scores = np.asarray(score(rows, columns))
    expected = (rows.stop - rows.start, columns.stop - columns.start)
    where = f"scores of queries {rows.start}:{rows.stop} and entities {columns.start}:{columns.stop}"
    if scores.shape != expected:
        raise InputError(f"have shape {scores.shape}, expected {expected}", where)
    with np.errstate(over="ignore"):
        scores = scores.astype(np.float32, copy=False)
    if np.isnan(scores).any():
        row, column = np.argwhere(np.isnan(scores))[0]
        what = f"NaN for query {rows.start + row} and entity {columns.start + column}"
        raise InputError(what, where, "see whether the training diverged")
    return scores

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
    filtered = filtered_pairs(known, targets, entity_count)
    greater, not_less = (np.zeros(len(targets), np.int64) for _ in range(2))
    for rows, scores in strips(score, len(targets), entity_count, filtered, tile):
        target_scores = np.take_along_axis(scores, targets[rows, None], axis=1)
        greater[rows] = np.count_nonzero(scores > target_scores, axis=1)  # NaN is neither > nor >= to anything
        not_less[rows] = np.count_nonzero(scores >= target_scores, axis=1)
    return ranks_of(greater, not_less, candidate_counts(filtered[0], len(targets), entity_count))


def best_by(
    score: Scorer,
    entity_count: int,
    targets: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    count: int,
    tile: tuple[int, int] = (64, 4096),
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best candidates of each query, best first: entities int64 and scores float32, both (n, count).

    Arguments as of `filtered_ranks_by`; equal scores stand by entity. Where a query has fewer candidates, -1 and NaN
    fill its row.
    """
    targets = checked_targets(targets, entity_count)
    filtered = filtered_pairs(known, targets, entity_count)
    best, values = np.full((len(targets), count), -1), np.full((len(targets), count), np.nan, np.float32)
    for rows, scores in strips(score, len(targets), entity_count, filtered, tile):
        first = np.argsort(-scores, axis=1, kind="stable")[:, :count]  # NaN comes last
        values[rows, : first.shape[1]] = np.take_along_axis(scores, first, axis=1)
        best[rows, : first.shape[1]] = first
    best[np.isnan(values)] = -1
    return best, values


def strips(
    score: Scorer,
    query_count: int,
    entity_count: int,
    filtered: tuple[np.ndarray, np.ndarray],
    tile: tuple[int, int],
) -> Iterator[tuple[slice, np.ndarray]]:
    """Scores of some queries with all entities, float32; NaN where the pair is a filtered one."""
    queries, entities = filtered
    pointers = np.searchsorted(queries, np.arange(query_count + 1))
    height = min(tile[0], max(1, _STRIP_BYTES // (4 * max(entity_count, 1))))
    for start in range(0, query_count, height):
        rows = slice(start, min(start + height, query_count))
        scores = np.empty((rows.stop - rows.start, entity_count), np.float32)
        for first in range(0, entity_count, tile[1]):
            columns = slice(first, min(first + tile[1], entity_count))
            scores[:, columns] = _scored(score, rows, columns)
        pairs = slice(pointers[rows.start], pointers[rows.stop])
        scores[queries[pairs] - rows.start, entities[pairs]] = np.nan
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

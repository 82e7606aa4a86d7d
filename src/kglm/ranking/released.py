"""The evaluation of KaLM's released code, to tell what its difference from a filtered rank is worth; not for results.

Known other answers are not left out: 1 is taken off their score. The rank is the place of the answer in a sort that
is not stable, so that ties, the known answers' among them, fall as the sorting happens to leave them.
"""

from pathlib import Path

import numpy as np

from kglm.ranking.candidates import Ranks, checked_targets, filtered_pairs
from kglm.ranking.embedding_file import EmbeddingFile, embedding_rows

_ROWS = 64  # queries at a time


def released_ranks(
    queries: np.ndarray,
    entities: "np.ndarray | EmbeddingFile | Path",
    targets: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
) -> Ranks:
    """Places of the targets, with the arguments of `filtered_ranks`; all three ranks are the one place."""
    entities = embedding_rows(entities)[:]  # whole rows of scores are sorted: no larger graph than memory holds
    targets = checked_targets(targets, len(entities))
    rows, columns = filtered_pairs(known, targets, len(entities))
    places = np.empty(len(targets), np.int64)
    for start in range(0, len(targets), _ROWS):
        part = slice(start, start + _ROWS)
        scores = np.asarray(queries[part], np.float32) @ entities.T
        inside = (rows >= start) & (rows < start + _ROWS)
        scores[rows[inside] - start, columns[inside]] -= 1
        order = np.argsort(-scores, axis=1)
        places[part] = np.argmax(order == targets[part, None], axis=1) + 1
    return Ranks(places, places.astype(np.float64), places, np.full(len(targets), len(entities)))

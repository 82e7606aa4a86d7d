"""Ranks by a model that is too expensive to score all entities: it orders the best ones of another run anew.

Where the answer is not among these, it keeps its rank of that run, which is worse than any of theirs. Such results are
those of two models, and are marked wherever they appear.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.ranking.candidates import Ranks
from kglm.ranking.triples import ScorerOf, asked_for, best_candidates, frame_of, queries

ScoreTriples = Callable[[np.ndarray], np.ndarray]


def proposals(
    graph: Graph, triples: np.ndarray, split: str, proposed_by: ScorerOf, count: int, score_triples: ScoreTriples
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best candidates by `proposed_by` for both queries of triples (n, 3), with their new scores.

    Entities int64 and scores float32, both (2n, count), best first; -1 and -inf where there are fewer. score_triples
    takes triples (m, 3), whose relations from relation_count on are inverse.
    """
    entities, scores = best_candidates(graph, triples, proposed_by, split, count)
    asked, there = asked_for(graph, triples), entities >= 0
    given = (np.repeat(column, there.sum(axis=1)) for column in (asked.heads, asked.relations))
    scores[~there] = -np.inf
    scores[there] = score_triples(np.stack([*given, entities[there]], axis=1))
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(entities, order, axis=1), np.take_along_axis(scores, order, axis=1)


def rank_proposals(
    graph: Graph, triples: np.ndarray, split: str, entities: np.ndarray, scores: np.ndarray, before: pd.DataFrame
) -> pd.DataFrame:
    """Ranks of triples (n, 3), as `rank_triples`, from `proposals` and the ranks `before` of the proposing run."""
    own = entities == asked_for(graph, triples).targets[:, None]
    inside, target = own.any(axis=1), np.max(scores, axis=1, keepdims=True, initial=-np.inf, where=own)
    former = _aligned(before, triples, split)
    optimistic = np.where(inside, (scores > target).sum(axis=1) + 1, former["optimistic"])
    pessimistic = np.where(inside, (scores >= target).sum(axis=1), former["pessimistic"])
    realistic = np.where(inside, (optimistic + pessimistic) / 2, former["realistic"])
    return frame_of(triples, split, Ranks(optimistic, realistic, pessimistic, former["candidates"].to_numpy()))


def _aligned(before: pd.DataFrame, triples: np.ndarray, split: str) -> pd.DataFrame:
    """The proposing run's ranks of the split; InputError where they are of other queries."""
    rows = before[before["split"] == split].reset_index(drop=True)
    for name, column in queries(triples, split).items():
        if not np.array_equal(rows[name].to_numpy(), column):
            where, remedy = "ranks of the proposing run", "rank both runs on one dataset"
            raise InputError(f"their queries of {split} are not those of the graph", where, remedy)
    return rows

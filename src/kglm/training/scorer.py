"""The ranker's scorer of a method that scores triples or candidates itself."""

import numpy as np

from kglm.methods._interface import CandidateScorer
from kglm.ranking.scorer import Scorer
from kglm.ranking.triples import Asked, ScorerOf


def candidate_scorer(method: CandidateScorer, batch_size: int) -> ScorerOf:
    """Each distinct query of a tile is scored once; what is asked for is not passed on."""

    def scorer_of(asked: Asked, candidates: np.ndarray | None) -> Scorer:
        queries = np.stack([asked.heads, asked.relations], axis=1)

        def score(rows: slice, places: slice) -> np.ndarray:
            distinct, own = np.unique(queries[rows], axis=0, return_inverse=True)
            entities = np.arange(places.start, places.stop) if candidates is None else candidates[places]
            scores = method.score_candidates(*np.ascontiguousarray(distinct.T), entities, batch_size)
            return scores[own.reshape(-1)]

        return score

    return scorer_of

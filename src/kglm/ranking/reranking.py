"""Graph-based re-ranking: candidates near the query's entity in the training graph get a bonus.

SimKGC (Wang et al., "SimKGC: Simple Contrastive Knowledge Graph Completion with Pre-trained Language Models", 2022,
Section 3.4). A trick on top of the model, so that its results are rows of their own.
"""

from functools import lru_cache

import numpy as np

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.kg.neighbourhood import Neighbourhood
from kglm.ranking.scorer import Scorer
from kglm.ranking.triples import Asked, ScorerOf

LARGEST = 100_000  # entities: a larger neighbourhood gives none of them a bonus, as in the released code


def reranked(graph: Graph, scorer_of: ScorerOf, hops: int, bonus: float) -> ScorerOf:
    """The scores of `scorer_of`, and `bonus` more for candidates within `hops` of the query's given entity."""
    if hops < 1:
        raise InputError(f"hops is {hops}", "reranking", "give 1 or more")
    neighbourhood = Neighbourhood.of(graph, hops, table_bytes=0)

    def with_bonus(asked: Asked, candidates: np.ndarray | None) -> Scorer:
        score = scorer_of(asked, candidates)

        @lru_cache(maxsize=1)
        def near(first: int, last: int) -> np.ndarray:
            around = neighbourhood.around(asked.heads[first:last])
            around = around.toarray() * (np.diff(around.indptr) <= LARGEST)[:, None]
            return around if candidates is None else around[:, candidates]

        return lambda rows, columns: score(rows, columns) + np.float32(bonus) * near(rows.start, rows.stop)[:, columns]

    return with_bonus

"""Both queries of each triple, ranked: a frame with the columns of `kglm.artefacts.RANKS`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from kglm.artefacts import RANKS
from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.ranking.candidates import Ranks
from kglm.ranking.embedding_file import EmbeddingFile, embedding_rows
from kglm.ranking.inner_product import filtered_ranks
from kglm.ranking.scorer import Scorer, filtered_ranks_by


def rank_triples(
    graph: Graph,
    triples: np.ndarray,
    query_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
    entities: "np.ndarray | EmbeddingFile | Path",
    split: str = "valid",
    ranks_of: Callable[..., Ranks] = filtered_ranks,
) -> pd.DataFrame:
    """Ranks of triples (n, 3) in both directions by inner product, 2n rows: first the tails, then the heads.

    query_of(heads, relations) gives the embeddings (2n, d) of the queries (head, relation, ?), where a head
    is asked for as (tail, relation + relation_count, ?); it never sees an answer. entities (|E|, d) as in
    `filtered_ranks`.
    """
    heads, relations, targets = _queries(graph, triples)
    entities = embedding_rows(entities)
    if entities.shape[0] != graph.entity_count:
        what = f"holds {entities.shape[0]} embeddings for {graph.entity_count} entities of the graph"
        raise InputError(what, "entities", "embed this graph again")
    known = graph.known_answers(heads, relations)
    ranks = ranks_of(query_of(heads, relations), entities, targets, known)
    return _frame(triples, split, ranks)


def rank_triples_by(
    graph: Graph,
    triples: np.ndarray,
    scorer_of: Callable[[np.ndarray, np.ndarray], Scorer],
    split: str = "valid",
    tile: tuple[int, int] = (64, 4096),
) -> pd.DataFrame:
    """As `rank_triples`, with the scorer (see `filtered_ranks_by`) that scorer_of(heads, relations) gives."""
    heads, relations, targets = _queries(graph, triples)
    known = graph.known_answers(heads, relations)
    ranks = filtered_ranks_by(scorer_of(heads, relations), graph.entity_count, targets, known, tile)
    return _frame(triples, split, ranks)


def _queries(graph: Graph, triples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = np.concatenate([triples, graph.inverse(triples)])
    return both[:, 0], both[:, 1], both[:, 2]


def _frame(triples: np.ndarray, split: str, ranks: Ranks) -> pd.DataFrame:
    twice = np.concatenate([triples, triples])
    columns = {"split": split, "direction": np.repeat(["tail", "head"], len(triples))}
    columns |= {"head": twice[:, 0], "relation": twice[:, 1], "tail": twice[:, 2]}
    return pd.DataFrame(columns | ranks._asdict())[RANKS.names]

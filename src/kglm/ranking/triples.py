"""Both queries of each triple, ranked: a frame with the columns of `kglm.artefacts.RANKS`.

Where a split has candidates of its own (`Graph.candidates`), no other entity is one; they are few, and are gathered.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kglm.artefacts import ANSWERS, RANKS
from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.ranking.candidates import Ranks, among
from kglm.ranking.embedding_file import EmbeddingFile, embedding_rows, gather_rows
from kglm.ranking.inner_product import filtered_ranks
from kglm.ranking.matching import TILE, MatchingMLP, matching_scorer
from kglm.ranking.scorer import Scorer, best_by, filtered_ranks_by


class Asked(NamedTuple):
    """Queries (head, relation, ?) and the entities asked for, each (n,); equal queries stand one after another."""

    heads: np.ndarray
    relations: np.ndarray
    targets: np.ndarray


# Of queries, and of the entities that are candidates (None: all), their scorer by places among the candidates.
ScorerOf = Callable[[Asked, np.ndarray | None], Scorer]
QueryOf = Callable[[np.ndarray, np.ndarray], np.ndarray]


def rank_triples(
    graph: Graph,
    triples: np.ndarray,
    query_of: QueryOf,
    entities: "np.ndarray | EmbeddingFile | Path",
    split: str = "valid",
    ranks_of: Callable[..., Ranks] = filtered_ranks,
    interaction: MatchingMLP | None = None,
) -> pd.DataFrame:
    """Ranks of triples (n, 3) in both directions, 2n rows: first the tails, then the heads.

    query_of(heads, relations) gives the embeddings (2n, d) of the queries (head, relation, ?), where a head
    is asked for as (tail, relation + relation_count, ?); it never sees an answer. entities (|E|, d) as in
    `filtered_ranks`. Without an interaction the score is the inner product, ranked by `ranks_of`.
    """
    if interaction is not None:
        scorer_of = embedding_scorer(graph, query_of, entities, interaction)
        return rank_triples_by(graph, triples, scorer_of, split, TILE)
    asked, candidates = asked_for(graph, triples), graph.candidates(split)
    entities = _candidate_rows(graph, entities, candidates)
    vectors = query_of(asked.heads, asked.relations)
    return frame_of(triples, split, ranks_of(vectors, entities, *_answers(graph, asked, candidates)))


def rank_triples_by(
    graph: Graph, triples: np.ndarray, scorer_of: ScorerOf, split: str = "valid", tile: tuple[int, int] = (64, 4096)
) -> pd.DataFrame:
    """As `rank_triples`, by the scores of `scorer_of`, which is given the queries in another order."""
    asked, candidates = asked_for(graph, triples), graph.candidates(split)
    order = np.lexsort((asked.relations, asked.heads))
    asked = Asked(*(column[order] for column in asked))
    count = graph.entity_count if candidates is None else len(candidates)
    ranks = filtered_ranks_by(scorer_of(asked, candidates), count, *_answers(graph, asked, candidates), tile)
    return frame_of(triples, split, Ranks(*(column[np.argsort(order)] for column in ranks)))


def best_answers(
    graph: Graph, triples: np.ndarray, scorer_of: ScorerOf, split: str, count: int, tile: tuple[int, int] = (64, 4096)
) -> pd.DataFrame:
    """The `count` best candidates of each query of triples (n, 3), known other answers left out: `ANSWERS`' columns."""
    return answers_of(triples, split, *best_candidates(graph, triples, scorer_of, split, count, tile))


def best_candidates(
    graph: Graph, triples: np.ndarray, scorer_of: ScorerOf, split: str, count: int, tile: tuple[int, int] = (64, 4096)
) -> tuple[np.ndarray, np.ndarray]:
    """The same as entities int64 and scores float32, both (2n, count), best first; -1 and NaN where there are fewer."""
    asked, candidates = asked_for(graph, triples), graph.candidates(split)
    order = np.lexsort((asked.relations, asked.heads))
    asked = Asked(*(column[order] for column in asked))
    total = graph.entity_count if candidates is None else len(candidates)
    found = best_by(scorer_of(asked, candidates), total, *_answers(graph, asked, candidates), count, tile)
    entities, scores = (part[np.argsort(order)] for part in found)
    return (entities if candidates is None else np.append(candidates, -1)[entities]), scores


def embedding_scorer(
    graph: Graph,
    query_of: QueryOf,
    entities: "np.ndarray | EmbeddingFile | Path",
    interaction: MatchingMLP | None = None,
) -> ScorerOf:
    """Scores by embeddings, as for `rank_triples`."""

    def scorer_of(asked: Asked, candidates: np.ndarray | None) -> Scorer:
        rows = _candidate_rows(graph, entities, candidates)
        vectors, degrees = query_of(asked.heads, asked.relations), graph.degrees
        if interaction is None:
            return _inner_products(vectors, rows)
        return matching_scorer(
            interaction,
            vectors,
            rows,
            degrees[asked.heads],
            degrees if candidates is None else degrees[candidates],
            degrees[asked.targets] if interaction.degree == "leaked" else None,
        )

    return scorer_of


def _inner_products(queries: np.ndarray, entities: "np.ndarray | EmbeddingFile") -> Scorer:
    """Summed in double precision, whose last bits, which depend on the place in a matrix, are rounded away."""
    queries = np.asarray(queries, np.float64)
    return lambda rows, columns: (queries[rows] @ np.asarray(entities[columns], np.float64).T).astype(np.float32)


def _candidate_rows(graph: Graph, entities, candidates: np.ndarray | None) -> "np.ndarray | EmbeddingFile":
    entities = embedding_rows(entities)
    if entities.shape[0] != graph.entity_count:
        what = f"holds {entities.shape[0]} embeddings for {graph.entity_count} entities of the graph"
        raise InputError(what, "entities", "embed this graph again")
    return entities if candidates is None else gather_rows(entities, candidates)


def _answers(graph: Graph, asked: Asked, candidates: np.ndarray | None) -> tuple:
    """The entities asked for and the known answers, by their places among the candidates."""
    known = graph.known_answers(asked.heads, asked.relations)
    return (asked.targets, known) if candidates is None else among(candidates, asked.targets, known)


def asked_for(graph: Graph, triples: np.ndarray) -> Asked:
    """Both queries of triples (n, 3): first for the tails, then for the heads."""
    return Asked(*np.concatenate([triples, graph.inverse(triples)]).T)


def queries(triples: np.ndarray, split: str) -> dict[str, np.ndarray]:
    """The columns that name the queries in `RANKS` and `ANSWERS`, in the order of `asked_for`."""
    twice = np.concatenate([triples, triples])
    columns = {"split": np.repeat(split, len(twice)), "direction": np.repeat(["tail", "head"], len(triples))}
    return columns | {"head": twice[:, 0], "relation": twice[:, 1], "tail": twice[:, 2]}


def frame_of(triples: np.ndarray, split: str, ranks: Ranks) -> pd.DataFrame:
    """Ranks of both queries of triples (n, 3), as columns of `RANKS`."""
    return pd.DataFrame(queries(triples, split) | ranks._asdict())[RANKS.names]


def answers_of(triples: np.ndarray, split: str, entities: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Entities and scores (2n, k), best first, as columns of `ANSWERS`; -1 is no entity."""
    count = entities.shape[1]
    columns = {name: np.repeat(column, count) for name, column in queries(triples, split).items()}
    columns |= {"place": np.tile(np.arange(1, count + 1), len(entities))}
    frame = pd.DataFrame(columns | {"entity": entities.reshape(-1), "score": scores.reshape(-1)})
    return frame.loc[frame["entity"] >= 0, ANSWERS.names]

"""Both queries of each triple, ranked: a frame with the columns of `kglm.artefacts.RANKS`.

Where a split has candidates of its own (`Graph.candidates`), no other entity is one; they are few, and are gathered.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from kglm.artefacts import RANKS
from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.ranking.candidates import Ranks, among
from kglm.ranking.embedding_file import EmbeddingFile, embedding_rows, gather_rows
from kglm.ranking.inner_product import filtered_ranks
from kglm.ranking.matching import TILE, MatchingMLP, matching_scorer
from kglm.ranking.scorer import Scorer, filtered_ranks_by


def rank_triples(
    graph: Graph,
    triples: np.ndarray,
    query_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
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
    heads, relations, targets = _queries(graph, triples)
    entities = embedding_rows(entities)
    if entities.shape[0] != graph.entity_count:
        what = f"holds {entities.shape[0]} embeddings for {graph.entity_count} entities of the graph"
        raise InputError(what, "entities", "embed this graph again")
    candidates = graph.candidates(split)
    if candidates is not None:
        entities = gather_rows(entities, candidates)
    queries = query_of(heads, relations)
    if interaction is None:
        ranks = ranks_of(queries, entities, *_answers(graph, heads, relations, targets, candidates))
    else:
        ranks = _matched(graph, interaction, queries, (heads, relations, targets), entities, candidates)
    return _frame(triples, split, ranks)


def rank_triples_by(
    graph: Graph,
    triples: np.ndarray,
    scorer_of: Callable[[np.ndarray, np.ndarray], Scorer],
    split: str = "valid",
    tile: tuple[int, int] = (64, 4096),
) -> pd.DataFrame:
    """As `rank_triples`, with the scorer (see `filtered_ranks_by`) that scorer_of(heads, relations) gives.

    Where the split has candidates of its own, the scorer is given numbers of entities instead of a slice of them.
    """
    heads, relations, targets = _queries(graph, triples)
    candidates, score = graph.candidates(split), scorer_of(heads, relations)
    answers = _answers(graph, heads, relations, targets, candidates)
    if candidates is None:
        return _frame(triples, split, filtered_ranks_by(score, graph.entity_count, *answers, tile))

    def score_candidates(rows: slice, places: slice) -> np.ndarray:
        return score(rows, candidates[places])

    return _frame(triples, split, filtered_ranks_by(score_candidates, len(candidates), *answers, tile))


def _matched(graph: Graph, interaction: MatchingMLP, queries, asked, entities, candidates) -> Ranks:
    """Ranks by C-LMKE's matching function; equal queries stand one after another, so that each is scored once."""
    order = np.lexsort((asked[1], asked[0]))
    heads, relations, targets = (column[order] for column in asked)
    degrees = graph.degrees
    score = matching_scorer(
        interaction,
        queries[order],
        entities,
        degrees[heads],
        degrees if candidates is None else degrees[candidates],
        degrees[targets] if interaction.degree == "leaked" else None,
    )
    answers = _answers(graph, heads, relations, targets, candidates)
    ranks = filtered_ranks_by(score, entities.shape[0], *answers, TILE)
    return Ranks(*(column[np.argsort(order)] for column in ranks))


def _answers(graph: Graph, heads, relations, targets, candidates) -> tuple:
    """The entities asked for and the known answers, by their places among the candidates."""
    known = graph.known_answers(heads, relations)
    return (targets, known) if candidates is None else among(candidates, targets, known)


def _queries(graph: Graph, triples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    both = np.concatenate([triples, graph.inverse(triples)])
    return both[:, 0], both[:, 1], both[:, 2]


def _frame(triples: np.ndarray, split: str, ranks: Ranks) -> pd.DataFrame:
    twice = np.concatenate([triples, triples])
    columns = {"split": split, "direction": np.repeat(["tail", "head"], len(triples))}
    columns |= {"head": twice[:, 0], "relation": twice[:, 1], "tail": twice[:, 2]}
    return pd.DataFrame(columns | ranks._asdict())[RANKS.names]

"""Filtered ranks and metrics; knows no model and imports no torch."""

from kglm.ranking.candidates import Ranks
from kglm.ranking.embedding_file import EmbeddingFile, open_embeddings
from kglm.ranking.inner_product import filtered_ranks
from kglm.ranking.matching import MatchingMLP, matching_scorer, pair_scores, read_interaction, write_interaction
from kglm.ranking.metrics import EVALUATION_VERSION, METRICS, summarise
from kglm.ranking.scorer import filtered_ranks_by
from kglm.ranking.triples import rank_triples, rank_triples_by

__all__ = [
    "EVALUATION_VERSION",
    "METRICS",
    "EmbeddingFile",
    "MatchingMLP",
    "Ranks",
    "filtered_ranks",
    "filtered_ranks_by",
    "matching_scorer",
    "open_embeddings",
    "pair_scores",
    "rank_triples",
    "rank_triples_by",
    "read_interaction",
    "summarise",
    "write_interaction",
]

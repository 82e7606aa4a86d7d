"""Filtered ranks and metrics; knows no model and imports no torch."""

from kglm.ranking.candidates import Ranks
from kglm.ranking.embedding_file import EmbeddingFile, open_embeddings
from kglm.ranking.inner_product import filtered_ranks
from kglm.ranking.metrics import EVALUATION_VERSION, METRICS, summarise
from kglm.ranking.scorer import filtered_ranks_by
from kglm.ranking.triples import rank_triples, rank_triples_by

__all__ = [
    "EVALUATION_VERSION",
    "METRICS",
    "EmbeddingFile",
    "Ranks",
    "filtered_ranks",
    "filtered_ranks_by",
    "open_embeddings",
    "rank_triples",
    "rank_triples_by",
    "summarise",
]

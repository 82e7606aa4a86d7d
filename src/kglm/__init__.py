"""Language models as knowledge-graph embeddings: KaLM, KG-BiLM and LMKE, from raw triples to the papers' tables."""

__version__ = "0.1.0"

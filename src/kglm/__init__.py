"""Language models as knowledge-graph embeddings: KaLM, KG-BiLM and LMKE, from raw triples to the papers' tables."""

__version__ = "0.1.0"


def load(folder, graph=None, model=None):
    """A finished run that answers queries: see `kglm.inference.finished_run.load`."""
    from kglm.inference.finished_run import load as loaded  # torch is slow to import

    return loaded(folder, graph, model)

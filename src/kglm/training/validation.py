"""Validation as the test is done: filtered ranks over all entities, both directions."""

import numpy as np

from kglm.kg.graph import Graph
from kglm.methods._interface import Method
from kglm.ranking.triples import rank_triples


def validate(method: Method, graph: Graph, triples: np.ndarray, batch_size: int) -> dict[str, float]:
    """MR, MRR and Hits@10 (realistic ranks) of triples (n, 3), asked for in both directions."""
    entities = method.encode_entities(np.arange(graph.entity_count), batch_size)
    frame = rank_triples(graph, triples, lambda h, r: method.encode_queries(h, r, batch_size), entities)
    ranks = frame["realistic"].to_numpy()
    # Not by `summarise`: a change of the metrics that are reported is no reason to train again.
    return {"MR": float(ranks.mean()), "MRR": float((1 / ranks).mean()), "Hits@10": float((ranks <= 10).mean())}


def evenly_spaced(triples: np.ndarray, count: int) -> np.ndarray:
    """`count` of the triples (0: all), evenly spaced over the split."""
    if not count or count >= len(triples):
        return triples
    return triples[np.linspace(0, len(triples) - 1, count).astype(int)]

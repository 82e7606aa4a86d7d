"""Validation as the test is done: filtered ranks over all entities, both directions."""

import numpy as np

from kglm.kg.graph import Graph
from kglm.methods._interface import Method
from kglm.ranking import rank_triples, summarise


def validate(method: Method, graph: Graph, triples: np.ndarray, batch_size: int) -> dict[str, float]:
    """MR, MRR and Hits@10 (realistic ranks) of triples (n, 3), asked for in both directions."""
    entities = method.encode_entities(np.arange(graph.entity_count), batch_size)
    ranks = rank_triples(graph, triples, lambda h, r: method.encode_queries(h, r, batch_size), entities)
    metrics = summarise(ranks)
    return {name: metrics[name] for name in ("MR", "MRR", "Hits@10")}


def evenly_spaced(triples: np.ndarray, count: int) -> np.ndarray:
    """`count` of the triples (0: all), evenly spaced over the split."""
    if not count or count >= len(triples):
        return triples
    return triples[np.linspace(0, len(triples) - 1, count).astype(int)]

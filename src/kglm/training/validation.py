"""Validation as the test is done: filtered ranks over all entities, both directions."""

import numpy as np

from kglm.kg.graph import Graph
from kglm.methods._interface import Method
from kglm.ranking import filtered_ranks


def validate(method: Method, graph: Graph, triples: np.ndarray, batch_size: int) -> dict[str, float]:
    """MR, MRR and Hits@10 (realistic ranks) of triples (n, 3) and their inverses."""
    both = np.concatenate([triples, graph.inverse(triples)])
    queries, rows = np.unique(both[:, :2], axis=0, return_inverse=True)
    ranks = filtered_ranks(
        method.encode_queries(queries[:, 0], queries[:, 1], batch_size)[rows.ravel()],
        method.encode_entities(np.arange(graph.entity_count), batch_size),
        both[:, 2],
        graph.known_answers(both[:, 0], both[:, 1]),
    ).realistic
    return {
        "MR": float(ranks.mean()),
        "MRR": float((1 / ranks).mean()),
        "Hits@10": float((ranks <= 10).mean()),
    }


def evenly_spaced(triples: np.ndarray, count: int) -> np.ndarray:
    """`count` of the triples (0: all), evenly spaced over the split."""
    if not count or count >= len(triples):
        return triples
    return triples[np.linspace(0, len(triples) - 1, count).astype(int)]

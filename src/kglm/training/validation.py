"""Validation as the test is done: filtered ranks of all candidates, or accuracy over labelled triples."""

from collections.abc import Callable

import numpy as np

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.methods._interface import LinkPredictor, Method
from kglm.ranking.classification import best_threshold
from kglm.ranking.triples import rank_triples
from kglm.training.options import Training


def validator(method: Method, graph: Graph, options: Training) -> Callable[[], dict[str, float]]:
    """What measures the method on the valid split; its figures hold the method's criterion."""
    size, count = options.encoding_batch_size, options.validation_triples
    if isinstance(method, LinkPredictor):
        triples = evenly_spaced(graph.split("valid"), count)
        return lambda: ranked(method, graph, triples, size)
    triples, labels = graph.labelled("valid")
    if options.validate_every_epochs and not {-1, 1} <= set(labels.tolist()):
        remedy = "give the dataset false triples (`negatives`, `labelled` or `drawn_negatives`)"
        raise InputError("has no labelled triples to classify", "valid split", remedy)
    rows = evenly_spaced(np.arange(len(triples)), count)
    return lambda: classified(method, triples[rows], labels[rows], size)


def ranked(method: LinkPredictor, graph: Graph, triples: np.ndarray, batch_size: int) -> dict[str, float]:
    """MR, MRR and Hits@10 (realistic ranks) of triples (n, 3), asked for in both directions."""
    entities = method.encode_entities(np.arange(graph.entity_count), batch_size)
    frame = rank_triples(
        graph,
        triples,
        lambda heads, relations: method.encode_queries(heads, relations, batch_size),
        entities,
        interaction=method.interaction(),
    )
    ranks = frame["realistic"].to_numpy()
    # Not by `summarise`: a change of the metrics that are reported is no reason to train again.
    return {"MR": float(ranks.mean()), "MRR": float((1 / ranks).mean()), "Hits@10": float((ranks <= 10).mean())}


def classified(method: Method, triples: np.ndarray, labels: np.ndarray, batch_size: int) -> dict[str, float]:
    """Accuracy on triples (n, 3) with labels 1 and -1, at the threshold that is best on them."""
    return {"accuracy": best_threshold(method.score_triples(triples, batch_size), labels)[1]}


def evenly_spaced(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of the rows (0: all), evenly spaced."""
    if not count or count >= len(rows):
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)]

"""Validation as the test is done: filtered ranks of all candidates, or accuracy over labelled triples."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from kglm.errors import InputError
from kglm.kg.graph import Graph, evenly_spaced
from kglm.methods._interface import CandidateScorer, LinkPredictor, Method
from kglm.ranking.classification import best_threshold
from kglm.ranking.triples import rank_triples, rank_triples_by
from kglm.training.device_scores import TILE, scorer_on
from kglm.training.options import Training
from kglm.training.scorer import candidate_scorer


def validator(method: Method, graph: Graph, options: Training) -> Callable[[], dict[str, float]]:
    """What measures the method on the valid split; its figures hold the method's criterion."""
    size, count = options.encoding_batch_size, options.validation_triples
    if method.criterion == "MRR":
        triples = graph.split("valid")
        chosen = triples[evenly_spaced(len(triples), count)]
        return lambda: ranked(method, graph, chosen, size)
    triples, labels = graph.labelled("valid")
    if options.validate_every_epochs and not {-1, 1} <= set(labels.tolist()):
        remedy = "give the dataset false triples (`negatives`, `labelled` or `drawn_negatives`)"
        raise InputError("has no labelled triples to classify", "valid split", remedy)
    rows = evenly_spaced(len(triples), count)
    return lambda: classified(method, triples[rows], labels[rows], size)


def ranked(
    method: LinkPredictor | CandidateScorer, graph: Graph, triples: np.ndarray, batch_size: int
) -> dict[str, float]:
    """MR, MRR and Hits@10 (realistic ranks) of triples (n, 3), asked for in both directions."""
    if isinstance(method, CandidateScorer):
        frame = rank_triples_by(graph, triples, candidate_scorer(method, batch_size))
    else:
        frame = _by_vectors(method, graph, triples, batch_size)
    ranks = frame["realistic"].to_numpy()
    # Not by `summarise`: a change of the metrics that are reported is no reason to train again.
    return {"MR": float(ranks.mean()), "MRR": float((1 / ranks).mean()), "Hits@10": float((ranks <= 10).mean())}


def _by_vectors(method: LinkPredictor, graph: Graph, triples: np.ndarray, batch_size: int) -> pd.DataFrame:
    """On the GPU where the method is on one."""

    def query_of(heads: np.ndarray, relations: np.ndarray) -> np.ndarray:
        return method.encode_queries(heads, relations, batch_size)

    entities, interaction = method.encode_entities(np.arange(graph.entity_count), batch_size), method.interaction()
    device = next(iter(method.parameters())).device
    if device.type == "cpu":
        return rank_triples(graph, triples, query_of, entities, interaction=interaction)
    return rank_triples_by(graph, triples, scorer_on(device, graph, query_of, entities, interaction), tile=TILE)


def classified(method: Method, triples: np.ndarray, labels: np.ndarray, batch_size: int) -> dict[str, float]:
    """Accuracy on triples (n, 3) with labels 1 and -1, at the threshold that is best on them."""
    return {"accuracy": best_threshold(method.score_triples(triples, batch_size), labels)[1]}

"""Ranks by scores of a device are those of the ranker."""

import numpy as np
import pytest
import torch

from kglm.ranking.matching import TILE as OWN_TILE
from kglm.ranking.matching import MatchingMLP
from kglm.ranking.triples import embedding_scorer, rank_triples, rank_triples_by
from kglm.training import device_scores
from kglm.training.device_scores import scorer_on

WIDTH, HIDDEN = 8, 6


def matching(degree: str) -> MatchingMLP:
    draw = np.random.default_rng(3).standard_normal
    shapes = [(HIDDEN, WIDTH)] * 3 + [(HIDDEN, 2), (HIDDEN,), (HIDDEN,), ()]
    return MatchingMLP(*(np.asarray(draw(shape), np.float32) for shape in shapes), degree=degree)


@pytest.mark.parametrize("degree", ["inner product", "none", "train", "leaked"])
@pytest.mark.parametrize("tile", [(256, 8192), (8, 8)])
def test_ranks_are_those_of_the_ranker(ring_graph, monkeypatch, degree, tile):
    """Of vectors some of which are equal, which tie; tiles smaller than the graph and larger ones."""
    monkeypatch.setattr(device_scores, "TILE", tile)
    monkeypatch.setattr(device_scores, "_ROWS", 4)
    random = np.random.default_rng(0)
    entities = random.integers(-2, 3, (ring_graph.entity_count, WIDTH)).astype(np.float32)
    entities[7] = entities[3] = entities[1]
    interaction = None if degree == "inner product" else matching(degree)
    triples = ring_graph.split("train")

    def query_of(heads, relations):
        return (entities[heads] + relations[:, None]).astype(np.float32)

    scorer = scorer_on(torch.device("cpu"), ring_graph, query_of, entities, interaction)
    found = rank_triples_by(ring_graph, triples, scorer, tile=tile)
    if interaction is None:
        expected = rank_triples(ring_graph, triples, query_of, entities)
    else:
        own = embedding_scorer(ring_graph, query_of, entities, interaction)
        expected = rank_triples_by(ring_graph, triples, own, tile=OWN_TILE)
    for column in ("optimistic", "pessimistic", "candidates"):
        assert found[column].tolist() == expected[column].tolist()
    assert (found["optimistic"] < found["pessimistic"]).any()

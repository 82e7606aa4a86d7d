"""Counting rules by their definitions, and what they give on UMLS."""

import os
from pathlib import Path

import numpy as np
import pytest

from kglm import config as configuration
from kglm.kg.build import graph
from kglm.kg.graph import Graph
from kglm.kg.sources import fetch
from kglm.methods._interface import build_method
from kglm.ranking.triples import rank_triples_by
from kglm.training.scorer import candidate_scorer

ROOT = Path(__file__).parents[2]


def built(known: Graph, answers_to: str = "relation"):
    return build_method("popularity", {"answers_to": answers_to}, known, None)


@pytest.mark.parametrize("answers_to", ["relation", "anything"])
def test_candidates_are_counted_in_train(answers_to, ring_graph):
    train = ring_graph.split("train", inverse=True).tolist()
    queries = ring_graph.split("test", inverse=True)
    entities = np.array([3, 0, 5])
    found = built(ring_graph, answers_to).score_candidates(queries[:, 0], queries[:, 1], entities, 2)
    asked = [{relation} if answers_to == "relation" else set(range(99)) for relation in queries[:, 1].tolist()]
    expected = [[sum(r in of and t == e for _, r, t in train) for e in entities] for of in asked]
    np.testing.assert_array_equal(found, expected)


def test_a_triple_needs_both_ends_seen_with_its_relation(ring_graph):
    train = ring_graph.split("train").tolist()
    everything = np.array([(h, r, t) for h in range(6) for r in range(ring_graph.relation_count) for t in range(6)])
    heads, tails = ({(r, e) for *_, r, e in of} for of in ([(t, r, h) for h, r, t in train], train))
    expected = [float((r, h) in heads and (r, t) in tails) for h, r, t in everything.tolist()]
    method = built(ring_graph)
    np.testing.assert_array_equal(method.score_triples(everything, 3), expected)
    np.testing.assert_array_equal(method.score_triples(ring_graph.inverse(everything), 3), expected)
    assert 0 < sum(expected) < len(expected)


@pytest.mark.mirror
def test_what_counting_gives_on_umls(tmp_path):
    """More than several trained rows of UMLS have."""
    if not (mirror := os.environ.get("KGLM_MIRROR")):
        pytest.skip("KGLM_MIRROR names no folder with the benchmark files")
    config = configuration.read(ROOT / "config.yaml", ROOT / "workflow/scales/small.yaml")
    fetch({**configuration.spec(config, "dataset_files", "umls_long"), "mirror": mirror}, tmp_path / "raw")
    graph(configuration.spec(config, "dataset", "umls_long"), tmp_path / "raw", tmp_path)
    umls = Graph.read(tmp_path)
    for answers_to, expected in (("relation", 0.661), ("anything", 0.339)):
        ranks = rank_triples_by(umls, umls.split("test"), candidate_scorer(built(umls, answers_to), 64), "test")
        assert (1 / ranks["realistic"]).mean() == pytest.approx(expected, abs=5e-4)
    triples, labels = umls.labelled("test")
    assert ((built(umls).score_triples(triples, 64) > 0) == (labels > 0)).mean() == pytest.approx(0.891, abs=5e-4)

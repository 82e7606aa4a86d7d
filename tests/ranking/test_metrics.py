"""Metrics against PyKEEN's, groups against their definition, intervals against what they promise."""

import numpy as np
import pandas as pd
import pytest

from kglm.ranking import METRICS, filtered_ranks, metrics, summarise
from kglm.ranking.metrics import confidence_intervals, evaluate_ranks, groups
from kglm.ranking.triples import rank_triples

from .oracle import csr, pykeen_evaluator

PYKEEN = {
    "MR": "mean_rank",
    "MRR": "mean_reciprocal_rank",
    "Hits@1": "hits@1",
    "Hits@3": "hits@3",
    "Hits@10": "hits@10",
    "AMR": "adjusted_mean_rank",
}


def frame_of(realistic, candidates=100, triples=None):
    """Rows with given ranks, one triple each or the numbers in `triples`."""
    triples = np.arange(len(realistic)) if triples is None else triples
    columns = {"head": triples, "relation": 0, "tail": triples}
    return pd.DataFrame(columns | {"realistic": realistic, "candidates": candidates})


def ranked(graph, split="test", seed=0):
    random = np.random.default_rng(seed)
    entities = random.integers(-1, 2, (graph.entity_count, 3)).astype(float)
    table = random.integers(-1, 2, (graph.entity_count, 2 * graph.relation_count, 3)).astype(float)
    return rank_triples(graph, graph.split(split), lambda h, r: table[h, r], entities, split)


def test_every_metric_equals_pykeens():
    random = np.random.default_rng(0)
    scores = random.integers(0, 6, (200, 12)).astype(np.float32)
    targets = random.integers(12, size=200)
    known = [random.integers(12, size=size).tolist() for size in random.integers(9, size=200)]
    ranks = filtered_ranks(scores, np.eye(12), targets, csr(known))
    results = pykeen_evaluator(scores, targets, known).finalize()
    ours = summarise(frame_of(ranks.realistic, ranks.candidates))
    assert ours.pop("queries") == 200
    assert ours == pytest.approx({name: results.get_metric(f"tail.realistic.{PYKEEN[name]}") for name in METRICS})
    assert len(set(ours.values())) == len(METRICS)


def test_metrics_by_hand():
    ours = summarise(frame_of([1.0, 1.5, 3.0, 10.0], [9, 9, 19, 99]))
    assert ours == pytest.approx(
        {
            "MR": 15.5 / 4,
            "MRR": (1 + 2 / 3 + 1 / 3 + 1 / 10) / 4,
            "Hits@1": 1 / 4,
            "Hits@3": 3 / 4,
            "Hits@10": 1,
            "AMR": 15.5 / (5 + 5 + 10 + 50),
            "queries": 4,
        }
    )


def test_groups_are_what_their_names_say(graph):
    ranks = ranked(graph)
    found = groups(ranks, graph)
    train = set(graph.split("train")[:, [0, 2]].ravel().tolist())
    degrees = graph.split("train")[:, [0, 2]].ravel().tolist()
    for number, row in enumerate(ranks.itertuples()):
        names = {"both", row.direction, f"relation/{graph.relations['id'][row.relation]}"}
        if {row.head, row.tail} <= train:
            names |= {"both/seen", f"{row.direction}/seen"}
        buckets = [(0, 0), (1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 63)]
        for end in ("head", "tail"):
            degree = degrees.count(getattr(row, end))
            low, high = next(pair for pair in buckets if pair[0] <= degree <= pair[1])
            group = f"degree/{low}" if low == high else f"degree/{low}-{high}"
            names |= {f"either_{group}"} | ({group} if row.direction == end else set())
        assert {name for name, mask in found.items() if mask[number]} == names
    assert "relation/unused" not in found and "relation//film/actor" in found
    assert {"degree/0", "either_degree/0"} <= set(found)
    assert all(mask.any() for mask in found.values())


def test_a_split_without_seen_entities_has_no_seen_group(graph):
    graph.entities["in_train"] = False
    assert not [name for name in groups(ranked(graph), graph) if name.endswith("seen")]


def test_each_group_is_summarised_by_itself(graph):
    ranks = pd.concat([ranked(graph, split) for split in ("valid", "test")], ignore_index=True)
    result = evaluate_ranks(ranks, graph, resamples=50, level=0.9, seed=0)
    assert list(result) == ["valid", "test"]
    test = ranks[ranks["split"] == "test"]
    heads = summarise(test[test["direction"] == "head"])
    assert result["test"]["head"] == heads | {"confidence": result["test"]["head"]["confidence"]}
    assert result["valid"]["both"]["queries"] == 2 * 24, "the false triple is not ranked"
    assert result["test"]["both"]["queries"] == 2 * 40, "the duplicate is"
    for group in result["test"].values():
        assert set(group) == {*METRICS, "queries", "confidence"}
        for name, (low, high) in group["confidence"].items():
            assert low <= high and (group["queries"] < 20 or low <= group[name] <= high)


def test_intervals_depend_on_the_seed_alone(graph, monkeypatch):
    ranks = ranked(graph)
    first = evaluate_ranks(ranks, graph, 100, 0.95, seed=1)
    assert evaluate_ranks(ranks, graph, 100, 0.95, seed=1) == first
    assert evaluate_ranks(ranks, graph, 100, 0.95, seed=2) != first
    fewer = ranks[ranks["relation"] != 2]
    assert (
        evaluate_ranks(fewer, graph, 100, 0.95, seed=1)["test"]["relation/_hypernym"]
        == (first["test"]["relation/_hypernym"])
    ), "another group changes nothing"
    monkeypatch.setattr(metrics, "_DRAWS", 100)
    chunked = evaluate_ranks(ranks, graph, 100, 0.95, seed=1)["test"]["both"]["confidence"]
    assert chunked == first["test"]["both"]["confidence"], "neither does drawing it in parts"


def test_intervals_cover_the_truth_as_often_as_they_say():
    random = np.random.default_rng(0)
    truth = np.mean([1 / rank for rank in range(1, 11)])
    covered = 0
    for seed in range(300):
        frame = frame_of(random.integers(1, 11, 150).astype(float))
        low, high = confidence_intervals(frame, 300, 0.9, seed)["MRR"]
        covered += low <= truth <= high
    assert 0.84 <= covered / 300 <= 0.95


def test_intervals_have_the_width_of_the_standard_error():
    realistic = np.random.default_rng(0).integers(1, 1000, 3000).astype(float)
    low, high = confidence_intervals(frame_of(realistic), 2000, 0.95)["MR"]
    assert (high - low) / 2 == pytest.approx(1.96 * realistic.std() / np.sqrt(3000), rel=0.08)
    assert (low + high) / 2 == pytest.approx(realistic.mean(), rel=0.01)


def test_both_queries_of_a_triple_are_resampled_together():
    once = np.random.default_rng(0).integers(1, 50, 200).astype(float)
    twice = frame_of(np.repeat(once, 2), triples=np.repeat(np.arange(200), 2))
    assert confidence_intervals(twice, 200, 0.95) == confidence_intervals(frame_of(once), 200, 0.95)
    alone = confidence_intervals(frame_of(np.repeat(once, 2)), 200, 0.95)["MR"]
    together = confidence_intervals(twice, 200, 0.95)["MR"]
    assert together[1] - together[0] > 1.2 * (alone[1] - alone[0])


def test_one_triple_has_a_point_for_an_interval():
    assert confidence_intervals(frame_of([2.0]), 10, 0.95)["MRR"] == [0.5, 0.5]


def test_a_degree_group_holds_the_degrees_with_one_number_of_binary_digits():
    degrees = np.arange(2000)
    lowest = metrics._bucket(degrees)
    digits = np.array([len(format(degree, "b")) if degree else 0 for degree in degrees])
    for number in range(12):
        assert len(set(lowest[digits == number].tolist())) == 1
    assert len(np.unique(lowest)) == 12 and (lowest[degrees < 4] == [0, 1, 2, 2]).all()


def test_a_triple_stands_in_the_groups_of_both_its_ends(graph):
    ranks = ranked(graph)
    found = groups(ranks, graph)
    either = np.sum([mask for name, mask in found.items() if name.startswith("either_degree/")], axis=0)
    assert set(either.tolist()) == {1, 2}
    both_queries = ranks.assign(either=either).groupby(["head", "relation", "tail"])["either"]
    assert (both_queries.nunique() == 1).all(), "whatever is asked for"
    of_answer = np.sum([mask for name, mask in found.items() if name.startswith("degree/")], axis=0)
    assert (of_answer == 1).all()

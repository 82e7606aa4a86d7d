"""Thresholds against brute force over all cuts, accuracies against their definition, and the stage's file."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.artefacts import SCORES, write_parquet
from kglm.cli import main
from kglm.errors import InputError
from kglm.ranking.classification import (
    Scored,
    accuracy_interval,
    best_threshold,
    classify,
    relation_thresholds,
)
from kglm.ranking.metrics import EVALUATION_VERSION

SPEC = {"name": "lmke_umls", "method": "lmke", "dataset": "umls", "model": "tiny", "seed": 1, "parameters": {}}


def accuracy(scores, labels, threshold):
    return np.mean([(score >= threshold) == (label == 1) for score, label in zip(scores, labels, strict=True)])


def brute_force(scores, labels):
    """Of all sets {score >= threshold} the best accuracy, and the middle threshold among the best."""
    scores = np.asarray(scores)
    distinct = np.unique(scores)
    cuts = [distinct[0], *((distinct[1:] + distinct[:-1]) / 2), np.nextafter(distinct[-1], np.float32(np.inf))]
    accuracies = [accuracy(scores, labels, cut) for cut in cuts]
    best = [cut for cut, value in zip(cuts, accuracies, strict=True) if value == max(accuracies)]
    return best[(len(best) - 1) // 2], max(accuracies)


LABELLED = st.lists(st.tuples(st.integers(-4, 4), st.sampled_from([-1, 1])), min_size=1, max_size=25)


@settings(max_examples=200, deadline=None)
@given(LABELLED, st.sampled_from([1.0, 0.1, 1e-30]))
def test_the_threshold_is_the_best_of_all_cuts(rows, unit):
    scores, labels = np.float32([row[0] * unit for row in rows]), np.array([row[1] for row in rows])
    threshold, right = best_threshold(scores, labels)
    assert (threshold, right) == brute_force(scores, labels)
    assert right == accuracy(scores, labels, threshold)
    assert right >= max(np.mean(labels == 1), np.mean(labels == -1)), "holding all for true, or none, is a cut"
    order = np.random.default_rng(0).permutation(len(rows))
    assert best_threshold(scores[order], labels[order]) == (threshold, right)


@given(LABELLED)
def test_thresholds_follow_when_scores_are_stretched(rows):
    scores, labels = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows])
    threshold, right = best_threshold(scores, labels)
    stretched, as_right = best_threshold(8 * scores, labels)
    assert as_right == right
    assert ((8 * scores >= stretched) == (scores >= threshold)).all()


@pytest.mark.parametrize("true", [0, 3, 5, 7, 10])
def test_a_constant_score_has_the_accuracy_of_the_majority(true):
    labels = np.where(np.arange(10) < true, 1, -1)
    for constant in (0.0, -0.3, 7.5e10):
        threshold, right = best_threshold(np.full(10, constant), labels)
        assert right == max(true, 10 - true) / 10
        assert accuracy(np.full(10, constant), labels, threshold) == right


def test_neighbouring_numbers_are_told_apart():
    for low in (1.0, -3.7, 1e300, 0.0):
        scores = np.array([low, np.nextafter(low, np.inf)])
        assert best_threshold(scores, np.array([-1, 1]))[1] == 1
    assert best_threshold(np.array([-1.7e308, 1.7e308]), np.array([-1, 1])) == (0.0, 1.0)


def test_scores_that_are_none_are_refused():
    with pytest.raises(InputError, match="no score"):
        best_threshold(np.empty(0), np.empty(0))
    for wrong in (np.nan, np.inf, -np.inf):
        with pytest.raises(InputError, match="NaN or infinity"):
            best_threshold(np.array([0, wrong]), np.array([1, -1]))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_each_relation_has_its_own_best_threshold(seed, count):
    random = np.random.default_rng(seed)
    relations, labels = random.integers(0, 5, count) * 3, random.choice([-1, 1], count)
    valid = Scored(relations, labels, random.integers(0, 9, count).astype(np.float32))
    found = relation_thresholds(valid, otherwise=99.0)
    assert sorted(found) == sorted(set(relations.tolist()))
    for relation, threshold in found.items():
        own = relations == relation
        both = len(set(labels[own].tolist())) == 2
        assert threshold == (brute_force(valid.scores[own], labels[own])[0] if both else 99.0)


def frame_of(random, split, count, relations=4, noise=0.5):
    """Labelled triples whose scores tell their labels but for some noise, each relation at another height."""
    relation, label = random.integers(0, relations, count), random.choice([-1, 1], count)
    score = label * 0.5 + relation + noise * random.standard_normal(count)
    columns = {"split": split, "head": random.integers(9, size=count), "relation": relation}
    return pd.DataFrame(columns | {"tail": random.integers(9, size=count), "label": label, "score": score})


@pytest.fixture
def scores(tmp_path):
    """A file of scores; relation 4 has test triples only, relation 5 in valid a single one."""
    random = np.random.default_rng(0)
    valid, test = frame_of(random, "valid", 300), frame_of(random, "test", 400, relations=5)
    valid.loc[0, ["relation", "label", "score"]] = [5, 1, 0.25]
    path = tmp_path / "scores.parquet"
    write_parquet(pd.concat([valid, test], ignore_index=True), path, SCORES)
    return path


def result(scores, tmp_path, **evaluation):
    classify(SPEC | {"evaluation": evaluation}, scores, tmp_path / "classification.json")
    return json.loads((tmp_path / "classification.json").read_text())


def test_the_file_holds_what_the_definition_gives(scores, tmp_path):
    found = result(scores, tmp_path, resamples=200, protocol="filtered")
    assert {key: found[key] for key in found if key != "thresholds"} == {
        "run": "lmke_umls", "method": "lmke", "dataset": "umls", "model": "tiny", "seed": 1,
        "evaluation_version": EVALUATION_VERSION,
    }  # fmt: skip
    frame = pd.read_parquet(scores)
    valid, test = (frame[frame["split"] == name] for name in ("valid", "test"))
    one, right = brute_force(valid["score"], valid["label"])
    assert list(found["thresholds"]) == ["global", "relation", "zero"]
    of_all, of_each, of_zero = found["thresholds"].values()
    assert of_zero["threshold"] == 0
    assert of_zero["test"]["accuracy"] == accuracy(test["score"], test["label"], 0)
    assert of_all["threshold"] == one and of_all["valid"] == {"accuracy": right, "triples": 300}
    assert of_all["test"]["accuracy"] == accuracy(test["score"], test["label"], one)
    each = {}
    for relation, rows in valid.groupby("relation"):
        each[str(relation)] = brute_force(rows["score"], rows["label"])[0]
    assert of_each["threshold"] == each | {"5": one}, "one triple tells no threshold"
    for name, part in (("valid", valid), ("test", test)):
        cuts = part["relation"].map(lambda number: of_each["threshold"].get(str(number), one))
        right = ((part["score"].astype(float) >= cuts) == (part["label"] == 1)).mean()
        assert of_each[name]["accuracy"] == pytest.approx(right) and of_each[name]["triples"] == len(part)
    assert of_each["test"]["accuracy"] > of_all["test"]["accuracy"] + 0.1
    for kind in (of_all, of_each):
        low, high = kind["test"]["confidence"]
        assert low < kind["test"]["accuracy"] < high and set(kind) == {"valid", "test", "threshold"}


def test_nothing_is_chosen_on_test(scores, tmp_path):
    before = result(scores, tmp_path)["thresholds"]
    frame = pd.read_parquet(scores)
    of_test = frame["split"] == "test"
    write_parquet(frame.assign(label=frame["label"].where(~of_test, -frame["label"])), scores, SCORES)
    after = result(scores, tmp_path)["thresholds"]
    for kind in ("global", "relation"):
        assert after[kind]["threshold"] == before[kind]["threshold"] and after[kind]["valid"] == before[kind]["valid"]
        assert after[kind]["test"]["accuracy"] == pytest.approx(1 - before[kind]["test"]["accuracy"])


def test_a_method_that_scores_all_alike_is_no_better_than_the_majority(scores, tmp_path):
    frame = pd.read_parquet(scores)
    write_parquet(frame.assign(score=0.1), scores, SCORES)
    labels = {name: part["label"] for name, part in frame.groupby("split")}
    majority = 1 if (labels["valid"] == 1).mean() >= 0.5 else -1
    found = result(scores, tmp_path)["thresholds"]["global"]
    assert found["valid"]["accuracy"] == (labels["valid"] == majority).mean()
    assert found["test"]["accuracy"] == pytest.approx((labels["test"] == majority).mean())


def test_intervals_are_those_of_drawing_the_triples():
    correct = np.random.default_rng(0).random(400) < 0.8
    drawn = np.random.default_rng(1).integers(400, size=(4000, 400))
    expected = np.quantile(correct[drawn].mean(axis=1), [0.05, 0.95])
    assert accuracy_interval(correct, 4000, 0.9) == pytest.approx(expected, abs=0.005)
    assert accuracy_interval(correct, 50, 0.9, seed=3) == accuracy_interval(correct, 50, 0.9, seed=3)
    assert accuracy_interval(correct, 50, 0.9, seed=3) != accuracy_interval(correct, 50, 0.9, seed=4)
    assert accuracy_interval(np.ones(5, bool), 50, 0.9) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[f["split"] == "test"], "its valid split has no triples"),
        (lambda f: f[f["split"] == "valid"], "its test split has no triples"),
        (lambda f: f[(f["split"] == "test") | (f["label"] == 1)], "its valid split has only one kind"),
        (lambda f: f.assign(label=1), "its valid split has only one kind"),
        (lambda f: f.assign(score=f["score"].where(f.index != 300, np.nan)), r"the test triple \[\d, \d, \d\] scores"),
        (lambda f: f.assign(score=f["score"].where(f.index != 7, np.inf)), r"the valid triple \[\d, \d, \d\] scores"),
    ],
)
def test_scores_that_tell_no_accuracy_are_one_line(scores, tmp_path, capsys, change, message):
    write_parquet(change(pd.read_parquet(scores)), scores, SCORES)
    with pytest.raises(InputError, match=message):
        classify(SPEC, scores, tmp_path / "out.json")
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    files = [f"--spec={tmp_path / 'spec.json'}", f"--scores={scores}", f"--out={tmp_path / 'out.json'}"]
    assert main(["classify", *files]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "out.json").exists()


def test_wrong_options_are_refused(scores, tmp_path):
    with pytest.raises(InputError, match="evaluation"):
        result(scores, tmp_path, resample=3)

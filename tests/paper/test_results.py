"""What is read from the results of a run."""

import pytest

from kglm.errors import InputError
from kglm.files import write_json
from kglm.paper.results import measure, over_seeds

ABOUT = {"run": "r", "seed": 0, "model": "m", "dataset": "d"}
TASK = {"few_shot": {"accuracy": 0.5, "confidence": [0.25, 0.75]}, "zero_shot": {"accuracy": 0.0, "confidence": [0, 1]}}
RESULTS = {
    "perplexity.json": {"token_perplexity": 5.0, "word_perplexity": 9.0},
    "anisotropy.json": {"value": 0.25},
    "mmlu.json": {"accuracy": 0.25, "confidence": [0.125, 0.5]},
    "kgqa.json": {"tasks": {"tail": TASK}},
}


@pytest.mark.parametrize(
    ("file", "metric", "spec", "expected"),
    [
        ("perplexity.json", "PPL", {}, (5.0, None, None)),
        ("perplexity.json", "PPL", {"perplexity": "word_perplexity"}, (9.0, None, None)),
        ("anisotropy.json", "anisotropy", {}, (0.25, None, None)),
        ("mmlu.json", "MMLU", {}, (0.25, 0.125, 0.5)),
        ("kgqa.json", "accuracy/tail", {}, (0.5, 0.25, 0.75)),
        ("kgqa.json", "accuracy/tail", {"setting": "zero_shot"}, (0.0, 0, 1)),
    ],
)
def test_a_metric_is_read_from_its_file(file, metric, spec, expected, tmp_path):
    path = tmp_path / "runs/r" / file
    write_json(ABOUT | RESULTS[file], path)
    found = measure([path], "r", metric, spec)
    assert (found["value"], found["low"], found["high"]) == expected
    assert found.items() >= ABOUT.items()
    assert measure([], "r", metric, spec) is None


def test_a_metric_that_the_result_does_not_hold_is_told(tmp_path):
    path = tmp_path / "runs/r/kgqa.json"
    write_json(ABOUT | RESULTS["kgqa.json"], path)
    with pytest.raises(InputError, match=r"the run r has no accuracy/head; it has accuracy/tail$"):
        measure([path], "r", "accuracy/head", {})


@pytest.mark.parametrize(("metric", "within"), [("Hits@10", True), ("accuracy", True), ("MR", False)])
def test_no_interval_of_shares_reaches_beyond_one(metric, within):
    measures = [{"value": value, "metric": metric} for value in (0.95, 0.97, 0.999)]
    found = over_seeds(measures)
    assert (found["high"] == 1.0) if within else (found["high"] > 1.0)
    assert found["low"] < found["value"] < 1

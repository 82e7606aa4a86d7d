"""What tables and figures are made of, and that asking for it costs nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from kglm.errors import InputError
from kglm.paper.inputs import figure_inputs, find, run_ids, table_inputs

from .test_figures import SPECS
from .test_tables import EPOCHS


def test_a_table_needs_the_metrics_of_its_runs():
    assert table_inputs(EPOCHS) == [
        f"runs/{run}/{file}.json" for run in ("ten", "twenty", "own") for file in ("metrics", "perplexity")
    ]
    assert "runs/ten/perplexity.json" not in table_inputs(EPOCHS | {"metrics": ["MR"]})


def test_a_row_needs_only_the_files_of_its_metrics():
    rows = [{"label": "a", "metrics": ["MR", "Hits@1"]}, {"label": "b", "metrics": ["accuracy"]}, {"label": "c"}]
    spec = {"rows": rows, "blocks": [{"dataset": "d", "runs": {"a": "x", "b": ["y", "z"]}}]}
    ranks = ["runs/x/metrics.json", "runs/y/classification.json", "runs/z/classification.json"]
    assert table_inputs(spec | {"kind": "link_prediction", "metrics": ["MR", "Hits@1", "accuracy"]}) == ranks
    accuracies = spec | {"kind": "classification", "blocks": [{"dataset": "d", "runs": {"c": "x"}}]}
    assert table_inputs(accuracies) == ["runs/x/classification.json"]
    assert table_inputs({"kind": "cost", "rows": [{"label": "a"}, {"label": "b", "run": "x"}]}) == ["runs/x/cost.json"]


def test_other_tables():
    rows = [{"dataset": "a", "measured": True}, {"dataset": "b", "measured": False}]
    assert table_inputs({"kind": "statistics", "rows": rows}) == ["data/a/statistics.json"]
    blocks = [{"dataset": "a", "run": "x"}, {"dataset": "b"}]
    assert table_inputs({"kind": "hyper_parameters", "blocks": blocks}) == ["specs/run/x.json"]


def test_figures():
    similarity = ["similarity.safetensors", "similarity.json"]
    assert figure_inputs(SPECS["triples"]) == [f"runs/{run}/{file}" for run in ("ten", "twenty") for file in similarity]
    assert figure_inputs(SPECS["bars"]) == [
        f"runs/{run}/{file}.json" for run in ("ten", "twenty") for file in ("kgqa", "perplexity", "mmlu")
    ]
    assert figure_inputs(SPECS["layers"]) == ["runs/ten/anisotropy.json", "runs/twenty/anisotropy.json"]
    assert figure_inputs(SPECS["degrees"]) == ["data/WN18RR/statistics.json", "runs/ten/metrics.json"]
    assert figure_inputs(SPECS["groups"]) == ["runs/ten/metrics.json", "runs/twenty/metrics.json"]
    assert figure_inputs(SPECS["curves"]) == [
        path for run in ("ten", "twenty") for path in (f"runs/{run}/log.jsonl", f"specs/run/{run}.json")
    ]
    shown = [("ten", "clusters"), ("twenty", "clusters"), ("ten", "attention")]
    assert figure_inputs(SPECS["clusters"]) == [
        f"runs/{run}/{name}.{ending}" for run, name in shown for ending in ("safetensors", "json")
    ]
    assert figure_inputs(SPECS["cases"]) == table_inputs(SPECS["cases"])
    assert figure_inputs(SPECS["list"]) == table_inputs(SPECS["list"]) == ["runs/ten/similarity.json"]


@pytest.mark.parametrize("inputs", [table_inputs, figure_inputs])
def test_an_unknown_kind(inputs):
    with pytest.raises(InputError, match="unknown kind"):
        inputs({"kind": "pie"})


def test_runs_and_paths():
    assert (run_ids(None), run_ids("a"), run_ids(["a", "b"])) == ([], ["a"], ["a", "b"])
    paths = [Path("results/x/runs/ab/metrics.json"), Path("results/x/runs/b/metrics.json")]
    assert find(paths, "runs/b/metrics.json") == paths[1]
    assert find(paths, "runs/c/metrics.json") is None


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("inputs", {"torch", "pandas", "numpy"}),
        ("tables", {"torch"}),
        ("figures", {"torch", "matplotlib.pyplot.figure"}),
    ],
)
def test_what_is_imported(module, absent):
    command = f"import sys, kglm.paper.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not absent & loaded
    assert not {name for name in loaded if name.startswith(("kglm.methods", "kglm.lm", "kglm.training"))}

"""An own graph through the whole workflow, really run: every artefact is there, and has its schema."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from kglm import artefacts
from kglm.artefacts import read_parquet
from kglm.kg.graph import Graph

from .conftest import Workflow

pytestmark = pytest.mark.slow
RUNS = ("base_geography", "kalm_geography")


@pytest.fixture(scope="module")
def made(tmp_path_factory, root):
    """The results of examples/own_graph, a graph of 64 entities, with a model of two layers and one epoch."""
    folder = tmp_path_factory.mktemp("own_graph")
    workflow = Workflow(folder, "examples/own_graph/config.yaml", "demo.yaml")
    shutil.copy(root / "tests/workflow/demo.yaml", folder)
    done = workflow.snakemake("--cores", "2", "--show-failed-logs")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return workflow, folder / "results/tiny"


def test_the_graph(made):
    folder = made[1] / "data/geography"
    graph = Graph.read(folder)
    statistics = json.loads((folder / "statistics.json").read_text())
    counts = {split: len(graph.split(split)) for split in ("train", "valid", "test")}
    assert counts == {"train": 120, "valid": 15, "test": 15}
    assert {key: statistics[key] for key in counts} == counts
    assert (graph.entity_count, graph.relation_count) == (64, 4)
    assert "has capital" in graph.relation_texts() and "inverse speaks" in graph.relation_texts()
    augmented = read_parquet(folder / "triples_with_inverse.parquet", artefacts.TRIPLES_WITH_INVERSE)
    assert len(augmented) == 300 and augmented["inverse"].sum() == 150
    for split, count in counts.items():
        rows = read_parquet(folder / f"instructions/{split}.parquet", artefacts.INSTRUCTIONS)
        assert len(rows) == 2 * count and rows["output"].str.len().min() > 0


@pytest.mark.parametrize("run", RUNS)
def test_a_run(made, run):
    folder, graph = made[1] / "runs" / run, Graph.read(made[1] / "data/geography")
    queries = load_file(folder / "embeddings/queries.safetensors")
    entities = load_file(folder / "embeddings/entities.safetensors")["embeddings"]
    assert entities.shape == (graph.entity_count, 32) and entities.dtype == np.float32
    assert np.allclose(np.linalg.norm(entities, axis=1), 1, atol=1e-5)
    assert queries["embeddings"].shape == (len(queries["heads"]), 32)
    ranks = read_parquet(folder / "ranks.parquet", artefacts.RANKS)
    assert ranks.groupby(["split", "direction"]).size().tolist() == [15] * 4
    metrics = json.loads((folder / "metrics.json").read_text())
    test = ranks[ranks["split"] == "test"]["realistic"]
    assert metrics["metrics"]["test"]["both"]["MR"] == pytest.approx(test.mean())
    spec = json.loads((made[1] / f"specs/run/{run}.json").read_text())
    record = json.loads((folder / "run.json").read_text())
    assert record["spec"] == spec and record["run"] == run
    for file in ("metrics.json", "anisotropy.json", "run.json"):
        about = json.loads((folder / file).read_text())
        assert {key: about[key] for key in ("method", "dataset", "model", "seed")} == {
            key: spec[key] for key in ("method", "dataset", "model", "seed")
        }


def test_what_training_leaves(made):
    folder = made[1] / "runs/kalm_geography"
    assert {path.name for path in (folder / "epochs").iterdir() if path.is_dir()} == {"1"}
    assert {"adapter_config.json", "adapter_model.safetensors", "method.safetensors"} <= {
        path.name for path in (folder / "weights").iterdir()
    }
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert any("loss" in row for row in rows) and any("valid" in row for row in rows)
    assert list((folder / "tensorboard").iterdir())
    # Nothing is left of the checkpoints.
    assert not (made[1] / "scratch/kalm_geography").exists()


def test_analyses(made):
    read = {name: json.loads((made[1] / f"runs/kalm_geography/{name}.json").read_text()) for name in (
        "anisotropy", "perplexity", "kgqa", "similarity"
    )}  # fmt: skip
    assert len(read["anisotropy"]["layers"]) == 3
    assert [row["epoch"] for row in read["anisotropy"]["epochs"]] == [0, 1]
    assert read["perplexity"]["token_perplexity"] > 1
    assert set(read["kgqa"]["tasks"]) == {"head", "tail", "relation", "classification"}
    matrices = load_file(made[1] / "runs/kalm_geography/similarity.safetensors")
    assert matrices["entities"].shape == (4, 4) and np.allclose(matrices["entities"].diagonal(), 1, atol=1e-5)


def test_tables_and_figures(made):
    table = pd.read_csv(made[1] / "tables/own_table.csv")
    assert set(table["run"]) == {*RUNS, "popularity_geography", "popularity_geography_anything"}
    metrics = json.loads((made[1] / "runs/kalm_geography/metrics.json").read_text())["metrics"]["test"]["both"]
    shown = table[(table["run"] == "kalm_geography") & (table["metric"] == "MRR")]["reproduced"].item()
    assert float(shown) == pytest.approx(metrics["MRR"], abs=1e-3)
    assert r"\toprule" in (made[1] / "tables/own_table.tex").read_text()
    assert "KaLM" in (made[1] / "tables/own_table.md").read_text()
    for name in ("own_anisotropy", "own_matrix", "own_bars"):
        assert (made[1] / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (made[1] / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
    paper = (made[1] / "paper.tex").read_text()
    assert "own_table" in paper and "own_matrix" in paper
    if shutil.which("latexmk"):
        assert (made[1] / "paper.pdf").read_bytes().startswith(b"%PDF")
    assert "own_table" in (made[1] / "summary.txt").read_text()


def test_the_second_call_does_nothing(made):
    done = made[0].snakemake("--cores", "2")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


def test_the_report_has_captions(made):
    done = made[0].snakemake("--report", "report.html", "--cores", "1")
    assert done.returncode == 0, done.stderr
    report = (made[0].folder / "report.html").read_text("utf-8")
    assert "Link prediction on a little geography" in report and "Similarity of entities." in report
    assert len(re.findall("own_matrix", report)) > 1

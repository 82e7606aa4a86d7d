"""Each method on the device at hand, in bf16: a step, a validation, a resumption, and all that comes after training.

`pytest -m gpu` is what runs on a machine with a GPU (without one those tests are skipped); the same on the CPU runs
everywhere else.
"""

import importlib
import json

import numpy as np
import pandas as pd
import pytest
import torch

from faults.pipeline import command, write_sources
from kglm.artefacts import SCORES, read_parquet
from kglm.cli import main
from kglm.files import read_json
from kglm.methods._interface import REQUEUE, CandidateScorer, LinkPredictor
from kglm.ranking.stages import rank
from kglm.training.stages import embed, rank_by_model, score, train
from kglm.training.trainer import MethodTrainer
from methods.test_contract import CASES, STEPPED, TRAINED

MEASURED = ("perplexity", "anisotropy", "kgqa")
ANALYSES = (*MEASURED, "similarity", "mmlu", "attention", "cost")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """The device that all stages choose by themselves: the GPU where there is one."""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if request.param != found:
        pytest.skip(f"this machine computes on its {'GPU' if found == 'cuda' else 'CPU'}")
    if found == "cuda":
        torch.cuda.reset_peak_memory_stats()
    yield found
    if found == "cuda":
        assert torch.cuda.max_memory_allocated() > 0, "nothing was computed on the GPU"


@pytest.fixture
def folder_of(request):
    return lambda name: CASES[name][0] and request.getfixturevalue(CASES[name][0])


def spec_of(name: str, **training) -> dict:
    options = {"epochs": 1, "maximum_steps": 3, "batch_size": 8, "learning_rate": 1e-3, "save_every_steps": 1}
    return {
        **{"name": f"{name}_ring", "method": name, "dataset": "ring", "model": "tiny", "seed": 3},
        "parameters": CASES[name][1],
        "training": options | {"log_every_steps": 1, "validation_triples": 2} | training,
    }


@pytest.mark.parametrize("name", TRAINED)
def test_a_method_trains_resumes_validates_and_is_ranked(name, device, folder_of, ring_folder, tmp_path, monkeypatch):
    spec, model = spec_of(name, precision="bf16" if name in STEPPED else "fp32"), folder_of(name)
    places = (ring_folder, model, tmp_path / "checkpoints", tmp_path / "run")
    if name in STEPPED:
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as left:
            patched.setattr(MethodTrainer, "stopping", lambda self: self.state.global_step == 2)
            train(spec, *places)
        assert left.value.code == REQUEUE
    train(spec, *places)
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert np.isfinite(losses).all()
    assert len(losses) == 3 if name in STEPPED else losses
    assert [row for row in rows if "valid" in row]
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert (record["peak_gpu_memory_mib"] is not None) == (device == "cuda")
    weights, ranks, best = tmp_path / "run/weights", tmp_path / "ranks.parquet", tmp_path / "answers.parquet"
    score(spec, ring_folder, model, weights, tmp_path / "scores.parquet")
    assert np.isfinite(read_parquet(tmp_path / "scores.parquet", SCORES)["score"]).all()
    method = importlib.import_module(f"kglm.methods.{name}").Method
    if issubclass(method, CandidateScorer):
        rank_by_model({"name": name, "answers": 1, "run": spec}, ring_folder, model, weights, ranks, best)
    elif issubclass(method, LinkPredictor):
        embed(spec, ring_folder, model, weights, tmp_path / "embeddings")
        rank({"name": spec["name"], "answers": 1}, ring_folder, tmp_path / "embeddings", ranks, best)
    else:
        return
    assert pd.read_parquet(ranks)["realistic"].between(1, 12).all()


def test_every_analysis_computes_there(device, ring_graph, tmp_path):
    write_sources(ring_graph, tmp_path)
    before = ("fetch", "graph", "fetch_corpus", "corpus", "llama", "train_kalm", "train_kg_bilm", "embed")
    for step in (*before, *ANALYSES):
        assert main(command(step, tmp_path)) == 0, step
    perplexity, anisotropy, kgqa = (read_json(tmp_path / f"runs/kalm/{name}.json") for name in MEASURED)
    assert np.isfinite([perplexity["token_perplexity"], anisotropy["value"]]).all()
    assert 0 <= kgqa["tasks"]["head"]["zero_shot"]["accuracy"] <= 1

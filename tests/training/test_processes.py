"""Two processes train as one does: the same global batches, negatives gathered, one set of files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .runs import kalm_ring

# What the rule of the workflow calls where a training asks for several GPUs; here the processes are on the CPU (gloo).
ON_GPUS = Path(__file__).parents[2] / "workflow/profiles/slurm/bin/kglm-on-gpus"


KG_BILM = {
    **{"name": "kg_bilm_ring", "method": "kg_bilm", "dataset": "ring", "model": "tiny", "seed": 0},
    "parameters": {"maximum_length": 64, "dropout": 0.0, "contrastive_weight": 0.0, "sparse_gradients": True},
    "training": {"epochs": 2, "batch_size": 10, "learning_rate": 1.0e-2, "precision": "fp32", "log_every_steps": 1},
}


def log(folder, ring_folder, model_folder, processes: int, run: dict) -> tuple[list[dict], dict]:
    spec = folder / "spec.json"
    spec.write_text(json.dumps(run))
    launch = [ON_GPUS, str(processes), "1"] if processes > 1 else [sys.executable, "-m", "kglm.cli"]
    stage = ["train", f"--spec={spec}", f"--graph={ring_folder}", f"--model={model_folder}"]
    paths = [f"--checkpoints={folder}/checkpoints-{processes}", f"--out={folder}/run-{processes}"]
    command = [*launch, *stage, *paths]
    programs = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = {**os.environ, "PATH": programs, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (folder / f"run-{processes}/log.jsonl").read_text().splitlines()]
    return rows, json.loads((folder / f"run-{processes}/run.json").read_text())


def test_two_processes_train_as_one(tmp_path, ring_folder, model_folder):
    run = kalm_ring(0.0, log_every_steps=1)
    alone, _ = log(tmp_path, ring_folder, model_folder, 1, run)
    shared, record = log(tmp_path, ring_folder, model_folder, 2, run)
    assert record["processes"] == 2
    assert record["tokens_per_second"] > 0
    assert len(alone) == len(shared) == 12
    for one, two in zip(alone, shared, strict=True):
        assert one["step"] == two["step"]
        for part in {"contrastive", "loss", "language_model"} & one.keys():
            assert two[part] == pytest.approx(one[part], rel=1e-3 if part == "contrastive" else 0.05)
        assert one.get("valid") == two.get("valid")


def test_two_processes_with_gradients_of_rows_train_as_one(tmp_path, ring_folder, model_folder):
    alone, shared = (log(tmp_path, ring_folder, model_folder, processes, KG_BILM)[0] for processes in (1, 2))
    assert len(alone) == len(shared) > 5
    for one, two in zip(alone, shared, strict=True):
        assert one.get("valid") == two.get("valid")
        for part in {"masked_prediction", "alignment"} & one.keys():
            assert two[part] == pytest.approx(one[part], rel=0.02), (part, one["step"])

"""A run that is killed anywhere and started again ends with the bytes of a run that was not."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from .runs import artefacts, kalm_ring

# One interpreter imports everything once and forks a child for each start; single-threaded, so that a fork is safe.
DRIVER = """
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import peft, transformers, tensorboard.summary
from kglm.training import trainer
from kglm.training.stages import train

job = json.loads(sys.argv[1])
folder = Path(job["folder"])


def start(name, kill_at=None, number=signal.SIGKILL):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    if kill_at is not None:
        original, seen = trainer.MethodTrainer.compute_loss, {"steps": 0}

        def compute_loss(self, *a, **k):
            loss = original(self, *a, **k)
            if self.state.global_step + 1 == kill_at:
                os.kill(os.getpid(), number)
            return loss

        trainer.MethodTrainer.compute_loss = compute_loss
    status = 0
    try:
        train(job["spec"], Path(job["graph"]), Path(job["model"]), folder / name / "checkpoints", folder / name / "run")
    except SystemExit as end:
        status = end.code
    sys.stdout.flush()
    os._exit(status)


report = {"plain": [start("plain")]}
for at in job["kills"]:
    report[f"killed-{at}"] = [start(f"killed-{at}", at), start(f"killed-{at}")]
report["twice"] = [start("twice", 3), start("twice", 8), start("twice")]
for name in ("SIGTERM", "SIGUSR1"):
    report[name] = [start(name, 5, getattr(signal, name)), start(name)]
report["torn"] = [start("torn", 6)]
for checkpoint in sorted((folder / "torn/checkpoints").glob("checkpoint-*"))[-1:]:
    (checkpoint / "history.json").unlink()  # as if killed while the checkpoint was being written
    (checkpoint / "trainable.safetensors").write_bytes(b"torn")
report["torn"].append(start("torn"))
print("REPORT", json.dumps(report))
"""

KILLS = (1, 4, 7)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, ring_folder, model_folder):
    folder = tmp_path_factory.mktemp("resume")
    job = {
        "folder": str(folder),
        "spec": kalm_ring(0.1, log_every_steps=3, keep_epochs=True),
        "graph": str(ring_folder),
        "model": str(model_folder),
        "kills": KILLS,
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(job)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=900,
    )
    assert "REPORT" in done.stdout, done.stderr[-3000:]
    return folder, json.loads(done.stdout.split("REPORT")[1])


def test_the_undisturbed_run_is_whole(outcome):
    folder, report = outcome
    assert report["plain"] == [0]
    files = artefacts(folder / "plain/run")
    assert {"log.jsonl", "weights/adapter_model.safetensors", "epochs/1/method.safetensors"} <= set(files)
    rows = [json.loads(line) for line in files["log.jsonl"].splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [3, 5, 6, 9, 10]
    assert [row["step"] for row in rows if "valid" in row] == [5, 10]
    assert not [name for name in files if name.endswith((".bin", ".pt"))]


@pytest.mark.parametrize("name", [*(f"killed-{at}" for at in KILLS), "twice", "SIGTERM", "SIGUSR1", "torn"])
def test_a_disturbed_run_ends_with_the_same_bytes(outcome, name):
    folder, report = outcome
    *disturbed, last = report[name]
    assert last == 0
    if name.startswith("SIG"):
        assert [os.waitstatus_to_exitcode(status) for status in disturbed] == [75]
    else:
        assert all(os.WIFSIGNALED(status) for status in disturbed)
    expected, found = artefacts(folder / "plain/run"), artefacts(folder / name / "run")
    assert found.keys() == expected.keys()
    assert [path for path in expected if found[path] != expected[path]] == []


def test_the_best_weights_on_valid_are_kept(outcome):
    folder, _ = outcome
    rows = [json.loads(line) for line in (folder / "plain/run/log.jsonl").read_text().splitlines()]
    valid = {row["step"]: row["valid"]["MRR"] for row in rows if "valid" in row}
    record = json.loads((folder / "plain/run/run.json").read_text())
    assert record["best"]["MRR"] == max(valid.values()) == valid[record["best"]["step"]]
    epoch = int(record["best"]["epoch"])
    files = artefacts(folder / "plain/run")
    assert files["weights/adapter_model.safetensors"] == files[f"epochs/{epoch}/adapter_model.safetensors"]


def test_the_temperature_is_trained(outcome):
    folder, _ = outcome
    learnt = load_file(folder / "plain/run/weights/method.safetensors")["log_temperature"]
    assert learnt != np.float32(np.log(0.05))


def test_the_adapter_is_saved_as_trained(outcome):
    """Others saved an empty one (KoPA), or resumed with fresh matrices (peft issue 1678): B starts at 0."""
    folder, _ = outcome
    saved = load_file(folder / "plain/run/weights/adapter_model.safetensors")
    matrices = {name: value for name, value in saved.items() if "lora_B" in name}
    assert len(matrices) == len(saved) / 2 > 0
    assert all(np.abs(value).max() > 0 for value in matrices.values())

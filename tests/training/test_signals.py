"""SIGTERM reaches the processes of a training at different moments: they leave together, and nothing is lost.

Others hung for ever where each process decided alone (Lightning issue 20825, pocket-tts issue 277, sleap-nn issue 471),
or never served a signal during an evaluation (spd issues 677 and 741).
"""

import json
import os
import subprocess
import sys

import pytest

from .runs import artefacts, kalm_ring

# One interpreter imports everything once and forks the processes of each training.
DRIVER = """
import json, os, random, signal, socket, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import peft, transformers, tensorboard.summary
from kglm.training import trainer
from kglm.training.stages import train

job = json.loads(sys.argv[1])
folder = Path(job["folder"])
MOMENTS = ("step", "validation", "checkpoint")


def slowly(cls, name, seconds, moment, told):
    original = getattr(cls, name)

    def call(self, *a, **k):
        os.write(told, moment[:1].encode())
        time.sleep(seconds)
        return original(self, *a, **k)

    setattr(cls, name, call)


def child(name, rank, told):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(job["processes"])}
    slowly(trainer.MethodTrainer, "compute_loss", 0.02, "step", told)
    slowly(trainer.MethodTrainer, "_save_checkpoint", 0.05, "checkpoint", told)
    original = trainer.MethodTrainer._interruptible

    def interruptible(self):
        os.write(told, b"v")
        time.sleep(0.1)  # the signal comes before the last piece, though the ring has few
        return original(self)

    trainer.MethodTrainer._interruptible = interruptible
    status = 0
    try:
        train(job["spec"], Path(job["graph"]), Path(job["model"]), folder / name / "checkpoints", folder / name / "run")
    except SystemExit as end:
        status = end.code
    os._exit(status or 0)


def start(name, signals=None):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    pipes, children = [], []
    for rank in range(job["processes"]):
        read, write = os.pipe()
        made = os.fork()
        if not made:
            child(name, rank, write)
        os.close(write)
        pipes.append(os.fdopen(read, "rb", buffering=0))
        children.append(made)
    if signals:
        moment, count, skew, first, number = signals
        seen = 0
        while seen < count and (word := pipes[0].read(1)):  # the first process is at the moment for the n-th time
            seen += word == moment[:1].encode()
        order = children if first == 0 else children[::-1]
        for at, process in enumerate(order):
            os.kill(process, getattr(signal, number))
            time.sleep(skew if at == 0 else 0)
    limit, statuses = time.monotonic() + 60, {}
    while len(statuses) < len(children) and time.monotonic() < limit:
        for process in children:
            if process not in statuses and (done := os.waitpid(process, os.WNOHANG))[0]:
                statuses[process] = os.waitstatus_to_exitcode(done[1])
        time.sleep(0.02)
    for process in set(children) - set(statuses):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    return [statuses.get(process, "hangs") for process in children]


draw = random.Random(0)
report = {"plain": [start("plain")]}
for trial in range(job["trials"]):
    moment = MOMENTS[trial % 3]
    count = {"step": draw.randint(1, 9), "validation": draw.randint(1, 2), "checkpoint": draw.randint(1, 5)}[moment]
    signals = (moment, count, draw.random() * 0.5, draw.randint(0, 1), draw.choice(["SIGTERM", "SIGUSR1"]))
    name = f"trial-{trial}"
    report[name] = [start(name, signals), start(name), signals]
print("REPORT", json.dumps(report))
"""
TRIALS = 20


@pytest.fixture(scope="module", params=[2, 1], ids=["two processes", "one process"])
def outcome(request, tmp_path_factory, ring_folder, model_folder):
    folder = tmp_path_factory.mktemp("signals")
    spec = kalm_ring(0.0, log_every_steps=3, encoding_batch_size=2)
    job = {"folder": str(folder), "spec": spec, "graph": str(ring_folder), "model": str(model_folder)}
    job |= {"processes": request.param, "trials": TRIALS if request.param > 1 else 6}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(job)], capture_output=True, text=True, env=environment, timeout=1500
    )
    assert "REPORT" in done.stdout, done.stderr[-3000:]
    return folder, json.loads(done.stdout.split("REPORT")[1])


@pytest.mark.slow
def test_all_processes_leave_together_and_the_same_command_ends_the_training(outcome):
    folder, report = outcome
    plain, *trials = report
    assert set(report[plain][0]) == {0}
    expected = artefacts(folder / "plain/run")
    for name in trials:
        disturbed, resumed, signals = report[name]
        assert set(disturbed) == {75}, (name, signals)
        assert set(resumed) == {0}, (name, signals)
        found = artefacts(folder / name / "run")
        assert [path for path in expected if found.get(path) != expected[path]] == [], (name, signals)
        assert found.keys() == expected.keys()

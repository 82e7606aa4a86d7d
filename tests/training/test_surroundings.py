"""What is taken from the environment: trackers and the timeout of processes."""

import pytest

from kglm.errors import InputError
from kglm.methods._interface import build_method
from kglm.training.options import Training
from kglm.training.stages import prepared, train
from kglm.training.surroundings import WORKERS, process_timeout, trackers, workers
from kglm.training.trainer import MethodTrainer

from .runs import artefacts, kalm_ring


def test_they_reach_the_trainer(ring_graph, model_folder, tmp_path, monkeypatch):
    """A validation that is longer than the timeout ends the training of others (accelerate issue 3512)."""
    monkeypatch.setenv("KGLM_REPORT_TO", "none")
    monkeypatch.setenv("KGLM_PROCESS_TIMEOUT", "7200")
    spec = kalm_ring(0.0)
    method = build_method("kalm", spec["parameters"], ring_graph, model_folder)
    trainer = prepared(spec, Training.of(spec["training"]), method, ring_graph, tmp_path, dict)
    assert trainer.args.ddp_timeout == 7200
    assert trainer.args.report_to == []
    assert trainer.args.ddp_broadcast_buffers is False  # a graph's known triples would go around at every step


def test_defaults(monkeypatch):
    monkeypatch.delenv("KGLM_REPORT_TO", raising=False)
    monkeypatch.delenv("KGLM_PROCESS_TIMEOUT", raising=False)
    assert trackers() == ["tensorboard"]
    assert process_timeout() == 1800


@pytest.mark.parametrize(
    ("value", "told"),
    [("comet", "there is no tracker 'comet'"), ("tensorboard, wandb", "the tracker wandb is not installed")],
)
def test_a_tracker_that_is_not_there_is_told(value, told, monkeypatch):
    monkeypatch.setenv("KGLM_REPORT_TO", value)
    with pytest.raises(InputError, match=told):
        trackers()


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", ""])
def test_a_timeout_is_a_number_of_seconds(value, monkeypatch):
    monkeypatch.setenv("KGLM_PROCESS_TIMEOUT", value)
    with pytest.raises(InputError, match="KGLM_PROCESS_TIMEOUT"):
        process_timeout()


@pytest.mark.parametrize("given", ["two", "-1", ""])
def test_a_number_of_workers_that_is_none_is_told(given, monkeypatch):
    monkeypatch.setenv(WORKERS, given)
    with pytest.raises(InputError, match="KGLM_WORKERS"):
        workers(False)


def test_batches_made_ahead_are_those_made_when_they_are_asked_for(ring_folder, model_folder, tmp_path, monkeypatch):
    """Whatever number of processes makes them, and where the training was left and resumed."""
    spec = kalm_ring(0.0, log_every_steps=1)
    found = {}
    for count in ("0", "2"):
        monkeypatch.setenv(WORKERS, count)
        train(spec, ring_folder, model_folder, tmp_path / count / "checkpoints", tmp_path / count / "run")
        found[count] = artefacts(tmp_path / count / "run")
    assert found["0"] == found["2"]
    usual = MethodTrainer.compute_loss

    def dies(self, *arguments, **options):
        if self.state.global_step == 6:
            raise KeyboardInterrupt
        return usual(self, *arguments, **options)

    where = tmp_path / "left"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MethodTrainer, "compute_loss", dies)
        train(spec, ring_folder, model_folder, where / "checkpoints", where / "run")
    monkeypatch.setenv(WORKERS, "1")
    train(spec, ring_folder, model_folder, where / "checkpoints", where / "run")
    assert artefacts(where / "run") == found["0"]

"""The language model and what was added to it may learn at rates of their own."""

import pytest
import torch

from kglm.training import trainer
from kglm.training.stages import train

SPEC = {
    **{"name": "lmke_ring", "method": "lmke", "dataset": "ring", "model": "tiny", "seed": 0, "parameters": {}},
    "training": {
        **{"epochs": 1, "batch_size": 8, "precision": "fp32", "scheduler": "constant", "learning_rate": 1e-3},
        **{"weight_decay": 0.1, "validate_every_epochs": 0},
    },
}


@pytest.fixture
def rates(ring_folder, encoder_folder, tmp_path, monkeypatch):
    """The learning rate of every trained tensor by name, at the first step of a run."""
    seen = {}
    original = trainer.MethodTrainer.compute_loss

    def note(self, *arguments, **keywords):
        names = {id(p): name for name, p in self.method.named_parameters()}
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        assert type(optimizer) is torch.optim.AdamW  # as Table 3 of KaLM says of the runs
        groups = self.optimizer.param_groups
        listed = [(names[id(p)], group["lr"], group["weight_decay"]) for group in groups for p in group["params"]]
        assert len(listed) == len({name for name, *_ in listed}) == len(self.method.trainable())
        seen.update({name: (rate, decay) for name, rate, decay in listed})
        return original(self, *arguments, **keywords)

    def run(**training):
        with monkeypatch.context() as patched:
            patched.setattr(trainer.MethodTrainer, "compute_loss", note)
            spec = SPEC | {"training": SPEC["training"] | training}
            train(spec, ring_folder, encoder_folder, tmp_path / "checkpoints", tmp_path / "run")
        return seen

    return run


def test_one_rate_for_all(rates):
    assert {rate for rate, _ in rates().values()} == {1e-3}


def test_the_language_model_learns_at_its_own_rate(rates):
    found = rates(other_learning_rate=5e-2)
    of = {rate: {name for name, (own, _) in found.items() if own == rate} for rate in (1e-3, 5e-2)}
    assert of[1e-3] | of[5e-2] == found.keys()
    assert any(".encoder.layer.0." in name for name in of[1e-3])
    assert not any(".encoder.layer." in name for name in of[5e-2]) and of[5e-2]
    assert any("further" in name for name in of[5e-2])  # the vectors of entities and relations
    assert {decay for _, decay in found.values()} == {0.0, 0.1}  # biases and norms are not decayed at either rate

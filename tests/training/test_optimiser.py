"""Adam on rows: vectors move as in single precision, and as if each had an optimiser of its own."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch

from kglm.errors import InputError
from kglm.training import trainer
from kglm.training.optimiser import Together, clip, with_rows
from kglm.training.stages import train

WIDTH, ROWS, RARE, HITS = 32, 60, 20, 80  # a row has a gradient in one of twenty steps
RATE = 2e-5


def wanted(row: int, hit: int) -> torch.Tensor:
    """A noisy gradient, whose mean has a direction of its own for each row."""
    direction = torch.randn(WIDTH, generator=torch.Generator().manual_seed(row))
    return direction + torch.randn(WIDTH, generator=torch.Generator().manual_seed(1000 * row + hit)) * 2


def moved(kind: torch.dtype, sparse: bool) -> torch.Tensor:
    """How far each row of a table has come after HITS gradients, (ROWS, WIDTH)."""
    torch.manual_seed(0)
    table = torch.nn.Embedding(ROWS, WIDTH, sparse=sparse)
    with torch.no_grad():
        table.weight.mul_(0.02)
    table = table.to(kind)
    before = table.weight.detach().clone()
    parameters = [table.weight]
    optimizer = with_rows(torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0), parameters if sparse else [])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (HITS * RARE))
    for step in range(HITS * RARE):
        rows = torch.arange(step % RARE, ROWS, RARE)
        gradients = torch.stack([wanted(row, step // RARE) for row in rows.tolist()]).to(kind)
        optimizer.zero_grad()
        (table(rows) * gradients).sum().backward()
        optimizer.step()
        schedule.step()
    return table.weight.detach().double() - before.double()


def alone(row: int) -> torch.Tensor:
    """The way of one row under an Adam of its own in double precision, at the rates of its steps."""
    vector = torch.zeros(WIDTH, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([vector], lr=RATE)
    for hit in range(HITS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - (hit * RARE + row % RARE) / (HITS * RARE))
        vector.grad = wanted(row, hit).double()
        optimizer.step()
    return vector.detach()


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return torch.nn.functional.cosine_similarity(first, second, dim=1).mean().item()


def test_rare_rows_move_as_in_single_precision_and_not_as_in_bfloat16():
    own = torch.stack([alone(row) for row in range(ROWS)])
    rows, narrow = moved(torch.float32, True), moved(torch.bfloat16, True)
    assert cosine(rows, own) > 0.95
    assert (rows == 0).float().mean() == 0
    assert (narrow == 0).float().mean() > 0.3  # of the coordinates never moved
    assert narrow.norm() < 0.7 * rows.norm()


def test_optimisers_together_resume_where_they_were():
    def made():
        torch.manual_seed(0)
        table, layer = torch.nn.Embedding(9, 4, sparse=True), torch.nn.Linear(4, 1)
        dense = torch.optim.AdamW([*table.parameters(), *layer.parameters()], lr=0.1)
        return table, layer, with_rows(dense, list(table.parameters()))

    def steps(table, layer, optimizer, first, last):
        for step in range(first, last):
            optimizer.zero_grad()
            layer(table(torch.tensor([step % 9, 2]))).square().sum().backward()
            optimizer.step()

    table, layer, optimizer = made()
    assert isinstance(optimizer, Together)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1]
    steps(table, layer, optimizer, 0, 4)
    other_table, other_layer, other = made()
    other_table.load_state_dict(table.state_dict())
    other_layer.load_state_dict(layer.state_dict())
    other.load_state_dict(deepcopy(optimizer.state_dict()))
    for one in ((table, layer, optimizer), (other_table, other_layer, other)):
        steps(*one, 4, 8)
    assert torch.equal(table.weight, other_table.weight) and torch.equal(layer.weight, other_layer.weight)


@pytest.mark.parametrize("maximum", [0.5, 1e6])
def test_sparse_gradients_are_clipped_as_dense_ones(maximum):
    def tables(sparse):
        torch.manual_seed(0)
        table, layer = torch.nn.Embedding(9, 4, sparse=sparse), torch.nn.Linear(4, 1)
        layer(table(torch.tensor([1, 1, 5]))).square().sum().backward()
        if sparse:
            table.weight.grad = table.weight.grad.coalesce()
        return [table.weight, *layer.parameters()]

    dense, sparse = tables(False), tables(True)
    norm = torch.nn.utils.clip_grad_norm_(dense, maximum)
    torch.testing.assert_close(clip(sparse, maximum), norm)
    for one, other in zip(dense, sparse, strict=True):
        torch.testing.assert_close(other.grad.to_dense(), one.grad)


SPEC = {
    **{"name": "kg_bilm_ring", "method": "kg_bilm", "dataset": "ring", "model": "tiny", "seed": 0},
    "parameters": {"maximum_length": 64, "dropout": 0.0, "sparse_gradients": True},
    "training": {
        **{"epochs": 3, "batch_size": 8, "precision": "fp32", "scheduler": "constant", "learning_rate": 2e-3},
        **{"other_learning_rate": 2e-2, "validate_every_epochs": 0, "save_every_steps": 2},
    },
}


def test_a_run_with_sparse_gradients_learns(ring_folder, model_folder, tmp_path, monkeypatch):
    rates = []
    original = trainer.MethodTrainer.training_step

    def note(self, *arguments, **keywords):
        groups = self.optimizer.param_groups
        rates.extend(g["lr"] for g in groups for p in g["params"] if p is self.method.embedding.further.weight)
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(trainer.MethodTrainer, "training_step", note)
    train(SPEC, ring_folder, model_folder, tmp_path / "checkpoints", tmp_path / "run")
    assert set(rates) == {2e-2}
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0] - 0.3 and np.isfinite(losses).all()


def test_narrow_weights_are_not_trained(ring_folder, model_folder, tmp_path):
    spec = SPEC | {"parameters": SPEC["parameters"] | {"base_weights": "bfloat16"}}
    with pytest.raises(InputError, match=r"would hardly move.*base_weights: float32"):
        train(spec, ring_folder, model_folder, tmp_path / "checkpoints", tmp_path / "run")

"""What every method owes, run for each file in methods/; a file without an entry here fails the suite."""

from pathlib import Path

import numpy as np
import pytest
import torch

import kglm.methods
from kglm.methods._interface import build_method

# method -> parameters for the toy graph; None for parameters of an untrained method
CASES = {
    "base": {},
    "kalm": {
        "gradient_checkpointing": False,
        "language_model_batch_size": 2,
        "maximum_language_model_length": 64,
    },
}
TRAINED = sorted(set(CASES) - {"base"})


def files() -> set[str]:
    return {path.stem for path in Path(kglm.methods.__file__).parent.glob("[!_]*.py")}


def test_every_method_has_a_case():
    assert files() == set(CASES)


@pytest.fixture(params=sorted(CASES))
def name(request):
    return request.param


def build(name, ring_graph, model_folder, seed=0):
    torch.manual_seed(seed)
    return build_method(name, CASES[name], ring_graph, model_folder)


@pytest.mark.parametrize("trained", TRAINED)
def test_the_loss_is_finite_and_falls(trained, ring_graph, model_folder):
    method = build(trained, ring_graph, model_folder).train()
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=5e-3)
    triples = ring_graph.split("train", inverse=True)
    losses = []
    for step in range(12):
        loss = method(**method.collate(triples, np.random.default_rng(step), 0, 1))["loss"]
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.2


def vectors(method, graph, size=3):
    queries = graph.split("test", inverse=True)
    entities = np.arange(graph.entity_count)
    return method.encode_queries(queries[:, 0], queries[:, 1], size), method.encode_entities(entities, size)


def perturb(method):
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return method


def test_saved_and_loaded_gives_equal_vectors(name, ring_graph, model_folder, tmp_path):
    first = perturb(build(name, ring_graph, model_folder))
    first.save(tmp_path)
    second = build(name, ring_graph, model_folder, seed=1)
    second.load(tmp_path)
    for a, b in zip(vectors(first, ring_graph), vectors(second, ring_graph), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not [path.name for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


def test_padding_and_batch_order_change_no_vector(name, ring_graph, model_folder):
    method = perturb(build(name, ring_graph, model_folder))
    entities = np.arange(ring_graph.entity_count)
    whole = method.encode_entities(entities, 64)
    np.testing.assert_allclose(method.encode_entities(entities[::-1], 1)[::-1], whole, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)


def test_encoding_leaves_the_mode_as_it_was(name, ring_graph, model_folder):
    method = build(name, ring_graph, model_folder).train()
    vectors(method, ring_graph)
    assert method.training


def test_the_shares_of_the_processes_make_up_the_batch(ring_graph, model_folder):
    method = build("kalm", ring_graph, model_folder)
    triples = ring_graph.split("train")[:8]
    shares = [method.collate(triples, np.random.default_rng(0), part, 2)["triples"] for part in range(2)]
    assert sorted(map(tuple, torch.cat(shares).tolist())) == sorted(map(tuple, triples.tolist()))

"""What every method owes, run for each file in methods/; a file without an entry here fails the suite."""

import importlib
import inspect
import itertools
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

import kglm.methods
from kglm.kg.graph import Graph
from kglm.methods._interface import LinkPredictor, Method, build_method
from kglm.training.options import Training
from kglm.training.stages import train

# method -> fixture of its base model, parameters for the toy graph, and the least fall of the loss in 40 steps
CASES = {
    "base": ("model_folder", {}, None),
    "kalm": (
        "model_folder",
        {"gradient_checkpointing": False, "language_model_batch_size": 2, "maximum_language_model_length": 64},
        0.2,
    ),
    "c_lmke": ("encoder_folder", {}, 0.2),
    "lmke": ("encoder_folder", {}, 0.2),
    "kg_bilm": ("model_folder", {"dropout": 0.0, "context_walks": 2}, 0.2),
    "simkgc": ("encoder_folder", {"pre_batch_negatives": 12}, 0.2),
    "star": ("encoder_folder", {}, 0.2),
    "kg_bert": ("encoder_folder", {"maximum_length": 64, "negatives": 1}, 0.2),
    "mem_kgc": ("encoder_folder", {}, 0.2),
    "popularity": (None, {}, None),
    "structural": (None, {"dimension": 16}, 0.2),
}
TRAINED = sorted(name for name, (*_, fall) in CASES.items() if fall is not None)
# Those that leave the loop to us, and so make batches and take single steps.
STEPPED = [name for name in TRAINED if importlib.import_module(f"kglm.methods.{name}").Method.fit is Method.fit]


def files() -> set[str]:
    return {path.stem for path in Path(kglm.methods.__file__).parent.glob("[!_]*.py")}


def test_every_method_has_a_case():
    assert files() == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_option_is_read(name):
    method = importlib.import_module(f"kglm.methods.{name}").Method
    modules = {base.__module__ for base in method.__mro__ if base.__module__.startswith("kglm.methods")}
    source = "".join(inspect.getsource(importlib.import_module(module)) for module in modules)
    source = source.replace(inspect.getsource(method.Parameters), "")
    read = re.findall(r"\b(?:p|parameters|parameters_)\.(\w+)|\"(\w+)\"", source)
    assert {field.name for field in fields(method.Parameters)} <= {name for names in read for name in names}


@pytest.fixture
def folder_of(request):
    """The folder of a method's base model, None where it has none."""
    return lambda name: CASES[name][0] and request.getfixturevalue(CASES[name][0])


@pytest.fixture
def build(ring_graph, folder_of):
    def built(name: str, seed: int = 0, graph: Graph = ring_graph):
        torch.manual_seed(seed)
        return build_method(name, CASES[name][1], graph, folder_of(name))

    return built


def perturbed(method):
    """Weights as after some training: none of them is zero."""
    torch.manual_seed(9)
    with torch.no_grad():
        for tensor in method.trainable().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor) * 0.05)
    return method


def triples_of(graph: Graph) -> np.ndarray:
    everything = np.concatenate([graph.split(name) for name in ("train", "valid", "test")])
    return np.concatenate([everything, graph.inverse(everything)]) if graph.relation_count else everything


def scores(method, graph: Graph, size: int, triples: np.ndarray | None = None) -> np.ndarray:
    triples = triples_of(graph) if triples is None else triples
    if not isinstance(method, LinkPredictor):
        triples = triples[triples[:, 1] < graph.relation_count]
    return method.score_triples(triples, size)


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_is_finite_and_falls(name, build, ring_graph, tmp_path):
    losses = trained(build(name).train(), ring_graph, tmp_path)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - CASES[name][2]


def trained(method, ring_graph: Graph, folder) -> list[float]:
    """The losses of forty steps or more, by the method's own loop if it has one."""
    options = Training(epochs=20, batch_size=8, learning_rate=2e-2, precision="fp32", log_every_steps=1)
    if history := method.fit(options, 0, folder, lambda: {"MRR": 0.0}):
        return [row["loss"] for row in history["log"] if "loss" in row]
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=2e-3)
    triples = ring_graph.split("train", inverse=method.inverse_triples)
    losses = []
    for step in range(40):
        loss = method(**method.collate(triples, np.random.default_rng(step), 0, 1))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", sorted(CASES))
def test_saved_and_loaded_gives_equal_scores(name, build, ring_graph, tmp_path):
    first = perturbed(build(name))
    first.save(tmp_path)
    second = build(name, seed=1)
    second.load(tmp_path)
    np.testing.assert_array_equal(scores(first, ring_graph, 3), scores(second, ring_graph, 3))
    assert not [path.name for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


@pytest.mark.parametrize("name", sorted(CASES))
def test_padding_and_batch_order_change_no_score(name, build, ring_graph):
    method = perturbed(build(name))
    whole = scores(method, ring_graph, 64)
    order = np.random.default_rng(0).permutation(len(triples_of(ring_graph)))
    again = scores(method, ring_graph, 1, triples_of(ring_graph)[order])
    if len(whole) < len(order):
        order = order[triples_of(ring_graph)[order][:, 1] < ring_graph.relation_count]
    np.testing.assert_allclose(again, whole[order], atol=5e-5, rtol=1e-4)
    assert np.ptp(whole) > 1e-3


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_query_has_no_access_to_its_answer(name, build, ring_graph, tmp_path):
    """With other tails in valid and test, every query and every entity is encoded to the same bytes."""
    changed = ring_graph.triples.copy()
    for split in ("valid", "test"):
        rows = changed.index[changed["split"] == split]
        changed.loc[rows, "tail"] = (changed.loc[rows, "tail"] + 5) % ring_graph.entity_count
    other = Graph(ring_graph.entities, ring_graph.relations, changed)
    first, second = perturbed(build(name)), perturbed(build(name, graph=other))
    queries = ring_graph.split("test", inverse=True)[:, :2]
    if not isinstance(first, LinkPredictor):
        np.testing.assert_array_equal(*(scores(method, ring_graph, 4) for method in (first, second)))
        return
    heads, relations = np.ascontiguousarray(queries[:, 0]), np.ascontiguousarray(queries[:, 1])
    np.testing.assert_array_equal(*(method.encode_queries(heads, relations, 4) for method in (first, second)))
    entities = np.arange(ring_graph.entity_count)
    np.testing.assert_array_equal(*(method.encode_entities(entities, 4) for method in (first, second)))


@pytest.mark.parametrize("name", sorted(CASES))
def test_scoring_leaves_the_mode_as_it_was(name, build, ring_graph):
    method = build(name).train()
    scores(method, ring_graph, 4)
    assert method.training


@pytest.mark.parametrize("name", STEPPED)
def test_a_step_is_a_function_of_its_generator(name, build, ring_graph):
    """The same batch and generator give the same loss, whatever was asked of the method before."""
    method = build(name).eval()
    triples = ring_graph.split("train", inverse=method.inverse_triples)[:8]
    losses = []
    for _ in range(2):
        losses.append(method(**method.collate(triples, np.random.default_rng(4), 0, 1))["loss"].item())
        method.collate(triples, np.random.default_rng(5), 0, 1)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", STEPPED)
def test_tokens_read_are_those_that_the_models_see(name, build, ring_graph):
    method, seen = build(name), []

    def note(module, given, keywords):
        mask = keywords["attention_mask"]
        if mask.ndim == 4:  # the knowledge mask: nobody sees padding but padding itself
            others = (mask[:, 0] == 0) & ~torch.eye(mask.shape[-1], dtype=torch.bool)
            mask = others.any(dim=1)
        seen.append(int(mask.sum()))

    models = [module for module in method.modules() if isinstance(module, PreTrainedModel)]
    for model in models:
        if not any(inner in models for inner in list(model.modules())[1:]):
            model.register_forward_pre_hook(note, with_kwargs=True)
    triples = ring_graph.split("train", inverse=method.inverse_triples)[:8]
    batch = method.collate(triples, np.random.default_rng(4), 0, 1)
    method(**batch)
    assert method.tokens_read(batch) == sum(seen) > 8


class _Killed(Exception):
    pass


@pytest.mark.parametrize("name", TRAINED)
def test_killed_and_resumed_equals_uninterrupted(name, folder_of, ring_folder, tmp_path, monkeypatch):
    spec = {
        **{"name": f"{name}_ring", "method": name, "dataset": "ring", "model": "tiny", "seed": 3},
        "parameters": CASES[name][1],
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32", "save_every_steps": 2},
    }

    def run(where: str) -> bytes:
        train(spec, ring_folder, folder_of(name), tmp_path / where / "checkpoints", tmp_path / where / "run")
        files = sorted((tmp_path / where / "run/weights").iterdir())
        return b"".join(file.read_bytes() for file in files) + (tmp_path / where / "run/log.jsonl").read_bytes()

    undisturbed = run("undisturbed")
    steps, original = itertools.count(), torch.Tensor.backward  # which every loop goes through

    def dies(self, *arguments, **keywords):
        if next(steps) == 3:
            raise _Killed
        return original(self, *arguments, **keywords)

    with monkeypatch.context() as patched, pytest.raises(_Killed):
        patched.setattr(torch.Tensor, "backward", dies)
        run("killed")
    assert run("killed") == undisturbed


@pytest.mark.parametrize("name", STEPPED)
def test_the_shares_of_the_processes_are_equally_large(name, build, ring_graph):
    method = build(name)
    triples = ring_graph.split("train", inverse=method.inverse_triples)[:8]
    batches = [method.collate(triples, np.random.default_rng(0), part, 2) for part in range(2)]
    shares = [batch["triples"] if "triples" in batch else batch["alignment"]["triples"] for batch in batches]
    assert shares[0].shape == shares[1].shape
    assert {*map(tuple, triples.tolist())} <= {*map(tuple, torch.cat(shares).tolist())}

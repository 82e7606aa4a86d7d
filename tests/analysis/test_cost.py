import sys
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kglm.analysis.cost import candidates_of, cost, counted, epoch_of, exponent, timed
from kglm.errors import InputError
from kglm.files import read_json
from kglm.kg.graph import Graph
from kglm.lm.language_model import load_causal
from kglm.methods import _interface
from kglm.methods._contrastive import as_tensor
from kglm.methods._interface import build_method
from kglm.options import Options
from kglm.training.options import Training

from .conftest import IDENTITY, SPEC

TRAINING = {"epochs": 3, "batch_size": 4, "precision": "fp32", "encoding_batch_size": 5}
SIZES = {"triples": [3, 6, 12], "negatives": [1, 3], "entities": [4, 8], "evaluated": [1, 2], "relations": [1, 2]}
SIZES["repeats"] = 1


@dataclass(frozen=True)
class Parameters(Options):
    negatives: int = 2


class Reader(_interface.TripleClassifier):
    """Reads three tokens a triple, and each negative as a triple of its own."""

    Parameters = Parameters

    def __init__(self, parameters, graph, model):
        super().__init__(parameters, graph, model)
        self.parameters_, self.reader = parameters, load_causal(model)

    def collate(self, triples, generator, part, parts):
        return {"triples": as_tensor(np.repeat(triples, 1 + self.parameters_.negatives, axis=0))}

    def forward(self, triples):
        return {"loss": self.reader(input_ids=triples).logits.square().mean()}

    @torch.no_grad()
    def score_triples(self, triples, batch_size):
        parts = [self.reader.base_model(input_ids=part) for part in as_tensor(triples).split(batch_size)]
        return torch.cat([part.last_hidden_state.mean((1, 2)) for part in parts]).numpy()


@pytest.fixture
def reader(monkeypatch):
    module = ModuleType("kglm.methods.reader")
    module.Method = Reader
    monkeypatch.setitem(sys.modules, module.__name__, module)


def measure(folder, ring_folder, model, method: str, parameters=None, training=None, **options) -> dict:
    run = SPEC["run"] | {"method": method, "parameters": parameters or {}, "training": TRAINING | (training or {})}
    weights = folder / "weights"
    weights.mkdir()
    build_method(method, run["parameters"], Graph.read(ring_folder), model).save(weights)
    spec = {"name": "costs", "run": run, "options": SIZES | options}
    cost(spec, ring_folder, model, weights, folder / "cost.json")
    return read_json(folder / "cost.json")


def test_a_reader_of_triples_encodes_every_negative_and_every_candidate(reader, ring_folder, model_folder, tmp_path):
    result = measure(tmp_path, ring_folder, model_folder, "reader")
    assert result.items() >= (IDENTITY | {"method": "reader"}).items()
    assert result["training"]["triples"] == SIZES["triples"]
    assert result["training"]["encoded"] == [n * (1 + 2) for n in SIZES["triples"]]
    assert result["training"]["exponent"]["encoded"] == pytest.approx(1)
    assert result["negatives"]["negatives"] == [1, 3]
    assert result["negatives"]["encoded"] == [3 * (1 + 1), 3 * (1 + 3)]
    assert result["negatives"]["exponent"]["encoded"] == pytest.approx(1)
    assert "all_pairs" not in result
    assert result["link_prediction"]["encoded"] == [2 * 4 * 1, 2 * 8 * 2]
    assert result["link_prediction"]["exponent"]["encoded"] == pytest.approx(2)
    for part in ("training", "negatives", "link_prediction"):
        assert len(result[part]["seconds"]) == len(result[part]["encoded"])
        assert min(result[part]["seconds"]) > 0
        assert np.isfinite(result[part]["exponent"]["seconds"])


def test_lmke_encodes_a_triple_and_its_negatives_and_c_lmke_each_end_once(ring_folder, encoder_folder, tmp_path):
    """LMKE, Table 1: O(N_train N_neg) and O(|E| N_eval) beside O(N_train) and O(N_eval + |E|)."""
    for name in ("lmke", "c_lmke"):
        (tmp_path / name).mkdir()
    options = {"parameters": {"maximum_description_length": 30}, "entities": [3, 12]}
    lmke, c_lmke = (
        measure(tmp_path / name, ring_folder, encoder_folder, name, **options) for name in ("lmke", "c_lmke")
    )
    assert lmke["training"]["encoded"] == [n * (1 + 1) for n in SIZES["triples"]]
    assert lmke["negatives"]["encoded"] == [3 * (1 + 1), 3 * (1 + 3)]
    assert lmke["link_prediction"]["encoded"] == [2 * 3 * 1, 2 * 12 * 2]
    assert c_lmke["link_prediction"]["encoded"] == [3 + 2, 12 + 4]
    for triples, encoded in zip(c_lmke["training"]["triples"], c_lmke["training"]["encoded"], strict=True):
        assert 2 * triples <= encoded <= 4 * triples


def test_a_predictor_of_links_encodes_each_entity_and_query_once(ring_folder, model_folder, tmp_path):
    parameters = {"gradient_checkpointing": False, "language_model_weight": 0.0}
    result = measure(tmp_path, ring_folder, model_folder, "kalm", parameters, entities=[4, 12])
    assert result["link_prediction"]["encoded"] == [4 + 2, 12 + 4]
    assert "negatives" not in result
    # Each triple and its inverse: a query and an answer, equal ones of a batch of four encoded once.
    for triples, encoded in zip(result["training"]["triples"], result["training"]["encoded"], strict=True):
        assert 2 * triples <= encoded <= 4 * triples


def test_star_encodes_every_relation_with_every_entity_as_published(ring_folder, encoder_folder, tmp_path):
    """LMKE, Table 1: O(|E| |R|), whatever is asked; here the asked queries alone."""
    result = measure(tmp_path, ring_folder, encoder_folder, "star", {"negatives": 1}, entities=[6, 12])
    assert result["all_pairs"]["entities"] == [6, 12] and result["all_pairs"]["relations"] == [1, 2]
    assert result["all_pairs"]["encoded"] == [6 * 1 + 6, 12 * 2 + 12]
    assert result["link_prediction"]["encoded"] == [6 + 2, 12 + 4]


@pytest.mark.parametrize("saving", ["gradient_checkpointing", "gradient_caching"])
def test_what_is_encoded_again_backwards_is_not_counted(saving, ring_graph, model_folder):
    def encoded(**parameters) -> int:
        options = {"gradient_checkpointing": False, "language_model_batch_size": 2} | parameters
        method = build_method("kalm", options, ring_graph, model_folder)
        training = Training(batch_size=4, precision="fp32")
        return epoch_of(method, ring_graph.split("train")[:6], training, seed=1)()

    assert encoded(**{saving: True}) == encoded()


def test_a_run_that_is_not_trained_has_no_cost_of_training(ring_folder, model_folder, tmp_path):
    result = measure(tmp_path, ring_folder, model_folder, "base", training={"epochs": 0})
    assert "training" not in result
    assert "link_prediction" in result


def test_bad_sizes_and_methods_without_a_language_model_are_told(ring_folder, model_folder, tmp_path):
    def failing(name: str, method: str = "base", **options):
        (tmp_path / name).mkdir()
        measure(tmp_path / name, ring_folder, model_folder, method, {}, {"epochs": 0}, **options)

    with pytest.raises(InputError, match="99 entities are asked for and the graph has 12; lower entities"):
        failing("a", entities=[4, 99])
    with pytest.raises(InputError, match="evaluated names fewer than two sizes"):
        failing("b", evaluated=[2, 2])
    with pytest.raises(InputError, match="3 sizes of entities and 2 of evaluated"):
        failing("c", entities=[1, 2, 4])
    with pytest.raises(InputError, match="structural: has no language model"):
        failing("d", "structural")


def test_nothing_stays_hooked(ring_graph, model_folder):
    method = build_method("base", {}, ring_graph, model_folder)
    with counted(method) as batches:
        method.encode_entities(np.arange(12), 5)
    assert batches == [5, 5, 2]
    method.encode_entities(np.arange(12), 5)
    assert sum(batches) == 12


def test_candidates_replace_one_end_at_a_time():
    found = candidates_of(np.array([[1, 0, 2], [3, 1, 4]]), np.array([7, 8]))
    expected = [[1, 0, 7], [1, 0, 8], [3, 1, 7], [3, 1, 8], [7, 0, 2], [8, 0, 2], [7, 1, 4], [8, 1, 4]]
    assert found.tolist() == expected


@given(
    st.floats(-3, 3),
    st.floats(1e-3, 1e3),
    st.lists(st.integers(1, 10**6), min_size=2, max_size=6, unique=True),
)
def test_the_exponent_of_a_power_is_found(power, factor, sizes):
    assert exponent(sizes, factor * np.array(sizes, float) ** power) == pytest.approx(power, abs=1e-5)


def test_the_time_is_the_median(monkeypatch):
    ticks = iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr("kglm.analysis.cost.time.perf_counter", lambda: next(ticks))
    assert timed(lambda: 7, 3) == (7, 2.0)

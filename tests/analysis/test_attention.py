import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from kglm.analysis.attention import attention
from kglm.errors import InputError
from kglm.files import read_json
from kglm.methods._interface import build_method

from .conftest import IDENTITY, SPEC

PARAMETERS = {"maximum_length": 64, "context_walks": 3, "window": 2, "entity_text": "name"}


def spec_of(parameters: dict = PARAMETERS, **options) -> dict:
    run = SPEC["run"] | {"method": "kg_bilm", "parameters": parameters}
    return {"name": "attention", "run": run, "options": options}


@pytest.fixture
def trained(graph, model_folder, tmp_path):
    torch.manual_seed(0)
    method = build_method("kg_bilm", PARAMETERS, graph, model_folder)
    (tmp_path / "weights").mkdir()
    method.save(tmp_path / "weights")
    return method.eval(), tmp_path / "weights"


def measure(graph_folder, model_folder, weights, path, **options) -> tuple[dict, dict]:
    attention(spec_of(**options), graph_folder, model_folder, weights, path)
    return load_file(path), read_json(path.with_suffix(".json"))


def test_weights_are_shares_of_what_is_visible(graph_folder, model_folder, trained, tmp_path):
    tensors, labels = measure(graph_folder, model_folder, trained[1], tmp_path / "attention.safetensors")
    size = len(labels["tokens"])
    assert tensors["weights"].shape == tensors["visible"].shape == (size, size)
    assert tensors["visible"].dtype == bool
    np.testing.assert_allclose(tensors["weights"].sum(axis=1), 1, rtol=1e-5)
    assert (tensors["weights"][~tensors["visible"]] == 0).all()
    assert (tensors["weights"][tensors["visible"]] > 0).all()
    assert not tensors["visible"].all()
    assert labels.items() >= (IDENTITY | {"method": "kg_bilm", "layer": 1}).items()
    # The first test triple: Bonn near Cologne; Bonn lies on the Rhine and Cologne is near it.
    assert labels["query"] == {"head": "bonn", "relation": "_near", "names": ["Bonn", "near"]}
    entities = [t for t, kind in zip(labels["tokens"], labels["kinds"], strict=True) if kind == "entity"]
    assert entities[0] == "Bonn" and set(entities[1:]) == {"Rhine", "Cologne"}
    assert (labels["tokens"][-1], labels["kinds"][-1]) == ("<mask>", "mask")
    assert "".join(t for t, kind in zip(labels["tokens"], labels["kinds"], strict=True) if kind == "word") == (
        "<s>Bonnnear"
    )
    near = [place for place, kind in enumerate(labels["kinds"]) if kind == "entity"]
    assert tensors["visible"][np.ix_(near, near)].all()  # within two hops of each other


def test_a_query_and_a_layer_can_be_chosen(graph_folder, model_folder, trained, tmp_path):
    chosen = {"head": "Hamburg", "relation": "lies on", "layer": 0}
    first, labels = measure(graph_folder, model_folder, trained[1], tmp_path / "a.safetensors", **chosen)
    assert labels["query"] == {"head": "hamburg", "relation": "_lies_on", "names": ["Hamburg", "lies on"]}
    last, other = measure(graph_folder, model_folder, trained[1], tmp_path / "b.safetensors", **chosen | {"layer": -1})
    assert (labels["layer"], other["layer"]) == (0, 1)
    assert not np.allclose(first["weights"], last["weights"])
    np.testing.assert_array_equal(first["visible"], last["visible"])


def test_looking_changes_no_score(graph, trained):
    method, _ = trained
    before = method.encode_queries(np.array([1]), np.array([1]), 1)
    usual = method.backbone.config._attn_implementation
    method.attention_weights(1, 1)
    np.testing.assert_array_equal(method.encode_queries(np.array([1]), np.array([1]), 1), before)
    assert method.backbone.config._attn_implementation == usual


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"head": "bonn"}, "both options or neither"),
        ({"head": "sound", "relation": "_near"}, "2 entities"),
        ({"head": "bonn", "relation": "_under"}, "no relations"),
        ({"layer": 2}, "the model has 2"),
        ({"layers": 1}, "unknown option 'layers'"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(
    graph_folder, model_folder, trained, tmp_path, options, named
):
    with pytest.raises(InputError, match=named):
        measure(graph_folder, model_folder, trained[1], tmp_path / "new" / "attention.safetensors", **options)
    assert not (tmp_path / "new").exists()


def test_other_methods_have_no_knowledge_mask(graph_folder, model_folder, tmp_path):
    with pytest.raises(InputError, match="kalm has no knowledge mask"):
        attention(SPEC | {"options": {}}, graph_folder, model_folder, tmp_path, tmp_path / "attention.safetensors")

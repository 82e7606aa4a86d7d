"""Parameters: against models that are really built, against published totals, and against runs of the demo."""

import json
from pathlib import Path

import pytest

from kglm import config as configuration
from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.lm.lora import add_lora
from kglm.lm.scratch import untrained_model
from kglm.plan import models, work

ROOT = Path(__file__).parents[2]
NOWHERE = Path("nowhere")
# Totals as they are told: with pooler and without head where the model is an encoder.
PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "llama-3-8b": 8_030_261_248,
    "mistral-7b": 7_241_732_096,
    "gpt2-medium": 354_823_168,
    "smollm2-135m-instruct": 134_515_008,
    "bert-base-uncased": 109_482_240,
    "bert-tiny": 4_385_920,
    "all-minilm-l6-v2": 22_713_216,
}
# `trained_parameters` of run.json of finished runs of the demo.
TRAINED = {
    "base_umls": 0,
    "kalm_umls": 147_457,
    "kalm_umls_att": 131_073,
    "kalm_umls_att-ffn": 278_529,
    "lmke_umls": 681_985,
    "c_lmke_umls": 1_144_449,
    "c_lmke_umls_degrees-none": 1_144_193,
    "kg_bilm_umls": 622_343,
    "kg_bilm_umls_without-kmp": 620_160,
    "kg_bilm_umls_inductive": 622_343,
    "rotate_umls": 20_224,
    "transe_umls": 11_584,
}


@pytest.fixture(scope="module")
def demo():
    return configuration.read(ROOT / "config.yaml", ROOT / "workflow/scales/demo.yaml")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_of_architectures_gives_the_published_totals(demo, name):
    found = models.architecture(demo["models"][name], NOWHERE)
    pooler = found.width * (found.width + 1)
    assert PUBLISHED[name] == (found.encoder + pooler if found.family == "bert" else found.whole)


@pytest.mark.parametrize("name", ["llama-scratch", "bert-scratch", "gpt2-scratch"])
def test_counts_are_those_of_a_model_that_is_built(demo, name, tmp_path):
    entry = models.read_entry(demo["models"][name])
    built = untrained_model(entry, models._Vocabulary(entry.vocabulary_size))
    built.save_pretrained(tmp_path)
    planned = models.architecture(demo["models"][name], NOWHERE)
    assert planned == models.architecture(demo["models"][name], tmp_path)
    assert planned.whole == sum(p.numel() for p in built.parameters())
    kept = (tmp_path / "model.safetensors").stat().st_size
    assert kept == pytest.approx(4 * planned.whole, rel=0.01)
    for part in ("ffn", "att", "att-ffn"):
        adapted = add_lora(untrained_model(entry, models._Vocabulary(entry.vocabulary_size)), part, 4, 4.0, 0.0)
        assert planned.lora(part, 4) == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("run", TRAINED)
def test_as_many_parameters_are_trained_as_the_demo_trained(demo, run):
    spec = configuration.run_spec(demo, run)
    graph = work.dataset(spec["dataset"], demo["datasets"][spec["dataset"]], NOWHERE)
    model = None if spec["model"] == "none" else models.architecture(demo["models"][spec["model"]], NOWHERE)
    assert work.run_size(spec, graph, model).trained == TRAINED[run]


@pytest.mark.parametrize(
    "interaction",
    ["rotate", "transe", "transh", "transr", "transd", "distmult", "complex", "quate", "rescal"],
)
def test_structural_methods_have_as_many_parameters_as_pykeens(interaction, ring_folder):
    from kglm.methods.structural import Method, Parameters

    parameters = {"interaction": interaction, "dimension": 6}
    if interaction in ("transr", "transd"):
        parameters["relation_dimension"] = 4
    graph = Graph.read(ring_folder)
    method = Method(Parameters(**parameters), graph, None)
    resolved = {key: option.default for key, option in configuration.method_options("structural").items()}
    spec = {"method": "structural", "parameters": {**resolved, **parameters}}
    counts = dict(entities=graph.entity_count, relations=graph.relation_count, train=1, valid=1, test=1)
    texts = work.Texts(1, 1)
    planned = work.run_size(spec, work.Dataset(**counts, names=texts, descriptions=texts, relation=1), None)
    assert planned.trained == sum(tensor.numel() for tensor in method.trainable().values())


def test_a_built_folder_counts_before_the_table(demo, tmp_path):
    sizes = json.loads(models.PUBLISHED.read_text("utf-8"))["google/bert_uncased_L-2_H-128_A-2"]
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "num_hidden_layers": 3}))
    assert models.architecture(demo["models"]["bert-tiny"], tmp_path).layers == 3


def test_a_model_of_unknown_sizes_is_told():
    entry = {"source": "hub", "id": "nobody/nothing", "revision": "0" * 40}
    with pytest.raises(InputError, match="nobody/nothing"):
        models.architecture(entry, NOWHERE)

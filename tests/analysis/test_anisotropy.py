import numpy as np
import pytest
import torch

from kglm.analysis.anisotropy import anisotropy
from kglm.analysis.geometry import alignment, sentence_anisotropy
from kglm.errors import InputError
from kglm.files import read_json
from kglm.lm.language_model import encode_texts, load_causal, load_tokenizer, text_tokens
from kglm.methods._interface import build_method

from .conftest import IDENTITY, SPEC

KALM = {"gradient_checkpointing": False, "lora_dropout": 0.0}


def by_hand(model, tokenizer, sentences: list[str], length: int, bracket: bool = True) -> np.ndarray:
    """Each sentence alone, its last token's state in every layer: (layers + 1, n, d)."""
    states = []
    for sentence in sentences:
        if bracket:
            ids = [*tokenizer.encode("{", add_special_tokens=False)]
            ids += tokenizer.encode(sentence, add_special_tokens=False)[:length]
            ids += tokenizer.encode("}", add_special_tokens=False)
        else:
            ids = tokenizer(sentence)["input_ids"][:length]
        ids = torch.tensor([ids])
        with torch.no_grad():
            hidden = model(ids, output_hidden_states=True).hidden_states
        states.append(torch.stack([torch.nn.functional.normalize(layer[0, -1], dim=0) for layer in hidden]))
    return torch.stack(states, dim=1).numpy()


@pytest.fixture(scope="module")
def epochs(model_folder, tmp_path_factory):
    """Weights after two epochs (adapters of two sizes), and a folder that is no epoch."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("epochs")
    (folder / "notes").mkdir()
    for epoch in (1, 2):
        torch.manual_seed(epoch)
        adapter = get_peft_model(load_causal(model_folder), LoraConfig(r=2, target_modules=["down_proj"]))
        for name, parameter in adapter.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=epoch)
        adapter.save_pretrained(folder / str(epoch))
    return folder


@pytest.fixture(scope="module")
def sentences(corpus_folder):
    return (corpus_folder / "test.txt").read_text("utf-8").splitlines()


def test_by_layer(model_folder, weights_folder, corpus_folder, sentences, tmp_path):
    spec = SPEC | {"options": {"maximum_length": 30, "batch_size": 2}}
    anisotropy(spec, model_folder, weights_folder, corpus_folder, tmp_path / "a.json")
    result = read_json(tmp_path / "a.json")
    states = by_hand(load_causal(model_folder), load_tokenizer(model_folder), sentences, 30)
    assert result.items() >= (IDENTITY | {"corpus": corpus_folder.name, "sentences": 5, "epochs": []}).items()
    assert result["layers"] == pytest.approx([sentence_anisotropy(layer) for layer in states], abs=1e-5)
    assert len(result["layers"]) == 3
    assert result["value"] == result["layers"][-1]
    assert result["theorem2"]["holds"]
    assert (result["theorem2"]["temperature"], result["theorem2"]["temperature_from"]) == (
        pytest.approx(0.1),
        "trained",
    )
    assert result["alignment"] is None and result["entities"] is None


def test_by_epoch(model_folder, epochs, corpus_folder, sentences, tmp_path):
    anisotropy(SPEC, model_folder, epochs / "2", corpus_folder, tmp_path / "a.json", epochs=epochs)
    result = read_json(tmp_path / "a.json")
    values = []
    for weights in (None, epochs / "1", epochs / "2"):
        states = by_hand(load_causal(model_folder, weights), load_tokenizer(model_folder), sentences, 128)
        values.append(sentence_anisotropy(states[-1]))
    assert [entry["epoch"] for entry in result["epochs"]] == [0, 1, 2]
    assert [entry["value"] for entry in result["epochs"]] == pytest.approx(values, abs=1e-5)
    assert len({round(value, 4) for value in values}) == 3
    assert result["value"] == pytest.approx(result["epochs"][2]["value"], abs=1e-6)
    assert result["theorem2"]["temperature_from"] == "option"


def test_a_run_that_kept_no_epoch(model_folder, weights_folder, corpus_folder, tmp_path):
    (tmp_path / "epochs").mkdir()
    out = tmp_path / "a.json"
    anisotropy(SPEC, model_folder, weights_folder, corpus_folder, out, epochs=tmp_path / "epochs")
    assert read_json(out)["epochs"] == []


@pytest.mark.parametrize("length", [128, 4])
def test_last_layer_alone_fewer_sentences_at_their_last_token(
    length, model_folder, weights_folder, corpus_folder, sentences, tmp_path
):
    options = {"layers": False, "sentences": 3, "pooling": "last_token", "maximum_length": length}
    anisotropy(SPEC | {"options": options}, model_folder, weights_folder, corpus_folder, tmp_path / "a.json")
    result = read_json(tmp_path / "a.json")
    chosen = [sentences[0], sentences[2], sentences[4]]
    states = by_hand(load_causal(model_folder), load_tokenizer(model_folder), chosen, length, bracket=False)
    assert (result["sentences"], result["layers"]) == (3, [])
    assert result["value"] == pytest.approx(sentence_anisotropy(states[-1]), abs=1e-5)


@pytest.mark.parametrize("split, count", [("test", 8), ("train", 3)])
def test_on_the_graph(
    graph,
    graph_folder,
    embeddings_folder,
    model_folder,
    weights_folder,
    corpus_folder,
    tmp_path,
    split,
    count,
):
    from safetensors.numpy import load_file

    folders = {"graph": graph_folder, "embeddings": embeddings_folder}
    spec = SPEC | {"options": {"split": split}}
    anisotropy(spec, model_folder, weights_folder, corpus_folder, tmp_path / "a.json", **folders)
    result = read_json(tmp_path / "a.json")
    entities = load_file(embeddings_folder / "entities.safetensors")["embeddings"]
    queries = load_file(embeddings_folder / "queries.safetensors")
    keys = list(zip(queries["heads"].tolist(), queries["relations"].tolist(), strict=True))
    pairs = [(keys.index((h, r)), t) for h, r, t in graph.split(split, inverse=True).tolist() if (h, r) in keys]
    rows, tails = map(list, zip(*pairs, strict=True))
    assert result["pairs"] == {"split": split, "count": len(pairs)}
    assert len(pairs) == count
    assert result["alignment"] == pytest.approx(alignment(queries["embeddings"][rows], entities[tails]), abs=1e-9)
    assert result["entities"]["count"] == 10
    assert result["entities"]["anisotropy"] == pytest.approx(sentence_anisotropy(entities))
    assert result["entities"]["theorem2"]["holds"]


@pytest.mark.parametrize("length", [3, 20, 200])
def test_a_text_is_pooled_as_kalms_encoder_pools_an_entity(length, ring_graph, model_folder):
    """However it is cut: the closing bracket stays the last token, and nothing else stands before the opening one."""
    method = build_method("kalm", {"maximum_description_length": length, **KALM}, ring_graph, model_folder)
    entities = np.arange(ring_graph.entity_count)
    texts = ring_graph.entity_texts("name_and_description")
    assert max(map(len, texts)) > 20
    encoded = encode_texts(load_causal(model_folder), load_tokenizer(model_folder), texts, length, 4)
    np.testing.assert_allclose(encoded, method.encode_entities(entities, 4), atol=1e-5)
    tokens = text_tokens(load_tokenizer(model_folder), texts, length, "bracket")
    assert tokens == method.texts.answers(entities).rows()


def test_an_unknown_pooling_is_refused(model_folder, weights_folder, corpus_folder, tmp_path):
    spec = SPEC | {"options": {"pooling": "mean"}}
    with pytest.raises(InputError, match="pooling: 'mean' is not known; choose one of bracket, last_token"):
        anisotropy(spec, model_folder, weights_folder, corpus_folder, tmp_path / "a.json")


def test_one_sentence_has_no_pair(model_folder, weights_folder, tmp_path):
    (tmp_path / "test.txt").write_text("Alone.\n", "utf-8")
    with pytest.raises(InputError, match="fewer than two sentences"):
        anisotropy(SPEC, model_folder, weights_folder, tmp_path, tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()

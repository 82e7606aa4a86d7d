"""LMKE: what is read of a triple, what is a negative, and the loss against a plain loop."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.lm.language_model import load_tokenizer
from kglm.methods._interface import build_method
from kglm.methods.lmke import Method, Parameters


@pytest.fixture(scope="module")
def lmke(ring_graph, encoder_folder):
    def make(graph=ring_graph, **changes) -> Method:
        torch.manual_seed(0)
        return build_method("lmke", changes, graph, encoder_folder).train()

    return make


@pytest.fixture(scope="module")
def one(lmke) -> Method:
    """One for tests that change nothing of it."""
    return lmke(negatives=2)


def readable(method: Method, ids: list[int], tokenizer) -> list[str]:
    """Words as they were, and the further tokens as their numbers."""
    words = method.tokens.words.num_embeddings
    parts, pieces = [], []
    for token in [*ids, None]:
        if token is not None and token < words and token not in tokenizer.all_special_ids:
            pieces.append(token)
            continue
        parts += [tokenizer.decode(pieces)] if pieces else []
        pieces = []
        if token is not None:
            parts.append(tokenizer.decode([token]) if token < words else token - words)
    return parts


def test_a_triple_is_read_with_its_tokens_before_their_descriptions(lmke, ring_graph, encoder_folder):
    method, tokenizer = lmke(), load_tokenizer(encoder_folder)
    sequence = method.texts.triples(np.array([[0, 1, 6]]))
    entities = ring_graph.entity_count
    expected = ["[CLS]", 0, "the animal ant", entities + 1, "faces", 6, "the animal gnu", "[SEP]"]
    assert readable(method, sequence.rows.row(0), tokenizer) == expected and sequence.positions == [0]
    cut = lmke(maximum_description_length=5).texts.triples(np.array([[0, 1, 6]]))
    assert readable(method, cut.rows.row(0), tokenizer) == [
        "[CLS]",
        0,
        "the a",
        entities + 1,
        "faces",
        6,
        "the a",
        "[SEP]",
    ]
    named = lmke(entity_text="name").texts.triples(np.array([[0, 1, 6]]))
    assert readable(method, named.rows.row(0), tokenizer) == [
        "[CLS]",
        0,
        "ant",
        entities + 1,
        "faces",
        6,
        "gnu",
        "[SEP]",
    ]


def test_an_entity_without_any_description_is_its_token_alone(lmke, ring_graph):
    entities = ring_graph.entities.copy()
    entities.loc[[2, 5], ["name", "description"]] = ""
    method = lmke(replace(ring_graph, entities=entities), token_initialisation="name")
    words = method.tokens.words.num_embeddings
    assert method.texts.keys(np.array([2])).rows.row(0)[1:-1] == [words + 2]
    triples = np.array([[2, 0, 3], [5, 0, 3], [2, 1, 5]])
    assert len(set(method.score_triples(triples, 2).tolist())) == 3
    method(**method.collate(triples, np.random.default_rng(0), 0, 1))["loss"].backward()
    assert (method.tokens.further.weight.grad[[2, 5]] != 0).any(dim=1).all()


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 8), parts=st.integers(1, 2))
def test_negatives_are_never_true_and_differ_in_one_end(one, ring_graph, seed, size, parts):
    train = {*map(tuple, ring_graph.split("train").tolist())}
    triples = ring_graph.split("train")[: size * parts]
    shares = [one.collate(triples, np.random.default_rng(seed), part, parts)["triples"] for part in range(parts)]
    whole = one.collate(triples, np.random.default_rng(seed), 0, 1)["triples"].tolist()
    assert sorted(map(tuple, torch.cat(shares).tolist())) == sorted(map(tuple, whole))
    for share in shares:
        rows = share.numpy()
        true, false = rows[: len(rows) // 3], rows[len(rows) // 3 :]
        assert {*map(tuple, true.tolist())} <= train and not {*map(tuple, false.tolist())} & train
        assert ((np.repeat(true, 2, axis=0) != false).sum(axis=1) == 1).all()
        assert (np.repeat(true, 2, axis=0)[:, 1] == false[:, 1]).all()


def test_the_loss_is_that_of_a_plain_loop(one, ring_graph):
    """Equation 1, one triple at a time, without padding."""
    inputs = one.collate(ring_graph.split("train")[:5], np.random.default_rng(3), 0, 1)
    total = 0.0
    for row, triple in enumerate(inputs["triples"].tolist()):
        ids = torch.tensor([one.texts.triples(np.array([triple])).rows.row(0)])
        output = one.encoder(input_ids=ids).last_hidden_state[0, 0]
        p = torch.sigmoid(one.classifier.weight[0] @ output + one.classifier.bias[0]).item()
        total -= np.log(p) if row < 5 else np.log(1 - p)
        assert one.score_triples(np.array([triple]), 1)[0] == pytest.approx(np.log(p / (1 - p)), abs=1e-4)
    assert one(**inputs)["loss"].item() == pytest.approx(total / 15, rel=1e-4)


@pytest.mark.parametrize("name", ["lmke", "c_lmke"])
def test_cached_gradients_are_those_of_the_whole_batch(name, ring_graph, encoder_folder):
    found = []
    for options in ({}, {"chunk_size": 3, "gradient_caching": True}):
        torch.manual_seed(0)
        method = build_method(name, options, ring_graph, encoder_folder).train()
        triples = ring_graph.split("train", inverse=method.inverse_triples)[::2]
        method(**method.collate(triples, np.random.default_rng(0), 0, 1))["loss"].backward()
        found.append({key: p.grad for key, p in method.named_parameters()})
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", ["lmke", "c_lmke"])
def test_scores_are_made_without_dropout(name, ring_graph, encoder_folder):
    method = build_method(name, {}, ring_graph, encoder_folder).train()
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    triples = ring_graph.split("train")
    np.testing.assert_array_equal(method.score_triples(triples, 8), method.score_triples(triples, 8))
    losses = {method(**method.collate(triples, np.random.default_rng(0), 0, 1))["loss"].item() for _ in range(2)}
    assert len(losses) == 2


@pytest.mark.parametrize("name", ["lmke", "c_lmke"])
def test_tokens_start_by_name_or_at_random(name, ring_graph, encoder_folder):
    tokenizer = load_tokenizer(encoder_folder)
    named, random = (
        build_method(name, {"token_initialisation": start}, ring_graph, encoder_folder).tokens
        for start in ("name", "random")
    )
    texts = ["ant", "bee", "faces"]
    for number, text in zip((0, 1, ring_graph.entity_count + 1), texts, strict=True):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        mean = named.words.weight[ids].mean(dim=0)
        torch.testing.assert_close(named.further.weight[number], mean)
        assert not torch.allclose(random.further.weight[number], mean, atol=0.05)
    assert len(named.further.weight) == ring_graph.entity_count + ring_graph.relation_count


@pytest.mark.parametrize("name", ["lmke", "c_lmke"])
def test_sequences_longer_than_the_positions_are_refused(name, ring_graph, encoder_folder):
    entities = ring_graph.entities.assign(description="ant " * 200)
    graph = replace(ring_graph, entities=entities)
    with pytest.raises(InputError, match=r"do not fit the 128 positions.*lower it"):
        build_method(name, {}, graph, encoder_folder)
    special, described = {"lmke": (2, 2), "c_lmke": (3, 1)}[name]
    exact = (128 - special - 1 - len("is followed by")) // described - 1
    build_method(name, {"maximum_description_length": exact}, graph, encoder_folder)
    with pytest.raises(InputError, match="positions"):
        build_method(name, {"maximum_description_length": exact + 1}, graph, encoder_folder)


@pytest.mark.parametrize("name", ["lmke", "c_lmke"])
def test_a_tokenizer_without_a_mask_and_a_decoder_are_refused(name, ring_graph, encoder_folder, model_folder, tmp_path):
    folder = shutil.copytree(encoder_folder, tmp_path / "encoder")
    configuration = json.loads((folder / "tokenizer_config.json").read_text())
    configuration.pop("mask_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration))
    with pytest.raises(InputError, match="the tokenizer has no mask token"):
        build_method(name, {}, ring_graph, folder)
    with pytest.raises(InputError, match="is a model of type llama"):
        build_method(name, {}, ring_graph, model_folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"negatives": 0}, "negatives"), ({"token_initialisation": "zero"}, "zero"), ({"entity_text": "title"}, "title")],
)
def test_bad_options_are_named(lmke, changes, named):
    assert Parameters().negatives == 1
    with pytest.raises(InputError, match=named):
        lmke(**changes)

"""Models from scratch: what they see, that a seed decides them, and that they learn."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from kglm.errors import InputError
from kglm.kg.graph import SPLITS
from kglm.lm.build import model
from kglm.lm.entries import read_entry
from kglm.lm.scratch import (
    _MaskedTexts,
    corpus_passages,
    text_numbers,
    token_rows,
    train_tokenizer,
    training_sentences,
    untrained_model,
)

from .conftest import SCRATCH

ARCHITECTURES = ("llama", "bert", "gpt2")


@pytest.fixture(scope="module")
def tokenizers(ring_graph):
    texts = ring_graph.entity_texts() + ring_graph.relation_texts()
    return {kind: train_tokenizer(read_entry(SCRATCH | {"architecture": kind}), texts) for kind in ARCHITECTURES}


def sentences_of(graph, split):
    names, relations = graph.entity_texts("name"), graph.relation_texts()
    return {f"{names[h]} {relations[r]} {names[t]}" for h, r, t in graph.split(split)}


def test_training_sentences_hold_no_triple_of_valid_or_test(ring_graph):
    sentences = training_sentences(ring_graph)
    assert sentences_of(ring_graph, "train") <= set(sentences)
    for split in SPLITS[1:]:
        hidden = sentences_of(ring_graph, split)
        assert hidden
        assert not [text for text in sentences for fact in hidden if fact in text]


def test_training_sentences_hold_every_description_once(ring_graph):
    sentences = training_sentences(ring_graph)
    for text in ring_graph.entity_texts():
        assert sentences.count(text) == 1


def test_corpora_give_their_training_part_only(prose, tmp_path):
    assert corpus_passages([prose, tmp_path]) == ["An ant is small.", "A naïve fox – it sleeps."]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_special_tokens(tokenizers, kind):
    tokenizer = tokenizers[kind]
    special = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.mask_token]
    assert len(set(special)) == 4
    assert None not in special
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("a fox")["input_ids"])
    assert tokens[0] == tokenizer.bos_token
    assert (tokens[-1] == tokenizer.eos_token) == (kind == "bert")
    if kind == "bert":
        assert special == ["[CLS]", "[SEP]", "[PAD]", "[MASK]"]
        assert [tokenizer.cls_token, tokenizer.sep_token] == ["[CLS]", "[SEP]"]


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_every_text_comes_back(tokenizers, text):
    tokenizer = tokenizers["llama"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


@given(length=st.integers(2, 40), seed=st.integers(0, 9))
def test_rows_hold_all_texts(tokenizers, length, seed):
    texts = ["a fox", "an ibis faces", "x" * 30]
    rows = token_rows(tokenizers["llama"], texts, length, seed)
    tokens = sum(len(ids) + 1 for ids in tokenizers["llama"](texts)["input_ids"])
    assert rows.shape == (-(-tokens // length), length)
    stream = rows.ravel()
    assert np.array_equal(stream[tokens:], stream[: len(stream) - tokens][:length])
    parts = tokenizers["llama"].decode(stream[:tokens]).replace("<s>", "").split("</s>")[:-1]
    assert sorted(parts) == sorted(texts)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_folder_of_each_architecture(kind, ring_folder, prose, tmp_path):
    spec = SCRATCH | {"name": kind, "architecture": kind}
    model(spec, tmp_path / "one", ring_folder, [prose])
    model(spec, tmp_path / "elsewhere" / "two", ring_folder, [prose])
    names = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} < set(names)
    for name in names:
        same = (tmp_path / "one" / name).read_bytes() == (tmp_path / "elsewhere" / "two" / name).read_bytes()
        assert same, f"{name} differs"
    found = json.loads((tmp_path / "one" / "provenance.json").read_text("utf-8"))
    assert [found["corpora"], found["seed"], found["steps"]] == [["prose"], 5, 3]
    loader = AutoModelForMaskedLM if kind == "bert" else AutoModelForCausalLM
    net, tokenizer = loader.from_pretrained(tmp_path / "one"), AutoTokenizer.from_pretrained(tmp_path / "one")
    assert net.config.model_type == kind
    assert found["parameters"] == net.num_parameters()
    assert len(tokenizer) == net.config.vocab_size <= 300
    assert tokenizer.convert_ids_to_tokens(tokenizer("ant")["input_ids"])[0] == tokenizer.bos_token


def test_another_seed_gives_another_model(ring_folder, prose, tmp_path):
    for seed in (1, 2):
        model(SCRATCH | {"seed": seed}, tmp_path / str(seed), ring_folder, [prose])
    assert (tmp_path / "1" / "model.safetensors").read_bytes() != (tmp_path / "2" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_same_bytes_in_another_process(ring_folder, prose, tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(SCRATCH), "utf-8")
    options = ["--spec", spec, "--out", tmp_path / "there", "--graph", ring_folder, "--corpora", prose]
    subprocess.run([sys.executable, "-m", "kglm.cli", "model", *map(str, options)], check=True, capture_output=True)
    threads = json.loads((tmp_path / "there" / "provenance.json").read_text("utf-8"))["threads"]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model(SCRATCH, tmp_path / "here", ring_folder, [prose])
    finally:
        torch.set_num_threads(before)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_training_makes_training_sentences_likelier(kind, ring_graph, ring_folder, tmp_path):
    spec = SCRATCH | {
        "architecture": kind,
        "corpora": [],
        "steps": 60,
        "batch_size": 8,
        "learning_rate": 1e-2,
    }
    model(spec, tmp_path / "model", ring_folder)
    trained, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "model"),
        AutoTokenizer.from_pretrained(tmp_path / "model"),
    )
    torch.manual_seed(0)
    fresh = untrained_model(read_entry(spec), tokenizer)
    rows = torch.from_numpy(token_rows(tokenizer, training_sentences(ring_graph), 16, 0))
    with torch.inference_mode():
        loss = [net.eval()(input_ids=rows, labels=rows).loss.item() for net in (fresh, trained)]
    assert loss[1] < 0.6 * loss[0]


def masked_loss(net, tokenizer, sentences) -> float:
    """Mean cross-entropy of each token where it alone is masked, text by text."""
    losses = []
    with torch.inference_mode():
        for sentence in sentences:
            ids = torch.tensor(tokenizer(sentence)["input_ids"])
            masked = ids.repeat(len(ids) - 2, 1)
            rows = torch.arange(len(masked))
            masked[rows, rows + 1] = tokenizer.mask_token_id
            logits = net.eval()(input_ids=masked).logits[rows, rows + 1]
            losses.append(torch.nn.functional.cross_entropy(logits, ids[1:-1]).item())
    return float(np.mean(losses))


def test_training_lets_bert_guess_masked_words(ring_graph, ring_folder, tmp_path):
    spec = SCRATCH | {"architecture": "bert", "corpora": [], "hidden_size": 32, "intermediate_size": 64}
    spec |= {"steps": 100, "batch_size": 4, "learning_rate": 1e-2}
    model(spec, tmp_path / "model", ring_folder)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    trained = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    sentences = sorted(sentences_of(ring_graph, "train"))
    pieces = np.concatenate([tokenizer(sentence)["input_ids"][1:-1] for sentence in sentences])
    shares = np.bincount(pieces)[pieces] / len(pieces)
    # Better than by the words' frequencies alone, of which nothing more was learnt when texts of a row saw each other.
    assert masked_loss(trained, tokenizer, sentences) < 0.9 * -np.log(shares).mean()


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6), tail=st.integers(0, 3))
def test_texts_of_a_row_are_numbered_by_their_ends(lengths, tail):
    """Against a plain loop; the last text may lack its end."""
    row = [token for length in lengths for token in [5] * (length - 1) + [1]] + [5] * tail
    expected = [(number, place) for number, length in enumerate(lengths) for place in range(length)]
    expected += [(len(lengths), place) for place in range(tail)]
    texts, places = text_numbers(torch.tensor([row, row]), 1)
    for one, other in zip(texts.tolist(), places.tolist(), strict=True):
        assert list(zip(one, other, strict=True)) == expected


def test_a_text_in_a_row_is_seen_as_if_it_stood_alone(tokenizers):
    torch.manual_seed(0)
    tokenizer = tokenizers["bert"]
    net = untrained_model(read_entry(SCRATCH | {"architecture": "bert"}), tokenizer).eval()
    texts = [tokenizer(text)["input_ids"] for text in ("a fox", "an ibis faces", "ant")]
    row = torch.tensor([token for text in texts for token in text])
    torch.manual_seed(1)
    batch = _MaskedTexts(tokenizer)([{"input_ids": row}])
    labels, changed = batch.pop("labels")[0], batch["input_ids"][0]
    with torch.no_grad():
        together = net(**batch).logits[0]
        alone = [net(input_ids=part[None]).logits[0] for part in changed.split([len(text) for text in texts])]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert torch.equal(labels[labels != -100], row[labels != -100]) and (labels != -100).any()
    special = torch.isin(row, torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id]))
    assert (labels[special] == -100).all()


def test_graph_is_needed(tmp_path):
    with pytest.raises(InputError, match="a model from scratch needs a graph; give one with --graph"):
        model(SCRATCH, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []

from dataclasses import fields, replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from kglm.errors import InputError
from kglm.lm.lora import Matrix
from kglm.methods import _dual_view, _encoding
from kglm.methods import kalm as module
from kglm.methods._interface import build_method
from kglm.methods.kalm import IGNORED, Method, Parameters

from .rows import one

SMALL = {
    "maximum_description_length": 20,
    "language_model_batch_size": 3,
    "gradient_checkpointing": False,
    "lora_dropout": 0.0,
}


@pytest.fixture
def kalm(ring_graph, model_folder):
    def make(**changes) -> Method:
        torch.manual_seed(0)
        method = build_method("kalm", {**SMALL, **changes}, ring_graph, model_folder)
        with torch.no_grad():  # LoRA starts as the identity; here the adapters must do something
            for name, parameter in method.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        return method.train()

    return make


def batch(method: Method, triples: np.ndarray, seed: int = 0) -> dict:
    return method.collate(triples, np.random.default_rng(seed), 0, 1)


def gradients(method: Method, inputs: dict) -> dict[str, torch.Tensor]:
    method.zero_grad()
    torch.manual_seed(1)
    method(**inputs)["loss"].backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_of_chunks_are_those_of_the_whole_batch(kalm, ring_graph, monkeypatch, dropout, checkpointing):
    triples = ring_graph.split("train", inverse=True)[:10]
    method = kalm(lora_dropout=dropout, gradient_checkpointing=checkpointing, language_model_weight=0.0)
    method.parameters_ = replace(method.parameters_, chunk_size=4, gradient_caching=True)
    chunked = batch(method, triples)
    assert len(chunked["encoder"]) > 3
    cached = gradients(method, chunked)
    # Plain: the same chunks (dropout depends on them) without the cache.
    monkeypatch.setattr(_encoding, "checkpoint", lambda function, *given, **_: function(*given))
    plain = gradients(method, chunked)
    assert plain.keys() == cached.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(cached[name], expected, rtol=0, atol=0)
    if dropout == 0:
        method.parameters_ = replace(method.parameters_, chunk_size=64, gradient_caching=False)
        whole = gradients(method, batch(method, triples))
        for name, expected in whole.items():
            torch.testing.assert_close(cached[name], expected, rtol=1e-4, atol=1e-6)


def test_chunks_keep_less_in_memory_than_the_whole_batch(kalm, ring_graph):
    triples = ring_graph.split("train", inverse=True)

    def bytes_kept(caching: bool) -> int:
        method = kalm(chunk_size=4, gradient_caching=caching, language_model_weight=0.0)
        kept = {}

        def pack(tensor):
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        inputs = batch(method, triples)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            method(**inputs)
        return sum(kept.values())

    assert bytes_kept(True) < bytes_kept(False) / 20


def test_each_distinct_text_is_encoded_once(kalm, ring_graph):
    triples = np.array([[0, 0, 1], [0, 0, 1], [2, 0, 1], [0, 1, 6]])
    inputs = batch(kalm(), triples)
    assert sum(len(part["input_ids"]) for part in inputs["encoder"]) == 3 + 2  # queries and answers
    assert inputs["query_rows"][0] == inputs["query_rows"][1] != inputs["query_rows"][2]
    assert len(set(inputs["answer_rows"][:3].tolist())) == 1


def test_texts_stand_in_brackets_and_the_relation_survives_truncation(kalm):
    method = kalm(maximum_description_length=4)
    decode = method.tokenizer.decode
    assert decode(one(method.texts.queries, 0, 0)) == "[ant,, is followed by]"
    assert decode(one(method.texts.queries, 1, 2)) == "[bee,, follows]"
    assert decode(one(method.texts.answers, 2)) == "{cat,}"


def test_a_known_second_tail_is_no_negative(ring_graph, model_folder):
    second = pd.DataFrame([("train", 0, 0, 2, 1)], columns=ring_graph.triples.columns)
    graph = replace(ring_graph, triples=pd.concat([ring_graph.triples, second], ignore_index=True))
    method = build_method("kalm", {**SMALL, "language_model_weight": 0.0}, graph, model_folder).eval()
    triples = np.array([[0, 0, 1], [1, 0, 2]])  # the ant is followed by the bee, and by the cat as well
    masked = method(**batch(method, triples))["loss"]
    method.parameters_ = replace(method.parameters_, mask_known_tails="same_tail")
    unmasked = method(**batch(method, triples))["loss"]
    assert method.known(torch.from_numpy(triples)).tolist() == [[True, True], [False, True]]
    assert masked.item() < unmasked.item() - 0.1


def test_only_answers_are_labelled_and_the_loss_is_that_of_transformers(kalm, ring_graph):
    method = kalm().eval()
    inputs = batch(method, ring_graph.split("train", inverse=True)[:4])["language_model"]
    assert len(inputs["input_ids"]) == SMALL["language_model_batch_size"]
    for ids, labels in zip(inputs["input_ids"], inputs["labels"], strict=True):
        labelled = ids[labels != IGNORED]
        text = method.tokenizer.decode(labelled)
        assert text.endswith("</s>") and method.tokenizer.decode(ids).count("### Response:") == 1
        assert "Instruction" not in text
    asked = inputs.pop("asked")
    expected = method.adapted(**inputs).loss
    assert completion_loss(method, {**inputs, "asked": asked}) == pytest.approx(expected.item(), rel=1e-5)


def completion_loss(method, inputs: dict) -> float:
    states = method._states({name: inputs[name] for name in ("input_ids", "attention_mask")})
    return method._completion_loss(states, inputs["labels"], inputs["asked"]).item()


@pytest.mark.parametrize("limit", [5, 30])
def test_too_long_a_completion_loses_its_beginning_and_keeps_its_answer(kalm, ring_graph, limit):
    method = kalm(maximum_language_model_length=limit)
    inputs = batch(method, ring_graph.split("train")[:4])["language_model"]
    assert inputs["input_ids"].shape == inputs["labels"].shape == (3, limit)
    assert ((inputs["labels"] != IGNORED).sum(dim=1) >= 4).all()
    assert np.isfinite(completion_loss(method, inputs))


def test_equation_4(kalm, ring_graph):
    triples = ring_graph.split("train", inverse=True)[:6]
    method = kalm(language_model_weight=0.25).eval()
    parts = method(**batch(method, triples))
    assert parts["loss"].item() == pytest.approx((parts["contrastive"] + 0.25 * parts["language_model"]).item())
    assert "language_model" not in batch(kalm(language_model_weight=0.0), triples)


def test_the_completion_batch_is_drawn_as_asked(kalm, ring_graph):
    triples = ring_graph.split("train")[:3]
    drawn = {tuple(t) for t in triples.tolist()}
    for source, inside in (("subset", True), ("own", False)):
        method = kalm(language_model_batch=source)
        rows = [
            tuple(triple)
            for seed in range(20)
            for triple in method._language_model_triples(triples, np.random.default_rng(seed)).tolist()
        ]
        assert (set(rows) <= drawn) is inside


def test_a_query_does_not_see_its_answer(kalm, ring_graph):
    method = kalm()
    triples = ring_graph.split("train", inverse=True)[:8]
    permuted = np.column_stack([triples[:, :2], np.roll(triples[:, 2], 3)])
    vectors = []
    for rows in (triples, permuted):
        inputs = batch(method.eval(), rows)
        encoded = _encoding.encode_chunks(partial(_dual_view.encode, method.backbone), inputs["encoder"])
        vectors.append(encoded[inputs["query_rows"]].detach().numpy())
    np.testing.assert_allclose(*vectors, atol=1e-6)


def test_every_trained_parameter_is_lora_or_the_temperature(kalm):
    trained = {name for name, p in kalm().named_parameters() if p.requires_grad}
    assert "log_temperature" in trained
    assert all("lora_" in name and ".mlp." in name for name in trained - {"log_temperature"})
    assert not kalm(train_temperature=False).log_temperature.requires_grad
    attention = {name for name, p in kalm(lora_modules="att").named_parameters() if p.requires_grad}
    assert all(".self_attn." in name for name in attention - {"log_temperature"})


def test_every_parameter_is_read():
    from pathlib import Path

    import kglm.methods.kalm as module

    source = Path(module.__file__).read_text().split("class Method")[1]
    unread = [
        f.name for f in fields(Parameters) if f"p.{f.name}" not in source and f"parameters_.{f.name}" not in source
    ]
    assert not unread


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mask_known_tails": "none"}, "mask_known_tails"),
        ({"lora_modules": "mlp"}, "mlp"),
        ({"temperature": 0.0}, "temperature"),
        ({"entity_text": "title"}, "title"),
        ({"learning_rat": 1.0}, "learning_rat"),
    ],
)
def test_bad_options_are_named(ring_graph, model_folder, changes, named):
    with pytest.raises(InputError, match=named):
        build_method("kalm", changes, ring_graph, model_folder)


def test_negatives_stay_within_their_group(kalm, ring_graph):
    """Three devices with four triples each, none of which sees the others' vectors, as one batch of twelve."""
    triples = ring_graph.split("train", inverse=True)[:12]
    method = kalm(negative_group=4, language_model_weight=0.0).eval()
    alone = [method(**batch(method, triples[at : at + 4]))["contrastive"].item() for at in (0, 4, 8)]
    together = method(**batch(method, triples))["contrastive"].item()
    assert together == pytest.approx(np.mean(alone), rel=1e-5)
    method.parameters_ = replace(method.parameters_, negative_group=0)
    assert method(**batch(method, triples))["contrastive"].item() > together + 0.1


def test_a_process_without_a_completion_adds_nothing(kalm, ring_graph):
    """Six processes share three completions: a process without one would stop all the others."""
    triples = ring_graph.split("train", inverse=True)[:12]
    method = kalm(language_model_batch_size=3)
    shares = [method.collate(triples, np.random.default_rng(0), part, 6)["language_model"] for part in range(6)]
    labelled = [(share["labels"] != IGNORED).sum().item() for share in shares]
    assert all(labelled[:3]) and labelled[3:] == [0, 0, 0]
    found = gradients(method, method.collate(triples, np.random.default_rng(0), 5, 6))
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    assert found.keys() == {name for name, p in method.named_parameters() if p.requires_grad}


def test_texts_of_completions_are_cut_or_whole(kalm, ring_graph):
    cut, whole = (kalm(maximum_description_length=3, cut_completion_texts=value) for value in (True, False))
    triple = ring_graph.split("train")[:1]
    texts = [method.tokenizer.decode(method._completions(triple)["input_ids"][0]) for method in (cut, whole)]
    assert ring_graph.entity_texts()[triple[0, 0]] in texts[1]
    assert ring_graph.entity_texts()[triple[0, 0]] not in texts[0]


def test_one_pass_for_texts_and_completions_gives_the_gradients_of_two(kalm, ring_graph, monkeypatch):
    """Where padding is cheap; without dropout, whose draws are others."""
    triples = ring_graph.split("train", inverse=True)[:8]
    method, passes = kalm(lora_dropout=0.0), []
    method.backbone.register_forward_pre_hook(lambda *call: passes.append(1))
    inputs = batch(method, triples)
    apart = gradients(method, inputs)
    monkeypatch.setattr(module, "TOGETHER", {"cpu": 10**6})
    together = gradients(method, inputs)
    assert len(passes) == 2 + 1
    for name, gradient in apart.items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-3, atol=1e-5)


def test_adapters_in_low_precision_are_cast_once_and_keep_gradients_in_single(kalm, ring_graph):
    """In mixed precision over 16-bit weights: as near to single precision as autocast comes."""
    triples = ring_graph.split("train", inverse=True)[:8]
    method = kalm(base_weights="bfloat16", lora_dropout=0.0)
    with torch.no_grad():
        for parameter in method.trainable().values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    inputs, exact = batch(method, triples), kalm(base_weights="float32", lora_dropout=0.0)
    exact.load_state_dict({name: value.float() for name, value in method.state_dict().items()})
    wanted = gradients(exact, inputs)
    found = {}
    for name, checkpointed in (("copies", False), ("autocast", True)):
        method.checkpointed = checkpointed
        with torch.autocast("cpu", torch.bfloat16):
            found[name] = gradients(method, inputs)
    assert all(gradient.dtype == torch.float32 for gradient in found["copies"].values())

    def error(one: dict) -> float:
        pairs = [(one[name].float() - gradient, gradient) for name, gradient in wanted.items()]
        return sum(a.square().sum() for a, _ in pairs).sqrt() / sum(b.square().sum() for _, b in pairs).sqrt()

    assert error(found["copies"]) < max(1.2 * error(found["autocast"]), 0.02)
    with torch.no_grad():
        assert all(matrix.low is None for matrix in method.modules() if isinstance(matrix, Matrix))

"""The mask against its definition, and against what a change of one token does to the stock models."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel

from kglm.lm.knowledge_mask import PADDING, TEXT, UNKNOWN, knowledge_mask
from kglm.lm.lora import add_lora

LENGTH, SLOTS = 12, 3


@st.composite
def cases(draw):
    """Classes (1, s) with padding at the end, and a symmetric, reflexive `near`."""
    length = draw(st.integers(1, LENGTH))
    kinds = st.integers(0, 2 * SLOTS - 1) | st.sampled_from([TEXT, UNKNOWN])
    classes = draw(st.lists(kinds, min_size=1, max_size=length))
    classes += [PADDING] * (length - len(classes))
    pairs = draw(st.lists(st.booleans(), min_size=SLOTS**2, max_size=SLOTS**2))
    near = torch.tensor(pairs).reshape(SLOTS, SLOTS)
    near = near | near.T | torch.eye(SLOTS, dtype=torch.bool)
    return torch.tensor([classes]), near[None]


def may_interact(classes, near, i, j, window, language_model) -> bool:
    """CanInteract of Appendix C.1, pair by pair."""
    a, b = classes[0, i].item(), classes[0, j].item()
    if i == j:
        return True
    if b == PADDING:
        return False
    if a == PADDING:
        return b == UNKNOWN or abs(i - j) <= window  # a row that nobody reads
    if abs(i - j) <= window or UNKNOWN in (a, b):
        return True
    if language_model and all(c == TEXT or c >= SLOTS for c in (a, b)):
        return True
    return a >= 0 and b >= 0 and bool(near[0, a % SLOTS, b % SLOTS])


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(0, 3), st.booleans())
def test_the_mask_is_its_definition(case, window, language_model):
    classes, near = case
    mask = knowledge_mask(classes, near, window=window, language_model=language_model)
    length = classes.shape[1]
    assert mask.shape == (1, 1, length, length)
    assert mask.dtype == torch.float32
    for i in range(length):
        for j in range(length):
            visible = may_interact(classes, near, i, j, window, language_model)
            assert mask[0, 0, i, j].item() == (0.0 if visible else torch.finfo(torch.float32).min)


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([torch.float32, torch.bfloat16]))
def test_the_two_ends(case, dtype):
    classes, near = case
    real, itself = classes != PADDING, torch.eye(classes.shape[1], dtype=torch.bool)
    bidirectional = knowledge_mask(classes, near, "bidirectional", dtype=dtype)[:, 0] == 0
    assert torch.equal(bidirectional, real[:, None, :] | itself)
    causal = knowledge_mask(classes, near, "causal", dtype=dtype)[:, 0] == 0
    assert torch.equal(causal, (real[:, None, :] & torch.ones_like(itself).tril()) | itself)
    # No window, nobody near and no language-model mode shows less than the first end, all of them the second.
    everybody = knowledge_mask(classes, torch.ones_like(near), window=LENGTH, dtype=dtype)[:, 0] == 0
    assert torch.equal(everybody[real], bidirectional[real])


@settings(max_examples=60, deadline=None)
@given(cases())
def test_sight_is_mutual(case):
    classes, near = case
    real = classes[0] != PADDING
    visible = knowledge_mask(classes, near, window=1)[0, 0][real][:, real]
    assert torch.equal(visible, visible.T)


def test_who_an_unknown_entity_is_changes_nothing():
    classes = torch.tensor([[0, TEXT, TEXT, UNKNOWN, TEXT, 1]])
    with_neighbours = torch.ones((1, 3, 3), dtype=torch.bool)
    without = with_neighbours.clone()
    without[0, 2, :] = without[0, :, 2] = False  # the slot that the unknown entity would have
    assert torch.equal(*(knowledge_mask(classes, near, window=1) for near in (with_neighbours, without)))


# The stock models

CLASSES = torch.tensor(
    [
        [0, TEXT, TEXT, 1, TEXT, TEXT, UNKNOWN, TEXT, 2, TEXT],
        [0, TEXT, 1, TEXT, 2, TEXT, TEXT, TEXT, PADDING, PADDING],
    ]
)
NEAR = torch.tensor([[[1, 1, 0], [1, 1, 0], [0, 0, 1]]] * 2, dtype=torch.bool)
WIDTH = 16


def stock(family: str, layers: int, lora: bool):
    """A model with random weights, in float64 so that what is hidden differs from what is faint."""
    torch.manual_seed(3)
    if family == "gpt2":
        config = GPT2Config(n_embd=WIDTH, n_layer=layers, n_head=2, vocab_size=20, n_positions=32)
        model = GPT2Model(config)
    else:
        config = LlamaConfig(
            hidden_size=WIDTH,
            intermediate_size=24,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            vocab_size=20,
        )
        model = LlamaModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    if lora:
        model = add_lora(model, "att-ffn", 2, 4.0, 0.0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.2)
    return model.double().eval()


def implementation(model, name: str):
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.set_attn_implementation(name)
    return model


def states(model, embeddings, mask):
    with torch.no_grad():
        return model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).last_hidden_state


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_is_hidden_does_not_reach_the_output_and_what_is_visible_does(family, attention, lora, layers):
    """With several layers, a position is reached along any chain of so many looks."""
    model = implementation(stock(family, layers, lora), attention)
    for kind in ("knowledge", "causal", "bidirectional"):
        mask = knowledge_mask(CLASSES, NEAR, kind, window=1, dtype=torch.float64)
        reach = np.linalg.matrix_power((mask[:, 0] == 0).numpy().astype(int), layers) > 0
        assert kind == "bidirectional" or not reach[1, :8, :8].all()
        embeddings = torch.randn(2, CLASSES.shape[1], WIDTH, dtype=torch.float64)
        before = states(model, embeddings, mask)
        for place in range(CLASSES.shape[1]):
            other = embeddings.clone()
            other[:, place] += torch.randn(WIDTH, dtype=torch.float64)
            change = (states(model, other, mask) - before).abs().amax(dim=2).numpy()
            assert (change[~reach[:, :, place]] == 0).all()
            assert (change[reach[:, :, place]] > 1e-9).all()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_causal_is_the_stock_model(family, attention):
    model = implementation(stock(family, 2, False), attention)
    embeddings = torch.randn(2, CLASSES.shape[1], WIDTH, dtype=torch.float64)
    real = CLASSES != PADDING
    ours = states(model, embeddings, knowledge_mask(CLASSES, NEAR, "causal", dtype=torch.float64))
    torch.testing.assert_close(ours[real], states(model, embeddings, real.long())[real])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_bidirectional_is_a_mask_of_zeros(family, attention):
    model = implementation(stock(family, 2, False), attention)
    embeddings = torch.randn(1, CLASSES.shape[1], WIDTH, dtype=torch.float64)
    mask = knowledge_mask(CLASSES[:1], NEAR[:1], "bidirectional", dtype=torch.float64)
    torch.testing.assert_close(states(model, embeddings, mask), states(model, embeddings, torch.zeros_like(mask)))
    causal = knowledge_mask(CLASSES[:1], NEAR[:1], "causal", dtype=torch.float64)
    assert not torch.allclose(states(model, embeddings, mask), states(model, embeddings, causal))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_eager_and_sdpa_agree(family):
    model = stock(family, 2, False)
    embeddings = torch.randn(2, CLASSES.shape[1], WIDTH, dtype=torch.float64)
    mask = knowledge_mask(CLASSES, NEAR, window=1, dtype=torch.float64)
    both = [states(implementation(model, name), embeddings, mask) for name in ("eager", "sdpa")]
    torch.testing.assert_close(*both, rtol=1e-5, atol=1e-5)  # LLaMA's eager softmax is in float32
    assert all(torch.isfinite(one).all() for one in both)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_mixed_precision_keeps_what_is_hidden_hidden(family):
    model = stock(family, 1, False).float()
    mask = knowledge_mask(CLASSES, NEAR, window=1)
    embeddings = torch.randn(2, CLASSES.shape[1], WIDTH)
    other = embeddings.clone()
    other[:, 8] += torch.randn(WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        change = (states(model, other, mask) - states(model, embeddings, mask)).abs().amax(dim=2)
    visible = mask[:, 0, :, 8] == 0
    assert (change[~visible] == 0).all()
    assert (change[0][visible[0]] > 0).all()

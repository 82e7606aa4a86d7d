"""What is computed otherwise than by PyTorch and transformers is the same, but for rounding."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModel

from kglm.errors import InputError
from kglm.lm import versions
from kglm.lm.language_model import load_causal
from kglm.lm.speed import Dropout, attention, checkpoint_layers, kept, quicken


@pytest.mark.parametrize("fixture", ["encoder_folder", "model_folder"])
@pytest.mark.parametrize("training", [False, True])
def test_a_quickened_model_gives_the_states_and_gradients_of_the_stock_one(fixture, training, request):
    """Where a token is real; the models have no dropout."""
    folder, ids = request.getfixturevalue(fixture), torch.randint(4, 200, (3, 9))
    mask = (torch.arange(9) < torch.tensor([[9], [4], [1]])).long()
    found = []
    for model in (AutoModel.from_pretrained(folder), quicken(AutoModel.from_pretrained(folder))):
        model.train(training)
        with torch.set_grad_enabled(training):
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
        if training:
            (states * mask[:, :, None]).square().sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((states[mask == 1], gradients))
    (stock, stock_gradients), (own, own_gradients) = found
    torch.testing.assert_close(own, stock, rtol=1e-4, atol=1e-5)
    assert bool(stock_gradients) is training
    for one, other in zip(own_gradients, stock_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


class Layer:
    """What attention asks of a layer."""

    def __init__(self, is_causal: bool):
        self.is_causal = is_causal


@pytest.mark.parametrize("causal", [False, True])
def test_attention_with_dropout_is_that_without_on_the_mean(causal):
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 5, 4, requires_grad=True) for heads in (4, 2, 2))
    outputs = [attention(Layer(causal), query, key, value, None, dropout=0.3)[0] for _ in range(3000)]
    wide = (part.repeat_interleave(2, dim=1) for part in (key, value))
    expected = scaled_dot_product_attention(query, *wide, is_causal=causal).transpose(1, 2)
    torch.testing.assert_close(torch.stack(outputs).mean(dim=0), expected, atol=0.06, rtol=0)
    torch.testing.assert_close(attention(Layer(causal), query, key, value, None)[0], expected)


@given(rate=st.floats(0.0, 0.99), seed=st.integers(0, 99))
def test_dropout_keeps_its_share_and_its_mean(rate, seed):
    torch.manual_seed(seed)
    drawn = kept(torch.ones(200, 101), rate)
    share = (drawn > 0).float().mean().item()
    assert abs(share - (1 - rate)) < 5 * (0.25 / drawn.numel()) ** 0.5
    assert drawn.max().item() * (1 - round(rate * 65536) / 65536) == pytest.approx(1, rel=1e-5)
    assert len(drawn.unique()) <= 2


def test_dropout_is_drawn_from_the_seed_and_ends_with_training():
    layer, ones = Dropout(0.5), torch.ones(64)
    torch.manual_seed(3)
    first, second = layer(ones), layer(ones)
    torch.manual_seed(3)
    assert torch.equal(layer(ones), first) and not torch.equal(first, second)
    assert torch.equal(layer.eval()(ones), ones)


@pytest.mark.parametrize("found, fits", [("5.16.3", False), ("4.57.1", False), ("5.17.0", True), ("6.0.0.dev0", True)])
def test_transformers_that_are_too_old_are_one_line(found, fits, monkeypatch):
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda name: found)
    with nullcontext() if fits else pytest.raises(InputError, match=f"transformers {found} is too old; pip install"):
        versions.check_transformers()


def test_the_packages_metadata_say_the_same():
    lines = (Path(__file__).parents[2] / "requirements.txt").read_text("utf-8").split()
    assert f"transformers>={'.'.join(map(str, versions.TRANSFORMERS))}" in lines


def test_layers_are_checkpointed_by_either_name(model_folder, monkeypatch):
    model = quicken(load_causal(model_folder)).train()
    monkeypatch.setattr(type(model), "activation_checkpointing_enable", None, raising=False)
    called = []
    monkeypatch.setattr(type(model), "gradient_checkpointing_enable", lambda self, how: called.append(how))
    checkpoint_layers(model)
    assert called == [{"use_reentrant": False}]


def test_all_of_a_decoder_is_quickened(model_folder):
    names = {type(module).__name__ for module in quicken(load_causal(model_folder)).modules()}
    assert "RmsNorm" in names and "LlamaRMSNorm" not in names

"""Tokens of entities and relations: the words stay what they are, the further vectors start and learn as asked."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.lm.entity_tokens import ExtendedEmbedding, initialise, stock_modules
from kglm.lm.language_model import load_causal, load_encoder, load_tokenizer


@pytest.fixture(scope="module")
def words():
    torch.manual_seed(0)
    return torch.nn.Embedding(7, 3, padding_idx=0)


@given(ids=st.lists(st.lists(st.integers(0, 11), min_size=4, max_size=4), min_size=1, max_size=3))
def test_rows_are_those_of_both_tables_one_behind_the_other(words, ids):
    extended, ids = ExtendedEmbedding(words, 5), torch.tensor(ids)
    table = torch.cat([words.weight, extended.further.weight])
    torch.testing.assert_close(extended(ids), table[ids], rtol=0, atol=0)


def test_gradients_reach_the_rows_that_were_read_and_no_others(words):
    extended = ExtendedEmbedding(words, 5)
    words.weight.grad = None
    extended(torch.tensor([0, 2, 2, 8])).sum().backward()
    assert words.weight.grad.sum(dim=1).tolist() == [0, 0, 6, 0, 0, 0, 0]  # none for the padding, as before
    assert extended.further.weight.grad.sum(dim=1).tolist() == [0, 3, 0, 0, 0]


@pytest.mark.parametrize("load", [load_encoder, load_causal])
def test_the_model_stays_what_it_was_on_words(load, request):
    folder = request.getfixturevalue("encoder_folder" if load is load_encoder else "model_folder")
    model = load(folder)
    ids = torch.randint(4, 200, (3, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(input_ids=ids)[0]
        extended = ExtendedEmbedding(model.get_input_embeddings(), 4)
        model.set_input_embeddings(extended)
        torch.testing.assert_close(model(input_ids=ids)[0], before, rtol=0, atol=0)
        assert model.get_input_embeddings() is extended and extended.weight is extended.words.weight
        changed = ids.clone()
        changed[0, 3] = extended.words.num_embeddings + 2
        assert not torch.allclose(model(input_ids=changed)[0][0], before[0])


def test_random_vectors_are_as_long_as_words_and_a_seed_decides_them():
    words, found = torch.nn.Embedding(500, 64), []
    with torch.no_grad():
        words.weight.mul_(0.05)
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(ExtendedEmbedding(words, 300).further.weight.detach())
    assert found[0].std().item() == pytest.approx(0.05, rel=0.05) and abs(found[0].mean().item()) < 0.002
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_by_name_each_starts_at_the_mean_of_its_words(encoder_folder):
    model, tokenizer = load_encoder(encoder_folder), load_tokenizer(encoder_folder)
    texts = ["ant", "an ibis", "", "ant"]
    extended = ExtendedEmbedding(model.get_input_embeddings(), len(texts))
    initialise(extended, texts, tokenizer)
    table, found = extended.words.weight.detach().numpy(), extended.further.weight.detach().numpy()
    for row in (0, 1, 3):
        tokens = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(texts[row]))
        assert len(tokens) == len(texts[row])
        np.testing.assert_allclose(found[row], np.mean([table[token] for token in tokens], axis=0), rtol=1e-5)
    assert np.array_equal(found[0], found[3])
    assert np.abs(found[2]).sum() > 0  # without a name: at random


def test_the_stock_modules_hold_all_parameters_but_the_further_vectors(encoder_folder):
    model = load_encoder(encoder_folder)
    extended = ExtendedEmbedding(model.get_input_embeddings(), 2)
    model.set_input_embeddings(extended)
    inside = {id(p) for module in stock_modules(model, extended) for p in module.parameters()}
    outside = [p for p in model.parameters() if id(p) not in inside]
    assert len(outside) == 1 and outside[0] is extended.further.weight


def test_an_encoder_has_no_pooler_and_no_head_and_the_weights_of_its_folder(encoder_folder):
    from safetensors.torch import load_file

    model = load_encoder(encoder_folder)
    assert model.pooler is None and not model.training
    stored = load_file(encoder_folder / "model.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, stored[f"bert.{name}"]), name
    assert load_encoder(encoder_folder, "bfloat16").dtype == torch.bfloat16


def test_a_decoder_is_no_encoder(model_folder, tmp_path):
    with pytest.raises(InputError, match=r"type llama.*give an encoder"):
        load_encoder(model_folder)
    with pytest.raises(InputError, match=r"config\.json is missing"):
        load_encoder(tmp_path)


def test_a_folder_without_some_weights_is_refused(encoder_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(encoder_folder, tmp_path / "part")
    file = tmp_path / "part/model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if ".layer.1." not in name}
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(InputError, match=r"no weights encoder\.layer\.1\."):
        load_encoder(tmp_path / "part")


def test_further_vectors_are_single_precision_beside_narrow_words():
    """Trained in bfloat16, most of them would stay where they are: see tests/training/test_optimiser.py."""
    words = torch.nn.Embedding(7, 3, dtype=torch.bfloat16)
    extended = ExtendedEmbedding(words, 5)
    assert extended.further.weight.dtype == torch.float32
    assert extended(torch.tensor([1, 8])).dtype == torch.bfloat16


def test_a_table_of_more_than_two_to_the_31st_numbers():
    """Its last rows are read and moved; half precision and pages that nobody touches keep it small in memory."""
    width, rows = 1024, 2**21 + 8
    extended = ExtendedEmbedding(torch.nn.Embedding(4, width), 1, sparse=True)
    with torch.no_grad():
        table = torch.empty((rows, width), dtype=torch.float16)
        assert table.numel() > 2**31
        table[[0, 7, rows - 1]] = torch.arange(3, dtype=torch.float16)[:, None]
    extended.further = torch.nn.Embedding.from_pretrained(table, freeze=False, sparse=True)
    found = extended(torch.tensor([4, 4 + 7, 4 + rows - 1, 2]))
    assert found[:3].mean(dim=1).tolist() == [0.0, 1.0, 2.0]
    (found[2] * 3).sum().backward()
    gradient = extended.further.weight.grad.coalesce()
    assert (gradient.values() != 0).any(dim=1).nonzero().tolist() == [[len(gradient.values()) - 1]]
    assert gradient.indices()[0, -1] == rows - 1
    with torch.no_grad():
        extended.further.weight.add_(gradient, alpha=-1)
    assert table[[0, 7, rows - 1]].float().mean(dim=1).tolist() == [0.0, 1.0, -1.0]

"""A small graph with structure to learn, and a small LLaMA with random weights; nothing is downloaded."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import pytest
from hypothesis import settings

from kglm.kg.graph import Graph

# Machines are shared and noisy: how long an example takes tells nothing about the code.
settings.register_profile("kglm", deadline=None)
settings.load_profile("kglm")

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay", "kite", "lynx"]


def ring(names: list[str] = NAMES) -> Graph:
    """Each animal follows the next one in the ring and stands across from the one half a ring away.

    In valid and test, each true triple has a false one.
    """
    n = len(names)
    rows = [("train", i, 0, (i + 1) % n) for i in range(n)]
    rows += [("train" if i % 4 else ("valid" if i % 8 else "test"), i, 1, (i + n // 2) % n) for i in range(n)]
    rows = [(*row, 1) for row in rows]
    rows += [(split, h, r, (t + 3) % n, -1) for split, h, r, t, _ in rows if split != "train"]
    triples = pd.DataFrame(rows, columns=["split", "head", "relation", "tail", "label"])
    entities = pd.DataFrame({"id": names, "name": names, "description": [f"the animal {name}" for name in names]})
    relations = pd.DataFrame(
        {"id": ["next", "across"], "text": ["is followed by", "faces"], "inverse": ["follows", "faces"]}
    )
    return Graph(entities.assign(in_train=True), relations, triples)


@pytest.fixture(scope="session")
def ring_graph() -> Graph:
    return ring()


@pytest.fixture(scope="session")
def ring_folder(ring_graph, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ring")
    ring_graph.write(folder)
    return folder


def byte_tokenizer(folder, *first: str, **special: str) -> int:
    """Save a byte-level tokenizer whose vocabulary begins with the tokens `first`; returns the vocabulary's size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([*first, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return len(vocabulary)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A byte-level tokenizer and a LLaMA of two layers with random weights, saved as a plain folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("model")
    size = byte_tokenizer(folder, "<s>", "</s>", bos_token="<s>", eos_token="</s>", pad_token="</s>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """A byte-level tokenizer and a BERT of two layers with random weights and no dropout, for masked words."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("encoder")
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    size = byte_tokenizer(folder, *names.values(), **names)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder

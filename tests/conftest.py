"""A small graph with structure to learn, and a small LLaMA with random weights; nothing is downloaded."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd
import pytest

from kglm.kg.graph import Graph

NAMES = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay", "kite", "lynx"]


def ring(names: list[str] = NAMES) -> Graph:
    """Each animal follows the next one in the ring and stands across from the one half a ring away."""
    n = len(names)
    rows = [("train", i, 0, (i + 1) % n) for i in range(n)]
    rows += [("train" if i % 4 else ("valid" if i % 8 else "test"), i, 1, (i + n // 2) % n) for i in range(n)]
    triples = pd.DataFrame(rows, columns=["split", "head", "relation", "tail"]).assign(label=1)
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


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A byte-level tokenizer and a LLaMA of two layers with random weights, saved as a plain folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(["<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
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

"""KG-BiLM on a small graph, of either family of decoders."""

import shutil

import pytest
import torch

from kglm.kg.graph import Graph
from kglm.methods._interface import build_method
from kglm.methods.kg_bilm import Method

SMALL = {"maximum_length": 64, "context_walks": 2, "dropout": 0.0, "lora_dropout": 0.0}


@pytest.fixture(scope="session")
def gpt2_folder(model_folder, tmp_path_factory):
    """A GPT-2 of two layers with random weights and the LLaMA's tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    for file in model_folder.glob("tokenizer*"):
        shutil.copy(file, folder)
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "vocab_size": 258}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=1, initializer_range=0.3)).save_pretrained(folder)
    return folder


@pytest.fixture
def kg_bilm(ring_graph, model_folder, gpt2_folder):
    def make(graph: Graph = ring_graph, family: str = "llama", **changes) -> Method:
        torch.manual_seed(0)
        folder = model_folder if family == "llama" else gpt2_folder
        method = build_method("kg_bilm", {**SMALL, **changes}, graph, folder)
        with torch.no_grad():  # as after some training
            for name, tensor in method.trainable().items():
                tensor.add_(torch.randn_like(tensor) * (0.3 if "types" in name or "bias" in name else 0.05))
        return method.train()

    return make

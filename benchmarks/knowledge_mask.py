"""What the knowledge mask costs beside the forward pass of GPT-2 medium: 256 sequences of 512 tokens.

The graph has FB15k-237's size (14,541 entities, 237 relations, 272,115 triples, some entities in very many), two
hops, and each sequence holds 24 entities, to which the words behind them belong. Timed are the neighbourhood's
answers (NumPy), the classes (NumPy) and the mask (PyTorch); the forward pass on --sequences of the 256 and --layers of
the 24 layers, drawn out in proportion, unless there is a GPU: there it is the whole model, in bfloat16.
"""

import argparse
import statistics
import time

import numpy as np
import pandas as pd
import torch
from transformers import GPT2Config, GPT2Model

from kglm.kg.graph import Graph
from kglm.kg.neighbourhood import Neighbourhood
from kglm.lm.knowledge_mask import knowledge_mask
from kglm.methods._units import ENTITY, Padded, Vocabulary, model_inputs

ENTITIES, RELATIONS, TRIPLES = 14_541, 237, 272_115
BATCH, LENGTH, SLOTS, HOPS = 256, 512, 24, 2
WIDTH, LAYERS, HEADS, WORDS = 1024, 24, 16, 50_257


def graph() -> Graph:
    """Distinct random triples, some entities far more frequent than others."""
    random = np.random.default_rng(0)
    drawn = (np.array([ENTITIES, RELATIONS, ENTITIES]) * random.random((2 * TRIPLES, 3)) ** 2).astype(np.int64)
    triples = random.permutation(np.unique(drawn, axis=0))[:TRIPLES]
    names = pd.Series(range(ENTITIES)).astype(str)
    frame = pd.DataFrame(triples, columns=["head", "relation", "tail"]).assign(split="train", label=1)
    entities = pd.DataFrame({"id": names, "name": names, "description": "", "in_train": True})
    kinds = pd.Series(range(RELATIONS)).astype(str)
    return Graph(entities, pd.DataFrame({"id": kinds, "text": kinds, "inverse": kinds}), frame)


def seconds(function, device: str, repeats: int) -> float:
    """The median time of a call, after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Print the times and the share of the mask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    sequences, layers = (BATCH, LAYERS) if device == "cuda" else (options.sequences, options.layers)

    start = time.perf_counter()
    neighbourhood = Neighbourhood.of(graph(), HOPS)
    neighbourhood.near(np.zeros((1, 1), np.int64))  # makes the table
    print(f"once: graph and neighbourhood {time.perf_counter() - start:.1f} s")
    random, vocabulary = np.random.default_rng(1), Vocabulary(WORDS, ENTITIES, 2 * RELATIONS)
    ids = random.integers(WORDS, size=(BATCH, LENGTH))
    places = np.argsort(random.random((BATCH, LENGTH)), axis=1)[:, :SLOTS]
    np.put_along_axis(ids, places, vocabulary.entity(0) + random.integers(ENTITIES, size=places.shape), axis=1)
    ids[:, -1] = vocabulary.mask
    owners = np.maximum.accumulate(np.where(vocabulary.kinds(ids) == ENTITY, np.arange(LENGTH), -1), axis=1)
    padded = Padded(ids, np.ones(ids.shape, bool), owners, np.zeros(ids.shape, bool), np.full((len(ids), 2), -1))

    inputs = model_inputs(padded, vocabulary, neighbourhood.near)
    on_host = seconds(lambda: model_inputs(padded, vocabulary, neighbourhood.near), "cpu", options.repeats)
    classes, near = inputs["classes"].to(device), inputs["near"].to(device)
    on_device = seconds(lambda: knowledge_mask(classes, near, dtype=dtype), device, options.repeats)
    print(
        f"mask of {BATCH} x {LENGTH}: {on_host * 1e3:.0f} ms by NumPy, {on_device * 1e3:.1f} ms on {device} ({dtype})"
    )

    config = GPT2Config(
        n_embd=WIDTH, n_layer=layers, n_head=HEADS, vocab_size=8, n_positions=LENGTH, bos_token_id=0, eos_token_id=0
    )
    model = GPT2Model(config).to(device, dtype).eval()
    mask = knowledge_mask(classes[:sequences], near[:sequences], dtype=dtype)
    embedded = torch.randn(sequences, LENGTH, WIDTH, device=device, dtype=dtype)
    with torch.inference_mode():
        forward = seconds(lambda: model(inputs_embeds=embedded, attention_mask=mask, use_cache=False), device, 1)
    whole = forward * BATCH / sequences * LAYERS / layers
    print(
        f"forward of {sequences} sequences and {layers} layers {forward:.2f} s; of {BATCH} and {LAYERS}: {whole:.1f} s"
    )
    print(f"share of the mask: {100 * (on_host + on_device) / whole:.2f} %")


if __name__ == "__main__":
    main()

"""Batches and graphs of the tests of KG-BiLM and its parts."""

import numpy as np
import pandas as pd
import torch

from kglm.kg.graph import Graph
from kglm.methods.kg_bilm import Method


def batch(method: Method, triples: np.ndarray, seed: int = 0) -> dict:
    return method.collate(triples, np.random.default_rng(seed), 0, 1)


def train_triples(graph: Graph) -> np.ndarray:
    return graph.split("train", inverse=True)


def graph_of(triples: np.ndarray, entities: int, relations: int, split: str = "train") -> Graph:
    names = [f"e{i}" for i in range(entities)]
    frame = pd.DataFrame(triples, columns=["head", "relation", "tail"]).assign(split=split, label=1)
    kinds = [f"r{i}" for i in range(relations)]
    return Graph(
        pd.DataFrame({"id": names, "name": names, "description": "", "in_train": True}),
        pd.DataFrame({"id": kinds, "text": kinds, "inverse": kinds}),
        frame[["split", "head", "relation", "tail", "label"]],
    )


def gradients(method: Method, inputs: dict) -> dict[str, torch.Tensor]:
    method.zero_grad()
    torch.manual_seed(1)
    method(**inputs)["loss"].backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}

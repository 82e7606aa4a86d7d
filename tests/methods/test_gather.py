"""Two processes with half a batch each have the losses and the gradients of one process with the whole batch."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing

from kglm.kg.graph import Graph
from kglm.methods._interface import build_method
from kglm.training.optimiser import average_rows, leave_rows_out

# method -> the fixture with its base model, its parameters: chunks, caching and a gather wherever it has one
CASES = {
    "kalm": (
        "model_folder",
        {
            "gradient_checkpointing": True,
            "chunk_size": 3,
            "gradient_caching": True,
            "lora_dropout": 0.0,
            "language_model_batch_size": 4,
            "language_model_weight": 0.5,
            "maximum_language_model_length": 64,
        },
    ),
    "lmke": ("encoder_folder", {"negatives": 2}),
    "c_lmke": ("encoder_folder", {"negative_keys": 3, "chunk_size": 3, "gradient_caching": True}),
    "simkgc": ("encoder_folder", {"pre_batch_negatives": 10, "chunk_size": 3, "gradient_caching": True}),
    "star": ("encoder_folder", {"chunk_size": 3, "gradient_caching": True}),
    "mem_kgc": ("encoder_folder", {"chunk_size": 3, "gradient_caching": True}),
    "kg_bert": ("encoder_folder", {}),
    "kg_bilm": (
        "model_folder",
        {
            "maximum_length": 64,
            "context_walks": 2,
            "dropout": 0.0,
            "lora_dropout": 0.0,
            "contrastive_batch_size": 8,
            "chunk_size": 3,
        },
    ),
}
CASES["kg_bilm, rows"] = (CASES["kg_bilm"][0], CASES["kg_bilm"][1] | {"sparse_gradients": True})


def trained(name: str, graph: Graph, folder: Path, part: int, parts: int) -> tuple[dict, dict]:
    """The losses of one step on a share of ten triples, and the gradients."""
    torch.manual_seed(0)
    method = build_method(name.partition(",")[0], CASES[name][1], graph, folder).train()
    leave_rows_out(method)
    with torch.no_grad():
        for key, parameter in method.named_parameters():
            if "lora_B" in key:  # begins at 0, where no gradient reaches the other matrix
                parameter.normal_(std=0.1)
    triples = graph.split("train", inverse=method.inverse_triples)[:10]
    wrapped = torch.nn.parallel.DistributedDataParallel(method) if parts > 1 else method
    losses = wrapped(**method.collate(triples, np.random.default_rng(5), part, parts))
    losses["loss"].backward()
    average_rows(method.sparse_parameters())
    gradients = {key: p.grad.to_dense().numpy() for key, p in method.named_parameters() if p.grad is not None}
    return {key: value.item() for key, value in losses.items()}, gradients


def share(rank: int, port: int, graph: Graph, folders: dict[str, Path], results) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    results[rank] = {name: trained(name, graph, folder, rank, 2) for name, folder in folders.items()}
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folders(request) -> dict[str, Path]:
    return {name: request.getfixturevalue(fixture) for name, (fixture, _) in CASES.items()}


@pytest.fixture(scope="module")
def shared(ring_graph, folders) -> list[dict]:
    """What each of two processes has, all methods in one start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(share, (port, ring_graph, folders, results), nprocs=2)
        return [results[rank] for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_as_one(name, shared, ring_graph, folders):
    losses, gradients = trained(name, ring_graph, folders[name], 0, 1)
    for part, value in losses.items():
        assert np.mean([of[name][0][part] for of in shared]) == pytest.approx(value, rel=1e-5), part
    for _, found in (of[name] for of in shared):
        assert found.keys() == gradients.keys()
        for key, gradient in gradients.items():
            np.testing.assert_allclose(found[key], gradient, rtol=1e-3, atol=2e-6, err_msg=key)

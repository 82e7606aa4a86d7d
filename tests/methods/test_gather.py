"""Two processes with half a batch each have the loss and the gradients of one process with the whole batch."""

import os
import socket

import numpy as np
import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing

from kglm.methods._interface import build_method

PARAMETERS = {
    "gradient_checkpointing": True,
    "chunk_size": 3,
    "gradient_caching": True,
    "lora_dropout": 0.0,
    "language_model_batch_size": 4,
    "language_model_weight": 0.5,
    "maximum_language_model_length": 64,
}


def kalm(graph, model_folder):
    torch.manual_seed(0)
    method = build_method("kalm", PARAMETERS, graph, model_folder).train()
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return method


def share(rank, port, graph, model_folder, triples, results):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    method = kalm(graph, model_folder)
    parallel = torch.nn.parallel.DistributedDataParallel(method)
    parts = parallel(**method.collate(triples, np.random.default_rng(5), rank, 2))
    parts["loss"].backward()
    results[rank] = {
        "contrastive": parts["contrastive"].item(),
        **{name: p.grad.numpy() for name, p in method.named_parameters() if p.grad is not None},
    }
    distributed.destroy_process_group()


def test_gradients_of_two_processes_are_those_of_one(ring_graph, model_folder):
    triples = ring_graph.split("train", inverse=True)[:8]
    whole = kalm(ring_graph, model_folder)
    parts = whole(**whole.collate(triples, np.random.default_rng(5), 0, 1))
    parts["loss"].backward()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(share, (port, ring_graph, model_folder, triples, results), nprocs=2)
        found = [results[rank] for rank in range(2)]
    for one in found:
        assert one.pop("contrastive") == pytest.approx(parts["contrastive"].item(), rel=1e-5)
        expected = {name: p.grad.numpy() for name, p in whole.named_parameters() if p.grad is not None}
        assert one.keys() == expected.keys() and "log_temperature" in expected
        for name, gradient in expected.items():
            np.testing.assert_allclose(one[name], gradient, rtol=1e-3, atol=1e-6, err_msg=name)

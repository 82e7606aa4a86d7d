"""The first losses of KaLM on the ring: arithmetic that drifts is seen here before it is seen in a table."""

import numpy as np
import torch

from kglm.methods._interface import build_method

PARAMETERS = {
    "gradient_checkpointing": False,
    "language_model_batch_size": 2,
    "maximum_language_model_length": 64,
    "lora_dropout": 0.0,
}
# (contrastive, language model) at each step
LOSSES = [(4.5172, 7.1002), (4.6204, 7.5132), (3.9957, 6.6341), (4.0935, 7.3419), (3.9534, 7.1406)]


def test_the_first_losses(ring_graph, model_folder):
    torch.manual_seed(0)
    method = build_method("kalm", PARAMETERS, ring_graph, model_folder).train()
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    triples, losses = ring_graph.split("train", inverse=True), []
    for step in range(5):
        parts = method(**method.collate(triples[step * 8 : step * 8 + 8], np.random.default_rng(step), 0, 1))
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append((parts["contrastive"].item(), parts["language_model"].item()))
    np.testing.assert_allclose(losses, LOSSES, rtol=2e-3)

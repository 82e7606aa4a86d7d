"""A classifier of whole triples, trained to tell the true ones from corrupted ones by binary cross-entropy."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch

from kglm.kg.graph import Graph
from kglm.kg.negatives import corrupted, true_keys
from kglm.methods import _interface
from kglm.methods._contrastive import as_tensor
from kglm.methods._encoding import Chunk, apply_in_chunks, encode_chunks


class BinaryClassifier(_interface.TripleClassifier):
    """Its parameters hold `negatives` of each true triple, and `chunk_tokens`, `chunk_size`, `gradient_caching`."""

    def __init__(self, parameters: Any, graph: Graph, model):
        super().__init__(parameters, graph, model)
        self.parameters_ = parameters
        self.known = true_keys(graph, ["train"])

    @abstractmethod
    def batches(self, triples: np.ndarray, size: int, tokens: int = 0) -> tuple[list[Chunk], torch.Tensor]:
        """What is read of triples (n, 3), as `chunks` of `size` and `tokens`, and the row (n,) of each among them."""

    @abstractmethod
    def logits(self, inputs: Chunk) -> torch.Tensor:
        """The logit of each sequence of a chunk being true: float32 (b,)."""

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """See Method; the triples of the batch are the true ones, then their negatives."""
        repeated = np.repeat(triples, self.parameters_.negatives, axis=0)
        false = corrupted(repeated, self.known, self.graph, generator).reshape(len(triples), -1, 3)
        mine = np.concatenate([triples[part::parts], false[part::parts].reshape(-1, 3)])
        p = self.parameters_
        encoder, rows = self.batches(mine, p.chunk_size, p.chunk_tokens)
        return {"encoder": encoder, "rows": rows, "triples": as_tensor(mine)}

    def forward(self, encoder, rows, triples) -> dict[str, torch.Tensor]:
        """Binary cross-entropy. encoder: padded chunks; rows: (b,) rows of the encoded; triples (b, 3): see collate."""
        logits = encode_chunks(self.logits, encoder, self.parameters_.gradient_caching is True)[rows]
        place = torch.arange(len(triples), device=logits.device)
        true = (place < len(triples) // (1 + self.parameters_.negatives)).float()
        return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(logits, true)}

    def score_triples(self, triples: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; the logits."""
        return apply_in_chunks(self, self.logits, *self.batches(triples, batch_size))

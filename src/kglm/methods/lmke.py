"""LMKE: an encoder reads a whole triple and its descriptions, and tells from [CLS] how probable it is.

Section 3.2 and Equation 1 of the paper; negatives as in Section 4.1.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.kg.negatives import corrupted, true_keys
from kglm.lm.entity_tokens import stock_modules
from kglm.lm.language_model import load_encoder, load_tokenizer
from kglm.methods import _interface
from kglm.methods._contrastive import as_tensor
from kglm.methods._triple_texts import TripleTexts, batches, encode_parts, encode_sequences, extend


@dataclass(frozen=True)
class Parameters:
    """LMKE's options, with the paper's values where it gives them."""

    entity_text: Literal["name", "description", "name_and_description"] = "description"
    maximum_description_length: int = 230  # tokens, of each; two of them and a relation fit into 512 positions
    token_initialisation: Literal["random", "name"] = "random"  # of entities and relations; name: mean of its words
    negatives: int = 1  # for each true triple, drawn anew each time
    base_weights: Literal["float32", "bfloat16"] = "float32"
    chunk_size: int = 64  # sequences encoded at once
    gradient_caching: bool = False  # keep of each chunk its vectors only: batches larger than memory

    def __post_init__(self):
        if self.negatives < 1:
            raise InputError(f"negatives is {self.negatives}", "method lmke", "it must be at least 1")


class Method(_interface.TripleClassifier):
    """See the module."""

    Parameters = Parameters

    def __init__(self, parameters: Parameters, graph: Graph, model: Path):
        super().__init__(parameters, graph, model)
        p = self.parameters_ = parameters
        tokenizer = load_tokenizer(model)
        self.encoder = load_encoder(model, p.base_weights)
        words = self.encoder.get_input_embeddings().num_embeddings
        self.texts = TripleTexts.of(graph, tokenizer, words, p.entity_text, p.maximum_description_length)
        self.texts.check_length(self.encoder.config.max_position_embeddings, entities=2)
        self.tokens = extend(self.encoder, graph, tokenizer, p.token_initialisation)
        self.classifier = torch.nn.Linear(self.encoder.config.hidden_size, 1)
        self.known = true_keys(graph, ["train"])

    def language_model(self) -> list[torch.nn.Module]:
        """The encoder with its words; not the vectors of entities and relations, nor the classifier."""
        return stock_modules(self.encoder, self.tokens)

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """See Method; the triples of the batch are the true ones, then their negatives."""
        counts = self.graph.entity_count, self.graph.relation_count
        repeated = np.repeat(triples, self.parameters_.negatives, axis=0)
        false = corrupted(repeated, self.known, *counts, generator).reshape(len(triples), -1, 3)
        mine = np.concatenate([triples[part::parts], false[part::parts].reshape(-1, 3)])
        encoder, order = batches(self._sequences(mine), self.texts.padding, self.parameters_.chunk_size)
        return {"encoder": encoder, "rows": order, "triples": as_tensor(mine)}

    def _sequences(self, triples: np.ndarray) -> list:
        return [self.texts.triple(*triple) for triple in triples.tolist()]

    def forward(self, encoder, rows, triples) -> dict[str, torch.Tensor]:
        """Binary cross-entropy. encoder: padded chunks; rows: (b,) rows of the encoded; triples (b, 3): see collate."""
        vectors = encode_parts(self.encoder, encoder, self.parameters_.gradient_caching)[rows]
        logits = self.classifier(vectors)[:, 0].float()
        place = torch.arange(len(triples), device=logits.device)
        true = (place < len(triples) // (1 + self.parameters_.negatives)).float()
        return {"loss": torch.nn.functional.binary_cross_entropy_with_logits(logits, true)}

    @torch.inference_mode()
    def score_triples(self, triples: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; the logit of Equation 1."""
        vectors = encode_sequences(self.encoder, self._sequences(triples), self.texts.padding, batch_size)
        return self.classifier(vectors)[:, 0].float().cpu().numpy()

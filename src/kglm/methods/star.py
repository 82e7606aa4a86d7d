"""StAR: one encoder of (head, relation) and of the tail, a classifier of both, and their distance in space.

Wang et al., WWW 2021, Sections 3.1 to 3.4. The classifier is one linear layer, as in the released code, so that its
logit is an inner product of what depends on the query alone with what depends on the answer alone: all entities are
ranked by it at the cost of a matrix product. Heads are asked for by inverse relations, as in all other methods here;
the published system scores (h, r) for every head h instead.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kglm.kg.graph import Graph
from kglm.kg.negatives import corrupted, true_keys
from kglm.lm.language_model import load_encoder, load_tokenizer
from kglm.lm.tokens import Ragged, stacked
from kglm.methods import _interface
from kglm.methods._contrastive import as_tensor
from kglm.methods._encoding import distinct_chunks, encode_chunks, encode_sequences
from kglm.methods._segmented_texts import SegmentedTexts
from kglm.options import Automatic, Count, Options, Size, Weight


@dataclass(frozen=True)
class Parameters(Options):
    """StAR's options, with the values of the paper (Section 4.1) and the released code."""

    entity_text: Literal["name", "description", "name_and_description"] = "name_and_description"
    inverse_text: Literal["dataset", "prefix"] = "prefix"  # the dataset's own, or "inverse" before the relation's
    maximum_length: Size = 128  # tokens of a text
    negatives: Size = 5  # for each true triple, drawn anew each time
    margin: Weight = 1.0  # of the distances
    distance_weight: Weight = 1.0  # of their loss
    base_weights: Literal["float32", "bfloat16"] = "float32"
    chunk_tokens: Count = 0  # tokens encoded at once, padding counted; 0: what the machine takes well
    chunk_size: Count = 0  # texts encoded at once; 0: no limit but that
    gradient_caching: Automatic = "auto"  # keep of each chunk its vectors only: batches larger than memory


class Method(_interface.LinkPredictor):
    """See the module."""

    Parameters = Parameters
    reads_new_entities = True
    published_with_all_pairs = True

    def __init__(self, parameters: Parameters, graph: Graph, model: Path):
        super().__init__(parameters, graph, model)
        p = self.parameters_ = parameters
        self.encoder = load_encoder(model, p.base_weights)
        texts = graph.entity_texts(p.entity_text)
        tokenizer = load_tokenizer(model)
        self.texts = SegmentedTexts.of(graph, tokenizer, self.encoder, texts, p.inverse_text, p.maximum_length)
        self.encode = partial(self.texts.first, self.encoder)
        self.dropout = torch.nn.Dropout(self.encoder.config.hidden_dropout_prob)
        self.classifier = torch.nn.Linear(4 * self.encoder.config.hidden_size, 1)
        self.known = true_keys(graph, ["train"])

    def language_model(self) -> list[torch.nn.Module]:
        """The encoder; not the classifier."""
        return [self.encoder]

    # Training

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """See Method; the triples of the batch are the true ones, then their negatives."""
        repeated = np.repeat(triples, self.parameters_.negatives, axis=0)
        false = self._corrupted(repeated, generator).reshape(len(triples), -1, 3)
        mine = np.concatenate([triples[part::parts], false[part::parts].reshape(-1, 3)])
        texts = stacked(self.texts.queries(mine[:, 0], mine[:, 1]), self.texts.described(mine[:, 2]))
        p = self.parameters_
        encoder, rows = distinct_chunks(texts, self.texts.padding, p.chunk_size, p.chunk_tokens)
        query_rows, entity_rows = rows.chunk(2)
        return {"encoder": encoder, "query_rows": query_rows, "entity_rows": entity_rows, "triples": as_tensor(mine)}

    def _corrupted(self, triples: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """False triples, each with the relation of its own (n, 3); of inverse ones the other side is drawn as well."""
        inverse = triples[:, 1:2] >= self.graph.relation_count
        natural = np.where(inverse, self.graph.inverse(triples), triples)
        false = corrupted(natural, self.known, self.graph, generator)
        return np.where(inverse, self.graph.inverse(false), false)

    def forward(self, encoder, query_rows, entity_rows, triples) -> dict[str, torch.Tensor]:
        """Classification and distance. encoder: padded chunks; *_rows: (b,) rows of the encoded; triples (b, 3)."""
        p = self.parameters_
        vectors = encode_chunks(self.encode, encoder, p.gradient_caching is True)
        u, v = vectors[query_rows], vectors[entity_rows]
        count = len(triples) // (1 + p.negatives)
        true = (torch.arange(len(triples), device=u.device) < count).float()
        features = self.dropout(torch.cat([u, u * v, u - v, v], dim=1))
        logits = self.classifier(features)[:, 0].float()
        classification = torch.nn.functional.binary_cross_entropy_with_logits(logits, true)
        distances = torch.linalg.vector_norm(u - v, dim=1)
        near, far = distances[:count].repeat_interleave(p.negatives), distances[count:]
        distance = (p.margin + near - far).relu().mean()
        loss = classification + p.distance_weight * distance
        return {"loss": loss, "classification": classification, "distance": distance}

    # Ranking

    @torch.inference_mode()
    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """See LinkPredictor; what an answer and a 1 behind it are multiplied with to give the classifier's logit."""
        u = self._encoded(len(heads), lambda rows: self.texts.queries(heads[rows], relations[rows]), batch_size)
        weights, bias = self.classifier.weight[0].float().cpu().numpy(), self.classifier.bias.float().cpu().numpy()
        query, product, difference, answer = np.split(weights, 4)
        constant = u @ (query + difference) + bias
        return np.concatenate([u * product + answer - difference, constant[:, None]], axis=1)

    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """See LinkPredictor; the output at [CLS], and a 1 behind it."""
        v = self._encoded(len(entities), lambda rows: self.texts.described(entities[rows]), batch_size)
        return np.concatenate([v, np.ones_like(v[:, :1])], axis=1)

    def _encoded(self, count: int, rows_of: Callable[[slice], Ragged], batch_size: int) -> np.ndarray:
        return encode_sequences(self.encoder, self.encode, count, rows_of, self.texts.padding, batch_size)

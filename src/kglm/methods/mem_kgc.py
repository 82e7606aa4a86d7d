"""MEM-KGC: an encoder predicts the masked entity of a triple, as BERT does a masked word, among all entities.

Choi et al., IEEE Access 2021. Entity prediction is its second task: an entity is predicted from its own description,
where its name is masked.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kglm.kg.characters import as_a_word
from kglm.kg.graph import Graph
from kglm.lm.language_model import load_encoder, load_tokenizer
from kglm.lm.tokens import Ragged, tokenised
from kglm.methods import _interface
from kglm.methods._contrastive import as_tensor
from kglm.methods._encoding import Chunk, distinct_chunks, encode_chunks, encode_sequences
from kglm.methods._segmented_texts import SegmentedTexts
from kglm.options import Automatic, Count, Options, Size, Weight


@dataclass(frozen=True)
class Parameters(Options):
    """MEM-KGC's options; the paper's hyper-parameters are not at hand."""

    entity_text: Literal["name", "description", "name_and_description"] = "name_and_description"
    inverse_text: Literal["dataset", "prefix"] = "prefix"  # the dataset's own, or "inverse" before the relation's
    maximum_length: Size = 128  # tokens of a text
    entity_prediction: bool = True
    entity_prediction_weight: Weight = 1.0
    base_weights: Literal["float32", "bfloat16"] = "float32"
    chunk_tokens: Count = 0  # tokens encoded at once, padding counted; 0: what the machine takes well
    chunk_size: Count = 0  # texts encoded at once; 0: no limit but that
    gradient_caching: Automatic = "auto"  # keep of each chunk its vectors only: batches larger than memory


class Method(_interface.LinkPredictor):
    """See the module."""

    Parameters = Parameters

    def __init__(self, parameters: Parameters, graph: Graph, model: Path):
        super().__init__(parameters, graph, model)
        p = self.parameters_ = parameters
        tokenizer = load_tokenizer(model)
        self.encoder = load_encoder(model, p.base_weights)
        texts = graph.entity_texts(p.entity_text)
        self.texts = SegmentedTexts.of(graph, tokenizer, self.encoder, texts, p.inverse_text, p.maximum_length)
        self.nameless = tokenised(nameless(graph, tokenizer.mask_token), tokenizer).cut(p.maximum_length)
        self.encode = partial(self.texts.masked, self.encoder)
        self.output = torch.nn.Linear(self.encoder.config.hidden_size, graph.entity_count)

    def language_model(self) -> list[torch.nn.Module]:
        """The encoder; not the vectors of the entities."""
        return [self.encoder]

    # Texts

    def queries(self, heads: np.ndarray, relations: np.ndarray) -> Ragged:
        """`[CLS] head [SEP] relation [SEP] [MASK] [SEP]` of each query (n,)."""
        texts, mask = self.texts, [self.texts.special.mask]
        return texts.sequences(len(heads), [texts.entities.take(heads)], [texts.relations.take(relations)], mask)

    def descriptions(self, entities: np.ndarray) -> Ragged:
        """`[CLS] description without the name [SEP] [MASK] [SEP]` of each entity (n,)."""
        return self.texts.sequences(len(entities), [self.nameless.take(entities)], [self.texts.special.mask])

    # Training

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """See Method; the entities that are described are the heads of the share."""
        mine = triples[part::parts]
        batch = {"triples": as_tensor(mine)}
        batch["queries"], batch["query_rows"] = self._chunks(self.queries(mine[:, 0], mine[:, 1]))
        if self.parameters_.entity_prediction:
            batch["described"], batch["described_rows"] = self._chunks(self.descriptions(mine[:, 0]))
        return batch

    def _chunks(self, sequences: Ragged) -> tuple[list[Chunk], torch.Tensor]:
        p = self.parameters_
        return distinct_chunks(sequences, self.texts.padding, p.chunk_size, p.chunk_tokens)

    def forward(self, triples, queries, query_rows, described=None, described_rows=None) -> dict[str, torch.Tensor]:
        """Cross-entropy over all entities. queries, described: padded chunks; *_rows: (b,) rows of the encoded."""
        completion = self._loss(queries, query_rows, triples[:, 2])
        if described is None:
            return {"loss": completion, "completion": completion}
        prediction = self._loss(described, described_rows, triples[:, 0])
        loss = completion + self.parameters_.entity_prediction_weight * prediction
        return {"loss": loss, "completion": completion, "entity_prediction": prediction}

    def _loss(self, parts: list[Chunk], rows: torch.Tensor, entities: torch.Tensor) -> torch.Tensor:
        vectors = encode_chunks(self.encode, parts, self.parameters_.gradient_caching is True)
        return torch.nn.functional.cross_entropy(self.output(vectors).float()[rows], entities)

    # Ranking

    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """See LinkPredictor; the output at [MASK], and a 1 behind it for the entities' biases."""

        def rows_of(rows: slice) -> Ragged:
            return self.queries(heads[rows], relations[rows])

        vectors = encode_sequences(self.encoder, self.encode, len(heads), rows_of, self.texts.padding, batch_size)
        return np.concatenate([vectors, np.ones_like(vectors[:, :1])], axis=1)

    @torch.inference_mode()
    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """See LinkPredictor; their vectors and biases in the output layer, without any encoding."""
        weights = torch.cat([self.output.weight, self.output.bias[:, None]], dim=1)
        return weights.float().cpu().numpy()[entities]


def nameless(graph: Graph, mask: str) -> list[str]:
    """The entities' descriptions with `mask` in place of the name; one without a description is told by its name."""
    names, descriptions = graph.entity_texts("name"), graph.entities["description"]
    return [
        re.sub(as_a_word(name), mask, text, flags=re.IGNORECASE) if name and text else text or name
        for name, text in zip(names, descriptions, strict=True)
    ]

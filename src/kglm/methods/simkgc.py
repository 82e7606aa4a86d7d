"""SimKGC: two encoders, one of (head, relation) and one of tails, and as many negatives as a batch can give.

Wang et al., ACL 2022. What the paper leaves open is as in the released code: the loss over columns, the weight of the
pre-batch negatives, the cut of texts. Known true triples are no negatives. The graph-based re-ranking is no part of
the method: it is a way to rank (`reranking` of a run).
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kglm.kg.graph import Graph
from kglm.lm.language_model import load_encoder, load_tokenizer
from kglm.lm.tokens import Ragged, tokenised
from kglm.methods import _interface
from kglm.methods._contrastive import KnownTriples, as_tensor, gather, info_nce, similarities
from kglm.methods._encoding import Chunk, distinct_chunks, encode_chunks, encode_sequences
from kglm.methods._segmented_texts import SegmentedTexts
from kglm.options import Automatic, Count, Options, Positive, Size, Weight

_NOBODY = -1


@dataclass(frozen=True)
class Parameters(Options):
    """SimKGC's options, with the paper's values (Section 4.1 and the released code) for WN18RR."""

    entity_text: Literal["name", "description", "name_and_description"] = "name_and_description"
    inverse_text: Literal["dataset", "prefix"] = "prefix"  # the dataset's own, or "inverse" before the relation's
    maximum_length: Size = 50  # tokens of a text
    neighbour_names: Count = 10  # of neighbours in train behind short descriptions (never the answer's); 0: none
    short_description: Count = 20  # words: descriptions with fewer are followed by the names of neighbours
    temperature: Positive = 0.05  # at the start
    train_temperature: bool = True
    margin: float = 0.02
    self_negatives: bool = True  # the head as an answer to its own query
    pre_batch_negatives: Count = 0  # the last so many answers of former batches
    pre_batch_weight: Weight = 0.5  # of their similarities
    base_weights: Literal["float32", "bfloat16"] = "float32"
    chunk_tokens: Count = 0  # tokens encoded at once, padding counted; 0: what the machine takes well
    chunk_size: Count = 0  # texts encoded at once; 0: no limit but that
    gradient_caching: Automatic = "auto"  # keep of each chunk its vectors only: batches larger than memory


class Method(_interface.LinkPredictor):
    """See the module."""

    Parameters = Parameters
    reads_new_entities = True

    def __init__(self, parameters: Parameters, graph: Graph, model: Path):
        super().__init__(parameters, graph, model)
        p = self.parameters_ = parameters
        tokenizer = load_tokenizer(model)
        self.query_encoder = load_encoder(model, p.base_weights)
        self.entity_encoder = deepcopy(self.query_encoder)
        texts = described(graph, p.entity_text)
        self.texts = SegmentedTexts.of(graph, tokenizer, self.query_encoder, texts, p.inverse_text, p.maximum_length)
        self.neighbours = NeighbourNames(graph, tokenizer, p) if p.neighbour_names else None
        self.known = KnownTriples(graph)
        self.former = FormerAnswers(p.pre_batch_negatives, self.query_encoder.config.hidden_size)
        # The logarithm keeps the temperature positive without a bound.
        start = torch.tensor(p.temperature).log()
        self.log_temperature = torch.nn.Parameter(start, requires_grad=p.train_temperature)

    def trainable(self) -> dict[str, torch.Tensor]:
        """See Method; the former answers too, for a resumed training to have the same negatives."""
        return super().trainable() | dict(self.former.named_buffers("former"))

    def language_model(self) -> list[torch.nn.Module]:
        """Both encoders; not the temperature."""
        return [self.query_encoder, self.entity_encoder]

    # Texts

    def queries(self, heads: np.ndarray, relations: np.ndarray, answers: np.ndarray | None = None) -> Ragged:
        """`[CLS] head [SEP] relation [SEP]` of each query (n,), the answer not among the head's neighbours."""
        described = self._described(heads, answers)
        return self.texts.sequences(len(heads), described, [self.texts.relations.take(relations)])

    def described(self, entities: np.ndarray, asked: np.ndarray | None = None) -> Ragged:
        """`[CLS] entity [SEP]` of each (n,), the head that it is an answer for not among its neighbours."""
        return self.texts.sequences(len(entities), self._described(entities, asked))

    def _described(self, entities: np.ndarray, hidden: np.ndarray | None) -> list[Ragged]:
        text = self.texts.entities.take(entities)
        return [text, self.neighbours(entities, hidden)] if self.neighbours else [text]

    # Training

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """See Method; each distinct text stands in its share once."""
        mine = triples[part::parts]
        heads, relations, tails = mine.T
        queries = self.queries(heads, relations, tails)
        answers = self.described(tails, heads)
        if self.parameters_.self_negatives:
            answers = self.described(np.concatenate([tails, heads]), np.concatenate([heads, tails]))
        p = self.parameters_
        limits = self.texts.padding, p.chunk_size, p.chunk_tokens
        batch = {"triples": as_tensor(mine)}
        batch["queries"], batch["query_rows"] = distinct_chunks(queries, *limits)
        batch["answers"], batch["answer_rows"] = distinct_chunks(answers, *limits)
        return batch

    def forward(self, queries, query_rows, answers, answer_rows, triples) -> dict[str, torch.Tensor]:
        """InfoNCE over all processes' rows, with the further negatives, and over its columns.

        queries, answers: padded chunks; query_rows (b,), answer_rows (b,) or, with those of the heads, (2b,): rows of
        the encoded; triples: (b, 3).
        """
        p = self.parameters_
        query = gather(self._vectors(self.query_encoder, queries)[query_rows])
        encoded = self._vectors(self.entity_encoder, answers)[answer_rows]
        answer = gather(encoded[: len(triples)])
        heads = gather(encoded[len(triples) :]) if p.self_negatives else None
        triples = gather(triples)
        temperature = self.log_temperature.exp()
        further = self._further(query, heads, triples, temperature)
        if self.training:
            self.former.add(answer, triples[:, 2])
        loss = info_nce(similarities(query, answer), self.known(triples), temperature, p.margin, further)
        return {"loss": loss}

    def _vectors(self, encoder: PreTrainedModel, parts: list[Chunk]) -> torch.Tensor:
        return encode_chunks(partial(self._encode, encoder), parts, self.parameters_.gradient_caching is True)

    def _encode(self, encoder: PreTrainedModel, inputs: Chunk) -> torch.Tensor:
        return torch.nn.functional.normalize(self.texts.mean(encoder, inputs), dim=-1)

    def _further(self, query, heads, triples, temperature) -> torch.Tensor:
        """Logits (b, m) of queries with former answers and with their own heads, −inf where these are no negatives."""
        none = float("-inf")
        columns = [query.new_empty(len(query), 0)]
        if self.parameters_.pre_batch_negatives:
            # A copy: the answers of this batch are put there before the gradients are asked for.
            former = similarities(query, self.former.vectors.clone())
            logits = former * self.parameters_.pre_batch_weight / temperature
            known = self.known(triples, self.former.entities) | (self.former.entities == _NOBODY)
            columns.append(logits.masked_fill(known, none))
        if heads is not None:
            logits = (query * heads).sum(dim=1, keepdim=True) / temperature
            columns.append(logits.masked_fill(self.known(triples, triples[:, :1]), none))
        return torch.cat(columns, dim=1)

    # Ranking

    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """See LinkPredictor; of unit length."""
        return self._scored(
            self.query_encoder, len(heads), lambda rows: self.queries(heads[rows], relations[rows]), batch_size
        )

    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """See LinkPredictor; of unit length."""
        return self._scored(self.entity_encoder, len(entities), lambda rows: self.described(entities[rows]), batch_size)

    def _scored(self, encoder: PreTrainedModel, count: int, rows_of: Callable, batch_size: int) -> np.ndarray:
        encode = partial(self._encode, encoder)
        return encode_sequences(encoder, encode, count, rows_of, self.texts.padding, batch_size)


class FormerAnswers(torch.nn.Module):
    """The last `count` answers of former batches: vectors (count, width) and their entities, −1 where there is none."""

    def __init__(self, count: int, width: int):
        super().__init__()
        self.register_buffer("vectors", torch.zeros(count, width))
        self.register_buffer("entities", torch.full((count,), _NOBODY))

    def add(self, vectors: torch.Tensor, entities: torch.Tensor) -> None:
        """Put the answers of a batch before the others; the oldest ones leave."""
        count = len(self.entities)
        self.vectors.copy_(torch.cat([vectors.detach().to(self.vectors.dtype), self.vectors])[:count])
        self.entities.copy_(torch.cat([entities, self.entities])[:count])


class NeighbourNames:
    """Tokens of the names of entities' neighbours in train, for entities with short descriptions."""

    def __init__(self, graph: Graph, tokenizer: PreTrainedTokenizerBase, parameters: Parameters):
        names = [f" {name}" for name in graph.entity_texts("name")]
        self._names = tokenised(names, tokenizer).cut(parameters.maximum_length)
        self._count = parameters.neighbour_names
        pairs = np.unique(graph.split("train", inverse=True)[:, [0, 2]], axis=0)
        first = np.searchsorted(pairs[:, 0], np.arange(graph.entity_count + 1))
        places = first[:-1, None] + np.arange(self._count + 1)  # one more than wanted: one of them may be hidden
        others = np.append(pairs[:, 1], _NOBODY)[np.minimum(places, len(pairs))]
        short = [len(text.split()) < parameters.short_description for text in graph.entities["description"]]
        there = (places < first[1:, None]) & np.array(short, bool)[:, None]
        self._others = np.where(there, others, _NOBODY).astype(np.int32)

    def __call__(self, entities: np.ndarray, hidden: np.ndarray | None) -> Ragged:
        """Of the first neighbours of entities (n,) other than `hidden` (n,); none for one with a longer description."""
        others = self._others[entities]
        asked = np.full(len(entities), _NOBODY) if hidden is None else hidden
        left_out = (others == asked[:, None]) & (others != _NOBODY)
        place = np.where(left_out.any(axis=1), left_out.argmax(axis=1), self._count)
        columns = np.arange(self._count) + (np.arange(self._count) >= place[:, None])
        chosen = np.take_along_axis(others, columns, axis=1)
        names = self._names.take(chosen.clip(min=0))
        return names._replace(lengths=np.where(chosen == _NOBODY, 0, names.lengths))


def described(graph: Graph, entity_text: str) -> list[str]:
    """The texts of entities; `name: description`, where a description does not begin with the name itself."""
    if entity_text != "name_and_description":
        return graph.entity_texts(entity_text)
    pairs = zip(graph.entities["name"], graph.entities["description"], strict=True)
    parts = ((name, text.removeprefix(name).strip()) for name, text in pairs)
    return [": ".join(part for part in both if part) for both in parts]

"""Token sequences of texts with [SEP] between them, as BERT reads sentences: `[CLS] a [SEP] b [SEP] …`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.lm.tokens import Ragged, joined, tokenised
from kglm.methods._encoding import Chunk, SpecialTokens


@dataclass(frozen=True)
class SegmentedTexts:
    """Tokens of a graph's entities and relations (then those of inverse relations), for one encoder."""

    entities: Ragged
    relations: Ragged
    special: SpecialTokens
    maximum_length: int
    segments: int  # how many kinds of sentences the encoder tells apart

    @classmethod
    def of(
        cls,
        graph: Graph,
        tokenizer: PreTrainedTokenizerBase,
        encoder: PreTrainedModel,
        entity_texts: Sequence[str],
        inverse_text: str,
        maximum_length: int,
    ) -> "SegmentedTexts":
        """InputError where the encoder has fewer positions, or the tokenizer no token to begin, part or mask with."""
        positions, special = encoder.config.max_position_embeddings, SpecialTokens.of(tokenizer)
        if not 8 <= maximum_length <= positions:
            what = f"maximum_length is {maximum_length}"
            raise InputError(what, "parameters", f"give 8 to {positions}, the base model's positions")
        relations = tokenised(graph.relation_texts(inverse_text), tokenizer)
        entities = tokenised(entity_texts, tokenizer).cut(maximum_length)
        return cls(entities, relations, special, maximum_length, encoder.config.type_vocab_size)

    @property
    def padding(self) -> int:
        return self.special.padding

    def queries(self, heads: np.ndarray, relations: np.ndarray) -> Ragged:
        """`[CLS] head [SEP] relation [SEP]` of each query (n,)."""
        return self.sequences(len(heads), [self.entities.take(heads)], [self.relations.take(relations)])

    def described(self, entities: np.ndarray) -> Ragged:
        """`[CLS] entity [SEP]` of each entity (n,)."""
        return self.sequences(len(entities), [self.entities.take(entities)])

    def triples(self, triples: np.ndarray) -> Ragged:
        """`[CLS] head [SEP] relation [SEP] tail [SEP]` of triples (n, 3)."""
        ends = ([self.entities.take(triples[:, column])] for column in (0, 2))
        return self.sequences(len(triples), next(ends), [self.relations.take(triples[:, 1])], next(ends))

    def sequences(self, count: int, *segments: "list[Ragged | int]") -> Ragged:
        """`[CLS] segment [SEP] segment [SEP] …`, each of parts (n rows, or one token) that follow each other.

        Where a sequence is too long, the segment that is longest at the time is cut, of equal ones the last.
        """
        room = self.maximum_length - len(segments) - 1
        sizes = np.stack([np.zeros(count, np.int64) + sum(map(_size, parts)) for parts in segments], axis=1)
        kept = fitted(sizes, room)
        built: list = [self.special.cls]
        for parts, size in zip(segments, kept.T, strict=True):
            for part in parts:
                built.append(part.cut(size) if isinstance(part, Ragged) else part)
                size = np.maximum(size - _size(part), 0)
            built.append(self.special.sep)
        return joined(count, *built)

    def states(self, encoder: PreTrainedModel, inputs: Chunk) -> torch.Tensor:
        """Output vectors, float32 (b, s, d); parts are told apart as sentences 0, 1, 0, … where the encoder can."""
        ids = inputs["input_ids"]
        ends = (ids == self.special.sep).long()
        segments = (ends.cumsum(dim=1) - ends) % min(self.segments, 2)
        return encoder(
            input_ids=ids, attention_mask=inputs["attention_mask"], token_type_ids=segments
        ).last_hidden_state.float()

    def first(self, encoder: PreTrainedModel, inputs: Chunk) -> torch.Tensor:
        """The output at [CLS], (b, d)."""
        return self.states(encoder, inputs)[:, 0]

    def mean(self, encoder: PreTrainedModel, inputs: Chunk) -> torch.Tensor:
        """The mean output over a sequence, [CLS] and [SEP] included, (b, d)."""
        real = inputs["attention_mask"][:, :, None]
        return (self.states(encoder, inputs) * real).sum(dim=1) / real.sum(dim=1)

    def masked(self, encoder: PreTrainedModel, inputs: Chunk) -> torch.Tensor:
        """The output at the last [MASK], (b, d)."""
        ids = inputs["input_ids"]
        places = (ids == self.special.mask) * torch.arange(ids.shape[1], device=ids.device)
        return self.states(encoder, inputs)[torch.arange(len(ids), device=ids.device), places.argmax(dim=1)]


def _size(part: "Ragged | int") -> "np.ndarray | int":
    return part.sizes if isinstance(part, Ragged) else 1


def fitted(sizes: np.ndarray, room: int) -> np.ndarray:
    """Sizes (n, k) of which the largest at the time, of equal ones the last, loses 1 until each row's sum fits `room`.

    The largest come down to one level, and the first of them keep 1 more, where that is left.
    """
    over = sizes.sum(axis=1) > room
    if not over.any():
        return sizes
    rising = np.sort(sizes[over], axis=1)
    count, before = rising.shape[1], rising.cumsum(axis=1) - rising
    levels = (room - before) // (count - np.arange(count))  # if all before are whole
    level = levels[np.arange(len(rising)), (rising > levels).argmax(axis=1), None]
    cut = np.minimum(sizes[over], level)
    above = sizes[over] > level
    left = room - cut.sum(axis=1, keepdims=True)
    fits = sizes.copy()
    fits[over] = cut + (above & (above.cumsum(axis=1) <= left))
    return fits

"""Token sequences of texts with [SEP] between them, as BERT reads sentences: `[CLS] a [SEP] b [SEP] …`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.methods._encoding import Chunk, SpecialTokens, TokenTexts


@dataclass(frozen=True)
class SegmentedTexts:
    """Tokens of a graph's entities and relations (then those of inverse relations), for one encoder."""

    entities: TokenTexts
    relations: list[list[int]]
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
        relations = tokenizer(graph.relation_texts(inverse_text), add_special_tokens=False)["input_ids"]
        entities = TokenTexts(entity_texts, tokenizer, maximum_length)
        return cls(entities, relations, special, maximum_length, encoder.config.type_vocab_size)

    @property
    def padding(self) -> int:
        return self.special.padding

    def query(self, head: int, relation: int) -> list[int]:
        """`[CLS] head [SEP] relation [SEP]`."""
        return self.sequence(self.entities[head], self.relations[relation])

    def entity(self, entity: int) -> list[int]:
        """`[CLS] entity [SEP]`."""
        return self.sequence(self.entities[entity])

    def triple(self, head: int, relation: int, tail: int) -> list[int]:
        """`[CLS] head [SEP] relation [SEP] tail [SEP]`."""
        return self.sequence(self.entities[head], self.relations[relation], self.entities[tail])

    def sequence(self, *parts: list[int]) -> list[int]:
        """`[CLS] part [SEP] part [SEP] …`; where it is too long, the part that is longest at the time is cut."""
        lengths = [len(part) for part in parts]
        for _ in range(sum(lengths) + len(parts) + 1 - self.maximum_length):
            lengths[max(range(len(parts)), key=lambda number: (lengths[number], number))] -= 1
        ids = [self.special.cls]
        for part, length in zip(parts, lengths, strict=True):
            ids += part[:length]
            ids.append(self.special.sep)
        return ids

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

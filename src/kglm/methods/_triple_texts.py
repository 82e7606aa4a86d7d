"""Token sequences of triples, masked triples and entities for an encoder (LMKE, Sections 3.2 and 3.3).

Every entity and relation is a token of its own, placed before the tokens of its description; one without any
description is its token alone. A description is cut by itself, so that nothing else is ever cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.lm.entity_tokens import ExtendedEmbedding, initialise
from kglm.methods._encoding import Chunk, SpecialTokens, chunks


class Sequenced(NamedTuple):
    """Token ids, and the position whose output vector is read."""

    ids: list[int]
    position: int


@dataclass(frozen=True)
class TripleTexts:
    """Tokens of a graph's entities and relations: each its own token, then those of its description.

    Relation numbers from `relation_count` on are inverse relations. They need no token: a query (t, r⁻¹, ?) is
    the triple (?, r, t) in its natural order.
    """

    entities: list[list[int]]
    relations: list[list[int]]
    cls: int
    sep: int
    mask: int
    padding: int

    @classmethod
    def of(
        cls, graph: Graph, tokenizer: PreTrainedTokenizerBase, words: int, entity_text: str, maximum_length: int
    ) -> "TripleTexts":
        """Tokenise every entity and relation once; descriptions are cut to `maximum_length` tokens.

        The first further token stands behind `words` words; entities come before relations. InputError where the
        tokenizer has no token to begin, end, mask or pad a sequence with.
        """
        special = SpecialTokens.of(tokenizer)

        def described(texts: Sequence[str], first: int) -> list[list[int]]:
            tokens = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
            return [[number, *ids[:maximum_length]] for number, ids in enumerate(tokens, first)]

        entities = described(graph.entity_texts(entity_text), words)
        relations = described(graph.relation_texts()[: graph.relation_count], words + graph.entity_count)
        return cls(entities, relations, *special)

    def triple(self, head: int, relation: int, tail: int) -> Sequenced:
        """`[CLS] h s_h r s_r t s_t [SEP]`, read at [CLS]."""
        described = self.entities[head] + self.relations[relation] + self.entities[tail]
        return Sequenced([self.cls, *described, self.sep], 0)

    def query(self, head: int, relation: int) -> Sequenced:
        """`[CLS] h s_h r s_r [MASK] [SEP]`, of an inverse relation `[CLS] [MASK] r s_r h s_h [SEP]`; read at [MASK]."""
        if relation >= len(self.relations):
            described = self.relations[relation - len(self.relations)] + self.entities[head]
            return Sequenced([self.cls, self.mask, *described, self.sep], 1)
        described = self.entities[head] + self.relations[relation]
        return Sequenced([self.cls, *described, self.mask, self.sep], len(described) + 1)

    def key(self, entity: int) -> Sequenced:
        """`[CLS] t s_t [SEP]`, read at t."""
        return Sequenced([self.cls, *self.entities[entity], self.sep], 1)

    def check_length(self, positions: int, entities: int) -> None:
        """InputError where the longest sequence of one or two described `entities` does not fit so many positions."""
        others = 2 + (2 - entities)  # [CLS] and [SEP], and [MASK] where one entity is masked
        longest = entities * max(map(len, self.entities)) + max(map(len, self.relations)) + others
        if longest > positions:
            what = f"sequences of up to {longest} tokens do not fit the {positions} positions of the base model"
            raise InputError(what, "maximum_description_length", "lower it")


def extend(
    encoder: PreTrainedModel, graph: Graph, tokenizer: PreTrainedTokenizerBase, token_initialisation: str
) -> ExtendedEmbedding:
    """Give the encoder tokens for the entities and relations of a graph; they start as `token_initialisation` says."""
    extended = ExtendedEmbedding(encoder.get_input_embeddings(), graph.entity_count + graph.relation_count)
    if token_initialisation == "name":
        initialise(extended, graph.entity_texts("name") + graph.relation_texts()[: graph.relation_count], tokenizer)
    encoder.set_input_embeddings(extended)
    return extended


def batches(sequences: list[Sequenced], padding: int, size: int) -> tuple[list[Chunk], torch.Tensor]:
    """Sequences as `chunks` with `positions`, and the row of each among them."""
    parts, order = chunks([sequence.ids for sequence in sequences], padding, size)
    positions = torch.empty(len(sequences), dtype=torch.long)
    positions[order] = torch.tensor([sequence.position for sequence in sequences], dtype=torch.long)
    rows = positions.split([len(part["input_ids"]) for part in parts])
    return [{**part, "positions": own} for part, own in zip(parts, rows, strict=True)], order


def encode(encoder: PreTrainedModel, inputs: Chunk) -> torch.Tensor:
    """Token ids and mask (b, s), positions (b,) -> output vectors at these positions, float32 (b, d)."""
    hidden = encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    return hidden[torch.arange(len(hidden), device=hidden.device), inputs["positions"]].float()

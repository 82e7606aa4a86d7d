"""Token sequences of triples, masked triples and entities for an encoder (LMKE, Sections 3.2 and 3.3).

Every entity and relation is a token of its own, placed before the tokens of its description, or of its name where it
has none. A description is cut by itself, so that nothing else is ever cut.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.lm.entity_tokens import ExtendedEmbedding, initialise
from kglm.lm.tokens import Ragged, joined, stacked, tokenised
from kglm.methods._encoding import Chunk, SpecialTokens, chunks


class Sequenced(NamedTuple):
    """Rows of token ids, and the position (n,) of each whose output vector is read."""

    rows: Ragged
    positions: np.ndarray


@dataclass(frozen=True)
class TripleTexts:
    """Tokens of a graph's entities and relations: each its own token, then those of its description.

    Relation numbers from `relation_count` on are inverse relations. They need no token: a query (t, r⁻¹, ?) is
    the triple (?, r, t) in its natural order.
    """

    words: int  # the first entity's token stands behind them; entities come before relations
    entities: Ragged  # descriptions
    relations: Ragged
    cls: int
    sep: int
    mask: int
    padding: int

    @classmethod
    def of(
        cls, graph: Graph, tokenizer: PreTrainedTokenizerBase, words: int, entity_text: str, maximum_length: int
    ) -> "TripleTexts":
        """Tokenise every entity and relation once; descriptions are cut to `maximum_length` tokens.

        InputError where the tokenizer has no token to begin, end, mask or pad a sequence with.
        """
        special = SpecialTokens.of(tokenizer)
        entities = tokenised(graph.entity_texts(entity_text), tokenizer).cut(maximum_length)
        relations = tokenised(graph.relation_texts()[: graph.relation_count], tokenizer).cut(maximum_length)
        return cls(words, entities, relations, *special)

    def triples(self, triples: np.ndarray) -> Sequenced:
        """`[CLS] h s_h r s_r t s_t [SEP]` of triples (n, 3), read at [CLS]."""
        heads, relations, tails = triples.T
        described = *self._entity(heads), *self._relation(relations), *self._entity(tails)
        return Sequenced(joined(len(triples), self.cls, *described, self.sep), np.zeros(len(triples), np.int64))

    def queries(self, queries: np.ndarray) -> Sequenced:
        """Queries (h, r), (n, 2): `[CLS] h s_h r s_r [MASK] [SEP]`, read at [MASK].

        Of an inverse relation `[CLS] [MASK] r s_r h s_h [SEP]`. Natural ones come out in their order among the inverse.
        """
        heads, relations = queries.T
        count, inverse = self.relations.count, relations >= self.relations.count
        own = np.where(inverse, relations - count, relations)
        forth, back = np.flatnonzero(~inverse), np.flatnonzero(inverse)
        described = *self._entity(heads[forth]), *self._relation(own[forth])
        natural = joined(len(forth), self.cls, *described, self.mask, self.sep)
        described = *self._relation(own[back]), *self._entity(heads[back])
        turned = joined(len(back), self.cls, self.mask, *described, self.sep)
        positions = np.concatenate([natural.sizes - 2, np.ones(len(back), np.int64)])
        order = np.argsort(np.concatenate([forth, back]))
        return Sequenced(stacked(natural, turned).take(order), positions[order])

    def keys(self, entities: np.ndarray) -> Sequenced:
        """`[CLS] t s_t [SEP]` of entities (n,), read at t."""
        return Sequenced(joined(len(entities), self.cls, *self._entity(entities), self.sep), np.ones_like(entities))

    def _entity(self, entities: np.ndarray) -> tuple[np.ndarray, Ragged]:
        return self.words + entities, self.entities.take(entities)

    def _relation(self, relations: np.ndarray) -> tuple[np.ndarray, Ragged]:
        return self.words + self.entities.count + relations, self.relations.take(relations)

    def check_length(self, positions: int, entities: int) -> None:
        """InputError where the longest sequence of one or two described `entities` does not fit so many positions."""
        others = 2 + (2 - entities)  # [CLS] and [SEP], and [MASK] where one entity is masked
        described = entities * (self.entities.sizes.max() + 1) + self.relations.sizes.max() + 1
        longest = described + others
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


def batches(sequences: Sequenced, padding: int, size: int, tokens: int = 0) -> tuple[list[Chunk], torch.Tensor]:
    """Sequences as `chunks` with `positions`, and the row of each among them."""
    parts, order = chunks(sequences.rows, padding, size, tokens)
    positions = torch.empty(len(order), dtype=torch.long)
    positions[order] = torch.from_numpy(sequences.positions)
    rows = positions.split([len(part["input_ids"]) for part in parts])
    return [{**part, "positions": own} for part, own in zip(parts, rows, strict=True)], order


def encode(encoder: PreTrainedModel, inputs: Chunk) -> torch.Tensor:
    """Token ids and mask (b, s), positions (b,) -> output vectors at these positions, float32 (b, d)."""
    hidden = encoder(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    return hidden[torch.arange(len(hidden), device=hidden.device), inputs["positions"]].float()

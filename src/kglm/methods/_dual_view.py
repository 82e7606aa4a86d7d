"""Dual-view texts (KaLM, Section 3.2): `[head, relation]` and `{tail}`, one decoder, pooled at the last token.

The brackets stand where other models put their begin and end tokens. Texts are tokenised once, in pieces, so that
the closing bracket is always a token of its own and a long description never cuts off the relation behind it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kglm.kg.graph import Graph
from kglm.lm.language_model import last_token_pool
from kglm.methods._encoding import encode_sequences


@dataclass(frozen=True)
class DualViewTexts:
    """Token pieces of a graph's texts."""

    brackets: list[list[int]]
    descriptions: list[list[int]]
    relations: list[list[int]]
    padding: int

    @classmethod
    def of(
        cls,
        graph: Graph,
        tokenizer: PreTrainedTokenizerBase,
        entity_text: str,
        inverse_text: str,
        maximum_length: int,
    ) -> "DualViewTexts":
        """Tokenise every entity and relation once; descriptions are cut to `maximum_length` tokens."""

        def tokens(texts: Sequence[str]) -> list[list[int]]:
            return tokenizer(list(texts), add_special_tokens=False)["input_ids"]

        descriptions = [ids[:maximum_length] for ids in tokens(graph.entity_texts(entity_text))]
        relations = tokens([f", {text}" for text in graph.relation_texts(inverse_text)])
        return cls(tokens(["[", "]", "{", "}"]), descriptions, relations, tokenizer.pad_token_id)

    def query(self, head: int, relation: int) -> list[int]:
        """Tokens of `[head description, relation]`."""
        return self.brackets[0] + self.descriptions[head] + self.relations[relation] + self.brackets[1]

    def answer(self, entity: int) -> list[int]:
        """Tokens of `{tail description}`."""
        return self.brackets[2] + self.descriptions[entity] + self.brackets[3]


def encode(backbone: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Token ids and mask (b, s) -> L2-normalised last-token states, float32 (b, d)."""
    hidden = backbone(**inputs, use_cache=False).last_hidden_state
    return torch.nn.functional.normalize(last_token_pool(hidden, inputs["attention_mask"]).float(), dim=-1)


class DualViewEncoder:
    """The two encoders of a method that has `texts` and `backbone`: queries and entities as vectors."""

    texts: DualViewTexts

    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; equal texts have equal vectors to the last bit."""
        return self._encode(map(self.texts.query, heads.tolist(), relations.tolist()), batch_size)

    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; equal texts have equal vectors to the last bit."""
        return self._encode(map(self.texts.answer, entities.tolist()), batch_size)

    def _encode(self, sequences: Iterable[list[int]], batch_size: int) -> np.ndarray:
        return encode_sequences(self, partial(encode, self.backbone), sequences, self.texts.padding, batch_size)

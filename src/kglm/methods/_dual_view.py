"""Dual-view texts (KaLM, Section 3.2): `[head, relation]` and `{tail}`, one decoder, pooled at the last token.

The brackets stand where other models put their begin and end tokens. Texts are tokenised once, in pieces, so that
the closing bracket is always a token of its own and a long description never cuts off the relation behind it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kglm.kg.graph import Graph
from kglm.lm.language_model import last_token_pool
from kglm.lm.tokens import Ragged, joined, of_lists, tokenised
from kglm.methods._encoding import encode_sequences


@dataclass(frozen=True)
class DualViewTexts:
    """Token pieces of a graph's texts."""

    brackets: Ragged  # [ ] { }
    descriptions: Ragged
    relations: Ragged
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

        brackets = tokenizer(["[", "]", "{", "}"], add_special_tokens=False)["input_ids"]
        descriptions = tokenised(graph.entity_texts(entity_text), tokenizer).cut(maximum_length)
        relations = tokenised([f", {text}" for text in graph.relation_texts(inverse_text)], tokenizer)
        return cls(of_lists(brackets), descriptions, relations, tokenizer.pad_token_id)

    def queries(self, heads: np.ndarray, relations: np.ndarray) -> Ragged:
        """Tokens of `[head description, relation]` of each query (n,)."""
        begin, end = (self.brackets.take(np.full(len(heads), place)) for place in (0, 1))
        return joined(len(heads), begin, self.descriptions.take(heads), self.relations.take(relations), end)

    def answers(self, entities: np.ndarray) -> Ragged:
        """Tokens of `{tail description}` of each entity (n,)."""
        begin, end = (self.brackets.take(np.full(len(entities), place)) for place in (2, 3))
        return joined(len(entities), begin, self.descriptions.take(entities), end)


def encode(backbone: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Token ids and mask (b, s) -> L2-normalised last-token states, float32 (b, d)."""
    hidden = backbone(**inputs, use_cache=False).last_hidden_state
    return pooled(hidden, inputs["attention_mask"])


def pooled(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """States (b, s, d) and mask (b, s) -> L2-normalised states of the last tokens, float32 (b, d)."""
    return torch.nn.functional.normalize(last_token_pool(hidden, attention_mask).float(), dim=-1)


class DualViewEncoder:
    """The two encoders of a method that has `texts` and `backbone`: queries and entities as vectors."""

    texts: DualViewTexts

    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; equal texts have equal vectors to the last bit."""
        return self._encode(len(heads), lambda rows: self.texts.queries(heads[rows], relations[rows]), batch_size)

    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; equal texts have equal vectors to the last bit."""
        return self._encode(len(entities), lambda rows: self.texts.answers(entities[rows]), batch_size)

    def _encode(self, count: int, rows_of: Callable[[slice], Ragged], batch_size: int) -> np.ndarray:
        return encode_sequences(self, partial(encode, self.backbone), count, rows_of, self.texts.padding, batch_size)

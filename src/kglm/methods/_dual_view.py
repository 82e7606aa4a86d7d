"""Dual-view texts (KaLM, Section 3.2): `[head, relation]` and `{tail}`, one decoder, pooled at the last token.

The brackets stand where other models put their begin and end tokens. Texts are tokenised once, in pieces, so that
the closing bracket is always a token of its own and a long description never cuts off the relation behind it.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from kglm.kg.graph import Graph
from kglm.lm.language_model import batches_by_length, last_token_pool, pad


@dataclass(frozen=True)
class DualViewTexts:
    """Token pieces of a graph's texts. Entities of equal text have equal `number`, so that a text is encoded once."""

    brackets: list[list[int]]
    descriptions: list[list[int]]
    relations: list[list[int]]
    number: list[int]
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
        first: dict[tuple, int] = {}
        number = [first.setdefault(tuple(ids), len(first)) for ids in descriptions]
        return cls(tokens(["[", "]", "{", "}"]), descriptions, relations, number, tokenizer.pad_token_id)

    def query(self, head: int, relation: int) -> list[int]:
        """Tokens of `[head description, relation]`."""
        return self.brackets[0] + self.descriptions[head] + self.relations[relation] + self.brackets[1]

    def answer(self, entity: int) -> list[int]:
        """Tokens of `{tail description}`."""
        return self.brackets[2] + self.descriptions[entity] + self.brackets[3]

    def distinct_queries(self, heads: Sequence[int], relations: Sequence[int]) -> tuple[list[list[int]], np.ndarray]:
        """The distinct texts of the queries, and each query's row among them."""
        return _distinct(
            [(self.number[h], r) for h, r in zip(heads, relations, strict=True)],
            [partial(self.query, h, r) for h, r in zip(heads, relations, strict=True)],
        )

    def distinct_answers(self, entities: Sequence[int]) -> tuple[list[list[int]], np.ndarray]:
        """The distinct texts of the entities, and each entity's row among them."""
        return _distinct([self.number[e] for e in entities], [partial(self.answer, e) for e in entities])


def _distinct(keys: list[Hashable], build: list[Callable[[], list[int]]]) -> tuple[list[list[int]], np.ndarray]:
    first: dict[Hashable, int] = {}
    rows = np.array([first.setdefault(key, len(first)) for key in keys], dtype=np.int64)
    built: list[list[int]] = []
    for row, make in zip(rows, build, strict=True):
        if row == len(built):
            built.append(make())
    return built, rows


def chunks(sequences: list[list[int]], padding: int, size: int) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor]:
    """Sequences in padded chunks of at most `size`, alike in length, so that little is padded; and where each went."""
    batches = list(batches_by_length(sequences, size))
    order = torch.empty(len(sequences), dtype=torch.long)
    order[torch.tensor([row for batch in batches for row in batch], dtype=torch.long)] = torch.arange(len(sequences))
    return [pad([sequences[row] for row in batch], padding) for batch in batches], order


def encode(backbone: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Token ids and mask (b, s) -> L2-normalised last-token states, float32 (b, d)."""
    hidden = backbone(**inputs, use_cache=False).last_hidden_state
    return torch.nn.functional.normalize(last_token_pool(hidden, inputs["attention_mask"]).float(), dim=-1)


def encode_chunks(
    backbone: PreTrainedModel, parts: list[dict[str, torch.Tensor]], caching: bool = False
) -> torch.Tensor:
    """Encode chunk by chunk; with `caching`, only the vectors are kept and the rest is computed again backwards.

    This is gradient caching (Gao et al. 2021) by PyTorch's own checkpointing: random states are restored, so that
    the gradients are those of one big batch while memory is that of one chunk.
    """
    if not caching:
        return torch.cat([encode(backbone, part) for part in parts])
    return torch.cat([checkpoint(encode, backbone, part, use_reentrant=False) for part in parts])


@torch.inference_mode()
def encode_sequences(
    backbone: PreTrainedModel, sequences: list[list[int]], padding: int, batch_size: int
) -> np.ndarray:
    """Token sequences -> L2-normalised vectors, float32 (n, d), without gradients."""
    parts, order = chunks(sequences, padding, batch_size)
    device = next(backbone.parameters()).device
    vectors = [encode(backbone, {name: value.to(device) for name, value in part.items()}).cpu() for part in parts]
    return torch.cat(vectors)[order].numpy()


class DualViewEncoder:
    """The two encoders of a method that has `texts` and `backbone`: queries and entities as vectors."""

    texts: DualViewTexts

    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; equal texts have equal vectors to the last bit, since each is encoded once."""
        return self._encode(self.texts.distinct_queries(heads.tolist(), relations.tolist()), batch_size)

    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; equal texts have equal vectors to the last bit, since each is encoded once."""
        return self._encode(self.texts.distinct_answers(entities.tolist()), batch_size)

    def _encode(self, distinct: tuple[list[list[int]], np.ndarray], batch_size: int) -> np.ndarray:
        sequences, rows = distinct
        training = self.training
        self.eval()
        vectors = encode_sequences(self.backbone, sequences, self.texts.padding, batch_size)
        self.train(training)
        return vectors[rows]

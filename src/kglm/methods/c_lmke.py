"""C-LMKE: the target entities of a batch are keys, which its masked triples as queries are matched with.

Section 3.3 and Equation 2 of the paper. Two encoders start equal and share the vectors of words, entities and
relations (Section 4.1); a two-layer perceptron matches what they make of a query and of a key.
"""

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedModel

from kglm.kg.graph import Graph
from kglm.lm.entity_tokens import stock_modules
from kglm.lm.language_model import load_encoder, load_tokenizer
from kglm.methods import _interface
from kglm.methods._contrastive import KnownTriples, as_tensor, gather
from kglm.methods._encoding import apply_in_chunks, encode_chunks
from kglm.methods._triple_texts import Sequenced, TripleTexts, batches, encode, extend
from kglm.options import Automatic, Count, Options, Size
from kglm.ranking.matching import MatchingMLP


@dataclass(frozen=True)
class Parameters(Options):
    """C-LMKE's options, with the paper's values where it gives them."""

    entity_text: Literal["name", "description", "name_and_description"] = "description"
    maximum_description_length: Size = 230  # tokens, of each
    token_initialisation: Literal["random", "name"] = "random"  # of entities and relations; name: mean of its words
    # What d of Equation 2 holds: nothing, degrees in train, or what the withdrawn results had: for every key of a
    # query, the degree of the entity that is asked for. The last is there to measure the leak, and for nothing else.
    degrees: Literal["none", "train", "leaked"] = "train"
    negative_keys: Count = 0  # a query's negatives, drawn from those of the batch (Figure 5); 0: all
    base_weights: Literal["float32", "bfloat16"] = "float32"
    chunk_tokens: Count = 0  # tokens encoded at once, padding counted; 0: what the machine takes well
    chunk_size: Count = 0  # sequences encoded at once; 0: no limit but that
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
        words = self.query_encoder.get_input_embeddings().num_embeddings
        self.texts = TripleTexts.of(graph, tokenizer, words, p.entity_text, p.maximum_description_length)
        self.texts.check_length(self.query_encoder.config.max_position_embeddings, entities=1)
        self.key_encoder = deepcopy(self.query_encoder)
        self.tokens = extend(self.query_encoder, graph, tokenizer, p.token_initialisation)
        self.key_encoder.set_input_embeddings(self.tokens)
        self.matching = Matching(self.query_encoder.config.hidden_size, p.degrees)
        self.known = KnownTriples(graph)
        degrees = torch.from_numpy(graph.degrees).float()
        self.register_buffer("log_degrees", degrees.log1p(), persistent=False)

    def language_model(self) -> list[torch.nn.Module]:
        """Both encoders with their words; not the vectors of entities and relations, nor the perceptron."""
        return stock_modules(self.query_encoder, self.tokens) + stock_modules(self.key_encoder, self.tokens)

    # Training

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """See Method; each distinct query and key of the share stands in it once."""
        mine, p = triples[part::parts], self.parameters_
        queries, query_rows = self._queries(mine)
        keys, key_rows = self._keys(mine[:, 2])
        query_parts, query_order = batches(queries, self.texts.padding, p.chunk_size, p.chunk_tokens)
        key_parts, key_order = batches(keys, self.texts.padding, p.chunk_size, p.chunk_tokens)
        batch = {
            "queries": query_parts,
            "query_rows": query_order[torch.from_numpy(query_rows)],
            "keys": key_parts,
            "key_rows": key_order[torch.from_numpy(key_rows)],
            "triples": as_tensor(mine),
        }
        # In the order in which the processes' rows are gathered; columns are the distinct targets, sorted.
        targets = np.concatenate([triples[own::parts, 2] for own in range(parts)])
        _, first, own = np.unique(targets, return_index=True, return_inverse=True)
        batch |= {"own": torch.from_numpy(own), "first": torch.from_numpy(first)}
        if self.parameters_.negative_keys:
            draws = generator.random((len(triples), len(first)), np.float32)
            batch["draws"] = torch.from_numpy(np.concatenate([draws[own::parts] for own in range(parts)]))
        return batch

    def _queries(self, triples: np.ndarray) -> tuple[Sequenced, np.ndarray]:
        queries, rows = np.unique(triples[:, :2], axis=0, return_inverse=True)
        return self.texts.queries(queries), rows.reshape(-1)

    def _keys(self, entities: np.ndarray) -> tuple[Sequenced, np.ndarray]:
        keys, rows = np.unique(entities, return_inverse=True)
        return self.texts.keys(keys), rows

    def forward(self, queries, query_rows, keys, key_rows, triples, own, first, draws=None) -> dict[str, torch.Tensor]:
        """L(q, K), the mean over the queries of all processes.

        queries, keys: padded chunks; *_rows: (b,) rows of the encoded; triples: (b, 3). Of all processes' targets,
        own (n,): the place of each among the distinct ones, sorted; first (k,): a row of each of these; draws: (n, k),
        uniform in [0, 1).
        """
        caching = self.parameters_.gradient_caching is True
        query = gather(encode_chunks(partial(encode, self.query_encoder), queries, caching)[query_rows])
        key = gather(encode_chunks(partial(encode, self.key_encoder), keys, caching)[key_rows])
        triples = gather(triples)
        positive = self.known(triples)[:, first].scatter(1, own[:, None], True)
        negative = ~positive
        if draws is not None:
            negative &= drawn_negatives(negative, draws, self.parameters_.negative_keys)
        logits = self.matching(query, key[first], *self._log_degrees(triples, first))
        attraction, repulsion = matching_losses(logits, positive, negative)
        return {"loss": attraction + repulsion, "positive_keys": attraction, "negative_keys": repulsion}

    def _log_degrees(self, triples: torch.Tensor, first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """log(d + 1) of the queries' given entities (b,), and of their keys (b or 1, k or 1)."""
        given, targets = self.log_degrees[triples[:, 0]], self.log_degrees[triples[:, 2]]
        if self.parameters_.degrees == "leaked":
            return given, targets[:, None]
        return given, targets[first][None]

    # Ranking

    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """See LinkPredictor; the output at the masked entity, each distinct query encoded once."""
        return self._encode(self.query_encoder, *self._queries(np.stack([heads, relations], axis=1)), batch_size)

    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """See LinkPredictor; the output at the entity's own token."""
        return self._encode(self.key_encoder, *self._keys(entities), batch_size)

    def _encode(self, encoder: PreTrainedModel, sequences: Sequenced, rows: np.ndarray, batch_size: int) -> np.ndarray:
        parts = batches(sequences, self.texts.padding, batch_size)
        return apply_in_chunks(encoder, partial(encode, encoder), *parts)[rows]

    def interaction(self) -> MatchingMLP:
        """See LinkPredictor; Equation 2."""
        return self.matching.factored()


class Matching(torch.nn.Module):
    """The logit of Equation 2: a perceptron with one hidden layer, as wide as the vectors, over [q; k; q−k; q⊙k; d].

    Computed without the concatenation: what is linear in q or in k is computed once for each query or key.
    """

    def __init__(self, width: int, degrees: str):
        super().__init__()
        self.width, self.degrees = width, degrees
        self.first = torch.nn.Linear(4 * width + 2 * (degrees != "none"), width)
        self.second = torch.nn.Linear(width, 1)

    def parts(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """The weights of q, k and q⊙k, each (w, d), and of the degrees (w, 2), zeros where there are none."""
        query, key, difference, product, degrees = self.first.weight.split([self.width] * 4 + [self._features], dim=1)
        if not self._features:
            degrees = product.new_zeros(len(product), 2)
        return query + difference, key - difference, product, degrees

    @property
    def _features(self) -> int:
        return self.first.in_features - 4 * self.width

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, query_degrees: torch.Tensor, key_degrees: torch.Tensor
    ) -> torch.Tensor:
        """Queries (b, d), keys (k, d), log(degree + 1) of queries (b,) and keys (b or 1, k or 1) -> logits (b, k).

        In float32, outside autocast: bfloat16 leaves a thirtieth of the logits distinct.
        """
        with torch.autocast(queries.device.type, enabled=False):
            return self._logits(queries.float(), keys.float(), query_degrees, key_degrees)

    def _logits(self, queries, keys, query_degrees, key_degrees) -> torch.Tensor:
        query, key, product, degrees = self.parts()
        of_queries = queries @ query.T + query_degrees[:, None] * degrees[:, 0] + self.first.bias
        hidden = (queries[:, None] * keys) @ product.T + of_queries[:, None] + keys @ key.T
        if self._features:
            hidden = hidden + key_degrees[..., None] * degrees[:, 1]
        return self.second(hidden.relu())[..., 0].float()

    @torch.no_grad()
    def factored(self) -> MatchingMLP:
        """The same function for the ranker."""
        tensors = (*self.parts(), self.first.bias, self.second.weight[0], self.second.bias[0])
        return MatchingMLP(*(np.array(tensor.float().cpu().numpy()) for tensor in tensors), degree=self.degrees)


def drawn_negatives(negative: torch.Tensor, draws: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` negatives of each query with the lowest draws, of bool (b, k) and float (b, k); all if fewer."""
    order = draws.masked_fill(~negative, 2.0).argsort(dim=1)
    return order.argsort(dim=1) < count


def matching_losses(
    logits: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two sums of L(q, K) (Section 3.3), each as the mean over the queries.

    logits: (b, k) of p(q, k); positive, negative: bool (b, k), at least one positive key a query. Negatives have the
    self-adversarial weights softmax(p(q, k)) without a gradient; a query without any adds 0.
    """
    log_sigmoid = torch.nn.functional.logsigmoid
    attraction = -(log_sigmoid(logits) * positive).sum(dim=1) / positive.sum(dim=1)
    weights = logits.detach().sigmoid().exp() * negative
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    repulsion = -(log_sigmoid(-logits) * weights).sum(dim=1)
    return attraction.mean(), repulsion.mean()

"""Sequences of words, entities and relations, their context from the training graph, and augmented views of them.

KG-BiLM encodes triples and descriptions as one token sequence (Section 3.2). Here the tokens of a query (h, r, ?)
are `begin h s_h r_1 e_1 … r_k e_k r s_r <mask>` and those of an entity `begin e s_e r_1 e_1 … r_k e_k`, where s are
the words of texts, and r_i, e_i a training triple at h or e.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from kglm.kg.graph import Graph
from kglm.kg.neighbourhood import Neighbourhood, page_rank, relation_entropy
from kglm.lm.knowledge_mask import PADDING, TEXT, UNKNOWN
from kglm.methods._encoding import TokenTexts

WORD, ENTITY, RELATION, MASK = range(4)
KINDS = ("word", "entity", "relation", "mask")
NO_EDGES = np.empty((0, 2), np.int64)


class Vocabulary(NamedTuple):
    """Token ids: the model's words, then the entities, then the relations with their inverses, then `<mask>`."""

    words: int
    entities: int
    relations: int  # inverse ones included

    @property
    def mask(self) -> int:
        return self.words + self.entities + self.relations

    @property
    def further(self) -> int:
        """How many tokens are no words."""
        return self.entities + self.relations + 1

    def entity(self, number: int) -> int:
        return self.words + number

    def relation(self, number: int) -> int:
        return self.words + self.entities + number

    def kinds(self, ids: np.ndarray) -> np.ndarray:
        """WORD, ENTITY, RELATION or MASK of each id, int64."""
        first = [self.words, self.words + self.entities, self.mask]
        return np.searchsorted(first, ids, side="right").astype(np.int64)


class Importance:
    """How much an entity and a relation weigh (Appendix C.2): PageRank and entropy, each divided by its mean."""

    def __init__(self, graph: Graph):
        entropy = relation_entropy(graph)
        self.entities = page_rank(graph) * graph.entity_count
        self.relations = np.tile(entropy / entropy.mean() if entropy.any() else np.ones(len(entropy)), 2)

    def __call__(self, entities: np.ndarray, relations: np.ndarray) -> np.ndarray:
        """The weight of entities that stand in relations (inverse ones count as the others): the mean of both."""
        return (self.entities[entities] + self.relations[relations]) / 2


class Context:
    """The training triples at each entity, inverse ones included, as edges (relation, entity)."""

    def __init__(self, graph: Graph):
        triples = graph.split("train", inverse=True)
        triples = triples[np.lexsort(triples.T[[2, 1, 0]])]  # whatever the order of the file
        self._edges = np.ascontiguousarray(triples[:, 1:])
        self._first = np.concatenate([[0], np.cumsum(np.bincount(triples[:, 0], minlength=graph.entity_count))])
        self._relations = graph.relation_count

    def drawn(
        self, entity: int, count: int, generator: np.random.Generator, answer: tuple[int, int] | None = None
    ) -> np.ndarray:
        """At most `count` edges (k, 2) at random, without the edge `answer` = (relation, entity) that is asked for."""
        edges = self._edges[self._first[entity] : self._first[entity + 1]]
        if not count or not len(edges):
            return NO_EDGES
        # A loop stands at its entity twice, as itself and as its inverse.
        edges = edges[generator.choice(len(edges), min(count + 2, len(edges)), replace=False)]
        if answer is not None:
            relation, other = answer
            asked = {relation, (relation + self._relations) % (2 * self._relations)} if other == entity else {relation}
            edges = edges[~((edges[:, 1] == other) & np.isin(edges[:, 0], list(asked)))]
        return edges[:count]

    def fixed(self, entity: int, count: int) -> np.ndarray:
        """At most `count` edges (k, 2): a draw that is always the same, so that all see what was trained on."""
        return self.drawn(entity, count, np.random.default_rng(entity))


class Units:
    """Builds sequences of token ids of at most `maximum_length`; what does not fit is cut off the description."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        begin: list[int],
        entity_texts: TokenTexts,
        relation_texts: list[list[int]],
        maximum_length: int,
    ):
        self.vocabulary, self._begin, self._maximum = vocabulary, begin, maximum_length
        self.entity_texts, self._relation_texts = entity_texts, relation_texts

    def query(self, head: int, relation: int, edges: np.ndarray = NO_EDGES, token: bool = True) -> list[int]:
        """(h, r, ?), which ends with `<mask>`; edges (k, 2) at h; without `token`, h is there as text alone."""
        asked = [self.vocabulary.relation(relation), *self._relation_texts[relation], self.vocabulary.mask]
        return self._entity(head, self.entity_texts[head], edges, token, self._maximum - len(asked)) + asked

    def entity(self, entity: int, edges: np.ndarray = NO_EDGES, token: bool = True) -> list[int]:
        """An entity with its description; arguments as those of `query`."""
        return self._entity(entity, self.entity_texts[entity], edges, token, self._maximum)

    def view(self, entity: int, edges: np.ndarray, options: "Augmentation", generator: np.random.Generator):
        """An augmented view of an entity: entities dropped, a span of its text deleted, its edges shuffled."""
        edges = edges[generator.random(len(edges)) >= options.entity_dropping]
        if options.shuffling:
            edges = edges[generator.permutation(len(edges))]
        text = self.entity_texts[entity]
        span = round(options.span_deletion * len(text))
        start = int(generator.integers(len(text) - span + 1))
        token = generator.random() >= options.entity_dropping
        return self._entity(entity, text[:start] + text[start + span :], edges, token, self._maximum)

    def _entity(self, entity: int, text: list[int], edges: np.ndarray, token: bool, room: int) -> list[int]:
        """An entity without text keeps its token: something has to stand for it."""
        first = [*self._begin, self.vocabulary.entity(entity)] if token or not text else list(self._begin)
        tokens = np.add(edges, [self.vocabulary.relation(0), self.vocabulary.entity(0)])
        context = tokens.reshape(-1).tolist()[: max(room - len(first), 0) // 2 * 2]
        return first + text[: max(room - len(first) - len(context), 0)] + context


class Augmentation(NamedTuple):
    """What makes a view: shares of the entities dropped and of the text deleted, and whether edges are shuffled."""

    entity_dropping: float
    span_deletion: float
    shuffling: bool


def padded(sequences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids int64 (b, longest), 0 behind the end, and where the real ones are, bool (b, longest)."""
    lengths = np.array([len(sequence) for sequence in sequences])
    real = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(real.shape, np.int64)
    ids[real] = np.concatenate([np.asarray(sequence, np.int64) for sequence in sequences])
    return ids, real


def model_inputs(
    ids: np.ndarray,
    real: np.ndarray,
    vocabulary: Vocabulary,
    neighbourhood: Neighbourhood | None,
    masked_words: np.ndarray | None = None,
) -> dict[str, torch.Tensor]:
    """What the model reads of sequences (b, s): ids, kinds, classes (b, s), near (b, m, m) of `knowledge_mask`.

    masked_words: bool (b, s), the `<mask>` that hide words; all others hide entities. Without a neighbourhood nobody
    is near.
    """
    kinds = vocabulary.kinds(ids)
    entities = (kinds == ENTITY) & real
    slots = np.cumsum(entities, axis=1) - 1
    classes = np.where(entities, slots, np.where(kinds == MASK, UNKNOWN, TEXT))
    if masked_words is not None:
        classes[masked_words] = TEXT
    classes[~real] = PADDING
    members = np.full((len(ids), max(int(entities.sum(axis=1).max()), 1)), -1)
    members[np.nonzero(entities)[0], slots[entities]] = ids[entities] - vocabulary.words
    near = neighbourhood.near(members) if neighbourhood else np.zeros((*members.shape, members.shape[1]), bool)
    arrays = {"ids": ids, "kinds": kinds, "classes": classes, "near": near}
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

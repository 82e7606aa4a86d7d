"""Sequences of words, entities and relations, their context from the training graph, and augmented views of them.

KG-BiLM encodes triples and descriptions as one token sequence (Section 3.2). Here the tokens of a query (h, r, ?)
are `begin h s_h w_1 … w_k r s_r <mask>` and those of an entity `begin e s_e w_1 … w_k`, where s are the words of
texts, and w a walk `r_1 e_1 r_2 e_2 …` along training triples from h or e.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from kglm.kg.graph import Graph
from kglm.kg.neighbourhood import page_rank, relation_entropy
from kglm.kg.subgraphs import NO_WALKS
from kglm.lm.knowledge_mask import PADDING, TEXT, UNKNOWN
from kglm.lm.tokens import Ragged

WORD, ENTITY, RELATION, MASK = range(4)
KINDS = ("word", "entity", "relation", "mask")


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
    """How much an entity and a relation weigh (Appendix C.2): PageRank and entropy to a power, over their means."""

    def __init__(self, graph: Graph, exponent: float = 1.0):
        entropy = relation_entropy(graph)
        self.entities = _over_mean(page_rank(graph) ** exponent)
        self.relations = np.tile(_over_mean(entropy**exponent) if entropy.any() else np.ones(len(entropy)), 2)

    def __call__(self, entities: np.ndarray, relations: np.ndarray) -> np.ndarray:
        """The weight of entities that stand in relations (inverse ones count as the others): the mean of both."""
        return (self.entities[entities] + self.relations[relations]) / 2


def _over_mean(values: np.ndarray) -> np.ndarray:
    return values / values.mean()


class Tokens(NamedTuple):
    """A sequence: token ids, and for each position that of the entity token to which it belongs, -1 for none.

    An entity belongs to itself. The words of a text can belong to the entity that they describe, and a relation with
    its words to the entity from which its triple starts: for the relation that is asked for, the head of the query.
    without: entities that a training triple alone joins which is asked for: the mask must not tell it; -1 for none.
    """

    ids: tuple[int, ...]
    owners: tuple[int, ...]
    without: tuple[int, int] = (-1, -1)


def distinct(sequences: Iterable[Tokens]) -> tuple[list[Tokens], np.ndarray]:
    """The distinct sequences, and the row of each among them: what is equal is encoded once."""
    first: dict[Tokens, tuple[int, Tokens]] = {}
    rows = [first.setdefault(sequence, (len(first), sequence))[0] for sequence in sequences]
    return [sequence for _, sequence in first.values()], np.array(rows, np.int64)


class Units:
    """Builds sequences of token ids of at most `maximum_length`; what does not fit is cut off the description."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        begin: list[int],
        entity_texts: Ragged,
        relation_texts: list[list[int]],
        maximum_length: int,
        parents: str = "words_and_relations",
    ):
        """parents: what belongs to an entity beside its own token: "none", "words" or "words_and_relations"."""
        self.vocabulary, self._begin, self._maximum = vocabulary, begin, maximum_length
        self.entity_texts, self._relation_texts = entity_texts, relation_texts
        self._words_belong, self._relations_belong = parents != "none", parents == "words_and_relations"

    def query(self, head: int, relation: int, walks: np.ndarray = NO_WALKS, token: bool = True) -> Tokens:
        """(h, r, ?), which ends with `<mask>`; walks (k, n, 2) from h; without `token`, h is there as text alone."""
        asked = (self.vocabulary.relation(relation), *self._relation_texts[relation])
        text = self.entity_texts.row(head)
        before = self._entity(head, text, walks, token, self._maximum - len(asked) - 1)
        own = len(self._begin) if self._relations_belong and (token or not text) else -1
        ids = before.ids + asked + (self.vocabulary.mask,)
        return Tokens(ids, before.owners + (own,) * len(asked) + (-1,))

    def entity(self, entity: int, walks: np.ndarray = NO_WALKS, token: bool = True) -> Tokens:
        """An entity with its description; arguments as those of `query`."""
        return self._entity(entity, self.entity_texts.row(entity), walks, token, self._maximum)

    def view(self, entity: int, walks: np.ndarray, options: "Augmentation", generator: np.random.Generator) -> Tokens:
        """An augmented view of an entity: entities dropped, a span of its text deleted, its walks shuffled.

        An entity that is dropped takes with it what its walk would have come to behind it.
        """
        dropped = generator.random(walks.shape[:2]) < options.entity_dropping
        dropped[:, options.radius :] = False
        walks = np.where(np.logical_or.accumulate(dropped, axis=1)[:, :, None], -1, walks)
        if options.shuffling:
            walks = walks[generator.permutation(len(walks))]
        text = self.entity_texts.row(entity)
        span = round(options.span_deletion * len(text))
        start = int(generator.integers(len(text) - span + 1))
        token = generator.random() >= options.entity_dropping * (options.radius > 0)
        return self._entity(entity, text[:start] + text[start + span :], walks, token, self._maximum)

    def _entity(self, entity: int, text: list[int], walks: np.ndarray, token: bool, room: int) -> Tokens:
        """An entity without text keeps its token: something has to stand for it."""
        token = token or not text
        first = [*self._begin, self.vocabulary.entity(entity)] if token else list(self._begin)
        own = len(self._begin)
        walked = walks[:, :, 0] >= 0
        steps = walks[walked][: max(room - len(first), 0) // 2]
        text = text[: max(room - len(first) - 2 * len(steps), 0)]
        context = np.add(steps, [self.vocabulary.relation(0), self.vocabulary.entity(0)]).reshape(-1)
        places = len(first) + len(text) + np.arange(len(context))
        begins = np.nonzero(walked)[1][: len(steps)] == 0  # a walk; all other steps go on from the entity before
        starts = np.where(np.repeat(begins, 2), own if token else -1, places - 1)
        owners = np.where(np.arange(len(context)) % 2, places, starts if self._relations_belong else -1)
        of_words = own if token and self._words_belong else -1
        kept = [-1] * own + [own] * token + [of_words] * len(text)
        return Tokens((*first, *text, *context.tolist()), (*kept, *owners.tolist()))


class Augmentation(NamedTuple):
    """What makes a view: shares of entities dropped and of text deleted, whether walks are shuffled, and the radius.

    Entities further than `radius` steps from their sub-graph's own are not dropped (Appendix C.3.1).
    """

    entity_dropping: float
    span_deletion: float
    shuffling: bool
    radius: int


class Padded(NamedTuple):
    """Sequences side by side, each array (b, longest).

    ids: 0 behind the end; real: which are no padding; owners: as in Tokens; masked_words: the `<mask>` that hide words,
    all others hide entities. without (b, 2): as in Tokens.
    """

    ids: np.ndarray
    real: np.ndarray
    owners: np.ndarray
    masked_words: np.ndarray
    without: np.ndarray

    @classmethod
    def of(cls, sequences: Sequence[Tokens]) -> "Padded":
        """Of at least one sequence."""
        lengths = np.array([len(sequence.ids) for sequence in sequences])
        real = np.arange(lengths.max()) < lengths[:, None]
        ids, owners = np.zeros(real.shape, np.int64), np.full(real.shape, -1)
        ids[real] = np.concatenate([np.asarray(sequence.ids, np.int64) for sequence in sequences])
        owners[real] = np.concatenate([np.asarray(sequence.owners, np.int64) for sequence in sequences])
        without = np.array([sequence.without for sequence in sequences])
        return cls(ids, real, owners, np.zeros(real.shape, bool), without)

    def rows(self, rows: Sequence[int]) -> "Padded":
        """Some of the sequences, without the columns that none of these needs."""
        length = int(self.real[rows].sum(axis=1).max())
        return Padded(*(array[rows, :length] for array in self[:-1]), self.without[rows])


def model_inputs(
    sequences: Padded,
    vocabulary: Vocabulary,
    near: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> dict[str, torch.Tensor]:
    """What the model reads of sequences (b, s): ids, kinds, classes (b, s), near (b, m, m) of `knowledge_mask`.

    near: entity numbers (b, m), -1 for none, and `without` (b, 2) to bool (b, m, m), whose pairs may see each other. An
    owner that is masked counts for nobody: its neighbourhood would tell who it is.
    """
    ids, real, owners, masked_words, without = sequences
    kinds = vocabulary.kinds(ids)
    entities = (kinds == ENTITY) & real
    slots = np.cumsum(entities, axis=1) - 1
    count = max(int(entities.sum(axis=1).max()), 1)
    owned = ~entities & (owners >= 0) & np.take_along_axis(entities, owners.clip(min=0), axis=1)
    classes = np.where(entities, slots, np.where(kinds == MASK, UNKNOWN, TEXT))
    classes[masked_words] = TEXT
    classes[owned] = (count + np.take_along_axis(slots, owners.clip(min=0), axis=1))[owned]
    classes[~real] = PADDING
    members = np.full((len(ids), count), -1)
    members[np.nonzero(entities)[0], slots[entities]] = ids[entities] - vocabulary.words
    arrays = {"ids": ids, "kinds": kinds, "classes": classes, "near": near(members, without)}
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

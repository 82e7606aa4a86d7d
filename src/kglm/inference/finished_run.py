"""A finished run as an object that answers queries: `kglm.load(folder).predict(head="…", relation="…")`."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from kglm.binding import check_embeddings
from kglm.errors import InputError
from kglm.files import read_json
from kglm.inference.names import Names
from kglm.kg.graph import Graph
from kglm.methods._interface import CandidateScorer, LinkPredictor, Method, build_method, method_class
from kglm.ranking.candidates import ranks_of
from kglm.ranking.embedding_file import open_embeddings
from kglm.ranking.matching import MatchingMLP, read_interaction
from kglm.ranking.reranking import reranked
from kglm.ranking.scorer import Scorer, strips
from kglm.ranking.stages import StoredQueries
from kglm.ranking.triples import Asked, embedding_scorer
from kglm.training.options import Training
from kglm.training.scorer import candidate_scorer
from kglm.training.specification import completed
from kglm.training.stages import loaded_method

Known = Literal["exclude", "mark", "only"]
_TILE = (64, 4096)  # queries and candidates that are scored at once
COLUMNS = ["head", "relation", "tail", "asked", "rank", "score", "known"]


class Query(NamedTuple):
    """What is asked, by numbers; the one of the three that is None is asked for."""

    head: int | None
    relation: int | None
    tail: int | None

    @property
    def asked(self) -> str:
        """head, relation or tail."""
        return next(name for name, value in self._asdict().items() if value is None)


def load(folder: Path, graph: Path | None = None, model: Path | None = None) -> "FinishedRun":
    """A finished run.

    folder: results/<scale>/runs/<run>, or a folder that holds run.json and weights/. graph, model: folders of its graph
    and its base model; by default those of its scale, results/<scale>/data/<dataset> and models/<model>. InputError
    where a part is missing or belongs to another run.
    """
    return FinishedRun(Path(folder), graph, model)


class FinishedRun:
    """See `load`. Embeddings are read from the run's folder where they are; the model is loaded when it is needed."""

    def __init__(self, folder: Path, graph: Path | None = None, model: Path | None = None):
        self.folder, scale = folder, folder.absolute().parent.parent
        self.spec = self._read_spec(scale)
        self._graph_folder = Path(graph) if graph else scale / "data" / self.spec["dataset"]
        self.model_folder = Path(model) if model else scale / "models" / str(self.spec["model"])
        self.graph = Graph.read(self._graph_folder)
        ranking = scale / "specs" / "ranking" / f"{self.spec['name']}.json"
        self._ranking = read_json(ranking) if ranking.is_file() else {}
        self._added = 0  # entities that exist as a text only

    def _read_spec(self, scale: Path) -> dict:
        record, spec = self.folder / "run.json", scale / "specs" / "run" / f"{self.folder.name}.json"
        for file in (record, spec):  # the second of a run that takes another's weights
            if file.is_file():
                return completed(read_json(file), str(file))
        remedy = "name a folder results/<scale>/runs/<run>"
        raise InputError("is no finished run: it has no run.json", self.folder, remedy)

    def with_entities(self, entities: pd.DataFrame) -> "FinishedRun":
        """The same run that also knows `entities` (columns id, name, description), which are only a text to it.

        Where an entity has a token beside its text (LMKE), theirs is the mean of the trained ones. InputError for a
        method that has a vector for each entity of its graph, and for an id that is taken.
        """
        if not method_class(self.spec["method"]).reads_new_entities:
            what = "cannot read an entity that is a text only: it has a vector for each entity of its graph"
            raise InputError(what, f"method {self.spec['method']}", "take a run of a method that reads texts")
        if taken := sorted(set(entities["id"]) & set(self.graph.entities["id"])):
            raise InputError("is an entity of the graph already", f"id {taken[0]!r}", "give the new one another id")
        extended = FinishedRun.__new__(FinishedRun)
        extended.__dict__ |= {key: value for key, value in self.__dict__.items() if key not in _DERIVED}
        of = pd.concat([self.graph.entities, entities.assign(in_train=False)], ignore_index=True)
        extended.graph = Graph(of, self.graph.relations, self.graph.triples)
        extended._added = self._added + len(entities)
        return extended

    # Names

    @cached_property
    def entities(self) -> Names:
        """The graph's entities by id and name."""
        return Names("entity", self.graph.entities["id"], self.graph.entity_texts("name"))

    @cached_property
    def relations(self) -> Names:
        """The graph's relations by id and text."""
        return Names("relation", self.graph.relations["id"], self.graph.relations["text"])

    def query(self, head: str | None = None, relation: str | None = None, tail: str | None = None) -> Query:
        """A query by ids or names; InputError unless exactly two of the three are given."""
        if sum(part is not None for part in (head, relation, tail)) != 2:
            remedy = "leave out the one that is asked for"
            raise InputError("gives not two of head, relation and tail", "a query", remedy)
        ends = [None if end is None else self.entities.number(end) for end in (head, tail)]
        return Query(ends[0], None if relation is None else self.relations.number(relation), ends[1])

    # Answers

    def predict(
        self,
        head: str | None = None,
        relation: str | None = None,
        tail: str | None = None,
        top: int = 10,
        known: Known = "exclude",
    ) -> pd.DataFrame:
        """The `top` best answers to one query, of which two of the three parts are given by id or name.

        known: what becomes of answers that are in train, valid or test: left out, marked, or shown alone. Columns:
        `COLUMNS`, with entities and relations as ids. `rank` is the filtered realistic rank: among all that is not
        known, and the answer itself.
        """
        return self.answers([self.query(head, relation, tail)], top, known)

    def answers(self, queries: Sequence[Query], top: int = 10, known: Known = "exclude") -> pd.DataFrame:
        """The same for many queries, best answers first, in the order of the queries."""
        if top < 1:
            raise InputError(f"{top} answers are none", "top", "ask for 1 or more")
        frames = [self._best(query, scores, top, known) for query, scores in self.scored(queries)]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)

    def scored(self, queries: Sequence[Query]) -> Iterator[tuple[Query, np.ndarray]]:
        """Each query with the scores float32 of all entities, or relations, as its answer."""
        relations = self.graph.relation_count
        for query in (query for query in queries if query.relation is None):
            every = np.arange(relations)
            yield query, np.concatenate([s for s in self._strips(np.full(relations, query.head), every)])[:, query.tail]
        for_ends = [query for query in queries if query.relation is not None]
        if for_ends:
            given = np.array([query.head if query.tail is None else query.tail for query in for_ends])
            asked = np.array([query.relation + relations * (query.head is None) for query in for_ends])
            rows = (row for strip in self._strips(given, asked) for row in strip)
            yield from zip(for_ends, rows, strict=True)

    def _best(self, query: Query, scores: np.ndarray, top: int, known: Known) -> pd.DataFrame:
        is_known = self.known(query)
        shown = {"exclude": ~is_known, "mark": np.ones_like(is_known), "only": is_known}[known]
        places = np.flatnonzero(shown)
        places = places[np.argsort(-scores[places], kind="stable")[:top]]
        parts = query._asdict() | {query.asked: places}
        ids = {"head": self.entities.ids, "relation": self.relations.ids, "tail": self.entities.ids}
        columns = {
            name: [ids[name][value] for value in np.broadcast_to(part, len(places))] for name, part in parts.items()
        }
        columns |= {"asked": query.asked, "rank": realistic_ranks(scores, ~is_known, places)}
        return pd.DataFrame(columns | {"score": scores[places], "known": is_known[places]})[COLUMNS]

    def known(self, query: Query) -> np.ndarray:
        """Which answers are in train, valid or test: bool."""
        if query.relation is None:
            triples = np.concatenate([self.graph.split(split) for split in ("train", "valid", "test")])
            of = triples[(triples[:, 0] == query.head) & (triples[:, 2] == query.tail), 1]
            return np.isin(np.arange(self.graph.relation_count), of)
        end = query.head if query.tail is None else query.tail
        relation = query.relation + self.graph.relation_count * (query.head is None)
        _, answers = self.graph.known_answers(np.array([end]), np.array([relation]))
        return np.isin(np.arange(self.graph.entity_count), answers)

    def missing(self, count: int, relations: Sequence[int] | None = None, known_only: bool = True) -> pd.DataFrame:
        """The `count` most plausible triples of each relation that the graph lacks, best first: columns of `COLUMNS`.

        All heads are asked for all tails, strip by strip: memory does not grow with the number of pairs. known_only:
        an entity that has the relation nowhere in train, as a head or as a tail, is not asked for.
        """
        return pd.concat(
            [self._missing(count, relation, known_only) for relation in relations or range(self.graph.relation_count)],
            ignore_index=True,
        )

    def _missing(self, count: int, relation: int, known_only: bool) -> pd.DataFrame:
        train = self.graph.split("train")
        of = train[train[:, 1] == relation]
        heads, tails = (np.unique(of[:, column]) for column in (0, 2))
        if not known_only:
            heads = tails = np.arange(self.graph.entity_count)
        best = np.empty((0, 2), np.int64), np.empty(0, np.float32)
        start = 0
        for scores in self._strips(heads, np.full(len(heads), relation)):
            rows = heads[start : start + len(scores)]
            start += len(scores)
            pointers, answers = self.graph.known_answers(rows, np.full(len(rows), relation))
            scores[np.repeat(np.arange(len(rows)), np.diff(pointers)), answers] = -np.inf
            scores[np.arange(len(rows)), rows] = -np.inf  # a loop is no news
            among = scores[:, tails]
            first = np.argpartition(-among, min(count, among.size - 1), axis=None)[:count] if among.size else []
            row, column = np.unravel_index(first, among.shape)
            pairs = np.concatenate([best[0], np.stack([rows[row], tails[column]], axis=1)])
            values = np.concatenate([best[1], among[row, column]])
            order = np.argsort(-values, kind="stable")[:count]
            best = pairs[order], values[order]
        pairs, values = (part[np.isfinite(best[1])] for part in best)
        ids = np.array(self.entities.ids, object)
        columns = {"head": ids[pairs[:, 0]], "relation": self.relations.ids[relation], "tail": ids[pairs[:, 1]]}
        columns |= {"asked": "triple", "rank": np.arange(1.0, len(pairs) + 1), "score": values, "known": False}
        return pd.DataFrame(columns)[COLUMNS]

    # Scores

    def _strips(self, heads: np.ndarray, relations: np.ndarray) -> Iterator[np.ndarray]:
        """Scores of all entities as the tails of (h, r, ?), float32 (n, E), some queries at a time and in order."""
        score = self._scorer_of(Asked(heads, relations, np.zeros_like(heads)), None)
        nothing = np.empty(0, np.int64), np.empty(0, np.int64)
        for _, scores in strips(score, len(heads), self.graph.entity_count, nothing, _TILE):
            yield scores

    @cached_property
    def _scorer_of(self):
        if (self.folder / "embeddings" / "entities.safetensors").is_file() or self._predicts_by_vectors:
            interaction = self._interaction()
            if interaction is not None and interaction.degree == "leaked":
                what = "is given the degree of the answer, so that it predicts nothing without one"
                raise InputError(what, self.spec["name"], "take the run with the degrees of train")
            scorer_of = embedding_scorer(self.graph, self._query_vectors, self._entity_vectors, interaction)
            if "reranking" in self._ranking:
                return reranked(self.graph, scorer_of, **self._ranking["reranking"])
            return scorer_of
        if isinstance(self.method, CandidateScorer):
            return candidate_scorer(self.method, self._batch_size)
        return self._triple_scorer

    @cached_property
    def _predicts_by_vectors(self) -> bool:
        return isinstance(self.method, LinkPredictor)

    @cached_property
    def method(self) -> Method:
        """The run's method with its weights, on the GPU where there is one."""
        model = self.model_folder if self.spec["model"] is not None else None
        if not self._added:
            return loaded_method(self.spec, self.graph, model, self.folder / "weights")
        trained = loaded_method(self.spec, self._known_graph, model, self.folder / "weights")
        extended = build_method(self.spec["method"], self.spec["parameters"], self.graph, model)
        with torch.no_grad():
            for name, own in extended.trainable().items():
                value = trained.trainable()[name]
                if own.shape == value.shape:
                    own.copy_(value)
                else:  # a row for each entity
                    own[: len(value)], own[len(value) :] = value, value.mean(dim=0)
        return extended.to(next(trained.parameters()).device).eval()

    @property
    def _known_graph(self) -> Graph:
        """The graph that the run was trained on."""
        if not self._added:
            return self.graph
        return Graph(self.graph.entities[: -self._added], self.graph.relations, self.graph.triples)

    @property
    def _batch_size(self) -> int:
        return Training.of(self.spec["training"]).encoding_batch_size

    def _interaction(self) -> MatchingMLP | None:
        path = self.folder / "embeddings" / "interaction.safetensors"
        return read_interaction(path) if path.is_file() else self.method.interaction()

    @cached_property
    def _entity_vectors(self):
        """Those of the run's folder, memory-mapped; encoded where they are not there, as new entities are."""
        path, count = self.folder / "embeddings" / "entities.safetensors", self.graph.entity_count
        check_embeddings(path.parent, self._known_graph, self.spec["name"])
        if not path.is_file():
            return self.method.encode_entities(np.arange(count), self._batch_size)
        stored = open_embeddings(path)
        if not self._added:
            return stored
        new = self.method.encode_entities(np.arange(count - self._added, count), self._batch_size)
        return np.concatenate([np.asarray(stored[slice(0, count - self._added)], np.float32), new])

    @cached_property
    def _stored_queries(self) -> StoredQueries | None:
        path = self.folder / "embeddings" / "queries.safetensors"
        return StoredQueries(path, self.graph) if path.is_file() else None

    def _query_vectors(self, heads: np.ndarray, relations: np.ndarray) -> np.ndarray:
        """Those of the run's folder, so that ranks are its ranks; others are encoded."""
        if self._stored_queries is None:
            return self.method.encode_queries(heads, relations, self._batch_size)
        there = self._stored_queries.known(heads, relations)
        if there.all():
            return self._stored_queries(heads, relations)
        new = self.method.encode_queries(heads[~there], relations[~there], self._batch_size)
        vectors = np.empty((len(heads), new.shape[1]), new.dtype)
        vectors[there], vectors[~there] = self._stored_queries(heads[there], relations[there]), new
        return vectors

    def _triple_scorer(self, asked: Asked, candidates: np.ndarray | None) -> Scorer:
        """Of a method that only tells true triples from false ones: each candidate makes a triple of its own."""
        count = self.graph.relation_count

        def score(rows: slice, places: slice) -> np.ndarray:
            entities = np.arange(places.start, places.stop)
            scores = []
            for given, relation in zip(asked.heads[rows], asked.relations[rows], strict=True):
                fixed = np.full(len(entities), given)
                ends = (fixed, entities) if relation < count else (entities, fixed)
                triples = np.stack([ends[0], np.full(len(entities), relation % count), ends[1]], axis=1)
                scores.append(self.method.score_triples(triples, self._batch_size))
            return np.stack(scores)

        return score


_DERIVED = {name for name, value in vars(FinishedRun).items() if isinstance(value, cached_property)}


def realistic_ranks(scores: np.ndarray, candidates: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The mean of the best and the worst rank of each of `places` (n,) among `candidates` (bool) and itself."""
    others, count = np.sort(scores[candidates]), len(places)
    own = ~candidates[places]  # a known answer is a candidate beside the others
    greater = len(others) - np.searchsorted(others, scores[places], side="right")
    not_less = len(others) - np.searchsorted(others, scores[places], side="left") + own
    return ranks_of(greater, not_less, np.full(count, len(others)) + own).realistic

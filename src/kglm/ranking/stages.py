"""The stages `rank` and `evaluate`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from kglm.artefacts import ANSWERS, RANKS, read_parquet, write_parquet
from kglm.binding import check_embeddings
from kglm.errors import InputError
from kglm.files import run_identity, write_json
from kglm.kg.graph import Graph, evenly_spaced
from kglm.options import Count, Options, Positive, Range, Seed, Size
from kglm.ranking.embedding_file import EmbeddingFile, open_embeddings
from kglm.ranking.inner_product import filtered_ranks
from kglm.ranking.matching import MatchingMLP, read_interaction
from kglm.ranking.metrics import EVALUATION_VERSION, evaluate_ranks
from kglm.ranking.released import released_ranks
from kglm.ranking.reranking import reranked
from kglm.ranking.triples import ScorerOf, best_answers, embedding_scorer, rank_triples, rank_triples_by

BEST = 10  # answers that are kept of a query
SPLITS = ("valid", "test")
OF_A_RUN = {"method", "dataset", "model", "seed", "parameters", "training", "evaluation"}


@dataclass(frozen=True)
class Evaluation(Options):
    """How ranks become metrics."""

    resamples: Annotated[int, Range(least=1, most=10_000)] = 1000  # of the bootstrap
    confidence: Annotated[float, Range(above=0, below=1)] = 0.95
    seed: Seed = 0
    # How the ranks were made; all but the first are told wherever they appear.
    protocol: Literal["filtered", "released", "leaked", "reranked", "candidates"] = "filtered"


@dataclass(frozen=True)
class Reranking(Options):
    """Of candidates near the query's entity."""

    hops: Size
    bonus: Positive


@dataclass(frozen=True)
class Candidates(Options):
    """Which run proposes candidates, and how many of a query."""

    run: str
    top: Size


@dataclass(frozen=True)
class Ranking(Options):
    """How a run's queries are ranked."""

    name: str = ""
    protocol: Literal["filtered", "released", "leaked", "reranked", "candidates"] = "filtered"
    answers: Count = 0  # of so many triples of test the best answers are kept
    reranking: dict | None = None
    candidates: dict | None = None
    run: dict | None = None  # the specification, where its model is needed

    @classmethod
    def of(cls, given: Any, where: str = "spec") -> "Ranking":
        """See Options; the specification of a run serves, too."""
        given = {key: value for key, value in given.items() if key not in OF_A_RUN}
        made = super().of(given, where)
        for key, options in (("reranking", Reranking), ("candidates", Candidates)):
            if getattr(made, key) is not None:
                options.of(getattr(made, key), f"{where}.{key}")
        return made


def rank(spec: dict, graph: Path, embeddings: Path, out: Path, answers: Path) -> None:
    """Ranks of valid and test in both directions, and the best answers, from embeddings and how they meet.

    spec["protocol"] is filtered (the default), reranked (with the options spec["reranking"]), or, for comparison only,
    released (KaLM's own evaluation) or leaked (C-LMKE's withdrawn one). Without the file interaction.safetensors the
    score is the inner product. spec["answers"]: of how many triples of test the best answers are kept.
    """
    Ranking.of(spec)
    knowledge = Graph.read(graph)
    check_embeddings(embeddings, knowledge, spec.get("name"))
    embedded = _embedded(knowledge, Path(embeddings))
    protocol = _protocol(spec, embedded[2])
    scorer_of = embedding_scorer(knowledge, *embedded)
    if protocol == "reranked":
        scorer_of = reranked(knowledge, scorer_of, **spec["reranking"])
        ranks_of = partial(rank_triples_by, scorer_of=scorer_of)
    else:
        query_of, entities, interaction = embedded
        by = released_ranks if protocol == "released" else filtered_ranks
        ranks_of = partial(rank_triples, query_of=query_of, entities=entities, ranks_of=by, interaction=interaction)
    write_ranks(knowledge, lambda triples, split: ranks_of(knowledge, triples, split=split), graph, out)
    triples = browsed(knowledge, spec.get("answers", 0))
    write_parquet(best_answers(knowledge, triples, scorer_of, "test", BEST), answers, ANSWERS)


def write_ranks(knowledge: Graph, ranks_of: Callable[[np.ndarray, str], pd.DataFrame], graph: Path, out: Path) -> None:
    """The ranks of valid and test by ranks_of(triples, split); InputError where the graph has neither."""
    splits = {name: knowledge.split(name) for name in SPLITS}
    frames = [ranks_of(triples, name) for name, triples in splits.items() if len(triples)]
    if not frames:
        raise InputError("has neither a valid nor a test triple", graph, "give the dataset a test split")
    write_parquet(pd.concat(frames, ignore_index=True), out, RANKS)


def browsed(knowledge: Graph, count: int) -> np.ndarray:
    """The `count` triples of test, evenly spaced, whose best answers are kept."""
    triples = knowledge.split("test")
    return triples[evenly_spaced(len(triples), count)] if count else triples[:0]


def evaluate(spec: dict, graph: Path, ranks: Path, out: Path) -> None:
    """All metrics of a run's ranks, with confidence intervals by bootstrap over triples."""
    options = evaluation_options(spec)
    frame = read_parquet(ranks, RANKS)
    knowledge = Graph.read(graph)
    _check_numbers(frame, knowledge, ranks)
    metrics = evaluate_ranks(frame, knowledge, options["resamples"], options["confidence"], options["seed"])
    how = {"evaluation_version": EVALUATION_VERSION, "protocol": options["protocol"]}
    write_json(run_identity(spec) | how | {"metrics": metrics}, out)


def evaluation_options(spec: dict) -> dict:
    """spec["evaluation"] with the defaults; InputError for a key or a value that is none."""
    given = spec.get("evaluation")
    return asdict(Evaluation.of({} if given is None else given, "evaluation"))


def embeddings_scorer(knowledge: Graph, embeddings: Path) -> ScorerOf:
    """The scores that a run's embeddings give."""
    check_embeddings(embeddings, knowledge)
    return embedding_scorer(knowledge, *_embedded(knowledge, embeddings))


def _embedded(
    knowledge: Graph, embeddings: Path
) -> "tuple[StoredQueries, np.ndarray | EmbeddingFile, MatchingMLP | None]":
    interaction = embeddings / "interaction.safetensors"
    return (
        StoredQueries(embeddings / "queries.safetensors", knowledge),
        open_embeddings(embeddings / "entities.safetensors"),
        read_interaction(interaction) if interaction.exists() else None,
    )


def _protocol(spec: dict, interaction: MatchingMLP | None) -> str:
    """The protocol of a run; InputError where it does not say that the interaction leaks, or says so wrongly."""
    protocol = spec.get("protocol", "filtered")
    degree = interaction and interaction.degree
    if (degree == "leaked") != (protocol == "leaked"):
        what = f"protocol {protocol!r}, but the interaction of queries and entities has degree {degree!r}"
        raise InputError(what, "ranking", "set `protocol: leaked` where the degree is leaked, and nowhere else")
    if (protocol == "reranked") != ("reranking" in spec):
        what = f"protocol {protocol!r} and {'no ' * ('reranking' not in spec)}options of reranking do not go together"
        raise InputError(what, "ranking", "give the run `reranking: {hops: …, bonus: …}`")
    if protocol == "released" and interaction is not None:
        raise InputError("protocol 'released' knows inner products alone", "ranking", "take `protocol: filtered`")
    return protocol


class StoredQueries:
    """The rows of queries.safetensors by (head, relation)."""

    def __init__(self, path: Path, graph: Graph):
        self._path, self._width = path, 2 * graph.relation_count
        try:
            tensors = load_file(path)
            heads, relations = tensors["heads"], tensors["relations"]
            self._embeddings = tensors["embeddings"]
        except FileNotFoundError:
            raise InputError("no such file", path, "run the stage embed") from None
        except (SafetensorError, KeyError, OSError) as error:
            what = f"holds no readable queries ({error})"
            raise InputError(what, path, "run the stage embed again") from None
        if heads.ndim != 1 or heads.shape != relations.shape or self._embeddings.shape[:1] != heads.shape:
            shapes = f"heads {heads.shape}, relations {relations.shape}, embeddings {self._embeddings.shape}"
            raise InputError(f"{shapes} do not fit each other", path, "run the stage embed again")
        keys = heads * self._width + relations
        self._order = np.argsort(keys)
        self._keys = keys[self._order]

    def known(self, heads: np.ndarray, relations: np.ndarray) -> np.ndarray:
        """Which of the queries have an embedding: bool (n,)."""
        return self._places(heads, relations)[1]

    def _places(self, heads: np.ndarray, relations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wanted = heads * self._width + relations
        position = np.searchsorted(self._keys, wanted)
        return position, np.append(self._keys, -1)[position] == wanted

    def __call__(self, heads: np.ndarray, relations: np.ndarray) -> np.ndarray:
        """The embeddings (n, d) of queries; InputError for one that has none."""
        position, found = self._places(heads, relations)
        if not found.all():
            first = np.argmin(found)
            what = f"has no embedding of the query (head {heads[first]}, relation {relations[first]}, ?)"
            raise InputError(what, self._path, "run the stage embed on this graph again")
        return self._embeddings[self._order[position]]


def _check_numbers(frame: pd.DataFrame, graph: Graph, path: Path) -> None:
    keys = ["split", "head", "relation", "tail"]
    columns = {"head": graph.entity_count, "tail": graph.entity_count, "relation": graph.relation_count}
    ranked, known = (pd.MultiIndex.from_frame(rows[keys].drop_duplicates()) for rows in (frame, graph.triples))
    outside = any(((frame[name] < 0) | (frame[name] >= count)).any() for name, count in columns.items())
    if outside or not ranked.isin(known).all():
        what = "has ranks of triples that are not in the graph"
        raise InputError(what, path, "rank with this graph again")

"""The stages `rank` and `evaluate`."""

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from kglm.artefacts import RANKS, read_parquet, write_parquet
from kglm.errors import InputError
from kglm.files import write_json
from kglm.kg.graph import Graph
from kglm.ranking.embedding_file import open_embeddings
from kglm.ranking.inner_product import filtered_ranks
from kglm.ranking.matching import MatchingMLP, read_interaction
from kglm.ranking.metrics import EVALUATION_VERSION, evaluate_ranks
from kglm.ranking.released import released_ranks
from kglm.ranking.triples import rank_triples

EVALUATION = {"resamples": 1000, "confidence": 0.95, "seed": 0, "protocol": "filtered"}
PROTOCOLS = {"filtered": filtered_ranks, "released": released_ranks, "leaked": filtered_ranks}


def rank(spec: dict, graph: Path, embeddings: Path, out: Path) -> None:
    """Ranks of valid and test in both directions, from a run's embeddings and how they meet.

    spec["protocol"] is filtered (the default), or, for comparison only, released (KaLM's own evaluation) or leaked
    (C-LMKE's withdrawn one). Without the file interaction.safetensors the score is the inner product.
    """
    knowledge = Graph.read(graph)
    entities = open_embeddings(Path(embeddings) / "entities.safetensors")
    interaction = _interaction(Path(embeddings) / "interaction.safetensors")
    ranks_of = PROTOCOLS[_protocol(spec, interaction)]
    query_of = _Queries(Path(embeddings) / "queries.safetensors", knowledge)
    splits = {name: knowledge.split(name) for name in ("valid", "test")}
    frames = [
        rank_triples(knowledge, triples, query_of, entities, name, ranks_of, interaction)
        for name, triples in splits.items()
        if len(triples)
    ]
    if not frames:
        raise InputError("has neither a valid nor a test triple", graph, "give the dataset a test split")
    write_parquet(pd.concat(frames, ignore_index=True), out, RANKS)


def evaluate(spec: dict, graph: Path, ranks: Path, out: Path) -> None:
    """All metrics of a run's ranks, with confidence intervals by bootstrap over triples."""
    options = evaluation_options(spec)
    frame = read_parquet(ranks, RANKS)
    knowledge = Graph.read(graph)
    _check_numbers(frame, knowledge, ranks)
    metrics = evaluate_ranks(frame, knowledge, options["resamples"], options["confidence"], options["seed"])
    run = {"run": spec["name"]} | {key: spec[key] for key in ("method", "dataset", "model", "seed")}
    how = {"evaluation_version": EVALUATION_VERSION, "protocol": options["protocol"]}
    write_json(run | how | {"metrics": metrics}, out)


def evaluation_options(spec: dict) -> dict:
    """spec["evaluation"] with the defaults; InputError for a key or a value that is none."""
    options = EVALUATION | (spec.get("evaluation") or {})
    if unknown := sorted(options.keys() - EVALUATION.keys()):
        raise InputError(f"unknown key {unknown[0]!r}", "evaluation", f"choose from {', '.join(EVALUATION)}")
    if options["resamples"] < 1 or not 0 < options["confidence"] < 1:
        raise InputError(f"{options} is out of range", "evaluation", "resamples ≥ 1 and 0 < confidence < 1")
    return options


def _interaction(path: Path) -> MatchingMLP | None:
    return read_interaction(path) if path.exists() else None


def _protocol(spec: dict, interaction: MatchingMLP | None) -> str:
    """The protocol of a run; InputError where it does not say that the interaction leaks, or says so wrongly."""
    protocol = spec.get("protocol", "filtered")
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol {protocol!r}", "ranking", f"choose one of {', '.join(PROTOCOLS)}")
    degree = interaction and interaction.degree
    if (degree == "leaked") != (protocol == "leaked"):
        what = f"protocol {protocol!r}, but the interaction of queries and entities has degree {degree!r}"
        raise InputError(what, "ranking", "set `protocol: leaked` where the degree is leaked, and nowhere else")
    if protocol == "released" and interaction is not None:
        raise InputError("protocol 'released' knows inner products alone", "ranking", "take `protocol: filtered`")
    return protocol


class _Queries:
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

    def __call__(self, heads: np.ndarray, relations: np.ndarray) -> np.ndarray:
        wanted = heads * self._width + relations
        position = np.searchsorted(self._keys, wanted)
        found = np.append(self._keys, -1)[position] == wanted
        if not found.all():
            first = np.argmin(found)
            what = f"has no embedding of the query (head {heads[first]}, relation {relations[first]}, ?)"
            raise InputError(what, self._path, "run the stage embed on this graph again")
        return self._embeddings[self._order[position]]


def _check_numbers(frame: pd.DataFrame, graph: Graph, path: Path) -> None:
    columns = {"head": graph.entity_count, "tail": graph.entity_count, "relation": graph.relation_count}
    if any(((frame[name] < 0) | (frame[name] >= count)).any() for name, count in columns.items()):
        what = "names entities or relations that the graph has not"
        raise InputError(what, path, "rank with this graph again")

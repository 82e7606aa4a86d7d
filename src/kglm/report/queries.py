"""What the browser of single queries shows: the ten best answers of each run, and the known ones left out."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from kglm.artefacts import ANSWERS, RANKS, read_parquet
from kglm.errors import InputError
from kglm.files import read_json
from kglm.kg.graph import Graph
from kglm.paper.inputs import find, run_file, run_spec_file
from kglm.paper.text import shorten

QUERY = ["split", "direction", "head", "relation", "tail"]
# Of more known answers than these, the others are only counted; of a longer name, the middle is left out.
_KNOWN, _LENGTH = 100, 80


def queries(runs: list[Path], graphs: list[Path]) -> dict:
    """dataset -> {runs, entities (names by number), relations, queries}, ready for JSON.

    A query has its triple, the numbers of its known answers that were left out, and by run the rank of the true
    answer with the ten best (entity, score). `runs` as in `cards`; `graphs` are graph directories.
    """
    answered = sorted({Path(path).parent.name for path in runs if Path(path).name == "answers.parquet"})
    shown: dict[str, dict[str, pd.DataFrame]] = {}
    for name in answered:
        dataset = read_json(_input(runs, run_spec_file(name)))["dataset"]
        shown.setdefault(dataset, {})[name] = _answers(runs, name)
    folders = {Path(path).name: Path(path) for path in graphs}
    if missing := sorted(shown.keys() - folders.keys()):
        raise InputError("its graph is not given", missing[0], "name its folder among the graphs")
    return {dataset: _dataset(Graph.read(folders[dataset]), of, folders[dataset]) for dataset, of in shown.items()}


def _input(runs: list[Path], wanted: str) -> Path:
    path = find(runs, wanted)
    if path is None:
        raise InputError("is no input", wanted, "give it beside answers.parquet")
    return path


def _answers(runs: list[Path], name: str) -> pd.DataFrame:
    """The answers of one run with the rank of the true one beside each."""
    answers = read_parquet(_input(runs, run_file(name, "answers.parquet")), ANSWERS)
    ranks = read_parquet(_input(runs, run_file(name, "ranks.parquet")), RANKS).drop_duplicates(QUERY)
    both = answers.drop_duplicates([*QUERY, "place"]).merge(ranks, on=QUERY, how="left", validate="many_to_one")
    if both["realistic"].isna().any():
        raise InputError("has answers to queries that have no rank", name, "rank the run again")
    return both


def _dataset(graph: Graph, runs: dict[str, pd.DataFrame], folder: Path) -> dict:
    found: dict[tuple, dict] = {}
    for run, frame in runs.items():
        _check(frame, graph, folder, run)
        for key, of in frame.groupby(QUERY, sort=False):
            found.setdefault(key, {})[run] = _result(of.sort_values("place"))
    asked = [_query(graph, key, results) for key, results in found.items()]
    numbers = {number for query in asked for number in _entities(query)}
    names = graph.entity_texts("name")
    return {
        "runs": list(runs),
        "entities": {str(number): shorten(names[number], _LENGTH) for number in sorted(numbers)},
        "relations": [shorten(text, _LENGTH) for text in graph.relations["text"]],
        "queries": asked,
    }


def _check(frame: pd.DataFrame, graph: Graph, folder: Path, run: str) -> None:
    counts = dict.fromkeys(("head", "tail", "entity"), graph.entity_count) | {"relation": graph.relation_count}
    if any(((frame[column] < 0) | (frame[column] >= count)).any() for column, count in counts.items()):
        raise InputError(f"answers of the run {run} name what the graph has not", folder, "rank the run again")


def _result(of: pd.DataFrame) -> dict:
    first = of.iloc[0]
    return {
        "rank": float(first["realistic"]),
        "optimistic": int(first["optimistic"]),
        "pessimistic": int(first["pessimistic"]),
        "candidates": int(first["candidates"]),
        "answers": [[int(entity), _score(score)] for entity, score in zip(of["entity"], of["score"], strict=True)],
    }


def _score(score: float) -> float | None:
    """Four digits tell scores apart for a reader and keep the page small; JSON knows no infinity."""
    return float(f"{score:.4g}") if math.isfinite(score) else None


def _query(graph: Graph, key: tuple, results: dict) -> dict:
    split, direction, head, relation, tail = key
    given, inverse, target = (head, relation, tail)
    if direction == "head":
        given, inverse, target = tail, relation + graph.relation_count, head
    known = graph.known_answers(np.array([given]), np.array([inverse]))[1]
    candidates = graph.candidates(split)
    if candidates is not None:
        known = np.intersect1d(known, candidates)
    left_out = known[known != target].tolist()
    return {
        **dict(zip(QUERY, (split, direction, int(head), int(relation), int(tail)), strict=True)),
        "known": left_out[:_KNOWN],
        "known_count": len(left_out),
        "results": results,
    }


def _entities(query: dict) -> set[int]:
    """The entities whose names a query shows."""
    answered = {entity for result in query["results"].values() for entity, _ in result["answers"]}
    return {query["head"], query["tail"], *query["known"]} | answered

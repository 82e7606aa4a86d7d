"""The stage `verify`: what is published must follow from its own ranks, by known code and the evaluation of today."""

import math
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kglm.artefacts import RANKS, SCORES, read_parquet
from kglm.errors import InputError
from kglm.files import read_json, sha256
from kglm.kg.graph import Graph
from kglm.ranking.classification import accuracies
from kglm.ranking.metrics import EVALUATION_VERSION, evaluate_ranks
from kglm.ranking.stages import SPLITS

RECORD, LOG, CURVE, STATISTICS = "run.json", "log.jsonl", "loss.png", "statistics.json"
GRAPH = ("entities.parquet", "relations.parquet", "triples.parquet")
LARGEST = 2 * 10**6  # bytes of ranks
# Sums of floats may end otherwise in another order, on other machines; ranks are whole and halves.
_TOLERANCE = 1e-9


def verify(published: Path = Path("results/published"), data: Path | None = None) -> None:
    """Check each run under `published`; InputError with all that is wrong. Prints what was checked.

    data: a folder <results>/data of built graphs. Of a run whose graph is there, with the sums that are on record,
    every triple has to be ranked and all groups are compared, else the directions alone.
    """
    runs = sorted(path for path in Path(published).iterdir() if path.is_dir()) if Path(published).is_dir() else []
    if not runs:
        raise InputError("holds no published run", published, "publish one: kglm publish --runs <folders>")
    found = {run.name: problems(run, run.name, data) for run in runs}
    wrong = [f"{run}: {problem}" for run, of in found.items() for problem in of]
    if wrong:
        raise InputError("\n  ".join(["what is published does not hold:", *wrong]), published, "publish it again")
    print(f"{len(runs)} published runs: their ranks give their metrics, their code and evaluation are known")


def problems(folder: Path, name: str, data: Path | None = None) -> list[str]:
    """What is wrong with one published run; nothing if it holds."""
    try:
        return list(_problems(Path(folder), name, data))
    except InputError as error:
        return [str(error)]
    except KeyError as error:
        return [f"lacks {error}"]


def _problems(folder: Path, name: str, data: Path | None) -> Iterator[str]:
    record = read_json(folder / RECORD)
    if record["run"] != name or record["spec"]["name"] != name:
        yield f"{RECORD} is of the run {record['run']}"
    if told := unknown_code(record["commit"]):
        yield told
    if not (folder / LOG).is_file() and record["weights"] == name:
        yield f"has no {LOG}"
    graph = _graph(record, data)
    if graph is not None and read_json(folder / STATISTICS) != read_json(Path(data) / record["dataset"] / STATISTICS):
        yield f"{STATISTICS} are not those of its graph"
    both = (("metrics.json", _ranking_problems), ("classification.json", _classification_problems))
    for file, check in both:
        if (folder / file).is_file():
            result = read_json(folder / file)
            if (version := result.get("evaluation_version")) != EVALUATION_VERSION:
                yield f"{file} is of evaluation version {version}, not {EVALUATION_VERSION}"
            yield from check(folder, result, record["evaluation"], graph)
    if not any((folder / file).is_file() for file, _ in both):
        yield "has neither metrics nor classification"


def _ranking_problems(folder: Path, result: dict, options: dict, graph: Graph | None) -> Iterator[str]:
    path = folder / "ranks.parquet"
    if not path.is_file():
        yield "has metrics, but no ranks"
        return
    if path.stat().st_size > LARGEST:
        yield f"its ranks have {path.stat().st_size:,} bytes, at most {LARGEST:,} are published"
    if result.get("protocol") != options["protocol"]:
        yield f"metrics.json says protocol {result.get('protocol')}, {RECORD} {options['protocol']}"
    ranks = read_parquet(path, RANKS)
    if graph is not None:
        for split in SPLITS:
            expected = np.sort(_coded(graph.split(split), graph))
            for direction in ("head", "tail"):
                rows = ranks[(ranks["split"] == split) & (ranks["direction"] == direction)]
                ranked = np.sort(_coded(rows[["head", "relation", "tail"]].to_numpy(), graph))
                if not np.array_equal(ranked, expected):
                    yield f"its {len(ranked)} ranks of {direction}s of {split} are not one for each of its triples"
    found = evaluate_ranks(ranks, graph, options["resamples"], options["confidence"], options["seed"])
    yield from _unlike(result["metrics"], found, "metrics.json")


def _coded(triples: np.ndarray, graph: Graph) -> np.ndarray:
    """Triples (n, 3) as one number each."""
    head, relation, tail = triples.astype(np.int64).T
    return (head * graph.relation_count + relation) * graph.entity_count + tail


def _classification_problems(folder: Path, result: dict, options: dict, graph: Graph | None) -> Iterator[str]:
    path = folder / "scores.parquet"
    if not path.is_file():
        yield "has a classification, but no scores"
        return
    yield from _unlike(
        result["thresholds"], accuracies(read_parquet(path, SCORES), options, path), "classification.json"
    )


def _unlike(told: object, found: object, where: str) -> Iterator[str]:
    """The first number of `found` that `told` has otherwise; what `told` has beyond it is not looked at."""
    if isinstance(found, dict | list):
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        for key, value in pairs:
            own = told.get(key) if isinstance(told, dict) else told[key] if isinstance(told, list) else None
            if problem := next(_unlike(own, value, f"{where} {key}"), None):
                yield problem
                return
    elif not isinstance(told, int | float) or not math.isclose(told, found, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
        yield f"{where} is {told}, by its own ranks or scores {found}"


def _graph(record: dict, data: Path | None) -> Graph | None:
    """The graph of a run, where it is at hand with the sums that are on record."""
    folder = Path(data) / record["dataset"] if data else None
    if folder is None or not all((folder / part).is_file() for part in GRAPH):
        return None
    same = all(sha256(folder / part) == record["graph"][part] for part in GRAPH)
    return Graph.read(folder) if same else None


def unknown_code(commit: str | None) -> str | None:
    """Why nobody can look the code up: no commit, changed files, or a commit that is not in this history."""
    if not commit:
        return "its commit is not known"
    if commit.endswith("+"):
        return f"it was made with changes that are in no commit ({commit})"
    if not re.fullmatch("[0-9a-f]{40}", commit):
        return f"{commit!r} is no commit"
    here = Path(__file__).parent
    if _git(here, "rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        return None  # no checkout, or one without its history
    known = _git(here, "merge-base", "--is-ancestor", commit, "HEAD").returncode == 0
    return None if known else f"the commit {commit} is not in this history"


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return subprocess.CompletedProcess(arguments, 1, "", "")

"""The stage `verify`: what is published must follow from its own ranks, by known code and the evaluation of today.

It tells how each file was checked: made again from ranks or scores, compared with what stands beside it, or by its sum
alone. Records may come from anybody: reading one takes bounded time and ends in a verdict.
"""

import math
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from kglm.artefacts import RANKS, SCORES, read_parquet
from kglm.binding import differences
from kglm.errors import InputError
from kglm.files import read_json, read_json_lines, sha256
from kglm.kg.graph import Graph
from kglm.published.consistency import ANALYSES, is_recounted, log_problems
from kglm.published.sums import changed_files
from kglm.ranking.classification import accuracies
from kglm.ranking.metrics import EVALUATION_VERSION, evaluate_ranks
from kglm.ranking.stages import SPLITS

RECORD, LOG, CURVE, STATISTICS = "run.json", "log.jsonl", "loss.png", "statistics.json"
GRAPH = ("entities.parquet", "relations.parquet", "triples.parquet")
LARGEST = 2 * 10**6  # bytes of ranks
_ROWS = 10**6  # of ranks or scores: a small file can hold any number of equal ones
# Sums of floats may end otherwise in another order, on other machines; ranks are whole and halves.
_TOLERANCE = 1e-9
# What nothing in a run's folder can show: only another training could.
MEASURED = "times, memory, hardware and packages in run.json"
# A record of another form than ours ends in one of these somewhere.
_CRAFTED = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)


@dataclass
class Verdict:
    """What is wrong with a published run, and how each of its files was checked."""

    problems: list[str] = field(default_factory=list)
    made_again: list[str] = field(default_factory=list)  # from ranks, scores, answers, the log or the graph
    compared: list[str] = field(default_factory=list)  # its numbers agree with each other
    summed: list[str] = field(default_factory=list)  # by its sum alone


def verify(published: Path = Path("results/published"), data: Path | None = None) -> None:
    """Check each run under `published`; InputError with all that is wrong. Prints how each kind of file was checked.

    data: a folder <results>/data of built graphs. Of a run whose graph is there, with the sums that are on record,
    every triple has to be ranked and all groups are compared, else the directions alone.
    """
    runs = sorted(path for path in Path(published).iterdir() if path.is_dir()) if Path(published).is_dir() else []
    if not runs:
        raise InputError("holds no published run", published, "publish one: kglm publish --runs <folders>")
    found = {run.name: examine(run, run.name, data) for run in runs}
    wrong = [f"{run}: {problem}" for run, verdict in found.items() for problem in verdict.problems]
    if wrong:
        raise InputError("\n  ".join(["what is published does not hold:", *wrong]), published, "publish it again")
    print("\n".join(_told(found)))


def _told(verdicts: dict[str, Verdict]) -> Iterator[str]:
    """What was checked and what was not, for the terminal."""
    yield f"{len(verdicts)} published runs hold"
    yield "  made again from ranks, scores, answers, logs or graphs: " + _by_file(verdicts, "made_again", count=True)
    yield "  not made again (that needs the weights), but their numbers agree: " + _by_file(verdicts, "compared")
    yield "  unchanged since they were published, by their sums alone: " + _by_file(verdicts, "summed")
    yield f"  not checked: {MEASURED} of all runs"


def _by_file(verdicts: dict[str, Verdict], kind: str, count: bool = False) -> str:
    """The files of a kind with the number of their runs, or the names of these where they are few."""
    runs: dict[str, list[str]] = {}
    for run, verdict in verdicts.items():
        for file in getattr(verdict, kind):
            runs.setdefault(file, []).append(run)
    few = 5
    parts = [
        f"{file} of {len(of)} runs" if count or len(of) > few else f"{file} of {', '.join(of)}"
        for file, of in sorted(runs.items())
    ]
    return "; ".join(parts) or "none"


def problems(folder: Path, name: str, data: Path | None = None) -> list[str]:
    """What is wrong with one published run; nothing if it holds."""
    return examine(folder, name, data).problems


def examine(folder: Path, name: str, data: Path | None = None) -> Verdict:
    """Check one published run, a folder of that name; see `verify`."""
    verdict = Verdict()
    try:
        for problem in _problems(Path(folder), name, data, verdict):
            verdict.problems.append(problem)
    except InputError as error:
        verdict.problems.append(str(error))
    except KeyError as error:
        verdict.problems.append(f"lacks {error}")
    except _CRAFTED as error:
        verdict.problems.append(" ".join(f"has files of another form ({type(error).__name__}: {error})".split())[:300])
    return verdict


def _problems(folder: Path, name: str, data: Path | None, verdict: Verdict) -> Iterator[str]:
    yield from changed_files(folder)
    record = _read_record(folder / RECORD)
    if record["run"] != name or record["spec"]["name"] != name:
        yield f"{RECORD} is of the run {record['run']}"
    if told := unknown_code(record["commit"]):
        yield told
    yield from _training_problems(record)
    yield from _log_problems(folder, record, verdict)
    graph = _graph(record, data)
    if graph is not None:
        verdict.made_again.append(STATISTICS)
        counted = read_json(Path(data) / record["dataset"] / STATISTICS)
        # What is counted only since the run was published is no difference.
        if not read_json(folder / STATISTICS).items() <= counted.items():
            yield f"{STATISTICS} are not those of its graph"
    both = (("metrics.json", _ranking_problems), ("classification.json", _classification_problems))
    for file, check in both:
        if (folder / file).is_file():
            result = read_json(folder / file)
            if (version := result.get("evaluation_version")) != EVALUATION_VERSION:
                yield f"{file} is of evaluation version {version}, not {EVALUATION_VERSION}"
            yield from check(folder, result, record["evaluation"], graph)
            verdict.made_again.append(file)
    if not any((folder / file).is_file() for file, _ in both):
        yield "has neither metrics nor classification"
    yield from _analysis_problems(folder, record, verdict)
    of_ranks = {RECORD, LOG, CURVE, "ranks.parquet", "scores.parquet", "SHA256SUMS"}
    named = of_ranks.union(verdict.made_again, verdict.compared)
    verdict.summed += sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in named)


@cache
def _record_schema() -> Draft202012Validator:
    return Draft202012Validator(yaml.safe_load(Path(__file__).with_name("record.schema.yaml").read_text("utf-8")))


def _read_record(path: Path) -> dict:
    record = read_json(path)
    if error := best_match(_record_schema().iter_errors(record)):
        where = ".".join(map(str, error.absolute_path))
        raise InputError(f"{where}: {error.message}"[:300] if where else error.message[:300], RECORD)
    return record


def _training_problems(record: dict) -> Iterator[str]:
    """The specification against what the weights were made of, where the training put that on record."""
    if "made_of" in record and record["weights"] == record["run"]:
        made = record["made_of"]
        wanted = {key: record["spec"][key] for key in ("method", "parameters", "seed", "training")}
        if unlike := next(differences({key: made.get(key) for key in wanted}, wanted), None):
            yield f"its specification is not what was trained ({unlike})"


def _log_problems(folder: Path, record: dict, verdict: Verdict) -> Iterator[str]:
    if not (folder / LOG).is_file():
        if record["weights"] == record["run"]:
            yield f"has no {LOG}"
        return
    if (told := record.get("sums", {}).get(LOG)) and sha256(folder / LOG) != told:
        yield f"{LOG} is not the one that the training wrote"
    if record["weights"] == record["run"]:
        yield from log_problems(read_json_lines(folder / LOG), record)
        verdict.made_again.append("best validation and number of epochs in run.json")


def _analysis_problems(folder: Path, record: dict, verdict: Verdict) -> Iterator[str]:
    for file, check in ANALYSES.items():
        if not (folder / file).is_file():
            continue
        result = read_json(folder / file)
        if result.get("run") != record["run"]:
            yield f"{file} is of the run {result.get('run')}"
        yield from check(result)
        (verdict.made_again if is_recounted(file, result) else verdict.compared).append(file)


def _read_rows(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """A table of ranks or scores; InputError where it is larger than any of a benchmark."""
    try:
        rows = pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError):
        rows = 0  # the reader tells what is wrong
    if rows > _ROWS:
        raise InputError(f"has {rows:,} rows, at most {_ROWS:,} are read", path.name)
    return read_parquet(path, schema)


def _ranking_problems(folder: Path, result: dict, options: dict, graph: Graph | None) -> Iterator[str]:
    path = folder / "ranks.parquet"
    if not path.is_file():
        yield "has metrics, but no ranks"
        return
    if path.stat().st_size > LARGEST:
        yield f"its ranks have {path.stat().st_size:,} bytes, at most {LARGEST:,} are published"
        return
    if result.get("protocol") != options["protocol"]:
        yield f"metrics.json says protocol {result.get('protocol')}, {RECORD} {options['protocol']}"
    ranks = _read_rows(path, RANKS)
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
    found = accuracies(_read_rows(path, SCORES), options, path)
    told = {"global", "relation", *result["thresholds"]}  # 0 is one since later
    found = {how: of for how, of in found.items() if how in told}
    yield from _unlike(result["thresholds"], found, "classification.json")


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

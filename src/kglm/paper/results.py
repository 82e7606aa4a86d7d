"""What the runs measured: values with their confidence intervals, read from the runs' JSON files."""

import math
from collections.abc import Iterable
from pathlib import Path

from kglm.errors import InputError
from kglm.files import read_json
from kglm.paper.inputs import find, result_file, run_file

# The base model of a method that has none, in a run and in a row of a table.
NO_MODEL = "none"
PERPLEXITIES = ("token_perplexity", "word_perplexity", "byte_perplexity")


def run_json(inputs: list[Path], run: str, name: str) -> dict | None:
    """A result file of a run, None where it is no input; InputError where it belongs to another run."""
    path = find(inputs, run_file(run, name))
    if path is None:
        return None
    value = read_json(path)
    if value.get("run") != run:
        raise InputError(f"belongs to the run {value.get('run')!r}, not {run!r}", path, "run the stage again")
    return value


def measure(inputs: list[Path], run: str, metric: str, spec: dict) -> dict | None:
    """One metric: value, low, high (None: unknown), version, protocol, run, seed, model, dataset; None if not run."""
    result = run_json(inputs, run, result_file(metric))
    if result is None:
        return None
    measured = _measured(result, metric, spec, run)
    if metric not in measured:
        raise InputError(f"the run {run} has no {metric}", remedy=f"it has {', '.join(measured)}")
    low, high = measured.get("confidence", {}).get(metric, (None, None))
    about = {key: result.get(key) for key in ("run", "seed", "model", "dataset")}
    version = result.get("evaluation_version")
    how = {"version": version, "protocol": result.get("protocol", "filtered")}
    return {"value": measured[metric], "low": low, "high": high, **how, **about}


def _measured(result: dict, metric: str, spec: dict, run: str) -> dict:
    """The metrics that a result holds, and `confidence` of those that have an interval."""
    match result_file(metric):
        case "perplexity.json":
            return {"PPL": result[spec.get("perplexity", PERPLEXITIES[0])]}
        case "classification.json":
            return _accuracy(result, spec, run)
        case "anisotropy.json":
            return {"anisotropy": result["value"]}
        case "mmlu.json":
            return {"MMLU": result["accuracy"], "confidence": {"MMLU": result["confidence"]}}
        case "kgqa.json":
            return _of_tasks(result, spec.get("setting", "few_shot"))
    return _group(result, spec, run)


def _of_tasks(result: dict, setting: str) -> dict:
    found = {f"accuracy/{task}": settings[setting] for task, settings in result["tasks"].items()}
    values = {name: one["accuracy"] for name, one in found.items()}
    return values | {"confidence": {name: one["confidence"] for name, one in found.items()}}


def _group(result: dict, spec: dict, run: str) -> dict:
    split, group = spec.get("split", "test"), spec.get("group", "both")
    try:
        return result["metrics"][split][group]
    except KeyError:
        raise InputError(f"metrics.json has no group {group!r} in {split!r}", run) from None


def _accuracy(result: dict, spec: dict, run: str) -> dict:
    threshold, split = spec.get("threshold", "global"), spec.get("split", "test")
    try:
        found = result["thresholds"][threshold][split]
    except KeyError:
        raise InputError(f"classification.json has no {split!r} by the threshold {threshold!r}", run) from None
    confidence = {"accuracy": found["confidence"]} if "confidence" in found else {}
    return {"accuracy": found["accuracy"], "confidence": confidence}


def over_seeds(measures: list[dict]) -> dict:
    """One value from runs that differ in their seed: the mean, with Student's 95 % interval of the mean.

    A single run keeps its own interval, the bootstrap over its queries.
    """
    if len(measures) == 1:
        return measures[0]
    from scipy import stats

    values = [measure["value"] for measure in measures]
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return measures[0] | {"value": mean, "low": mean - half, "high": mean + half}


def models(names: Iterable[str]) -> str:
    """The base models among these; structure-based methods have none."""
    return ", ".join(sorted(set(names) - {NO_MODEL})) or "no base model"


def at(mapping: dict, path: str) -> object:
    """The value at a dotted path, None where there is none."""
    value = mapping
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value

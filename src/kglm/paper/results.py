"""What the runs measured: values with their confidence intervals, read from the runs' JSON files."""

import math
import re
from collections.abc import Iterable
from pathlib import Path

from kglm.errors import InputError
from kglm.files import read_json
from kglm.paper.inputs import find, result_file, run_file

# The base model of a method that has none, in a run and in a row of a table.
NO_MODEL = "none"
_SHARES = re.compile(r"MRR|Hits@\d+|MMLU|accuracy(/\w+)?")
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
    measured = intervals(result, metric, spec)
    if metric not in measured:
        raise InputError(f"the run {run} has no {metric}", remedy=f"it has {', '.join(measured)}")
    value, low, high = measured[metric]
    about = {key: result.get(key) for key in ("run", "seed", "model", "dataset")} | {"metric": metric}
    version = result.get("evaluation_version")
    how = {"version": version, "protocol": result.get("protocol", "filtered")}
    return {"value": value, "low": low, "high": high, **how, **about}


def intervals(result: dict, metric: str, spec: dict) -> dict[str, tuple]:
    """(value, low, high) of each metric that the result with this metric holds; low and high None: unknown."""
    match result_file(metric):
        case "perplexity.json":
            return {"PPL": (result[spec.get("perplexity", PERPLEXITIES[0])], None, None)}
        case "anisotropy.json":
            return {"anisotropy": (result["value"], None, None)}
        case "classification.json":
            return {"accuracy": _share(_at_threshold(result, spec))}
        case "mmlu.json":
            return {"MMLU": _share(result)}
        case "kgqa.json":
            asked = {name: found.get(spec.get("setting", "few_shot")) for name, found in result["tasks"].items()}
            shares = {f"accuracy/{name}": _share(found) for name, found in asked.items() if found}
            return {name: share for name, share in shares.items() if share[0] is not None}
    return _of_ranks(result, spec)


def _share(found: dict) -> tuple:
    return found["accuracy"], *(found.get("confidence") or (None, None))


def _at_threshold(result: dict, spec: dict) -> dict:
    threshold, split = spec.get("threshold", "global"), spec.get("split", "test")
    try:
        return result["thresholds"][threshold][split]
    except KeyError:
        what = f"classification.json has no {split!r} by the threshold {threshold!r}"
        raise InputError(what, result["run"]) from None


def _of_ranks(result: dict, spec: dict) -> dict[str, tuple]:
    split, group = spec.get("split", "test"), spec.get("group", "both")
    try:
        found = result["metrics"][split][group]
    except KeyError:
        raise InputError(f"metrics.json has no group {group!r} in {split!r}", result["run"]) from None
    ends = found.get("confidence", {})
    return {name: (value, *ends.get(name, (None, None))) for name, value in found.items() if name != "confidence"}


def over_seeds(measures: list[dict]) -> dict:
    """One value from runs that differ in their seed: the mean, with Student's 95 % interval of the mean.

    A single run keeps its own interval, the bootstrap over its queries. No interval of shares, or of MRR, reaches
    beyond 0 and 1.
    """
    if len(measures) == 1:
        return measures[0]
    from scipy import stats

    values = [measure["value"] for measure in measures]
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    low, high = mean - half, mean + half
    if _SHARES.fullmatch(measures[0]["metric"]):
        low, high = max(low, 0.0), min(high, 1.0)
    return measures[0] | {"value": mean, "low": low, "high": high}


def models(names: Iterable[str]) -> str:
    """The base models among these; structure-based methods have none."""
    return ", ".join(sorted(set(names) - {NO_MODEL})) or "no base model"


def at(mapping: dict, path: str) -> object:
    """The value at a dotted path, None where there is none."""
    value = mapping
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value

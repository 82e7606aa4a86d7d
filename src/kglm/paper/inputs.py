"""Which files a table or a figure is made of, told from its configuration alone.

The workflow asks this before any of them exists, so nothing heavy is imported here.
"""

from pathlib import Path

from kglm.errors import InputError

_RESULTS = {
    "PPL": "perplexity.json",
    "accuracy": "classification.json",
    "anisotropy": "anisotropy.json",
    "MMLU": "mmlu.json",
}


def run_ids(runs: str | list[str] | None) -> list[str]:
    """A row's runs: none, one, or one for each seed."""
    return [runs] if isinstance(runs, str) else list(runs or [])


def statistics_file(dataset: str) -> str:
    """Where the counts of a dataset lie."""
    return f"data/{dataset}/statistics.json"


def graph_files(spec: dict) -> list[str]:
    """What tells what is odd about the graphs of the runs that a table shows (spec["datasets"])."""
    names = ("statistics.json", "problems.json")
    return [f"data/{dataset}/{name}" for dataset in spec.get("datasets", []) for name in names]


def run_spec_file(run: str) -> str:
    """Where the resolved configuration of a run lies."""
    return f"specs/run/{run}.json"


def run_file(run: str, name: str) -> str:
    """Where a result of a run lies."""
    return f"runs/{run}/{name}"


def result_file(metric: str) -> str:
    """Which of a run's results holds a metric; `accuracy/<task>` is that of questions on the graph."""
    return "kgqa.json" if metric.startswith("accuracy/") else _RESULTS.get(metric, "metrics.json")


def table_inputs(spec: dict) -> list[str]:
    """The files that `kglm.paper.tables.table` reads for this entry, relative to results/<scale>/."""
    kind = spec["kind"]
    if kind in ("link_prediction", "classification"):
        paths = _method_inputs(spec)
    elif kind == "cost":
        paths = [run_file(row["run"], "cost.json") for row in spec["rows"] if "run" in row]
    elif kind == "statistics":
        paths = [statistics_file(row["dataset"]) for row in spec["rows"] if row["measured"]]
    elif kind == "hyper_parameters":
        paths = [run_spec_file(block["run"]) for block in spec["blocks"] if "run" in block]
    else:
        paths = _text_inputs(spec, "table")
    return list(dict.fromkeys(paths + graph_files(spec)))


def figure_inputs(spec: dict) -> list[str]:
    """The files that `kglm.paper.figures.figure` reads for this entry, relative to results/<scale>/."""
    kind = spec["kind"]
    if kind == "similarity":
        files = ["similarity.safetensors", "similarity.json"]
        paths = [run_file(panel["run"], file) for panel in spec["panels"] for file in files]
    elif kind == "bars":
        files = [f"{panel['analysis']}.json" for panel in spec["panels"]]
        paths = [run_file(series["run"], file) for series in spec["series"] for file in files]
    elif kind == "lines":
        paths = [run_file(series["run"], "anisotropy.json") for series in spec["series"]]
    elif kind == "degrees":
        paths = [statistics_file(spec["dataset"]), run_file(spec["run"], "metrics.json")]
    elif kind == "groups":
        paths = [run_file(series["run"], "metrics.json") for series in spec["series"]]
    elif kind == "curves":
        runs = [series["run"] for series in spec["series"]]
        paths = [path for run in runs for path in (run_file(run, "log.jsonl"), run_spec_file(run))]
    elif kind == "clusters":
        shown = [(panel["run"], "clusters") for panel in spec["panels"]] + [(spec["attention"]["run"], "attention")]
        paths = [run_file(run, f"{name}.{ending}") for run, name in shown for ending in ("safetensors", "json")]
    else:
        paths = _text_inputs(spec, "figure")
    return list(dict.fromkeys(paths))


def _method_inputs(spec: dict) -> list[str]:
    """The results that the metrics of each row are read from."""
    all_metrics = spec.get("metrics", ["accuracy"])
    shown = {row["label"]: row.get("metrics", all_metrics) for row in spec["rows"]}
    paths = []
    for block in spec["blocks"]:
        for label, ids in block.get("runs", {}).items():
            files = dict.fromkeys(result_file(metric) for metric in shown.get(label, all_metrics))
            paths += [run_file(run, file) for run in run_ids(ids) for file in files]
    return paths


def _text_inputs(spec: dict, what: str) -> list[str]:
    if spec["kind"] == "cases":
        return [run_file(series["run"], "kgqa.json") for series in spec["series"]]
    if spec["kind"] == "geometry":
        return [run_file(series["run"], "anisotropy.json") for series in spec["series"]]
    if spec["kind"] == "entities":
        return [run_file(spec["run"], "similarity.json")]
    raise InputError(f"unknown kind of {what} {spec['kind']!r}", spec.get("name", what))


def find(inputs: list[Path], wanted: str) -> Path | None:
    """The input whose path ends with `wanted` (relative to results/<scale>/); None where there is none."""
    parts = tuple(wanted.split("/"))
    return next((Path(path) for path in inputs if Path(path).parts[-len(parts) :] == parts), None)

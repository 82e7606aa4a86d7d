"""A table as a list of cells: what was reported beside what was reproduced, and what is to be said below it.

Each cell is one row of a frame with the columns `COLUMNS`; the layouts and the CSV file are made of it.
"""

import math
from pathlib import Path

import pandas as pd

from kglm.errors import InputError
from kglm.files import read_json
from kglm.paper.inputs import find, run_ids, run_spec_file, statistics_file
from kglm.paper.reported import reported
from kglm.paper.results import at, measure, over_seeds

# What the .csv file holds of each cell; the other columns only serve the layouts.
PUBLISHED = [
    "row",
    "dataset",
    "metric",
    "reported",
    "reproduced",
    "difference",
    "low",
    "high",
    "seeds",
    "run",
]
COLUMNS = [*PUBLISHED, "block", "section", "paper", "unit", "model", "paper_model", "version"]
_UNITS = {"PPL": "perplexity", "MR": "rank"}


def link_prediction(spec: dict, inputs: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Rows are methods, columns metrics, one block a dataset (KaLM's Tables 1, 4, 5, 6)."""
    numbers, cells, notes = reported(), [], {}
    for block in spec["blocks"]:
        _check_rows(spec, block)
        for row in spec["rows"]:
            about = numbers[
                (numbers["paper"] == row.get("paper", spec["paper"]))
                & (numbers["table"] == row.get("table", spec["table"]))
                & (numbers["dataset"] == block["dataset"])
                & (numbers["method"] == row.get("method", row["label"]))
            ]
            runs = run_ids(block.get("runs", {}).get(row["label"]))
            if len(about) or runs:
                cells += [_cell(spec, block, row, about, runs, metric, inputs) for metric in spec["metrics"]]
                for note in dict.fromkeys(filter(None, about["note"])):
                    notes.setdefault((_title(block), note), []).append(_shown(block, row))
    frame = pd.DataFrame(cells, columns=COLUMNS)
    versions = sorted(frame["version"].dropna().unique())
    if len(versions) > 1:
        raise InputError(f"mixes the evaluation versions {versions}", spec["name"], "evaluate the older runs again")
    rows = {block: set(of["row"]) for block, of in frame.groupby("block")}
    said = [
        f"{block}{'' if rows[block] == set(named) else ', ' + ', '.join(named)}: {note}."
        for (block, note), named in notes.items()
    ]
    return frame, _about_runs(spec, frame) + said


def _check_rows(spec: dict, block: dict) -> None:
    labels = [row["label"] for row in spec["rows"]]
    if len(known := set(labels)) < len(labels):
        raise InputError("two rows have the same label", spec["name"], "give each row its own")
    for key in ("runs", "labels"):
        if unknown := sorted(set(block.get(key, {})) - known):
            raise InputError(f"{key} name the row {unknown[0]!r}", spec["name"], f"the rows are {', '.join(known)}")


def _title(block: dict) -> str:
    return block.get("title", block["dataset"])


def _shown(block: dict, row: dict) -> str:
    return block.get("labels", {}).get(row["label"], row["label"])


def _cell(spec, block, row, about: pd.DataFrame, runs: list[str], metric: str, inputs: list[Path]) -> dict:
    found = about[about["metric"] == metric]
    measures = [value for run in runs if (value := measure(inputs, run, metric, spec))]
    for value in measures:
        if value["dataset"] != block["dataset"]:
            raise InputError(f"ran on {value['dataset']}, not on {block['dataset']}", value["run"], "correct the block")
    cell = dict.fromkeys(COLUMNS) | {
        "row": _shown(block, row),
        "dataset": block["dataset"],
        "metric": metric,
        "block": _title(block),
        "section": row.get("section", ""),
        "paper": row.get("paper", spec["paper"]),
        "paper_model": row.get("model", spec["model"]),
        "unit": _UNITS.get(metric, "fraction"),
        "run": "",
        "seeds": "",
    }
    if len(found):
        cell |= {"reported": found.iloc[0]["value"]}
    if measures:
        one = over_seeds(measures)
        cell |= {
            "reproduced": one["value"],
            "low": one["low"],
            "high": one["high"],
            "version": one["version"],
        }
        cell |= {
            key: " ".join(str(value[name]) for value in measures) for key, name in (("run", "run"), ("seeds", "seed"))
        }
        cell["model"] = " ".join(sorted({value["model"] for value in measures}))
        # Another model's result is no reproduction: it stands beside the paper's, without a difference.
        if len(found) and cell["model"] == cell["paper_model"]:
            cell["difference"] = one["value"] - found.iloc[0]["number"]
    return cell


def _about_runs(spec: dict, frame: pd.DataFrame) -> list[str]:
    """Notes: what was not run, which models ran, which blocks are not comparable with the paper's."""
    notes = []
    for block, cells in frame.groupby("block", sort=False):
        empty = cells.groupby("row", sort=False)["reproduced"].apply(lambda values: values.isna().all())
        missing = list(empty[empty].index)
        if len(missing) == len(empty):
            notes.append(f"{block}: nothing was run on it at this scale.")
        elif missing:
            notes.append(f"{block}, not run: {', '.join(missing)}.")
        ran = cells.dropna(subset=["model"])
        others = ran[ran["model"] != ran["paper_model"]]
        if len(ran) and cells["reported"].isna().all():
            models = ", ".join(sorted(set(ran["model"])))
            notes.append(f"{block}: run with {models}; the paper has no such block to compare.")
        elif len(others):
            models = ", ".join(sorted(set(others["model"])))
            paper = ", ".join(sorted(set(others["paper_model"])))
            notes.append(f"{block}: run with {models}, the paper with {paper}: no difference.")
    if frame["low"].notna().any():
        several = frame["seeds"].str.contains(" ").any()
        notes.append("Intervals: 95 %, " + ("Student's over seeds." if several else "bootstrap over triples."))
    return notes


def statistics(spec: dict, inputs: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Rows are datasets, columns counts (KaLM's Table 2); reproduced means counted in the data."""
    numbers, cells = reported(), []
    about = numbers[(numbers["paper"] == spec["paper"]) & (numbers["table"] == spec["table"])]
    for row in spec["rows"]:
        dataset = row["dataset"]
        path = find(inputs, statistics_file(dataset)) if row["measured"] else None
        counts = read_json(path) if path else {}
        for metric in spec["metrics"]:
            found = about[(about["dataset"] == dataset) & (about["metric"] == metric)]
            cell = dict.fromkeys(COLUMNS) | {
                "row": row.get("label", dataset),
                "dataset": dataset,
                "metric": metric,
            }
            cell |= {
                "block": "",
                "section": "",
                "paper": spec["paper"],
                "unit": "count",
                "run": "",
                "seeds": "",
            }
            if len(found):
                cell["reported"] = found.iloc[0]["value"]
            if path:
                cell["reproduced"] = _count(counts, spec["fields"][metric], path)
                if len(found):
                    cell["difference"] = cell["reproduced"] - found.iloc[0]["number"]
            cells.append(cell)
    frame = pd.DataFrame(cells, columns=COLUMNS)
    missing = [row for row, of in frame.groupby("row", sort=False) if of["reproduced"].isna().all()]
    return frame, [f"Not counted at this scale: {', '.join(missing)}."] if missing else []


def _count(counts: dict, field: str, path: Path) -> int:
    count = at(counts, field)
    if not isinstance(count, int):
        raise InputError(f"{field} is no whole number but {count!r}", path, "correct the table's fields")
    return count


def hyper_parameters(spec: dict, inputs: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Rows are parameters, blocks datasets (KaLM's Table 3); reproduced means the run's configuration."""
    numbers, cells, missing = reported(), [], []
    about = numbers[(numbers["paper"] == spec["paper"]) & (numbers["table"] == spec["table"])]
    for block in spec["blocks"]:
        run = block.get("run", "")
        path = find(inputs, run_spec_file(run)) if run else None
        configuration = read_json(path) if path else {}
        if not path:
            missing.append(_title(block))
        for row in spec["rows"]:
            found = about[(about["dataset"] == block["dataset"]) & (about["metric"] == row["metric"])]
            cell = dict.fromkeys(COLUMNS) | {
                "row": row["metric"],
                "dataset": block["dataset"],
                "metric": row["metric"],
            }
            cell |= {"block": _title(block), "section": "", "paper": spec["paper"]}
            cell |= {"unit": "text", "run": run if path else "", "seeds": ""}
            if len(found):
                cell |= {"reported": found.iloc[0]["value"], "unit": found.iloc[0]["unit"]}
            if (value := at(configuration, row.get("field", ""))) is not None:
                cell["reproduced"] = str(value == row["equals"] if "equals" in row else value)
                cell["difference"] = _number_difference(cell["reported"], cell["reproduced"])
            cells.append(cell)
    frame = pd.DataFrame(cells, columns=COLUMNS)
    notes = [f"Not run at this scale: {', '.join(missing)}."] if missing else []
    for block, of in frame.dropna(subset=["reported", "reproduced"]).groupby("block", sort=False):
        other = of[[not _same(*pair) for pair in zip(of["reported"], of["reproduced"], strict=True)]]
        notes += [f"{block}, not as in the paper: {', '.join(other['row'])}."] if len(other) else []
    ran = frame[frame["run"] != ""].groupby("row", sort=False)["reproduced"].apply(lambda values: values.isna().all())
    unset = ", ".join(ran[ran].index)
    return frame, notes + ([f"Not in the runs' configuration, but fixed in the code: {unset}."] if unset else [])


def _same(first: str, second: str) -> bool:
    return first.lower() == second.lower() or _number_difference(first, second) == 0


def _number_difference(first: str | None, second: str) -> float | None:
    try:
        difference = float(second) - float(first)
    except (TypeError, ValueError):
        return None
    return difference if math.isfinite(difference) else None

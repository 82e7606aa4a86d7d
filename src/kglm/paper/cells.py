"""A table as a list of cells: what was reported beside what was reproduced, and what is to be said below it.

Each cell is one row of a frame with the columns `COLUMNS`; the layouts and the CSV file are made of it.
"""

import math
from pathlib import Path

import pandas as pd

from kglm.errors import InputError
from kglm.files import read_json
from kglm.paper.findings import BELOW, FLAG, ROW, by_row, findings, footnote
from kglm.paper.inputs import find, run_ids, run_spec_file, statistics_file
from kglm.paper.reported import LOWER_IS_BETTER, converted, reported
from kglm.paper.results import at, measure, models, over_seeds

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
    "unit",
    "audit",
]
COLUMNS = [*PUBLISHED, "key", "block", "section", "paper", "model", "paper_model", "version", "protocol", "withdrawn"]
COLUMNS += ["floor", "below"]
OWN_UNITS = {"PPL": "perplexity", "MR": "rank"}
_STATISTIC_UNITS = {"description-words": "words", "text": "text"}
# How ranks were made, where it was not by filtering alone.
_PROTOCOLS = {
    "released": "ranked as the released code does it",
    "leaked": "ranked with the answer's degree given away",
    "reranked": "candidates near the query's entity in the training graph have a bonus",
    "candidates": "orders anew the best candidates of another run, which ranks all others",
}
THRESHOLDS = {"global": "one threshold", "relation": "one threshold a relation", "zero": "p ≥ .5"}
_THRESHOLDS_TOLD = (
    "Accuracy on test. Thresholds are chosen on valid, one for all triples or one for each relation; where a method "
    "gives a probability, one half needs no choice."
)
# Of more rows than these, a note names those that were run, not those that were not.
_MANY = 8


def link_prediction(spec: dict, inputs: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Rows are methods, columns metrics, one block a dataset (KaLM's Tables 1, 4, 5, 6; most of the other papers')."""
    numbers, cells, notes = reported(), [], {}
    units, audited = _table_units(spec, numbers), by_row(findings(numbers))
    for block in spec["blocks"]:
        _check_rows(spec, block)
        for row in spec["rows"]:
            place = _place(spec, block, row)
            about = numbers[(numbers[ROW] == place).all(axis=1)]
            runs = run_ids(block.get("runs", {}).get(row["label"]))
            if len(about) or runs:
                found = audited.get(place, [])
                wrong = "; ".join(finding.text for finding in found if not finding.against)
                asked = [_cell(spec, block, row, about, runs, metric, units, inputs) for metric in spec["metrics"]]
                cells += [cell | {"audit": wrong} for cell in asked]
                told = [f"{'' if finding.against else FLAG}{footnote(finding, place)}" for finding in found]
                for note in dict.fromkeys(filter(None, [*about["note"], *told])):
                    notes.setdefault((_title(block), note), []).append(_shown(block, row))
    frame = pd.DataFrame(cells, columns=COLUMNS)
    frame["below"] = _floors_above(frame)
    versions = sorted(frame["version"].dropna().unique())
    if len(versions) > 1:
        raise InputError(f"mixes the evaluation versions {versions}", spec["name"], "evaluate the older runs again")
    rows = {block: set(of["row"]) for block, of in frame.groupby("block")}
    said = [
        f"{FLAG * note.startswith(FLAG)}{block}{'' if rows[block] == set(named) else ', ' + ', '.join(named)}: "
        f"{note.removeprefix(FLAG)}."
        for (block, note), named in notes.items()
    ]
    return frame, _about_runs(spec, frame) + said


def classification(spec: dict, inputs: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Rows are methods, columns datasets, or each dataset's `thresholds`; each cell is an accuracy (LMKE's Table 4)."""
    if "thresholds" in spec:
        frame, notes = classification(_by_threshold(spec), inputs)
        return frame, [_THRESHOLDS_TOLD, *notes[1:]]
    frame, notes = link_prediction(spec | {"metrics": ["accuracy"]}, inputs)
    order = [_shown(block, row) for row in spec["rows"] for block in spec["blocks"]]
    frame = frame.sort_values("row", key=lambda names: names.map(order.index), kind="stable")
    names = THRESHOLDS
    usual = spec.get("threshold", "global")
    others = {row["label"]: row["threshold"] for row in spec["rows"] if row.get("threshold", usual) != usual}
    told = "".join(f"; of {', '.join(others)} with {names[how]}" for how in sorted(set(others.values())))
    return frame, [f"Accuracy on test with {names[usual]}, chosen on valid{told}.", *notes]


def _by_threshold(spec: dict) -> dict:
    """The spec with each block once for each of `thresholds`; that of 0 is only for rows whose scores are logits."""
    logits = {row["label"] for row in spec["rows"] if row.get("logits")}
    blocks = []
    for block in spec["blocks"]:
        for how in spec["thresholds"]:
            runs = {label: run for label, run in block.get("runs", {}).items() if how != "zero" or label in logits}
            title = f"{_title(block)}, {THRESHOLDS[how]}"
            blocks.append(block | {"title": title, "threshold": how, "runs": runs})
    return {key: value for key, value in spec.items() if key != "thresholds"} | {"blocks": blocks}


def by_dataset(cells: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Cells of one metric, laid out with one column a block; also the columns. A row lacks no block."""
    blocks = list(dict.fromkeys(cells["block"]))
    shown = []
    for _, of_row in cells.groupby("row", sort=False):
        known = {cell["block"]: cell for cell in of_row.to_dict("records")}
        blank = of_row.iloc[0].to_dict() | dict.fromkeys(("reported", "reproduced", "difference", "low", "high"))
        shown += [{**known.get(block, blank), "metric": block, "block": ""} for block in blocks]
    return pd.DataFrame(shown, columns=COLUMNS), blocks


def _table_units(spec: dict, numbers: pd.DataFrame) -> dict[str, str]:
    """The unit of each metric in a table: percent where the paper's table has percent, and in one of accuracies."""
    if spec["kind"] == "classification":
        return dict.fromkeys(spec["metrics"], "percent")
    here = numbers[(numbers["paper"] == spec["paper"]) & (numbers["table"] == spec["table"])]
    percent = set(here.loc[here["unit"] == "percent", "metric"])
    return {metric: "percent" if metric in percent else OWN_UNITS.get(metric, "fraction") for metric in spec["metrics"]}


def _place(spec: dict, block: dict, row: dict) -> tuple[str, str, str, str]:
    """Where the reported numbers of a row stand: paper, table, dataset, method."""
    dataset, method = block.get("reported", block["dataset"]), row.get("method", row["label"])
    return row.get("paper", spec["paper"]), row.get("table", spec["table"]), dataset, method


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
    """What a row is called in a block; what was withdrawn is never called anything without saying so."""
    name = block.get("labels", {}).get(row["label"], row["label"])
    return f"{name} ({row['withdrawn']}, withdrawn)" if "withdrawn" in row else name


def _cell(spec, block, row, about: pd.DataFrame, runs, metric: str, units: dict, inputs: list[Path]) -> dict:
    found, unit = about[about["metric"] == metric], units[metric]
    asked = runs if metric in row.get("metrics", [metric]) else []
    how = spec | {key: of[key] for of in (block, row) for key in ("threshold",) if key in of}
    measures = [value for run in asked if (value := measure(inputs, run, metric, how))]
    for value in measures:
        if value["dataset"] != block["dataset"]:
            raise InputError(f"ran on {value['dataset']}, not on {block['dataset']}", value["run"], "correct the block")
    cell = dict.fromkeys(COLUMNS) | {
        "row": _shown(block, row),
        "key": row["label"],
        "dataset": block["dataset"],
        "metric": metric,
        "block": _title(block),
        "section": row.get("section", ""),
        "paper": row.get("paper", spec["paper"]),
        "paper_model": row.get("model", spec["model"]),
        "unit": unit,
        "run": "",
        "seeds": "",
        "withdrawn": "withdrawn" in row,
        "floor": row.get("floor", False),
        "below": "",
    }
    if len(found):
        cell |= {"reported": found.iloc[0]["value"]}
    if measures:
        one = over_seeds(measures)
        cell |= {"version": one["version"], "protocol": one["protocol"]}
        cell |= {
            name: None if one[key] is None else _as_printed(one[key], unit)
            for name, key in (("reproduced", "value"), ("low", "low"), ("high", "high"))
        }
        cell |= {
            key: " ".join(str(value[name]) for value in measures) for key, name in (("run", "run"), ("seeds", "seed"))
        }
        cell["model"] = " ".join(sorted({value["model"] for value in measures}))
        # Another model's result is no reproduction: it stands beside the paper's, without a difference.
        if len(found) and cell["model"] == cell["paper_model"]:
            cell["difference"] = cell["reproduced"] - converted(found.iloc[0]["number"], found.iloc[0]["unit"], unit)
    return cell


def _as_printed(value: float, unit: str) -> float:
    """A measured value in the unit of its table: measured are fractions, ranks, perplexities."""
    return converted(value, "fraction", unit) if unit == "percent" else value


def _about_runs(spec: dict, frame: pd.DataFrame) -> list[str]:
    """Notes: what was not run, which models ran, which blocks are not comparable with the paper's."""
    notes = []
    for block, cells in frame.groupby("block", sort=False):
        empty = cells.groupby("row", sort=False)["reproduced"].apply(lambda values: values.isna().all())
        missing = list(empty[empty].index)
        if len(missing) == len(empty):
            notes.append(f"{block}: nothing was run on it at this scale.")
        elif len(missing) > _MANY and len(missing) > len(empty) / 2:
            notes.append(f"{block}, run: {', '.join(empty[~empty].index)}; no other.")
        elif missing:
            notes.append(f"{block}, not run: {', '.join(missing)}.")
        ran = cells.dropna(subset=["model"])
        others = ran[(ran["model"] != ran["paper_model"]) & ran["reported"].notna()]
        if len(ran) and cells["reported"].isna().all():
            notes.append(f"{block}: run with {models(ran['model'])}; the paper has no such block to compare.")
        elif len(others):
            paper = models(others["paper_model"])
            notes.append(f"{block}: run with {models(others['model'])}, the paper with {paper}: no difference.")
    notes += spec.get("notes", [])
    notes += _about_floors(frame)
    notes += _about_texts(spec, frame)
    notes += _about_published(spec, frame)
    notes += _about_intervals(frame.dropna(subset=["low"]), in_paper_form(spec))
    for protocol, meaning in _PROTOCOLS.items():
        if rows := list(dict.fromkeys(frame.loc[frame["protocol"] == protocol, "row"])):
            notes.append(f"{', '.join(rows)}: {meaning}.")
    if withdrawn := list(dict.fromkeys(frame.loc[frame["withdrawn"].astype(bool), "row"])):
        notes.append(f"For comparison only, neither best nor second: {', '.join(withdrawn)}.")
    return notes


def in_paper_form(spec: dict) -> bool:
    """Whether a table has the paper's own grid; the long form, with intervals and differences, unless told so."""
    return spec.get("layout", "long") == "paper"


def _about_intervals(frame: pd.DataFrame, elsewhere: bool) -> list[str]:
    """Of cells with an interval: of what kind it is, or where it is found."""
    several = frame[frame["seeds"].str.contains(" ")]
    if not len(frame):
        return []
    rows = ", ".join(dict.fromkeys(several["row"])) if len(several) < len(frame) else ""
    if elsewhere:
        means = [f"Means over seeds{': ' * bool(rows)}{rows}."] if len(several) else []
        return [*means, "95 % intervals and differences: in the table's .csv file and in report.html."]
    if not len(several):
        return ["Intervals: 95 %, bootstrap over triples."]
    if not rows:
        return ["Means over seeds; intervals: 95 %, Student's."]
    return [f"Intervals: 95 %, bootstrap over triples; means over seeds with Student's: {rows}."]


def _floors_above(frame: pd.DataFrame) -> pd.Series:
    """Of each measured cell the best floor of its block and metric that it does not reach, else ""."""
    below = pd.Series("", frame.index, dtype=object)
    for (_, metric), of in frame.dropna(subset=["reproduced"]).groupby(["block", "metric"], sort=False):
        sign = -1 if metric in LOWER_IS_BETTER else 1
        floors, others = of[of["floor"].astype(bool)], of[~of["floor"].astype(bool)]
        if len(floors):
            values = floors["reproduced"].astype(float) * sign
            reached = others["reproduced"].astype(float) * sign >= values.max()
            below[others.index[~reached]] = floors.loc[values.idxmax(), "row"]
    return below


def _about_floors(frame: pd.DataFrame) -> list[str]:
    """Which rows are worse than a rule that counts in train, by block and floor."""
    notes = []
    for (block, floor), of in frame[frame["below"] != ""].groupby(["block", "below"], sort=False):
        rows = [f"{row} ({', '.join(cells['metric'])})" for row, cells in of.groupby("row", sort=False)]
        notes.append(f"{BELOW} {block}, worse than “{floor}”: {'; '.join(rows)}.")
    return notes


def _about_texts(spec: dict, frame: pd.DataFrame) -> list[str]:
    """What is to be told of a dataset's texts, where a row read them: one that has a base model."""
    readers = set(frame.loc[frame["model"].fillna("none") != "none", "block"])
    told = {_title(block): spec.get("caveats", {}).get(block["dataset"]) for block in spec["blocks"]}
    return [f"{title}: {caveat}" for title, caveat in told.items() if caveat and title in readers]


def _about_published(spec: dict, frame: pd.DataFrame) -> list[str]:
    """Which rows were not made here but taken from published runs (spec["published"], their names)."""
    published, ran = set(spec.get("published", [])), frame[frame["run"] != ""]
    of = ran[ran["run"].map(lambda runs: bool(published & set(runs.split()))).astype(bool)]
    if len(of) and len(of) == len(ran):
        return ["All results here are published ones (results/published), none was made anew."]
    blocks = [f"{block}, {', '.join(dict.fromkeys(cells['row']))}" for block, cells in of.groupby("block", sort=False)]
    return [f"Published results (results/published), not made anew: {'; '.join(blocks)}."] if blocks else []


def statistics(spec: dict, inputs: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Rows are datasets, columns counts (KaLM's Table 2, LMKE's 3, KG-BiLM's 1); reproduced: counted in the data."""
    numbers, cells = reported(), []
    about = numbers[(numbers["paper"] == spec["paper"]) & (numbers["table"] == spec["table"])]
    for row in spec["rows"]:
        dataset = row["dataset"]
        path = find(inputs, statistics_file(dataset)) if row["measured"] else None
        counts = read_json(path) if path else {}
        for metric in spec["metrics"]:
            found = about[(about["dataset"] == row.get("reported", dataset)) & (about["metric"] == metric)]
            unit = _STATISTIC_UNITS.get(metric, "count")
            cell = dict.fromkeys(COLUMNS) | {
                "row": row.get("label", dataset),
                "key": row.get("label", dataset),
                "dataset": dataset,
                "metric": metric,
            }
            cell |= {
                "block": "",
                "section": "",
                "paper": spec["paper"],
                "unit": unit,
                "run": "",
                "seeds": "",
            }
            if len(found):
                cell["reported"] = found.iloc[0]["value"]
            if path:
                cell["reproduced"] = _counted(counts, spec["fields"][metric], unit, path)
                if len(found) and unit != "text" and cell["reproduced"] is not None:
                    cell["difference"] = cell["reproduced"] - found.iloc[0]["number"]
            cells.append(cell)
    frame = pd.DataFrame(cells, columns=COLUMNS)
    missing = [row for row, of in frame.groupby("row", sort=False) if of["reproduced"].isna().all()]
    return frame, [f"Not counted at this scale: {', '.join(missing)}."] if missing else []


def _counted(counts: dict, field: str, unit: str, path: Path) -> int | float | str | None:
    """A count; a mean, None where there is nothing to average; for a text, whether there are any of the kind."""
    count = at(counts, field)
    if unit == "words" and (isinstance(count, float) or (count is None and _is_there(counts, field))):
        return count
    if not isinstance(count, int):
        raise InputError(f"{field} is no whole number but {count!r}", path, "correct the table's fields")
    return ("Yes" if count else "No") if unit == "text" else count


def _is_there(counts: dict, field: str) -> bool:
    above, _, key = field.rpartition(".")
    return key in ((at(counts, above) if above else counts) or {})


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
            elif path and "fixed" in row:
                cell["reproduced"] = row["fixed"]
            if cell["reproduced"] is not None:
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

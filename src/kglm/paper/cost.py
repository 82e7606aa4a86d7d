"""What training and link prediction cost as graphs grow: the formulas of LMKE's Table 1 beside counts and times."""

from pathlib import Path

import pandas as pd

from kglm.errors import InputError
from kglm.paper.cells import COLUMNS
from kglm.paper.layout import Layout, Line, number
from kglm.paper.reported import reported
from kglm.paper.results import run_json

# Task of cost.json -> the metric of reported.csv with its formula, what the task is called, and what grows in it.
_TASKS = {
    "training": ("training", "training", ["triples"]),
    "negatives": (None, "training, more negatives", ["negatives"]),
    "all_pairs": ("link-prediction", "link prediction, all pairs encoded as published", ["entities", "relations"]),
    "link_prediction": ("link-prediction", "link prediction", ["entities", "triples"]),
}
# What link prediction is called where it encodes less than is published.
_ASKED = "link prediction here, the asked queries alone encoded"
_MEASURES = {"encoded": ("sequences encoded", "count"), "seconds": ("seconds", "seconds")}
_EXPONENT = (
    "Exponent: the slope of the logarithm of a line over that of what grows; of negatives over 1 + their number, the "
    "true triple being read, too; of two numbers that grow together (entities and triples or relations) over their "
    "geometric mean, so that a product has 2 and a sum 1."
)
EXTRA = ["task", "line", "place"]


def cost(spec: dict, inputs: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """One cell a formula, a measured count or time, or the exponent fitted to those of one task.

    The columns are `COLUMNS` and, for the layout, the task, its line and the place in it (-1: the exponent).
    """
    numbers, cells, ran, missing = reported(), [], [], []
    about = numbers[(numbers["paper"] == spec["paper"]) & (numbers["table"] == spec["table"])]
    for row in spec["rows"]:
        result = run_json(inputs, row["run"], "cost.json") if "run" in row else None
        formulas = about[about["method"] == row.get("method", row["label"])].set_index("metric")["value"]
        for task, (metric, *_) in _TASKS.items():
            common = dict.fromkeys([*COLUMNS, *EXTRA]) | {"row": row["label"], "dataset": "any", "task": task}
            common |= {"run": row["run"] if result else "", "seeds": str(result["seed"]) if result else ""}
            published = "all_pairs" if result and "all_pairs" in result else "link_prediction"
            if metric in formulas and not (metric == "link-prediction" and task != published):
                formula = {"metric": metric, "line": "formula", "reported": formulas[metric], "unit": "text"}
                cells.append(common | formula)
            if result and task in result:
                cells += [common | cell for cell in _measured(result[task], task, row["run"])]
        if result:
            where = f" ({result['device']})" if "device" in result else ""
            ran.append(f"{row['label']}: {result['model']} on {result['dataset']}{where}")
        else:
            missing.append(row["label"])
    notes = [f"Measured: {'; '.join(ran)}."] if ran else []
    notes += [_EXPONENT] if ran else []
    notes += [f"Not run: {', '.join(missing)}."] if missing else []
    return pd.DataFrame(cells, columns=[*COLUMNS, *EXTRA]), notes


def _measured(result: dict, task: str, run: str) -> list[dict]:
    """The cells of one task: its sizes, then counts and times with their exponents."""
    _, name, growing = _TASKS[task]
    sizes = {key: result[key] for key in growing if key in result}
    if len({len(values) for values in [*sizes.values(), *(result[key] for key in _MEASURES)]}) > 1 or not sizes:
        raise InputError(f"cost.json does not hold as many sizes as measures of {name}", run, "run the stage again")
    cells = [
        {"metric": f"{name}: {key}, size {place + 1}", "line": key, "place": place, "reproduced": size, "unit": "count"}
        for key, values in sizes.items()
        for place, size in enumerate(values)
    ]
    for key, (line, unit) in _MEASURES.items():
        values = [(f"{name}: {line}, size {place + 1}", place, value, unit) for place, value in enumerate(result[key])]
        values.append((f"{name}: exponent of {line}", -1, result["exponent"][key], "exponent"))
        cells += [
            {"metric": metric, "line": line, "place": place, "reproduced": value, "unit": of}
            for metric, place, value, of in values
        ]
    return cells


def cost_lines(cells: pd.DataFrame) -> Layout:
    """A block a method: each task with its formula, then a line for what grows, for the counts and for the times."""
    width = int(cells["place"].max()) + 1 if cells["place"].notna().any() else 0
    lines = []
    for row, of_row in cells.groupby("row", sort=False):
        lines.append(Line([row], [""], "block"))
        for task, of_task in of_row.groupby("task", sort=False):
            formula = of_task.loc[of_task["line"] == "formula", "reported"]
            name = _ASKED if task == "link_prediction" and "all_pairs" in set(of_row["task"]) else _TASKS[task][1]
            title = f"{name}{': ' + formula.iloc[0] if len(formula) else ''}"
            lines.append(Line([title], [""], "section"))
            measured = of_task[of_task["line"] != "formula"]
            for line, of_line in measured.groupby("line", sort=False):
                values = {
                    cell["place"]: number(cell["reproduced"], cell["unit"]) for cell in of_line.to_dict("records")
                }
                texts = [values.get(place, "") for place in (*range(width), -1)]
                lines.append(Line([line, *texts], [""] * (width + 2)))
    header = ["Cost", *["measured at growing sizes"][:width], *[""] * (width - 1), *["exponent"] * bool(width)]
    return Layout(header if width else ["Cost", ""], f"l{'r' * (width + 1)}", lines)

"""What a run of the workflow ends with: the main tables in the terminal, and where everything else lies."""

from pathlib import Path

import pandas as pd

from kglm.errors import InputError
from kglm.files import atomic_file
from kglm.paper.layout import number

# The tables that are shown, where they were made; of the first all rows, of the others those that were run.
TABLES = {
    "kalm_table_1": "KaLM, Table 1: link prediction (filtered, both directions, realistic ranks)",
    "lmke_table_2": "LMKE, Table 2: link prediction, what was run",
    "lmke_table_4": "LMKE, Table 4: triple classification, what was run",
    "kg_bilm_table_2": "KG-BiLM, Table 2: link prediction, what was run",
}
_KINDS = ("reported", "reproduced", "difference")


def summary(inputs: list[Path], out: Path) -> None:
    """Write and print the `TABLES` (from their .csv, beside the inputs of that name) and the paths."""
    paths = [Path(path) for path in inputs]
    lines = []
    for name, title in TABLES.items():
        table = next((path.with_suffix(".csv") for path in paths if path.stem == name), None)
        lines += _terminal_table(table, title, whole=name == next(iter(TABLES))) if table else []
    text = "\n".join([*lines, *_places(paths, Path(out))]) + "\n"
    with atomic_file(out) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")
    print(text, end="")


def _terminal_table(path: Path, title: str, whole: bool) -> list[str]:
    try:
        cells = pd.read_csv(path, dtype={"reported": str, "run": str, "seeds": str})
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage table") from None
    if not whole:
        cells = cells[cells.groupby(["dataset", "row"])["reproduced"].transform("count") > 0]
    metrics = list(dict.fromkeys(cells["metric"]))
    percent = set(cells.loc[cells["unit"] == "percent", "metric"])
    rows = [["dataset", "method", "", *(f"{metric} (%)" if metric in percent else metric for metric in metrics)]]
    for (dataset, method), of in cells.groupby(["dataset", "row"], sort=False):
        records = of.set_index("metric").loc[metrics].to_dict("index")
        for kind in _KINDS:
            shown = [_shown(records[metric][kind], records[metric]["unit"], kind) for metric in metrics]
            if any(shown):
                rows.append([dataset, method, kind, *shown])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *body = (_row(row, widths) for row in rows)
    return [title, "", head, "-" * (sum(widths) + len(widths) - 1), *body, ""]


def _shown(value: object, unit: str, kind: str) -> str:
    if kind == "reported":
        return value if isinstance(value, str) else ""
    return number(value, unit, signed=kind == "difference")


def _row(cells: list[str], widths: list[int]) -> str:
    aligned = (
        f"{cell:<{width}}" if i < 3 else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return " ".join(aligned).rstrip()


def _places(paths: list[Path], out: Path) -> list[str]:
    folder = out.parent
    tables = [path for path in paths if path.parent.name == "tables"]
    figures = [path for path in paths if path.parent.name == "figures"]
    lines = [
        *_named("tables", tables, "tex, csv, md"),
        *_named("figures", figures, "pdf, png"),
        f"paper    {folder / 'paper.tex'}, and paper.pdf beside it where LaTeX is installed",
        f"report   {folder / 'report.html'} (one page; needs no server)",
    ]
    return lines


def _named(what: str, paths: list[Path], endings: str) -> list[str]:
    names = list(dict.fromkeys(str(path.with_suffix("")) for path in paths))
    return [f"{what if i == 0 else '':<8} {name} ({endings})" for i, name in enumerate(names)]

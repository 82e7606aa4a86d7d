"""What a run of the workflow ends with: one table in the terminal, and where everything else lies."""

from pathlib import Path

import pandas as pd

from kglm.errors import InputError
from kglm.files import atomic_file
from kglm.paper.layout import number

TABLE = "kalm_table_1"
_UNITS = {"MR": "rank", "PPL": "perplexity"}


def summary(inputs: list[Path], out: Path) -> None:
    """Write and print KaLM's Table 1 (from its .csv, beside the input of that name) and the paths."""
    paths = [Path(path) for path in inputs]
    table = next((path.with_suffix(".csv") for path in paths if path.stem == TABLE), None)
    lines = [*(_terminal_table(table) if table else []), *_places(paths, Path(out))]
    text = "\n".join(lines) + "\n"
    with atomic_file(out) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")
    print(text, end="")


def _terminal_table(path: Path) -> list[str]:
    try:
        cells = pd.read_csv(path, dtype={"reported": str, "run": str, "seeds": str})
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage table") from None
    metrics = list(dict.fromkeys(cells["metric"]))
    lines = ["KaLM, Table 1: link prediction (filtered, both directions, realistic ranks)", ""]
    lines.append(_row(["dataset", "method", "", *metrics]))
    lines.append("-" * len(lines[-1]))
    for (dataset, method), of in cells.groupby(["dataset", "row"], sort=False):
        records = of.set_index("metric").loc[metrics].to_dict("index")
        for kind in ("reported", "reproduced", "difference"):
            shown = [_shown(records[metric][kind], metric, kind) for metric in metrics]
            if any(shown):
                lines.append(_row([dataset, method, kind, *shown]))
    return [*lines, ""]


def _shown(value: object, metric: str, kind: str) -> str:
    if kind == "reported":
        return value if isinstance(value, str) else ""
    return number(value, _UNITS.get(metric, "fraction"), signed=kind == "difference")


def _row(cells: list[str]) -> str:
    widths = [10, 19, 10, *[8] * (len(cells) - 3)]
    shown = (
        f"{cell:<{width}}" if i < 3 else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return " ".join(shown).rstrip()


def _places(paths: list[Path], out: Path) -> list[str]:
    folder = out.parent
    tables = [path for path in paths if path.parent.name == "tables"]
    figures = [path for path in paths if path.parent.name == "figures"]
    lines = [
        *_named("tables", tables, "tex, csv, md"),
        *_named("figures", figures, "pdf, png"),
        f"paper    {folder / 'paper.tex'}, and paper.pdf beside it where LaTeX is installed",
        f"report   {folder / 'report.html'} (written by snakemake --report)",
    ]
    return lines


def _named(what: str, paths: list[Path], endings: str) -> list[str]:
    names = list(dict.fromkeys(str(path.with_suffix("")) for path in paths))
    return [f"{what if i == 0 else '':<8} {name} ({endings})" for i, name in enumerate(names)]

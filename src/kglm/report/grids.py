"""CSV files as tables that sort and filter: what stands in each cell, and by what it sorts."""

import html
import re
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kglm.errors import InputError
from kglm.paper.layout import number
from kglm.paper.reported import LOWER_IS_BETTER
from kglm.paper.text import one_line, read_spreadsheet

# The columns that all tables of numbers have; the others are tables of texts.
_NUMBERS = {"row", "dataset", "metric", "reported", "reproduced", "difference", "low", "high", "run", "unit"}
# With more metrics than these, each has a line of its own instead of a group of columns.
_WIDE = 8
_TITLES = {"reported": "Reported", "reproduced": "Reproduced", "difference": "Difference"}
# Units of which less or more is better; the others count.
_BETTER = {"fraction", "percent", "rank", "perplexity", "cosine"}
_EVERYWHERE = "any"  # the dataset of what depends on none


class Cell(NamedTuple):
    """A plain text; `order` is what a column of numbers sorts by ("": no number), `note` stands small beside it.

    `runs` are named, with links to their cards, instead of the text; `audit` is what the audit found in the row.
    """

    text: str
    order: float | str | None = None
    note: str = ""
    runs: tuple[str, ...] = ()
    audit: str = ""


class Column(NamedTuple):
    """A title below that of its group (if any); kind is text, number or choice (a text that is filtered by)."""

    title: str
    kind: str = "text"
    group: str = ""


class Grid(NamedTuple):
    """A table; `ran` tells of each line whether something was measured, None where none can be."""

    name: str
    caption: str
    notes: list[str]
    columns: list[Column]
    lines: list[list[Cell]]
    ran: list[bool] | None = None

    def groups(self) -> list[tuple[str, int]]:
        """(title, number of columns) of neighbours of one group; nothing if there is no group."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            same = found and column.group and found[-1][0] == column.group
            found[-1 if same else len(found) :] = [(column.group, found[-1][1] + 1 if same else 1)]
        return found if any(title for title, _ in found) else []

    def choices(self) -> list[tuple[int, str, list[str]]]:
        """(place, title, values in their order) of each column that is filtered by."""
        return [
            (place, column.title, list(dict.fromkeys(line[place].text for line in self.lines)))
            for place, column in enumerate(self.columns)
            if column.kind == "choice"
        ]


def table_grid(path: Path) -> Grid:
    """A table of the stage `table` from its .csv; caption and notes stand in the .md beside it."""
    frame = read_csv(path)
    caption, notes = _words(Path(path).with_suffix(".md"))
    if not set(frame.columns) >= _NUMBERS:
        return text_grid(frame, Path(path).stem, caption, notes)
    metrics = list(dict.fromkeys(frame["metric"]))
    wide = len(metrics) <= _WIDE and not frame.duplicated(["dataset", "row", "metric"]).any()
    columns, lines, ran = _wide(frame, metrics) if wide else _long(frame)
    kept = [place for place in range(len(columns)) if _tells(columns[place], [line[place] for line in lines])]
    lines = [[line[place] for place in kept] for line in lines]
    undecided = None if all(ran) or not any(ran) else ran
    return Grid(Path(path).stem, caption, notes, [columns[place] for place in kept], lines, undecided)


def text_grid(
    frame: pd.DataFrame, name: str, caption: str = "", notes: Sequence[str] = (), choices: Container[str] = ()
) -> Grid:
    """Texts as they stand, filtered by the columns `choices`; a column of nothing but numbers sorts as such."""
    usual = ["choice" if title in choices else "text" for title in frame.columns]
    kinds = ["number" if _all_numbers(frame[title]) else kind for title, kind in zip(frame.columns, usual, strict=True)]
    columns = [Column(one_line(str(title)), kind) for title, kind in zip(frame.columns, kinds, strict=True)]
    lines = [
        [
            Cell(one_line(text), _order(text) if kind == "number" else None)
            for text, kind in zip(row, kinds, strict=True)
        ]
        for row in frame.itertuples(index=False)
    ]
    return Grid(name, caption, list(notes), columns, lines)


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file as texts; InputError where it is none."""
    try:
        return read_spreadsheet(path)
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage that writes it") from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"not a UTF-8 CSV file ({error})", path) from None


def _words(path: Path) -> tuple[str, list[str]]:
    """The caption of a table and the notes below it, as plain text."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise InputError("no such file", path, "it belongs beside the table's .csv") from None
    plain = [html.unescape(re.sub(r"\\([\\`*_\[\]|~#$])", r"\1", line)) for line in lines]
    return plain[0].removeprefix("**").removesuffix("**"), [line[2:] for line in plain if line.startswith("* ")]


def _wide(frame: pd.DataFrame, metrics: list[str]) -> tuple[list[Column], list[list[Cell]], list[bool]]:
    """A line a row and dataset, a group of columns a metric."""
    units = frame.groupby("metric")["unit"].first()
    columns = [Column("Row"), Column("Dataset", "choice")]
    columns += [Column(title, "number", _metric(m, units[m])) for m in metrics for title in _TITLES.values()]
    lines, ran = [], []
    for (dataset, _), of in frame.groupby(["dataset", "row"], sort=False):
        cells = {cell["metric"]: cell for cell in of.to_dict("records")}
        runs = _runs(" ".join(of["run"]))
        shown = [cell for metric in metrics for cell in _measures(cells.get(metric))]
        lines.append([_row(cells.values()), Cell(one_line(dataset)), *shown, runs])
        ran.append((of["reproduced"] != "").any() or bool(runs.runs))
    return [*columns, Column("Run")], lines, ran


def _long(frame: pd.DataFrame) -> tuple[list[Column], list[list[Cell]], list[bool]]:
    """A line a cell of the CSV file."""
    columns = [Column("Row"), Column("Dataset", "choice"), Column("Quantity", "choice")]
    columns += [Column(title, "number") for title in _TITLES.values()]
    records = frame.to_dict("records")
    same = all(cell["row"] == cell["metric"] for cell in records)  # of hyper-parameters: the row says it all
    lines = [
        [
            _row([cell]),
            Cell(one_line(cell["dataset"])),
            Cell("" if same else _metric(cell["metric"], cell["unit"])),
            *_measures(cell),
            _runs(cell["run"]),
        ]
        for cell in records
    ]
    return [*columns, Column("Run")], lines, [cell["reproduced"] != "" for cell in records]


def _row(cells: Iterable[dict]) -> Cell:
    """What a row is called, with what the audit found in it."""
    cells = list(cells)
    return Cell(one_line(cells[0]["row"]), audit=one_line(" ".join({cell.get("audit", ""): None for cell in cells})))


def _metric(metric: str, unit: str) -> str:
    """A metric with its unit, where that is percent, and with what is better."""
    if unit not in _BETTER:
        return one_line(metric)
    return f"{one_line(metric)}{' (%)' if unit == 'percent' else ''} {'↓' if metric in LOWER_IS_BETTER else '↑'}"


def _measures(cell: dict | None) -> list[Cell]:
    """Reported as it was printed, reproduced with its interval, and the difference."""
    if cell is None:
        return [Cell("", "")] * len(_TITLES)
    low, high = (_shown(cell[end], cell["unit"]) for end in ("low", "high"))
    return [
        Cell(one_line(cell["reported"]), _order(cell["reported"])),
        Cell(
            _shown(cell["reproduced"], cell["unit"]),
            _order(cell["reproduced"]),
            f"[{low}, {high}]" if low and high else "",
        ),
        Cell(_shown(cell["difference"], cell["unit"], signed=True), _order(cell["difference"])),
    ]


def _shown(text: str, unit: str, signed: bool = False) -> str:
    order = _order(text)
    return one_line(text) if order == "" else number(order if unit != "text" else text, unit, signed)


def _runs(text: str) -> Cell:
    names = tuple(dict.fromkeys(text.split()))
    return Cell("", runs=names)


def _order(text: str) -> float | str:
    """The number that a text says, "" where it says none."""
    value = _numbers(pd.Series([text.replace(",", "")]))[0]
    return "" if pd.isna(value) else float(value)


def _numbers(texts: pd.Series) -> pd.Series:
    found = pd.to_numeric(texts, errors="coerce")
    return found.where(found.abs() != float("inf"))  # "Infinity" is a name


def _all_numbers(texts: pd.Series) -> bool:
    """Whether every text is a number, as far as there is one."""
    said = texts[texts != ""]
    return len(said) > 0 and bool(_numbers(said).notna().all())


def _tells(column: Column, cells: list[Cell]) -> bool:
    """Whether a column says anything."""
    silent = {"", _EVERYWHERE} if column.title == "Dataset" else {""}
    return any(cell.runs or cell.text not in silent for cell in cells)

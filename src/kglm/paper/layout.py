"""A table on paper: lines of cells, which become LaTeX (booktabs) or Markdown."""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

import pandas as pd

from kglm.paper.findings import BELOW, FLAG
from kglm.paper.reported import CORRECTED, LOWER_IS_BETTER
from kglm.paper.text import latex, markdown

_DECIMALS = {
    "fraction": 3,
    "rank": 1,
    "percent": 1,
    "perplexity": 2,
    "cosine": 2,
    "words": 1,
    "seconds": 2,
    "exponent": 2,
}
_STATISTICS = {"count", "words", "text"}
_TITLES = {"description-words": "words a description", "text": "descriptions"}
# A name longer than this (characters) is set on several lines, which may reach beside the lines below it.
_NAME, _NAME_WIDTH = 24, "11.5em"
# More lines than this do not fit a page.
_PAGE = 55
# Of a right and a wrong answer, as red, green and blue.
_COLOURS = {"right": "0,0.42,0.24", "wrong": "0.72,0.1,0.1"}
_LINES = ("reported", "reproduced", "interval", "difference")
# More columns of numbers than these do not stand side by side on a page.
_GRID_COLUMNS = 10


class Line(NamedTuple):
    """One line of a table: plain texts, a mark for each (best, second, right, wrong or nothing), and what it is.

    A line of text has space above; a block and a section are titles, whose only cell is the title.
    """

    cells: list[str]
    marks: list[str]
    kind: str = "data"  # data, text, block or section


class Layout(NamedTuple):
    """Column titles, the LaTeX column types, the lines, and, where there are any, the title above each column with the
    LaTeX column type of the columns below it together."""

    header: list[str]
    columns: str
    lines: list[Line]
    groups: Sequence[str] = ()
    above: str = "c"


def number(value: float | str | None, unit: str, signed: bool = False) -> str:
    """A value as it is printed: by its unit's decimals; empty where there is none, a text as it stands."""
    if value is None or value != value:
        return ""
    if unit == "count":
        shown = f"{int(value):{'+' if signed else ''},}"
    elif unit in _DECIMALS:
        decimals = 2 if unit == "rank" and abs(float(value)) < 10 else _DECIMALS[unit]
        shown = f"{float(value):{'+' if signed else ''}.{decimals}f}"
    else:
        shown = str(value)
    zero = signed and not shown.strip("+-0.")
    return (shown.lstrip("+-") if zero else shown).replace("-", "−") if unit != "text" else shown


def method_lines(cells: pd.DataFrame, metrics: list[str]) -> Layout:
    """Rows as stacked lines reported / reproduced / 95 % interval / difference, in blocks and sections."""
    lines, counted = [], set(cells["unit"]) <= _STATISTICS
    for block, of_block in cells.groupby("block", sort=False):
        marks = {} if counted else best_marks(of_block)
        if block:
            lines.append(Line([block], [""], "block"))
        for section, of_section in of_block.groupby("section", sort=False):
            if section:
                lines.append(Line([section], [""], "section"))
            for row, of_row in of_section.groupby("row", sort=False):
                lines += _row_lines(row, of_row.set_index("metric").loc[metrics], marks)
    units = cells.groupby("metric")["unit"].first()
    titles = [_TITLES.get(metric, metric) if counted else _arrow(metric, units[metric]) for metric in metrics]
    header = ["Dataset" if counted else "Method", "", *titles]
    return Layout(header, "ll" + "r" * len(metrics), lines)


def paper_grids(cells: pd.DataFrame, metrics: list[str], names: dict[str, str], order: list[str]) -> list[Layout]:
    """The paper's own grid: its blocks side by side, a line of its numbers and, where there are any, a line of ours.

    `names` are the paper's words for metrics, `order` is that of the rows' keys. Blocks that the paper has not, and
    those beyond a page's width, are grids of their own.
    """
    theirs = cells.groupby("block", sort=False)["reported"].apply(lambda values: values.notna().any())
    side_by_side, width = list(theirs.index[theirs]), max(1, _GRID_COLUMNS // len(metrics))
    together = [side_by_side[start : start + width] for start in range(0, len(side_by_side), width)]
    own = [[block] for block in theirs.index[~theirs]]
    return [_grid(cells[cells["block"].isin(blocks)], blocks, metrics, names, order) for blocks in together + own]


def _grid(cells: pd.DataFrame, blocks: list[str], metrics: list[str], names: dict, order: list[str]) -> Layout:
    counted = set(cells["unit"]) <= _STATISTICS
    marks = {block: {} if counted else best_marks(of) for block, of in cells.groupby("block", sort=False)}
    known = {(cell["key"], cell["block"], cell["metric"]): cell for cell in cells.to_dict("records")}
    lines, section = [], ""
    for key in sorted(set(cells["key"]), key=order.index):
        row = [known.get((key, block, metric)) for block in blocks for metric in metrics]
        first = next(filter(None, row))
        if first["section"] != section:
            section = first["section"]
            lines += [Line([section], [""], "section")] if section else []
        lines += _grid_lines(row, first["row"], marks)
    titles = [names.get(metric, _TITLES.get(metric, metric)) for metric in metrics]
    header = ["Dataset" if counted else "Method", "", *titles * len(blocks)]
    groups = ["", "", *(block for block in blocks for _ in metrics)] if any(blocks) else []
    return Layout(header, "ll" + "r" * len(metrics) * len(blocks), lines, groups)


def _grid_lines(row: list[dict | None], name: str, marks: dict) -> list[Line]:
    """A line of the paper's numbers and one of ours; of a row with neither, an empty one."""
    flag = FLAG if any(cell and cell["audit"] for cell in row) else ""
    shown = {kind: [_printed(cell, kind) if cell else "" for cell in row] for kind in _LINES[:2]}
    kinds = [kind for kind in shown if any(shown[kind])] or ["reproduced"]
    titles = {"reported": f"paper{flag}", "reproduced": "here"}
    return [
        Line(
            [name if kind == kinds[0] else "", titles[kind], *(text or "–" for text in shown[kind])],
            ["", "", *((cell and marks[cell["block"]].get((kind, *_place(cell)), "")) or "" for cell in row)],
        )
        for kind in kinds
    ]


def _place(cell: dict) -> tuple[str, str, str]:
    return cell["row"], cell["paper"], cell["metric"]


def _arrow(metric: str, unit: str) -> str:
    """A metric with its unit, where that is percent, and with what is better: higher or lower."""
    return f"{metric}{' (%)' if unit == 'percent' else ''} {'↓' if metric in LOWER_IS_BETTER else '↑'}"


def _row_lines(label: str, row: pd.DataFrame, marks: dict) -> list[Line]:
    shown = {kind: [_printed(cell, kind) for cell in row.to_dict("records")] for kind in _LINES}
    kinds = [kind for kind in _LINES if any(shown[kind])] or ["reproduced"]
    places = [(label, row.iloc[0]["paper"], metric) for metric in row.index]
    flag = FLAG if row["audit"].fillna("").any() else ""
    names = {"interval": "95 % interval", "reported": f"reported{flag}"}
    return [
        Line(
            [label if kind == kinds[0] else "", names.get(kind, kind), *shown[kind]],
            ["", "", *(marks.get((kind, *place), "") for place in places)],
        )
        for kind in kinds
    ]


def _printed(cell: dict, kind: str) -> str:
    """What stands in a cell, with the mark of a measured number that a floor reaches."""
    text = _shown(cell, kind)
    return f"{text} {BELOW}" if kind == "reproduced" and text and cell.get("below") else text


def _shown(cell: dict, kind: str) -> str:
    if kind == "interval":
        low, high = (number(cell[end], cell["unit"]) for end in ("low", "high"))
        return f"[{low}, {high}]" if low and high else ""
    if kind == "reported" and cell["unit"] != "count":
        return cell[kind] or "" if isinstance(cell[kind], str) else ""
    return number(cell[kind], cell["unit"], signed=kind == "difference")


def best_marks(cells: pd.DataFrame) -> dict[tuple, str]:
    """(line, row, paper, metric) -> best or second, as printed: reported numbers compete within their paper, with
    those that its authors corrected; reproduced ones among themselves; withdrawn ones and floors not. One alone is not
    marked, nor is the second of two.
    """
    cells, marks = cells[~cells["floor"].fillna(False).astype(bool)] if "floor" in cells else cells, {}
    paper = cells["paper"].str.removesuffix(CORRECTED)
    for kind, keys in (("reported", [paper, cells["metric"]]), ("reproduced", [cells["metric"]])):
        for _, group in cells.groupby(keys, sort=False):
            records = [
                cell
                for cell in group.to_dict("records")
                if cell.get("withdrawn") is not True and cell.get("floor") is not True
            ]
            shown = {(cell["row"], cell["paper"], cell["metric"]): _shown(cell, kind) for cell in records}
            values = {place: float(text.replace("−", "-").replace(",", "")) for place, text in shown.items() if text}
            best_first = sorted(set(values.values()), reverse=group["metric"].iloc[0] not in LOWER_IS_BETTER)
            for name, rank in (("best", 0), ("second", 1)):
                if len(values) > rank + 1 and len(best_first) > rank:
                    chosen = [place for place, value in values.items() if value == best_first[rank]]
                    marks |= {(kind, *place): name for place in chosen}
    return marks


def parameter_lines(cells: pd.DataFrame) -> Layout:
    """Rows are parameters; each block has a column reported and a column of its run, where there are any."""
    columns = [
        (block, kind)
        for block, of in cells.groupby("block", sort=False)
        for kind in ("reported", "reproduced")
        if of[kind].notna().any()
    ]
    names = {"reported": "reported", "reproduced": "run"}
    by_row = {(cell["row"], cell["block"]): cell for cell in cells.to_dict("records")}
    lines = []
    for row in cells["row"].unique():
        values = [number(by_row[row, block][kind], "text") for block, kind in columns]
        lines.append(Line([row, *values], [""] * (1 + len(values))))
    return Layout(
        ["Hyper-parameter", *(f"{block} {names[kind]}" for block, kind in columns)],
        "l" + "r" * len(columns),
        lines,
    )


def record_lines(cells: pd.DataFrame) -> Layout:
    """One line for each value, reported and reproduced, in blocks; where there are none, a block for each row."""
    lines = []
    for block, of in cells.groupby("block" if cells["block"].notna().any() else "row", sort=False):
        lines.append(Line([block], [""], "block"))
        for cell in of.to_dict("records"):
            units = ["text" if isinstance(cell[kind], str) else cell["unit"] for kind in _LINES[:2]]
            values = [number(cell[kind], unit) for kind, unit in zip(_LINES[:2], units, strict=True)]
            if any(values):
                lines.append(Line([cell["metric"], *values], [""] * 3))
    return Layout(["Quantity", *_LINES[:2]], "lrr", lines)


def text_lines(header: list[str], rows: list[list[str]], groups: Sequence[str] = ()) -> Layout:
    """Columns of running text: a narrow first one; of three the last is the widest, of more with titles the second.

    An answer that ends with ✓ or ✗ is right or wrong.
    """
    shares = {3: [0.14, 0.30, 0.50], 2: [0.16, 0.80]}.get(len(header)) or [0.9 / len(header)] * len(header)
    together = 0.0
    if groups:
        shares = [0.10, 0.26, *[0.56 / (len(header) - 2)] * (len(header) - 2)]
        together = 0.56 / len({*groups} - {""})
    columns = "".join(map(_paragraph, shares))
    if len(header) > _GRID_COLUMNS // 2:  # two of words, the others of numbers
        columns = "l" + _paragraph(0.14) + "r" * (len(header) - 2)
    marks = {"✓": "right", "✗": "wrong"}
    lines = [Line(row, [marks.get(cell[-1:], "") for cell in row], "text") for row in rows]
    return Layout(header, columns, lines, groups, _paragraph(together))


def _paragraph(share: float) -> str:
    """The LaTeX type of a column of running text, as wide as a share of the line."""
    return rf">{{\raggedright\arraybackslash}}p{{{share:.3g}\linewidth}}"


def fits_a_page(*layouts: Layout) -> bool:
    """Whether a table, or several below each other, are short enough to float."""
    return sum(len(layout.lines) for layout in layouts) <= _PAGE


def to_latex(layout: Layout, caption: str = "", label: str = "") -> str:
    """The tabular environment, by pandas' Styler; with a caption (LaTeX) and a label, a longtable over several pages.

    Needs the packages booktabs and array, and longtable.
    """
    width = len(layout.header)
    rows = [[_latex_cell(layout.lines, n, column) for column in range(width)] for n in range(len(layout.lines))]
    styles = [(line.marks + [""] * width)[:width] for line in layout.lines]
    commands = {"best": "textbf:--rwrap;", "second": "underline:--rwrap;", "": ""}
    commands |= {mark: f"textcolor:[rgb]{{{colour}}}--rwrap;" for mark, colour in _COLOURS.items()}
    # Titles repeat, so that a column goes by its number; a title above it is a level of its own.
    columns = pd.MultiIndex.from_arrays([layout.groups, range(width)]) if layout.groups else pd.RangeIndex(width)
    frame = pd.DataFrame(rows, columns=columns)
    css = pd.DataFrame(styles, columns=columns).map(commands.get) if rows else frame
    styler = frame.style.apply(lambda _: css, axis=None).hide(axis="index")
    titles = {columns.nlevels - 1: lambda column: latex(layout.header[column])}
    styler = styler.format_index({0: latex} | titles, axis=1)
    pages = {"environment": "longtable", "caption": caption, "label": label} if caption else {}
    text = styler.to_latex(column_format=layout.columns, hrules=True, multicol_align=layout.above, **pages)
    if layout.above != "c":  # no width where there is no title
        text = text.replace(f"{{{layout.above}}}{{}}", "{l}{}")
    text = _ruled(text, layout.groups)
    if not caption:
        return text
    text = text.replace(f"\\caption[]{{{caption}}}", r"\caption[]{(continued)}")
    head, end, body = text.partition("\\endlastfoot\n")
    return head + end + "\n".join(_kept_together(body.split("\n"), layout.lines))


def _ruled(text: str, groups: Sequence[str]) -> str:
    """A thin rule below each title of several columns."""
    if not groups:
        return text
    spans = [(title, len(list(of))) for title, of in groupby(groups)]
    ends = list(accumulate(size for _, size in spans))
    rules = [
        f"\\cmidrule(lr){{{end - size + 1}-{end}}}" for (title, size), end in zip(spans, ends, strict=True) if title
    ]
    lines = text.split("\n")
    titles = [n for n, line in enumerate(lines) if line.startswith("\\multicolumn") and line.endswith("\\\\")]
    for n in reversed([n for n in titles if lines[n - 1] == "\\toprule"]):
        lines.insert(n + 1, " ".join(rules))
    return "\n".join(lines)


def _kept_together(rows: list[str], lines: list[Line]) -> list[str]:
    """No page ends below a title, nor between the lines of one method."""
    for i, (line, after) in enumerate(pairwise(lines)):
        if line.kind in ("block", "section") or (after.kind == "data" and not after.cells[0]):
            rows[i] += "*"
    return rows


def _latex_cell(lines: list[Line], place: int, column: int) -> str:
    line, first = lines[place], place == 0
    if column >= len(line.cells):
        return ""
    text = latex(line.cells[column])
    if line.kind == "text" and column == 0 and not first:
        return rf"\addlinespace {text}"
    if line.kind == "data" and column == 0 and (height := len(_wrapped(line.cells[0]))) > 1:
        return _long_name(text, height, lines[place + 1 :])
    if line.kind in ("data", "text"):
        return text
    # A title runs over the empty cells to its right; \rlap keeps it from widening its column.
    space, font = {"block": (r"\midrule ", r"\textbf"), "section": (r"\addlinespace ", r"\emph")}[line.kind]
    return f"{'' if first else space}\\rlap{{{font}{{{text}}}}}"


def _wrapped(name: str) -> list[str]:
    return textwrap.wrap(name, _NAME, break_long_words=False, break_on_hyphens=False)


def _long_name(text: str, height: int, below: list[Line]) -> str:
    """A name in a narrow box, which takes no height of its own where enough lines without a name follow."""
    room = 1 + next((i for i, line in enumerate(below) if line.kind != "data" or line.cells[0]), len(below))
    box = rf"\parbox[t]{{{_NAME_WIDTH}}}{{\raggedright {text}\strut}}"
    return rf"\smash{{{box}}}" if height <= room else box


def to_markdown(layout: Layout) -> str:
    """The same lines as a Markdown table."""
    wrap = {"best": "**{}**", "second": "<u>{}</u>", "": "{}", "right": "{}", "wrong": "{}"}
    titles = {"data": "{}", "text": "{}", "block": "**{}**", "section": "*{}*"}
    width = len(layout.header)

    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    groups = layout.groups or [""] * width
    titles_of = [" ".join(filter(None, pair)) for pair in zip(groups, layout.header, strict=True)]
    lines = [row(map(markdown, titles_of)), row(["---"] * width)]
    for line in layout.lines:
        shown = [
            titles[line.kind].format(wrap[mark].format(markdown(cell))) if cell else ""
            for cell, mark in zip(line.cells, line.marks, strict=True)
        ]
        lines.append(row(shown + [""] * (width - len(shown))))
    return "\n".join(lines) + "\n"

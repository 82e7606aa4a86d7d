"""One document of all tables and figures, with what was not run and what was done otherwise."""

import os
import string
from pathlib import Path

import pandas as pd

from kglm.errors import InputError
from kglm.files import atomic_file
from kglm.paper.letters import letters_in, preamble
from kglm.paper.text import latex, read_spreadsheet

DEVIATIONS = ["paper", "point", "described", "here", "reason"]
# How the id of a table or figure begins -> whose it is; the others are our own.
PAPERS = {"kalm": "KaLM", "lmke": "LMKE", "c_lmke": "LMKE", "token": "LMKE", "kg_bilm": "KG-BiLM"}
_OWN = "Further comparisons"
# Of more rows than these, and more than were run, those that were run are named.
_MANY = 8
TITLE = "Language models as knowledge-graph embeddings: reported and reproduced"


class _Template(string.Template):
    """Placeholders stand between at signs, since LaTeX needs the dollar."""

    delimiter = "@"
    pattern = r"@(?:(?P<named>[a-z]+)@|(?P<escaped>@)|(?P<braced>(?!))|(?P<invalid>))"


def paper(
    spec: dict,
    tables: list[Path],
    figures: list[Path],
    out: Path,
    deviations: Path | None = None,
    audit: Path | None = None,
) -> None:
    """Write paper.tex, which includes the floats `tables` and `figures` (.tex), by paper and in their order.

    A figure with a table of the same name is typeset as that table. What was not run is told by
    the .csv beside each table. `deviations` is a CSV file with the columns `DEVIATIONS`; the package has one.
    `audit` is what the stage of that name wrote (.tex), an appendix. `failures` of the spec are sentences on the jobs
    that failed; they stand first. With letters that pdfLaTeX has not, the first line names the engine that sets them.
    """
    figure_names = {Path(path).stem for path in figures}
    as_table = {Path(path).stem: Path(path) for path in tables if Path(path).stem in figure_names}
    shown_tables = [Path(path) for path in tables if Path(path).stem not in figure_names]
    shown_figures = [as_table.get(Path(path).stem, Path(path)) for path in figures]
    template = _Template(Path(__file__).with_name("paper.tex").read_text("utf-8"))
    parts = dict(
        title=latex(spec.get("title", TITLE)),
        scale=latex(spec.get("scale", "of these results")),
        failures=_failures(spec.get("failures", [])),
        tables=_sections(shown_tables, out),
        figures=_sections(shown_figures, out),
        missing=_missing(shown_tables),
        deviations=_deviations(deviations or Path(__file__).with_name("deviations.csv")),
        audit=_inputs([audit] if audit else [], out),
    )
    floats = [path.with_suffix(".tex") for path in (*shown_tables, *shown_figures)]
    texts = [path.read_text("utf-8") for path in floats if path.is_file()]
    engine, letters = preamble(letters_in([*parts.values(), *texts]), "paper")
    text = template.substitute(parts, engine=engine, letters=letters)
    with atomic_file(out) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")


def _failures(sentences: list[str]) -> str:
    """Which jobs failed, as a section of its own; nothing where none did."""
    if not sentences:
        return ""
    items = _itemised([rf"\item {latex(text)}" for text in sentences])
    return f"\\section{{What failed}}\nThese jobs failed. What hangs on them is blank below, and no result.\n{items}\n"


def _sections(paths: list[Path], out: Path) -> str:
    """The floats by paper, our own last, each in its order; one paper alone has no heading."""
    papers: dict[str, list[Path]] = {}
    for path in sorted(paths, key=lambda path: paper_of(path.stem) == _OWN):
        papers.setdefault(paper_of(path.stem), []).append(path)
    if len(papers) < 2:
        return _inputs(paths, out)
    return "\n\\clearpage\n".join(f"\\subsection{{{latex(name)}}}\n{_inputs(of, out)}" for name, of in papers.items())


def paper_of(name: str) -> str:
    """Whose table or figure it is, told by how its id begins."""
    return next((paper for start, paper in PAPERS.items() if name.startswith(f"{start}_")), _OWN)


def _inputs(paths: list[Path], out: Path) -> str:
    """One \\input a float, by its path relative to the document."""
    lines = []
    for path in paths:
        relative = Path(os.path.relpath(path.with_suffix(".tex"), Path(out).parent)).as_posix()
        if set(relative) & set(' \\{}%#~$&^"'):
            raise InputError("LaTeX cannot read a file of this name", path, "choose a plain name")
        lines.append(rf"\input{{{relative}}}")
    return "\n".join(lines) or "None were asked for."


def _missing(tables: list[Path]) -> str:
    """The rows of the tables that no run and no data stand behind, by table and dataset."""
    items = []
    for path in tables:
        if not path.with_suffix(".csv").exists():
            raise InputError("no such file", path.with_suffix(".csv"), "it belongs beside the table's .tex")
        cells = read_spreadsheet(path.with_suffix(".csv"))
        if "reproduced" not in cells:  # a table of texts
            continue
        parts = []
        for dataset, of in cells.groupby("dataset", sort=False):
            blank = (of["reproduced"] == "") & (of["run"] == "")
            empty = blank.groupby(of["row"], sort=False).all()
            ran, missing = list(empty[~empty].index), list(empty[empty].index)
            where = "" if dataset == "any" else f"{dataset}: "
            if not ran:
                parts.append(f"{where}nothing")
            elif len(missing) > max(_MANY, len(ran)):
                parts.append(f"{where}nothing but {', '.join(ran)}")
            elif missing:
                parts.append(f"{where}not {', '.join(missing)}")
        if parts:
            items.append(rf"\item Table~\ref{{tab:{path.stem}}}. {latex('; '.join(parts))}.")
    return _itemised(items) or "Every row of every table was run."


def _deviations(path: Path) -> str:
    """The list of deviations, by paper."""
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError("no such file", path) from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"not a UTF-8 CSV file ({error})", path) from None
    if list(rows.columns) != DEVIATIONS:
        raise InputError(f"has the columns {list(rows.columns)}", path, f"they must be {DEVIATIONS}")
    items = [
        rf"\item \textbf{{{latex(row.paper)}, {latex(row.point)}.}} Described: {latex(row.described)}. "
        rf"Here: {latex(row.here)}. Reason: {latex(row.reason)}."
        for row in rows.itertuples()
    ]
    return _itemised(items) or "None."


def _itemised(items: list[str]) -> str:
    return "\n".join([r"\begin{itemize}", *items, r"\end{itemize}"]) if items else ""

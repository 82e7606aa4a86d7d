"""Tables, reported beside reproduced, as LaTeX, CSV and Markdown; each is an entry in the configuration."""

from pathlib import Path

import pandas as pd

from kglm.errors import InputError
from kglm.files import atomic_file, read_json, with_ending
from kglm.kg.remarks import remarks, sentence
from kglm.paper.cells import (
    PUBLISHED,
    by_dataset,
    classification,
    hyper_parameters,
    in_paper_form,
    link_prediction,
    statistics,
)
from kglm.paper.cost import cost, cost_lines
from kglm.paper.geometry import geometry
from kglm.paper.inputs import find
from kglm.paper.layout import (
    Layout,
    fits_a_page,
    method_lines,
    paper_grids,
    parameter_lines,
    record_lines,
    text_lines,
    to_latex,
    to_markdown,
)
from kglm.paper.letters import with_letters
from kglm.paper.quotations import cases, entities
from kglm.paper.text import latex, markdown, spreadsheet

FLOAT = r"""\begin{{table}}[htbp]
\centering
\caption{{{caption}}}
\label{{tab:{name}}}
\footnotesize\setlength{{\tabcolsep}}{{4pt}}
{tabular}{notes}\end{{table}}
"""
# No float that comes before may come after.
PAGES = r"""\clearpage\begingroup
\footnotesize\setlength{{\tabcolsep}}{{4pt}}
{tabular}{notes}\endgroup
"""
NOTES = r"""\par\smallskip
\begin{{minipage}}{{\linewidth}}\footnotesize\raggedright
{notes}
\end{{minipage}}
"""
# Between grids of one table.
_BELOW = "\\par\\medskip\\centering\n"
_QUOTATIONS = {"cases": cases, "entities": entities, "geometry": geometry}
_CELLS = {
    "link_prediction": link_prediction,
    "classification": classification,
    "statistics": statistics,
    "hyper_parameters": hyper_parameters,
    "cost": cost,
}


def table(spec: dict, inputs: list[Path], out: Path) -> None:
    """Write the table `spec` to <out>.tex (a float, or a longtable where it is long), <out>.csv and <out>.md.

    What is not among `inputs` was not run: its cells are blank, and a note below the table names it.
    """
    frame, layouts, notes = _content(spec, inputs)
    notes = [*notes, *_about_graphs(spec, inputs)]
    caption = " ".join(filter(None, [spec["caption"], f"Scale: {spec['scale']}." if spec.get("scale") else ""]))
    below = NOTES.format(notes="\\\\\n".join(map(latex, notes))) if notes else ""
    if fits_a_page(*layouts) or spec["kind"] in _QUOTATIONS:
        tabular = _BELOW.join(map(to_latex, layouts))
        tex = FLOAT.format(caption=latex(caption), name=spec["name"], tabular=tabular, notes=below)
    else:
        first = to_latex(layouts[0], latex(caption), f"tab:{spec['name']}")
        tabular = _BELOW.join([first, *map(to_latex, layouts[1:])])
        tex = PAGES.format(tabular=tabular, notes=below)
    grids = "\n".join(map(to_markdown, layouts))
    text = "\n".join([f"**{markdown(caption)}**", "", grids, *(f"* {markdown(note)}" for note in notes), ""])
    _write(with_ending(out, "tex"), with_letters(tex))
    _write(with_ending(out, "md"), text)
    _write(with_ending(out, "csv"), spreadsheet(frame))


def _about_graphs(spec: dict, inputs: list[Path]) -> list[str]:
    """What is odd about the graphs of the runs that are shown, a sentence a graph."""
    titles = {block.get("dataset"): block["title"] for block in spec.get("blocks", []) if "title" in block}
    notes = []
    for dataset in spec.get("datasets", []):
        statistics, problems = (find(inputs, f"data/{dataset}/{name}") for name in ("statistics.json", "problems.json"))
        found = remarks(read_json(statistics), read_json(problems) if problems else None) if statistics else {}
        if found:
            notes.append(sentence(titles.get(dataset, dataset), found))
    return notes


def _content(spec: dict, inputs: list[Path]) -> tuple[pd.DataFrame, list[Layout], list[str]]:
    """What the CSV file holds, the lines of the other two, and the notes below."""
    kind = spec["kind"]
    if kind in _QUOTATIONS:
        told = _QUOTATIONS[kind](spec, inputs)
        frame = pd.DataFrame(told.rows, columns=told.titles())
        return frame, [text_lines(told.header, told.rows, told.groups)], told.notes
    if kind not in _CELLS:
        raise InputError(f"unknown kind of table {kind!r}", spec["name"])
    cells, notes = _CELLS[kind](spec, inputs)
    published = cells[PUBLISHED].copy()
    published.insert(0, "table", spec["name"])
    return published, _layouts(kind, cells, spec), notes


def _layouts(kind: str, cells: pd.DataFrame, spec: dict) -> list[Layout]:
    """The grids of a table; parameters and costs have the paper's form unless another is asked for."""
    if kind in ("hyper_parameters", "cost") and spec.get("layout") == "long":
        return [record_lines(cells)]
    if kind == "hyper_parameters":
        return [parameter_lines(cells)]
    if kind == "cost":
        return [cost_lines(cells)]
    cells, metrics = by_dataset(cells) if kind == "classification" else (cells, spec["metrics"])
    if not in_paper_form(spec):
        return [method_lines(cells, metrics)]
    order = [row.get("label", row.get("dataset")) for row in spec["rows"]]
    return paper_grids(cells, metrics, spec.get("headers", {}), order)


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")

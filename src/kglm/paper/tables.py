"""Tables, reported beside reproduced, as LaTeX, CSV and Markdown; each is an entry in the configuration."""

from pathlib import Path

import pandas as pd

from kglm.errors import InputError
from kglm.files import atomic_file
from kglm.paper.cells import PUBLISHED, hyper_parameters, link_prediction, statistics
from kglm.paper.layout import Layout, method_lines, parameter_lines, text_lines, to_latex, to_markdown
from kglm.paper.quotations import cases, entities
from kglm.paper.text import latex, markdown

FLOAT = r"""\begin{{table}}[htbp]
\centering
\caption{{{caption}}}
\label{{tab:{name}}}
\footnotesize\setlength{{\tabcolsep}}{{4pt}}
{tabular}{notes}\end{{table}}
"""
NOTES = r"""\par\smallskip
\begin{{minipage}}{{\linewidth}}\footnotesize\raggedright
{notes}
\end{{minipage}}
"""
_QUOTATIONS = {"cases": cases, "entities": entities}
_CELLS = {"link_prediction": link_prediction, "statistics": statistics, "hyper_parameters": hyper_parameters}


def table(spec: dict, inputs: list[Path], out: Path) -> None:
    """Write the table `spec` to <out>.tex (a float for booktabs and array), <out>.csv and <out>.md.

    What is not among `inputs` was not run: its cells are blank, and a note below the table names it.
    """
    frame, layout, notes = _content(spec, inputs)
    caption = " ".join(filter(None, [spec["caption"], f"Scale: {spec['scale']}." if spec.get("scale") else ""]))
    below = NOTES.format(notes="\\\\\n".join(map(latex, notes))) if notes else ""
    tex = FLOAT.format(caption=latex(caption), name=spec["name"], tabular=to_latex(layout), notes=below)
    text = "\n".join(
        [f"**{markdown(caption)}**", "", to_markdown(layout), *(f"* {markdown(note)}" for note in notes), ""]
    )
    out = Path(out)
    _write(out.with_name(f"{out.name}.tex"), tex)
    _write(out.with_name(f"{out.name}.md"), text)
    _write(out.with_name(f"{out.name}.csv"), frame.to_csv(index=False, lineterminator="\n"))


def _content(spec: dict, inputs: list[Path]) -> tuple[pd.DataFrame, Layout, list[str]]:
    """What the CSV file holds, the lines of the other two, and the notes below."""
    kind = spec["kind"]
    if kind in _QUOTATIONS:
        header, rows, notes = _QUOTATIONS[kind](spec, inputs)
        return pd.DataFrame(rows, columns=header), text_lines(header, rows), notes
    if kind not in _CELLS:
        raise InputError(f"unknown kind of table {kind!r}", spec["name"])
    cells, notes = _CELLS[kind](spec, inputs)
    layout = parameter_lines(cells) if kind == "hyper_parameters" else method_lines(cells, spec["metrics"])
    published = cells[PUBLISHED].copy()
    published.insert(0, "table", spec["name"])
    return published, layout, notes


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")

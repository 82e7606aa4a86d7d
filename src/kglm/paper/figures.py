"""Figures, each as PDF (the same bytes for the same inputs), PNG and a LaTeX float with its caption."""

import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from kglm.errors import InputError
from kglm.files import atomic_file, with_ending
from kglm.paper import charts, degree_charts, run_charts
from kglm.paper.fonts import fonts_for, missing_line
from kglm.paper.letters import with_letters
from kglm.paper.text import latex

# A Figure of its own has no window and no global state: pyplot is never asked for.
FLOAT = r"""\begin{{figure}}[htbp]
\centering
\includegraphics[width={width}\linewidth]{{{path}}}
\caption{{{caption}}}
\label{{fig:{name}}}
\end{{figure}}
"""
_MISSING = re.compile(r"Glyph (\d+) .* missing from")
_KINDS = {
    "similarity": charts.similarity,
    "bars": charts.bars,
    "lines": charts.lines,
    "degrees": degree_charts.degrees,
    "groups": degree_charts.groups,
    "curves": run_charts.curves,
    "clusters": run_charts.clusters,
    "cases": charts.cases,
    "entities": charts.entities,
}


def figure(spec: dict, inputs: list[Path], out: Path) -> None:
    """Draw the figure `spec` to <out>.pdf, <out>.png and <out>.tex, the float that includes the PDF.

    What is not among `inputs` was not run: it is left out, and the caption says so.
    """
    if spec["kind"] not in _KINDS:
        raise InputError(f"unknown kind of figure {spec['kind']!r}", spec["name"])
    out = Path(out)
    drawn, caption, missing = _drawn(spec, inputs, out)
    if missing:  # by the usual font: drawn again with fonts that have the letters
        fonts, nowhere = fonts_for(missing)
        if fonts:
            drawn, caption, _ = _drawn(spec, inputs, out, [font.family for font in fonts])
        if nowhere:
            print(missing_line(spec["name"], nowhere), file=sys.stderr)
    width = min(1.0, round(drawn.get_figwidth() / charts.PAGE_WIDTH, 2))
    path = f"{out.parent.name}/{out.name}.pdf"
    tex = FLOAT.format(width=width, path=path, caption=latex(caption), name=spec["name"])
    with atomic_file(with_ending(out, "tex")) as temporary:
        temporary.write_text(with_letters(tex), "utf-8", newline="\n")


def _drawn(
    spec: dict, inputs: list[Path], out: Path, further_fonts: Sequence[str] = ()
) -> tuple[Figure, str, set[int]]:
    """Draw and save; the figure, its caption, and the letters (code points) that none of the fonts has."""
    style = Path(__file__).with_name("kglm.mplstyle")
    with mpl.style.context(style), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        mpl.rcParams["font.family"] = [*mpl.rcParams["font.family"], *further_fonts]
        drawn = Figure()
        facts = _KINDS[spec["kind"]](spec, inputs, drawn)
        scale = f"Scale: {spec['scale']}." if spec.get("scale") else ""
        caption = " ".join(filter(None, [spec["caption"], *facts, _published(spec, inputs), scale]))
        # Without these entries the files hold no date; the size of the page is that of the figure.
        metadata = {"pdf": {"CreationDate": None, "Title": caption}, "png": {"Description": caption}}
        for ending, about in metadata.items():
            with atomic_file(with_ending(out, ending)) as temporary:
                drawn.savefig(temporary, format=ending, metadata=about)
    missing = set()
    for warning in told:
        if glyph := _MISSING.match(str(warning.message)):
            missing.add(int(glyph[1]))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return drawn, caption, missing


def _published(spec: dict, inputs: list[Path]) -> str:
    """Which of the runs shown were not made here but taken from published ones (spec["published"], their names)."""
    shown = dict.fromkeys(path.parent.name for path in map(Path, inputs) if path.parents[1].name == "runs")
    published = [run for run in shown if run in spec.get("published", [])]
    if not published:
        return ""
    return "Published results." if len(published) == len(shown) else f"Published: {', '.join(published)}."

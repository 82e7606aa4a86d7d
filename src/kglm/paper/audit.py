"""The audit of reported numbers, in the terminal and as a page: what cannot be, and what does not agree."""

import textwrap
from itertools import zip_longest
from pathlib import Path

import pandas as pd

from kglm.files import atomic_file, with_ending
from kglm.paper.claims import claims
from kglm.paper.findings import CHECKS, HITS, SHOWN, Finding, findings
from kglm.paper.layout import Layout, Line, text_lines, to_latex, to_markdown
from kglm.paper.reported import METRICS, reported
from kglm.paper.text import spreadsheet

COLUMNS = ["check", "dataset", "row", "against", "finding"]
CAPTION = "What in the reported numbers cannot be, or does not agree, and what the papers' texts say of them."
TEX = r"""\begingroup
\footnotesize\setlength{{\tabcolsep}}{{4pt}}
{tabular}\endgroup
"""
# Characters of the terminal's columns: dataset, rows, finding.
_WIDTHS = (20, 38, 59)


def audit(file: Path | None = None, /, out: Path | None = None) -> None:
    """Check reported numbers (a CSV file; the package's own unless given) for what cannot be, and print what is found.

    For the package's own file, also what the papers' texts say of their tables (`kglm.paper.claims`) is checked.
    With `out`, the findings also go to <out>.csv, <out>.md and <out>.tex. The columns of the file are those of
    `reported.csv`; rows whose unit is `text` are skipped; the rows of metric `entities` tell how many candidates a
    dataset has at most; a note with "validation split" tells that a row is not on test.
    """
    frame = reported(file)
    found = findings(frame) + ([] if file else claims(frame))
    print(_terminal(found, _told_of(frame, found)))
    if out:
        _write(found, Path(out))


def _told_of(frame: pd.DataFrame, found: list[Finding]) -> str:
    rows = len(frame[frame["unit"] != "text"].groupby(["paper", "table", "dataset", "method"]))
    other = sorted({metric for metric in frame["metric"] if metric not in METRICS and not HITS.fullmatch(metric)})
    borne_out = sum(finding.check == SHOWN for finding in found)
    sentences = f" Sentences that the tables bear out: {borne_out}." if borne_out else ""
    unknown = f" Unknown metrics, of which only the unit was checked: {', '.join(other)}." if other else ""
    return f"Findings: {len(found) - borne_out}, rows: {rows}.{sentences}{unknown}"


def _terminal(found: list[Finding], summary: str) -> str:
    """Findings by check, in columns of wrapped text."""
    lines = []
    for check, of in _by_check(found).items():
        lines += [f"{check}: {CHECKS[check]} ({len(of)})", "-" * (sum(_WIDTHS) + len(_WIDTHS) - 1)]
        for finding in of:
            cells = [
                textwrap.wrap(cell, width, break_on_hyphens=False)
                for cell, width in zip(_cells(finding), _WIDTHS, strict=True)
            ]
            for parts in zip_longest(*cells, fillvalue=""):
                lines.append(" ".join(f"{part:<{width}}" for part, width in zip(parts, _WIDTHS, strict=True)).rstrip())
        lines.append("")
    return "\n".join([*lines, summary])


def _by_check(found: list[Finding]) -> dict[str, list[Finding]]:
    checks: dict[str, list[Finding]] = {}
    for finding in found:
        checks.setdefault(finding.check, []).append(finding)
    return checks


def _cells(finding: Finding) -> list[str]:
    rows = f"{finding.row} — against {finding.against}" if finding.against else str(finding.row)
    return [finding.row.dataset, rows, finding.text]


def _layout(found: list[Finding]) -> Layout:
    empty = text_lines(["Dataset", "Rows", "Finding"], [])
    lines = []
    for check, of in _by_check(found).items():
        lines.append(Line([f"{check}: {CHECKS[check]}"], [""], "section"))
        lines += text_lines(empty.header, [_cells(finding) for finding in of]).lines
    return Layout(empty.header, empty.columns, lines)


def _write(found: list[Finding], out: Path) -> None:
    layout = _layout(found)
    rows = [(f.check, f.row.dataset, str(f.row), str(f.against or ""), f.text) for f in found]
    contents = {
        "csv": spreadsheet(pd.DataFrame(rows, columns=COLUMNS)),
        "md": f"**{CAPTION}**\n\n{to_markdown(layout)}",
        "tex": TEX.format(tabular=to_latex(layout, CAPTION, "tab:audit")) if found else "Nothing was found.\n",
    }
    for ending, text in contents.items():
        with atomic_file(with_ending(out, ending)) as temporary:
            temporary.write_text(text, "utf-8", newline="\n")

"""The stage `report`."""

import base64
import importlib.resources
from pathlib import Path
from typing import NamedTuple

import jinja2
from PIL import Image

from kglm.errors import InputError
from kglm.files import atomic_file
from kglm.paper.document import TITLE, paper_of
from kglm.paper.text import one_line
from kglm.report.cards import cards
from kglm.report.grids import Grid, read_csv, table_grid, text_grid
from kglm.report.queries import queries


class Picture(NamedTuple):
    """A figure: its name, its caption and the PNG file in base64."""

    name: str
    caption: str
    width: int
    height: int
    data: str


def report(
    spec: dict,
    tables: list[Path],
    figures: list[Path],
    runs: list[Path],
    graphs: list[Path],
    out: Path,
    audit: Path | None = None,
) -> None:
    """Write one HTML page of all results: it holds whatever it needs and asks no server for anything.

    tables: .csv files of the stage `table`, each with its .md beside it; figures: .png files; runs: the files
    specs/run/<run>.json and runs/<run>/{run.json,log.jsonl,metrics.json,classification.json,ranks.parquet,
    answers.parquet} of all runs, as far as there are; graphs: graph directories; audit: the table of findings;
    `failures` of the spec: sentences on the jobs that failed, which stand first.
    The same inputs give the same bytes.
    """
    grids = [table_grid(path) for path in tables]
    overview, all_cards = cards(runs)
    findings = text_grid(read_csv(audit), "audit", "Findings", choices=("check", "dataset")) if audit else None
    page = _environment().from_string(_beside("template.html"))
    text = page.render(
        title=one_line(spec.get("title", TITLE)),
        scale=one_line(spec.get("scale", "")),
        failures=[one_line(text) for text in spec.get("failures", [])],
        tables=_by_paper(grids),
        figures=_by_paper([_picture(path) for path in figures]),
        audit=findings,
        runs=overview,
        cards=all_cards,
        known={card.name for card in all_cards},
        queries=queries(runs, graphs),
        style=_beside("report.css"),
        library_style=_library("dt_bundle.css"),
        library=base64.b64encode(_library("dt_bundle.js").encode()).decode(),
        script=_beside("report.js"),
    )
    with atomic_file(out) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")


def _environment() -> jinja2.Environment:
    """Whatever a name holds is escaped, also in the JSON that stands in the page (`tojson`)."""
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def _library(name: str) -> str:
    """DataTables (datatables.net), as the package itables brings it."""
    return (importlib.resources.files("itables") / "html" / name).read_text("utf-8")


def _by_paper(items: list) -> dict[str, list]:
    """Tables, or figures, under the paper they belong to."""
    papers: dict[str, list[Grid | Picture]] = {}
    for item in items:
        papers.setdefault(paper_of(item.name), []).append(item)
    return papers


def _picture(path: Path) -> Picture:
    """A PNG file whose description is its caption."""
    try:
        with Image.open(path) as image:
            (width, height), caption = image.size, image.info.get("Description", "")
    except OSError as error:
        raise InputError(f"not a readable PNG file ({error})", path, "run the stage figure again") from None
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return Picture(Path(path).stem, one_line(caption) or Path(path).stem, width, height, data)

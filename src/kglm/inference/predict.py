"""The stage `predict`: a finished run's answers in the terminal or in a file."""

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pandas as pd

from kglm.errors import InputError
from kglm.files import atomic_file
from kglm.inference.calibration import calibrated
from kglm.inference.finished_run import FinishedRun, Known, Query, load
from kglm.kg.parsers import file_format, read_columns
from kglm.paper.text import one_line, spreadsheet

QUERY = ("head", "relation", "tail")
NEW = ("id", "name", "description")


def predict(
    run: Path,
    /,
    head: str | None = None,
    relation: str | None = None,
    tail: str | None = None,
    text: str | None = None,
    entities: Path | None = None,
    queries: Path | None = None,
    missing: int = 0,
    top: int = 10,
    known: Known = "exclude",
    probability: bool = False,
    format: Literal["table", "tsv", "jsonl", "parquet"] | None = None,
    out: Path | None = None,
    graph: Path | None = None,
    model: Path | None = None,
) -> None:
    """Answer queries by a finished run: give two of head, relation and tail, by id or name.

    run: the folder of a finished run, results/<scale>/runs/<run>
    head: the head of the query, by id or name; leave out what is asked for
    relation: the relation of the query, by id or text
    tail: the tail of the query, by id or name
    text: a new entity that is a text only, and the query's head, or its tail where a head is given
    entities: file of new entities, tab-separated: id, name, description; they are candidates, and queries may name them
    queries: file of queries, tab-separated: head, relation, tail, what is asked for empty; - for standard input
    missing: instead of a query, the N most plausible triples of each relation (or of --relation) that the graph lacks
    top: how many answers
    known: what becomes of answers in train, valid or test: exclude, mark or only
    probability: add probabilities, calibrated on valid
    format: table, tsv, jsonl or parquet; table on a terminal, else tsv
    out: file to write; standard output unless given
    graph: folder of the graph, where it is not that of the run's scale
    model: folder of the base model, where it is not that of the run's scale
    """
    loaded = load(run, graph, model)
    if entities is not None or text is not None:
        loaded = loaded.with_entities(_new_entities(entities, text))
    if text is not None:
        head, tail = (_TEXT_ID, tail) if head is None else (head, _TEXT_ID)
    if missing:
        relations = None if relation is None else [loaded.relations.number(relation)]
        found = loaded.missing(missing, relations)
    else:
        asked = _read_queries(queries, loaded) if queries else [loaded.query(head, relation, tail)]
        found = loaded.answers(asked, top, known)
    if probability:
        calibration = calibrated(loaded)
        found["probability"] = calibration(found["score"].to_numpy())
        print(calibration.told(), file=sys.stderr)
    _write(_with_names(found, loaded), format, out)


_TEXT_ID = "text"


def _new_entities(path: Path | None, text: str | None) -> pd.DataFrame:
    rows = [(_TEXT_ID, "", text)] if text is not None else []
    if text is not None and not text.strip():
        raise InputError("is empty", "option text", "write what the entity is")
    if path is not None:
        for place, row in _rows(path, NEW, loose=True):
            if not row[0] or not any(row[1:]):
                raise InputError("is no id, name and description", place, "write them with tabs between them")
            rows.append(tuple(row))
    frame = pd.DataFrame(rows, columns=NEW)
    if frame["id"].duplicated().any():
        twice = frame.loc[frame["id"].duplicated(), "id"].iloc[0]
        raise InputError("stands twice", f"id {twice!r}", "give each new entity its own")
    return frame


def _read_queries(path: Path, run: FinishedRun) -> list[Query]:
    found = []
    for place, row in _rows(path, QUERY):
        try:
            found.append(run.query(*(part or None for part in row)))
        except InputError as error:
            raise InputError(str(error), place) from None
    return found


def _rows(path: Path, columns: tuple[str, ...], loose: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Where each row of a TSV or CSV file stands, and its cells; empty lines and a header are left out.

    loose: the last columns may be left out.
    """
    with contextlib.ExitStack() as stack:
        file = Path(path)
        if str(path) == "-":
            file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "standard input"
            file.write_text(sys.stdin.read(), "utf-8")
        lines, found = read_columns(file, len(columns), loose=loose, format=file_format(file))
        rows = zip(lines.tolist(), *(column.to_pylist() for column in found), strict=True)
        for line, *cells in rows:
            cells = [cell or "" for cell in cells]
            if tuple(cells) != columns:
                yield f"{path}:{line}", cells


def _with_names(found: pd.DataFrame, run: FinishedRun) -> pd.DataFrame:
    """Names beside the ids, where they differ."""
    entities, relations = (dict(zip(of.ids, of.names, strict=True)) for of in (run.entities, run.relations))
    for column, names in (("tail", entities), ("relation", relations), ("head", entities)):
        shown = found[column].map(names)
        if not shown.equals(found[column]):
            found.insert(found.columns.get_loc(column) + 1, f"{column}_name", shown)
    return found


def _write(found: pd.DataFrame, form: str | None, out: Path | None) -> None:
    form = form or ("table" if out is None and sys.stdout.isatty() else "tsv")
    if form == "parquet":
        if out is None:
            raise InputError("parquet is no text for a terminal", "option format", "give --out a file")
        with atomic_file(out) as temporary:
            found.to_parquet(temporary, index=False)
        return
    text = _as_text(found, form)
    if out is None:
        print(text, end="")
        return
    with atomic_file(out) as temporary:
        temporary.write_text(text, "utf-8", newline="\n")


def _as_text(found: pd.DataFrame, form: str) -> str:
    if form == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found.to_dict("records"))
    if form == "tsv":
        return spreadsheet(found.map(lambda cell: one_line(cell) if isinstance(cell, str) else cell), "\t")
    shown = found.drop(columns=[name[:-5] for name in found if name.endswith("_name")])
    shown = shown.rename(columns=lambda name: name.removesuffix("_name"))
    decimals = {"score": "{:.4g}", "rank": "{:g}", "probability": "{:.3f}"}
    shown = shown.assign(**{name: shown[name].map(how.format) for name, how in decimals.items() if name in shown})
    shown = shown.drop(columns=["asked", *([] if shown["known"].any() else ["known"])])
    return shown.to_string(index=False, max_colwidth=48) + "\n" if len(shown) else "no answer\n"

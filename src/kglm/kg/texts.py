"""Clean texts for entities and relations out of text tables, JSON files or the ids themselves."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kglm.errors import InputError
from kglm.kg.parsers import TEXT, read_columns

_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.|$)", re.DOTALL)
_CHARACTERS = {"n": " ", "r": " ", "t": " ", "": ""}


class TextTable(NamedTuple):
    """ids and their texts, both (n,), in the order of the source; `source` names it."""

    ids: pa.Array
    texts: pa.Array
    source: str


def _unescape(text: str) -> str:
    """Backslash escapes undone; line breaks and tabs become spaces, a lone backslash at the end goes."""

    def character(match: re.Match) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if code[:1] in ("u", "U") and len(code) > 1 else _CHARACTERS.get(code, code)

    return _ESCAPE.sub(character, text)


def _where(texts: pa.Array, mark: str, change: Callable[[str], str]) -> pa.Array:
    """`change` applied to the texts that hold `mark`; the others are not touched one by one."""
    rows = pc.match_substring(texts, mark)
    changed = [change(text) for text in texts.filter(rows).to_pylist()]
    return pc.replace_with_mask(texts, rows, pa.array(changed, TEXT)) if changed else texts


_CLEANING: dict[str, Callable[[pa.Array], pa.Array]] = {
    "underscores": lambda texts: pc.replace_substring(texts, "_", " "),
    "locale_tags": lambda texts: pc.replace_substring_regex(texts, r"-(GB|US)$", ""),
    # a literal of RDF: "Denton is a city."@en
    "literals": lambda texts: pc.replace_substring_regex(texts, r'^"(.*)"(@[A-Za-z-]+)?$', r"\1"),
    "escapes": lambda texts: _where(texts, "\\", _unescape),
    # WordNet's sense names: __land_reform_NN_1
    "senses": lambda texts: pc.replace_substring_regex(texts, r"^__(.+)_[A-Z]+_[0-9]+$", r"\1"),
    # the last part of an address: http://www.wikidata.org/entity/Q42 -> Q42
    "local_names": lambda texts: _where(
        pc.replace_substring_regex(texts, r"^[a-zA-Z][a-zA-Z0-9+.-]*:.*[/#]([^/#]+)[/#]?$", r"\1"),
        "%",
        unquote,
    ),
}


def clean(texts: pa.Array, steps: Iterable[str] = ()) -> pa.Array:
    """The named cleaning steps in order, then white space: trimmed, and each run of it one space."""
    for step in steps:
        texts = _CLEANING[step](texts)
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(texts, r"[\s\pZ]+", " "))


def from_ids(ids: pa.Array, steps: Iterable[str] = ("local_names", "underscores")) -> TextTable:
    """Texts made of the ids: `location_of` is "location of"."""
    return TextTable(ids, clean(ids, steps), "ids")


def read_texts(raw: Path, source: Mapping) -> TextTable:
    """The texts that one entry of `names`, `descriptions` or `relation_texts` asks for."""
    path = Path(raw) / source["file"]
    if path.suffix == ".json":
        ids, texts = _from_json(path, source.get("field"))
    else:
        column, columns = source.get("column", 1), source.get("columns", 2)
        count = column + 1 if columns == "any" else columns
        if column >= count:
            raise InputError(f"column {column} of {count}", path, "columns are counted from 0: id 0, text 1")
        format = source.get("format", "csv" if path.suffix == ".csv" else "tsv")
        header = source.get("header", False)
        _, found = read_columns(path, count, format, header, loose=columns == "any")
        ids, texts = (found[i].combine_chunks() for i in (0, column))
    if "separator" in source:
        before, part = source.get("part", "before") == "before", source["separator"]
        texts = pa.array([_part(text, part, before) for text in texts.to_pylist()], TEXT)
    return TextTable(ids, clean(texts, source.get("clean", ())), source["file"])


def _part(text: str, separator: str, before: bool) -> str:
    first, _, second = text.partition(separator)
    return first if before else second


def _from_json(path: Path, field: str | None) -> tuple[pa.Array, pa.Array]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError("there is no such file", path, "run the stage fetch") from None
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON ({error.msg})", f"{path}:{error.lineno}", "mend the file") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise InputError("bytes that are not UTF-8", f"{path}:{line}", "convert the file to UTF-8") from None
    if not isinstance(content, dict):
        raise InputError("not one JSON object with ids as keys", path)
    values = content.items() if field is None else ((key, value.get(field)) for key, value in content.items())
    found = {key: value for key, value in values if value is not None}
    for key, value in found.items():
        if not isinstance(value, str):
            raise InputError(f"the value of {key} is no text", path, "name the key that holds the text with `field`")
    return pa.array(found.keys(), TEXT), pa.array(found.values(), TEXT)


def assign(ids: pa.Array, tables: Iterable[TextTable]) -> tuple[pa.Array, dict[str, int]]:
    """One text an id: the first that is not empty in the order of the tables, else "". Of an id that stands
    several times in a table the first text counts. Also the number of texts that each table gave.
    """
    texts = pa.array(np.full(len(ids), "", dtype=object), TEXT)
    given = {}
    for table in tables:
        rows = pc.index_in(ids, value_set=table.ids)
        found = pc.fill_null(table.texts.take(rows), "")
        wanted = pc.equal(texts, "")
        texts = pc.if_else(wanted, found, texts)
        used = pc.sum(pc.and_(wanted, pc.not_equal(found, ""))).as_py() or 0
        given[table.source] = given.get(table.source, 0) + used
    return texts, given


def repeated(table: TextTable, ids: pa.Array) -> list[str]:
    """The ids, among `ids`, that stand more than once in a table, sorted."""
    counts = pc.value_counts(table.ids.filter(pc.is_in(table.ids, value_set=ids)))
    return sorted(counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist())

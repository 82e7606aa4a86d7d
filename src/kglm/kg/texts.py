"""Clean texts for entities and relations out of text tables, JSON files or the ids themselves."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kglm.errors import InputError
from kglm.kg.characters import whole
from kglm.kg.compression import plain_name, unpacked
from kglm.kg.parsers import TEXT, file_format, read_columns

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
        if code[:1] not in ("u", "U") or len(code) == 1:
            return _CHARACTERS.get(code, code)
        number = int(code[1:], 16)
        return chr(number) if number <= sys.maxunicode else "\ufffd"

    return whole(_ESCAPE.sub(character, text))


def _where(texts: pa.Array, mark: str, change: Callable[[str], str]) -> pa.Array:
    """`change` applied to the texts that hold `mark`; the others are not touched one by one."""
    rows = pc.match_substring(texts, mark)
    changed = [change(text) for text in texts.filter(rows).to_pylist()]
    return pc.replace_with_mask(texts, rows, pa.array(changed, TEXT)) if changed else texts


_CLEANING: dict[str, Callable[[pa.Array], pa.Array]] = {
    "underscores": lambda texts: pc.replace_substring(texts, "_", " "),
    "locale_tags": lambda texts: pc.replace_substring_regex(texts, r"-(GB|US)$", ""),
    # a literal of RDF: "Denton is a city."@en
    "literals": lambda texts: pc.replace_substring_regex(texts, r'^"(.*)"(@[A-Za-z]+(-[A-Za-z0-9]+)*)?$', r"\1"),
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
    """Texts made of the ids: `location_of` is "location of"; an id of which nothing would be left stays as it is."""
    texts = clean(ids, steps)
    return TextTable(ids, pc.if_else(pc.equal(texts, ""), ids, texts), "ids")


def read_texts(raw: Path, source: Mapping) -> TextTable:
    """The texts that one entry of `names`, `descriptions` or `relation_texts` asks for."""
    path = Path(raw) / source["file"]
    if plain_name(path.name).endswith(".json"):
        ids, texts = _from_json(path, source.get("field"))
    else:
        column, columns = source.get("column", 1), source.get("columns", 2)
        count = column + 1 if columns == "any" else columns
        if column >= count:
            raise InputError(f"column {column} of {count}", path, "columns are counted from 0: id 0, text 1")
        format = source.get("format", "csv" if file_format(path) == "csv" else "tsv")
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
    content = _json(path)
    wanted = f'one object {{"id": {{"{field}": "text"}}}}' if field else 'one object {"id": "text"}'
    remedy = f"write {wanted}, or a table of id and text"
    if not isinstance(content, dict):
        what = "a JSON list" if isinstance(content, list) else "a single value"
        if isinstance(content, list) and content and isinstance(content[0], dict):
            what += f" of objects with the keys {', '.join(map(str, content[0]))}"
        raise InputError(f"{what}, not one object with ids as keys", path, remedy)
    found = {}
    for key, value in content.items():
        if field is not None and value is not None and not isinstance(value, dict):
            raise InputError(f"the value of {key} is no object, so it has no `field` {field}", path, remedy)
        text = value if field is None or value is None else value.get(field)
        if text is None:
            continue
        if not isinstance(text, str):
            keys = f" (its keys are {', '.join(map(str, text))})" if isinstance(text, dict) else ""
            what = f"the value of {key} is no text{keys}"
            raise InputError(what, path, "name the key that holds the text with `field`" if keys else remedy)
        found[whole(key)] = whole(text)
    return pa.array(found.keys(), TEXT), pa.array(found.values(), TEXT)


def _json(path: Path) -> object:
    """The content of a JSON file, compressed or not."""
    if not path.is_file():
        raise InputError("there is no such file", path, "run the stage fetch")
    content = unpacked(path)
    content = path.read_bytes() if content is None else content
    try:
        return json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON ({error.msg})", f"{path}:{error.lineno}", "mend the file") from None
    except RecursionError:
        raise InputError("JSON that is nested too deeply", path, "write one object with ids as keys") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError("bytes that are not UTF-8", f"{path}:{line}", "convert the file to UTF-8") from None


def assign(ids: pa.Array, tables: Iterable[TextTable]) -> tuple[pa.Array, dict[str, int]]:
    """One text an id: the first that is not empty in the order of the tables, else "". Of an id that stands
    several times in a table the first that is not empty counts. Also the number of texts that each table gave.
    """
    texts = pa.array(np.full(len(ids), "", dtype=object), TEXT)
    given = {}
    for table in tables:
        filled = pc.not_equal(table.texts, "")
        rows = pc.index_in(ids, value_set=table.ids.filter(filled))
        found = pc.fill_null(table.texts.filter(filled).take(rows), "")
        wanted = pc.equal(texts, "")
        texts = pc.if_else(wanted, found, texts)
        used = pc.sum(pc.and_(wanted, pc.not_equal(found, ""))).as_py() or 0
        given[table.source] = given.get(table.source, 0) + used
    return texts, given


def repeated(table: TextTable, ids: pa.Array) -> list[str]:
    """The ids, among `ids`, that stand more than once in a table, sorted."""
    counts = pc.value_counts(table.ids.filter(pc.is_in(table.ids, value_set=ids)))
    return sorted(counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist())

"""Triple files and text tables, as their publishers wrote them, into columns. Everything is read as text.

Tab-separated files are read without a Python loop over lines (Wikidata5M has 20.6 million); quotes mean
nothing in them, since benchmark texts hold stray ones. CSV, N-Triples and Turtle go through their libraries.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kglm.errors import InputError
from kglm.kg.compression import plain_name, unpacked

FORMATS = {
    **{".tsv": "tsv", ".txt": "tsv", ".csv": "csv"},
    **{".nt": "ntriples", ".nq": "nquads", ".ttl": "turtle"},
}
TEXT = pa.large_string()
_CHUNK = 1 << 20  # lines split at once
_NAMES = ("head", "relation", "tail", "label")
# What people call the three columns, in small letters and without "_id", "_name" and the like.
_TITLES = (
    frozenset(["head", "h", "subject", "subj", "s", "source", "src", "from", "start"]),
    frozenset(["relation", "rel", "r", "predicate", "pred", "p", "edge", "property", "type", "relationship"]),
    frozenset(["tail", "t", "object", "obj", "o", "target", "tgt", "dst", "destination", "to", "end"]),
)
_QUOTED = re.compile(r'(^|,)[ \t]*("(?:[^"]|"")*")[ \t]*(?=,|$)')  # a cell in quotes, and the spaces around it
csv.field_size_limit(1 << 30)  # of a cell; Python's 131,072 are fewer than a long article has


class Triples(NamedTuple):
    """Columns of n triples in file order. `texts` holds (id, "name" or "description", text) found in RDF."""

    head: pa.ChunkedArray
    relation: pa.ChunkedArray
    tail: pa.ChunkedArray
    label: np.ndarray  # int8, 1 or -1
    line: np.ndarray  # int64, 0 where the format has no lines
    texts: list[tuple[str, str, str]]
    literals: int  # RDF statements left out because their object is no entity


def read_triples(path: Path, format: str | None = None, labelled: bool = False, header: bool | None = None) -> Triples:
    """Read a triple file. InputError names file and line for undecodable bytes, a wrong column count, an
    empty cell and a label that is neither 1 nor -1; and the file that holds no triples.

    header: whether the first line names the columns; None refuses a first line that looks like it.
    """
    format = format or file_format(path)
    if format in ("ntriples", "nquads", "turtle"):
        from kglm.kg.rdf import read_rdf

        rows, texts, literals = read_rdf(path, format)
        lines, columns = _transposed(rows, 3)
    else:
        texts, literals = [], 0
        count = 4 if labelled else 3
        lines, columns = read_columns(path, count, format=format, header=bool(header), ends_in_text=False)
        if header is None and len(lines):
            _refuse_header([column[0].as_py() for column in columns[:3]], path, lines[0])
    if not len(lines):
        raise InputError("holds no triples", path, "give the file of a split that has some, or mend the download")
    for name, column in zip(_NAMES, columns, strict=False):
        _refuse_empty(column, name, path, lines)
    label = _labels(columns[3], path, lines) if labelled else np.ones(len(lines), np.int8)
    coded = [column.dictionary_encode().unify_dictionaries() for column in columns[:3]]
    return Triples(*coded, label, lines, texts, literals)


def file_format(path: Path) -> str:
    """The format that the ending of a file's name tells, .csv.gz as .CSV; tab-separated unless it is a known one."""
    return FORMATS.get(PurePath(plain_name(PurePath(path).name)).suffix, "tsv")


def _refuse_header(cells: list[str], path: Path, line: int) -> None:
    words = [re.sub(r"[^a-z0-9]", "", re.sub(r"[\W_]*(id|ids|name|label)$", "", cell.lower())) for cell in cells]
    if all(word in titles for word, titles in zip(words, _TITLES, strict=True)):
        what = f"the first line ({', '.join(cells)}) looks like the columns' names"
        remedy = "write `header: true` in the entry's `splits`, or, if it is a triple, `header: false`"
        raise InputError(what, f"{path}:{line}", remedy)


def read_columns(
    path: Path,
    count: int,
    format: str = "tsv",
    header: bool = False,
    loose: bool = False,
    ends_in_text: bool = True,
) -> tuple[np.ndarray, list[pa.ChunkedArray]]:
    """Line numbers (n,) and the first `count` columns of a TSV or CSV file; cells are trimmed.

    Blank lines are passed over. `loose` allows further columns, and fewer; `ends_in_text` keeps an empty last column,
    which otherwise counts as trailing white space.
    """
    if format == "csv":
        lines, columns = _transposed(_csv_rows(path, count, loose, ends_in_text), count)
    else:
        lines, columns = _tsv_columns(path, count, loose, ends_in_text)
    return (lines[1:], [column[1:] for column in columns]) if header else (lines, columns)


def read_lines(path: Path) -> pa.LargeStringArray:
    """The lines of a UTF-8 file without LF or CRLF, blank ones included; element i is line i + 1.

    A compressed file's lines are those of its content.
    """
    buffer = _read_buffer(Path(path))
    size = buffer.size
    if size == 0:
        return pa.array([], TEXT)
    content = np.frombuffer(buffer, np.uint8)
    ends = np.concatenate([np.flatnonzero(part == 10) + at for at, part in _parts(content)]).astype(np.int64)
    start = 3 if bytes(content[:3]) == b"\xef\xbb\xbf" else 0
    offsets = np.concatenate([[start], ends + 1, [size] if not len(ends) or ends[-1] + 1 < size else []])
    lines = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets.astype(np.int64)), buffer)
    try:
        lines.validate(full=True)
    except pa.ArrowInvalid:
        _refuse_undecodable(buffer.to_pybytes(), path)
        raise
    return pc.ascii_rtrim(lines, characters="\r\n")


def _read_buffer(path: Path) -> pa.Buffer:
    if not path.is_file():
        raise InputError("there is no such file", path, "run the stage fetch")
    if path.stat().st_size == 0:
        return pa.py_buffer(b"")
    if (content := unpacked(path)) is not None:
        return pa.py_buffer(content)
    with pa.memory_map(str(path)) as file:
        return file.read_buffer()


def _parts(content: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    step = 1 << 26
    return ((at, content[at : at + step]) for at in range(0, len(content), step))


def _refuse_undecodable(content: bytes, path: Path) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise InputError(f"{byte} is not UTF-8", f"{path}:{line}", "convert the file to UTF-8") from None


def _tsv_columns(path: Path, count: int, loose: bool, ends_in_text: bool) -> tuple[np.ndarray, list[pa.ChunkedArray]]:
    lines = read_lines(path)
    numbers, columns = [], [[] for _ in range(count)]
    for start in range(0, len(lines), _CHUNK):
        chunk = lines.slice(start, _CHUNK)
        trimmed = pc.ascii_trim_whitespace(chunk)
        kept = np.flatnonzero(pc.not_equal(trimmed, "").to_numpy(zero_copy_only=False))
        filled = (chunk if ends_in_text else trimmed).take(pa.array(kept))
        padding = pa.scalar("\t" * (count - 1) if loose else "", TEXT)
        cells = pc.split_pattern(pc.binary_join_element_wise(filled, padding, pa.scalar("", TEXT)), "\t")
        widths = pc.list_value_length(cells).to_numpy()
        wrong = np.flatnonzero(widths != count)
        if len(wrong) and not loose:
            _refuse_width(widths[wrong[0]], count, f"{path}:{start + kept[wrong[0]] + 1}", ends_in_text)
        numbers.append(start + kept + 1)
        for number, column in enumerate(columns):
            column.append(pc.utf8_trim_whitespace(pc.list_element(cells, number)))
    return _concatenated(numbers), [pa.chunked_array(column, TEXT) for column in columns]


def _csv_rows(path: Path, count: int, loose: bool, is_text: bool) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line that each ends on; a cell may stand in quotes with spaces around them."""
    reader, begun = csv.reader(map(_without_outer_spaces, read_lines(path).to_pylist()), strict=True), 1
    try:
        for row in reader:
            begun = reader.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != count and not loose:
                _refuse_width(len(row), count, f"{path}:{reader.line_num}", is_text)
            yield reader.line_num, [cell.strip() for cell in [*row, *[""] * count][:count]]
    except csv.Error as error:
        if "field limit" in str(error):
            what, remedy = f"a cell has more than {csv.field_size_limit():,} characters", "mend the quotes, or cut it"
        elif reader.line_num > begun:
            what, remedy = f"not CSV ({error} in line {reader.line_num})", "close the quote that this line opens"
        else:
            what, remedy = f"not CSV ({error})", 'write each cell as "cell" and a quote inside it as ""'
        raise InputError(what, f"{path}:{begun}", remedy) from None


def _without_outer_spaces(line: str) -> str:
    """A line of CSV without the spaces between a comma and a quote, in which the quote would mean nothing."""
    return (_QUOTED.sub(r"\1\2", line) if '"' in line else line) + "\n"


def _transposed(rows, count: int) -> tuple[np.ndarray, list[pa.ChunkedArray]]:
    rows = list(rows)
    numbers = np.array([line for line, _ in rows], np.int64)
    return numbers, [pa.chunked_array([pa.array([row[i] for _, row in rows], TEXT)]) for i in range(count)]


def _concatenated(numbers: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(numbers) if numbers else np.zeros(0, np.int64)


def _refuse_width(found: int, count: int, where: str, is_text: bool) -> None:
    remedy = "mend the line or its separators"
    if is_text and found > count:
        remedy = (
            f"say `columns: {found}` in the text's entry (`column` is the one with the text, counted from 0), or "
            "`columns: any`, which drops what stands behind the text; separators inside a text have to go"
        )
    raise InputError(f"{found} columns, expected {count}", where, remedy)


def _refuse_empty(column: pa.ChunkedArray, name: str, path: Path, lines: np.ndarray) -> None:
    empty = pc.equal(column, "")
    if pc.any(empty).as_py():
        line = lines[pc.index(empty, True).as_py()]
        raise InputError(f"the {name} is empty", f"{path}:{line}", "fill it in or remove the line")


def _labels(column: pa.ChunkedArray, path: Path, lines: np.ndarray) -> np.ndarray:
    true = pc.equal(column, "1").to_numpy()
    false = pc.equal(column, "-1").to_numpy()
    neither = np.flatnonzero(~(true | false))
    if len(neither):
        text = column[neither[0]].as_py()
        raise InputError(f"the label is {text!r}, expected 1 or -1", f"{path}:{lines[neither[0]]}", "mend the label")
    return np.where(true, 1, -1).astype(np.int8)

"""Corpora: passages of running text for anisotropy, similarity and perplexity; MMLU's questions."""

import csv
import io
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from kglm.artefacts import QUESTIONS, write_parquet
from kglm.errors import InputError
from kglm.files import atomic_file, check_folder, claim_files
from kglm.kg.compression import unpacked_limit
from kglm.kg.configuration import check
from kglm.kg.parsers import read_lines
from kglm.kg.sources import check_fetched, refuse_unsafe

_HEADING = re.compile(r"(= )+.+( =)+")
_SENTENCE_END = re.compile(r"(?<= [.!?]) (?=\S)")  # WikiText's tokens stand apart
_MMLU_FILE = re.compile(r"(?:.*/)?(dev|test)/([a-z0-9_]+)_(?:dev|test)\.csv")


def corpus(spec: dict, raw: Path, out: Path) -> None:
    """Write test.txt and perhaps train.txt, one passage a line; for MMLU questions.parquet.

    `spec` is a corpus entry, `raw` the folder that `fetch` wrote. No passage of test.txt is in train.txt;
    repeated ones stay, except where `test_every` deals them out.
    """
    check(spec, "corpus")
    check_fetched(raw)
    raw, out = Path(raw), Path(out)
    check_folder(out)
    if spec["format"] == "mmlu":
        questions = _questions(raw, spec["files"])
        claim_files(out, ["questions.parquet"])
        write_parquet(questions, out / "questions.parquet", QUESTIONS)
        return
    test = _passages(spec, raw, spec.get("test", list(spec["files"])))
    train = _passages(spec, raw, spec.get("train", []))
    if every := spec.get("test_every"):
        distinct = list(dict.fromkeys(test))
        train, test = [text for at, text in enumerate(distinct) if at % every], distinct[::every]
    held_out = set(test)
    train = [text for text in train if text not in held_out]
    if not test:
        raise InputError("no passage is left", f"corpus {spec.get('name', '')}", "lower `minimum_words`")
    claim_files(out, ["train.txt", "test.txt"])
    if train:
        _write_lines(train, out / "train.txt")
    _write_lines(test, out / "test.txt")


def _passages(spec: Mapping, raw: Path, names: list[str]) -> list[str]:
    """The passages of files in order, those with at least `minimum_words` words."""
    whole, split = _READERS[spec["format"]]
    found = []
    for name in names:
        passages = whole(raw / name, spec.get("headings", False))
        if spec.get("unit") == "sentence":
            passages = [sentence for passage in passages for sentence in split(passage)]
        found += passages
    least = spec.get("minimum_words", 1)
    return [text for text in found if len(text.split()) >= least]


def _wikitext(path: Path, headings: bool) -> list[str]:
    """The lines with text, as they stand. Headings are between blank lines; others may look like them."""
    lines = ["", *(line.strip() for line in read_lines(path).to_pylist()), ""]
    return [
        line
        for before, line, after in zip(lines, lines[1:], lines[2:], strict=False)
        if line and (headings or before or after or not _HEADING.fullmatch(line))
    ]


def _plain_lines(path: Path, headings: bool) -> list[str]:
    return [" ".join(line.split()) for line in read_lines(path).to_pylist() if line.strip()]


def _rst(path: Path, headings: bool) -> list[str]:
    from kglm.kg.prose import rst_paragraphs

    return rst_paragraphs(path)


def _prose_sentences(text: str) -> list[str]:
    from kglm.kg.prose import is_prose, sentences

    return [sentence for sentence in sentences(text) if is_prose(sentence)]


_READERS: dict[str, tuple[Callable[[Path, bool], list[str]], Callable[[str], list[str]]]] = {
    "wikitext": (_wikitext, _SENTENCE_END.split),
    "lines": (_plain_lines, _prose_sentences),
    "rst": (_rst, _prose_sentences),
}


def _write_lines(lines: list[str], path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _questions(raw: Path, names: Mapping) -> pd.DataFrame:
    """All questions of tar archives, which stay packed: dev before test, by subject, in file order."""
    parts = []
    for name in names:
        try:
            with tarfile.open(raw / name) as archive:
                for info in archive:
                    refuse_unsafe(info, name)
                    if (match := _MMLU_FILE.fullmatch(info.name)) and info.isreg():
                        if info.size > unpacked_limit(raw / name):
                            raise InputError(f"its member {info.name} has {info.size:,} bytes", raw / name, "mend it")
                        content = archive.extractfile(info).read()
                        parts.append(_subject(content, f"{name}/{info.name}", *match.groups()))
        except (FileNotFoundError, tarfile.TarError) as error:
            what = f"not a readable archive ({error})"
            raise InputError(what, raw / name, "run the stage fetch again") from None
    if not parts:
        raise InputError("no member is named test/<subject>_test.csv or the like", raw, "see the entry's files")
    return pd.concat(parts).sort_values(["split", "subject"], kind="stable", ignore_index=True)


def _subject(content: bytes, where: str, split: str, subject: str) -> pd.DataFrame:
    """Both layouts: with a header and answers 0 to 3, and the original without header and with A to D.

    Cells stay as they are: "None" is a choice, and some questions hold line breaks and outer white space.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError("bytes that are not UTF-8", f"{where}:{line}", "mend the archive") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            if row[:1] == ["question"] and reader.line_num == 1:
                continue
            if len(row) != 6 or row[5] not in _ANSWERS:
                what = "expected a question, four choices and an answer (0 to 3 or A to D)"
                raise InputError(what, f"{where}:{reader.line_num}", "mend the line")
            rows.append((subject, split, row[0], row[1:5], _ANSWERS[row[5]]))
    except csv.Error as error:
        raise InputError(f"not CSV ({error})", f"{where}:{reader.line_num}", "mend the quotes") from None
    return pd.DataFrame(rows, columns=QUESTIONS.names)


_ANSWERS = {answer: number for answers in ("0123", "ABCD") for number, answer in enumerate(answers)}

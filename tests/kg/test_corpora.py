import io
import tarfile

import pytest

from kglm.artefacts import QUESTIONS, read_parquet
from kglm.errors import InputError
from kglm.kg import compression
from kglm.kg.corpora import corpus
from kglm.kg.prose import is_prose, rst_paragraphs, sentences

WIKITEXT = "\n".join(
    [
        " ",
        " = Robert Boulter = ",
        " ",
        " Robert Boulter is an English actor . He had a role @-@ play in 2000 . ",
        " The motor has an impedance ",
        " = 1 rad / s and is <unk> . ",
        " ",
        " = = Career = = ",
        " ",
        " ",
        " In 2000 Boulter starred . ",
        " ",
    ]
)
RST = """
.. _toy:

Toy dataset
-----------

**Data Set Characteristics:**

:Number of Instances: 178

======  =====
 Min     Max
======  =====
11.0     14.8
======  =====

The first paragraph cites work [1]_ and uses :func:`fetch <toy.fetch>` well. It was made
by R. A. Fisher, e.g. in 1936::

    >>> print(1)

- A list item is prose as well, it seems.

.. dropdown:: Usage

  The usage is described here in words.

.. dropdown:: References

  Nobody reads this sentence at all.

.. rubric:: References

.. [1] Fisher, R. A. This is a footnote.

* Some reference in a list. It has sentences.
"""


def run(tmp_path, files, **entry):
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    for name, content in files.items():
        (raw / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    corpus({"name": "c", "files": {name: "-" for name in files}} | entry, raw, tmp_path / "out")
    return {path.stem: path.read_text("utf-8").splitlines() for path in (tmp_path / "out").glob("*.txt")}


def test_wikitext_paragraphs(tmp_path):
    assert run(tmp_path, {"t": WIKITEXT}, format="wikitext") == {
        "test": [
            "Robert Boulter is an English actor . He had a role @-@ play in 2000 .",
            "The motor has an impedance",
            "= 1 rad / s and is <unk> .",
            "In 2000 Boulter starred .",
        ]
    }


def test_wikitext_headings_and_sentences(tmp_path):
    found = run(tmp_path, {"t": WIKITEXT}, format="wikitext", headings=True)["test"]
    assert (found[0], found[4]) == ("= Robert Boulter =", "= = Career = =")
    found = run(tmp_path, {"t": WIKITEXT}, format="wikitext", unit="sentence", minimum_words=5)["test"]
    assert found[:2] == ["Robert Boulter is an English actor .", "He had a role @-@ play in 2000 ."]


def test_train_and_test_files(tmp_path):
    files = {"a": "one two\nthree four\n", "b": "three four\nfive six\n"}
    found = run(tmp_path, files, format="lines", train=["a"], test=["b"])
    assert found == {"train": ["one two"], "test": ["three four", "five six"]}


def test_every_third_passage_is_held_out(tmp_path):
    lines = [f"passage {number}" for number in range(7)]
    found = run(tmp_path, {"a": "\n".join([*lines, "passage 1"])}, format="lines", test_every=3)
    assert found["test"] == ["passage 0", "passage 3", "passage 6"]
    assert found["train"] == ["passage 1", "passage 2", "passage 4", "passage 5"]


def test_an_empty_corpus_is_refused(tmp_path):
    with pytest.raises(InputError, match="no passage is left"):
        run(tmp_path, {"a": "one two\n"}, format="lines", minimum_words=3)
    assert not (tmp_path / "out").exists()


def test_prose_of_restructured_text(tmp_path):
    (tmp_path / "t.rst").write_text(RST)
    assert rst_paragraphs(tmp_path / "t.rst") == [
        "Data Set Characteristics:",
        "The first paragraph cites work and uses fetch well. It was made by R. A. Fisher, e.g. in 1936:",
        "A list item is prose as well, it seems.",
        "The usage is described here in words.",
    ]


def test_sentences():
    text = 'Dr. No met R. A. Fisher et al. in the U.S. He said "Stop." Then (why?) all left! The end.'
    assert sentences(text) == [
        'Dr. No met R. A. Fisher et al. in the U.S. He said "Stop."',
        "Then (why?) all left!",
        "The end.",
    ]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("This is one.", True),
        ("this is none.", False),
        ("This is no end", False),
        ("See https://x.org for more.", False),
        ("Set x = 3.", False),
        ("In 1 2 3 4 5 6 7 8 9.", False),
    ],
)
def test_what_counts_as_prose(sentence, expected):
    assert is_prose(sentence) is expected


def archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


HEADER = b"question,choice0,choice1,choice2,choice3,answer\n"


def questions(tmp_path, members):
    run(tmp_path, {"m.tar": archive(members)}, format="mmlu")
    return read_parquet(tmp_path / "out" / "questions.parquet", QUESTIONS)


def test_mmlu_in_both_layouts(tmp_path):
    members = {
        "mmlu/test/law_test.csv": HEADER + b'"Two\r\nlines, ",None,b,c,"d ""x""",2\n',
        "mmlu/dev/law_dev.csv": b"Q,a,b,c,d,D\n",
        "data/auxiliary_train/other.csv": b"not,read",
        "data/README.txt": b"",
    }
    found = questions(tmp_path, members)
    assert found["split"].tolist() == ["dev", "test"]
    assert found["question"].tolist() == ["Q", "Two\r\nlines, "]
    assert [list(row) for row in found["choices"]] == [["a", "b", "c", "d"], ["None", "b", "c", 'd "x"']]
    assert found["answer"].tolist() == [3, 2]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"test/law_test.csv": b"Q,a,b,c,d,A\nQ,a,b,c,A\n"}, r"test/law_test\.csv:2: expected a question"),
        ({"test/law_test.csv": b"Q,a,b,c,d,E\n"}, r"test/law_test\.csv:1: expected"),
        ({"test/law_test.csv": b"Q,a,b,c,\xff,A\n"}, r"law_test\.csv:1: bytes that are not UTF-8"),
        ({"../law_test.csv": b""}, "climbs out of its folder"),
        ({"other.csv": b""}, "no member is named"),
    ],
)
def test_bad_question_archives(tmp_path, members, message):
    with pytest.raises(InputError, match=message):
        questions(tmp_path, members)
    assert not (tmp_path / "out").exists()


def test_a_member_that_grows_beyond_all_questions_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("kglm.kg.compression._UNPACKED", 1000)
    monkeypatch.setattr(compression, "_RATIO", 0)
    with pytest.raises(InputError, match=r"its member test/law_test\.csv has 6,000 bytes"):
        questions(tmp_path, {"test/law_test.csv": 6000 * b" "})


def test_a_damaged_archive(tmp_path):
    with pytest.raises(InputError, match="not a readable archive"):
        run(tmp_path, {"m.tar": b"nonsense" * 99}, format="mmlu")

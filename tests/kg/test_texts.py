import gzip
import json
import lzma

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.kg.characters import whole
from kglm.kg.texts import assign, clean, from_ids, read_texts, repeated

TEXT = pa.large_string()


def cleaned(text, *steps):
    return clean(pa.array([text], TEXT), steps)[0].as_py()


@pytest.mark.parametrize(
    ("text", "steps", "expected"),
    [
        ("Gary_Rydstrom", ["underscores"], "Gary Rydstrom"),
        ("Actor-GB", ["locale_tags"], "Actor"),
        ("Airport-US", ["locale_tags"], "Airport"),
        ("Actor-GB band", ["locale_tags"], "Actor-GB band"),
        (r"Pel\u00E9", ["escapes"], "Pelé"),
        (r"Federico \"Rico\" Suave", ["escapes"], 'Federico "Rico" Suave'),
        (r"one\ntwo\rthree\tfour", ["escapes"], "one two three four"),
        ("cut inside a quote \\", ["escapes"], "cut inside a quote"),
        (r"a \\ b", ["escapes"], "a \\ b"),
        (r"kept \"as is\"", [], r"kept \"as is\""),
        ("  two   spaces\u00a0and more \t", [], "two spaces and more"),
        ("__land_reform_NN_1", ["senses", "underscores"], "land reform"),
        ("_hypernym", ["underscores"], "hypernym"),
        ("http://dbpedia.org/resource/S%C3%A3o_Paulo", ["local_names", "underscores"], "São Paulo"),
        ("http://www.w3.org/2000/01/rdf-schema#label", ["local_names"], "label"),
        ("/m/06rf7", ["local_names"], "/m/06rf7"),
        (r'"Kiel is a \"port\".\n\nIt lies north."@en', ["literals", "escapes"], 'Kiel is a "port". It lies north.'),
        ('"Kiel"', ["literals"], "Kiel"),
        ('"Kiel"@zh-Hans-CN', ["literals"], "Kiel"),
        ('"Kiel"@es-419', ["literals"], "Kiel"),
        ('He said "Kiel"', ["literals"], 'He said "Kiel"'),
    ],
)
def test_cleaning(text, steps, expected):
    assert cleaned(text, *steps) == expected


def table(tmp_path, content, name="texts.txt", **source):
    (tmp_path / name).write_bytes(content.encode())
    found = read_texts(tmp_path, {"file": name} | source)
    return dict(zip(found.ids.to_pylist(), found.texts.to_pylist(), strict=True))


def test_a_table_without_final_newline(tmp_path):
    assert table(tmp_path, "01\tone\n02\ttwo") == {"01": "one", "02": "two"}


def test_lemma_and_gloss_part_at_the_first_comma(tmp_path):
    content = 'x\trun, a score, "a run, scored"\n'
    assert table(tmp_path, content, separator=", ", part="before") == {"x": "run"}
    assert table(tmp_path, content, separator=", ", part="after") == {"x": 'a score, "a run, scored"'}


def test_a_line_without_separator_is_all_name(tmp_path):
    content = "x\tSchleswig -- a state -- in Germany\ny\tKiel\n"
    assert table(tmp_path, content, separator=" -- ") == {"x": "Schleswig", "y": "Kiel"}
    assert table(tmp_path, content, separator=" -- ", part="after") == {"x": "a state -- in Germany", "y": ""}


def test_three_column_definitions(tmp_path):
    content = "01\t__stool_NN_2\tsolid matter\n"
    assert table(tmp_path, content, columns=3, column=2) == {"01": "solid matter"}
    assert table(tmp_path, content, columns=3, clean=["senses", "underscores"]) == {"01": "stool"}
    with pytest.raises(InputError, match=r"texts\.txt:1: 3 columns, expected 2"):
        table(tmp_path, content)


def test_aliases_of_any_number(tmp_path):
    assert table(tmp_path, "Q1\tone\tuno\nQ2\n", columns="any") == {"Q1": "one", "Q2": ""}


def test_json(tmp_path):
    content = json.dumps({"a": {"description": "first"}, "b": {"label": "B"}, "c": {"description": None}})
    assert table(tmp_path, content, "w.json", field="description") == {"a": "first"}
    assert table(tmp_path, json.dumps({"r": "text"}), "w.json") == {"r": "text"}
    with pytest.raises(InputError, match="is no text"):
        table(tmp_path, content, "w.json")
    with pytest.raises(InputError, match=r"w\.json:1: not JSON"):
        table(tmp_path, "{", "w.json")


def test_csv_with_header(tmp_path):
    assert table(tmp_path, 'id,text\na,"one, two"\n', "t.csv", header=True) == {"a": "one, two"}


def test_the_first_text_counts(tmp_path):
    (tmp_path / "t.txt").write_text("a\tfirst\na\tsecond\nb\t\n")
    (tmp_path / "u.txt").write_text("b\tother\na\tthird\n")
    ids = pa.array(["a", "b", "c"], TEXT)
    one, two = (read_texts(tmp_path, {"file": name}) for name in ("t.txt", "u.txt"))
    texts, given = assign(ids, [one, two])
    assert texts.to_pylist() == ["first", "other", ""]
    assert given == {"t.txt": 1, "u.txt": 1}
    assert repeated(one, ids) == ["a"]


def test_texts_from_ids():
    found = from_ids(pa.array(["location_of", "http://x/part_of"], TEXT))
    assert found.texts.to_pylist() == ["location of", "part of"]
    # an id of which cleaning leaves nothing is its own text
    assert from_ids(pa.array(["_", "a_"], TEXT)).texts.to_pylist() == ["_", "a"]


def test_an_empty_text_hides_no_later_one_of_its_id(tmp_path):
    (tmp_path / "t.txt").write_text("a\t\na\tsecond\nb\t\n")
    table = read_texts(tmp_path, {"file": "t.txt"})
    texts, given = assign(pa.array(["a", "b"], TEXT), [table])
    assert (texts.to_pylist(), given) == (["second", ""], {"t.txt": 1})


@pytest.mark.parametrize(
    ("content", "source", "message"),
    [
        ('[{"entity_id": "a", "entity": "A"}]', {}, r"a JSON list of objects with the keys entity_id, entity, not"),
        ("[1]", {"field": "d"}, r'a JSON list, not one object .*; write one object \{"id": \{"d": "text"\}\}'),
        ('"a"', {}, r'a single value, .*; write one object \{"id": "text"\}, or a table'),
        ('{"a": "A"}', {"field": "d"}, r"the value of a is no object, so it has no `field` d"),
        ('{"a": [1]}', {}, r"the value of a is no text; write"),
        ('{"a": {"d": 1}}', {"field": "d"}, r"the value of a is no text"),
        ('{"a": {"d": "A", "e": ""}}', {}, r"the value of a is no text \(its keys are d, e\); name the key"),
        ("[" * 100_000, {}, r"JSON that is nested too deeply"),
    ],
)
def test_json_of_another_shape_is_told_in_one_line(tmp_path, content, source, message):
    with pytest.raises(InputError, match=rf"w\.json: {message}"):
        table(tmp_path, content, "w.json", **source)


def test_null_in_json_is_no_text(tmp_path):
    assert table(tmp_path, '{"a": null, "b": {"d": "B"}}', "w.JSON", field="d") == {"b": "B"}


@given(st.text(st.characters(codec=None, categories=["L", "Cs", "Nd"]), max_size=20))
def test_halves_of_characters_never_leave_a_loader(text):
    found = whole(text)
    assert found.encode("utf-8").decode("utf-8") == found
    if text.isascii():
        assert found == text


HALVES = {r"\ud83d\ude00!": "😀!", r"a\ud83d": "a\ufffd", r"\ude00b": "\ufffdb", r"\ud83d\ud83d\ude00": "\ufffd😀"}


@pytest.mark.parametrize(("written", "expected"), HALVES.items())
def test_halves_of_characters(tmp_path, written, expected):
    assert table(tmp_path, f"x\t{written}\n", clean=["escapes"]) == {"x": expected}
    assert table(tmp_path, f'{{"{written}": "{written}"}}', "w.json") == {expected: expected}


def test_an_escape_beyond_unicode(tmp_path):
    assert table(tmp_path, "x\t\\UFFFFFFFF\n", clean=["escapes"]) == {"x": "\ufffd"}


@pytest.mark.parametrize("name", ["w.json.gz", "w.JSON.xz"])
def test_compressed_json(tmp_path, name):
    pack = gzip.compress if name.endswith("gz") else lzma.compress
    (tmp_path / name).write_bytes(pack(b'{"a": "A"}'))
    assert read_texts(tmp_path, {"file": name}).texts.to_pylist() == ["A"]

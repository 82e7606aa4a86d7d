"""Nothing that stands in a YAML or JSON file is dropped or read as something else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.yamlfile import read_yaml


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.yaml", "runs: {}\nmethods: {}\nruns: {}\n", r"the key runs stands twice \(lines 1 and 3\)"),
        ("a.yaml", "a:\n  b: 1\n  c: {b: 1, b: 2}\n", r"the key b stands twice \(lines 3 and 3\)"),
        ("a.yaml", "a: [{b: 1, b: 2}]\n", "the key b stands twice"),
        ("a.json", '{"a": {"b": 1, "b": 2}}', "the key b stands twice"),
        ("a.yaml", "a: 010\n", "line 1: YAML reads 010 as another number"),
        ("a.yaml", "a: 1:30\n", "YAML reads 1:30 as another number"),
        ("a.yaml", "? [a]\n: 1\n", "a key is a list or a mapping"),
        ("a.yaml", "- 1\n", "holds no mapping"),
        ("a.json", "[1]", "holds no mapping"),
        ("a.json", "{", "no JSON"),
        ("a.yaml", "a: [", "no YAML"),
    ],
)
def test_what_would_be_lost_is_told_with_its_place(tmp_path, name, text, told):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=told) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_what_stands_there_is_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("\ufeffbase: &b {x: 1}\nown:\n  <<: *b\n  x: 2\nn: 0\nf: 1.0e-4\nt: 1e-4\no: 'on'\n", "utf-8")
    assert read_yaml(path) == {"base": {"x": 1}, "own": {"x": 2}, "n": 0, "f": 1e-4, "t": "1e-4", "o": "on"}


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.booleans(), st.none()), max_size=4))
def test_json_is_read_as_json(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(value), "utf-8")
    assert read_yaml(path) == value

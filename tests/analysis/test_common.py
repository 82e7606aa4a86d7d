from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file
from scipy.stats import binomtest

from kglm.analysis.common import (
    choose_options,
    find_entity,
    find_relation,
    has_tensor,
    proportion,
    read_passages,
    read_tensor,
    wilson,
)
from kglm.errors import InputError
from kglm.kg.graph import evenly_spaced
from kglm.options import Count, Options


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(counts):
    expected = binomtest(*counts).proportion_ci(method="wilson")
    assert wilson(*counts) == pytest.approx([expected.low, expected.high], abs=1e-9)


def test_a_proportion_of_nothing_is_unknown():
    assert proportion(0, 0) == {"accuracy": None, "confidence": [0.0, 1.0], "questions": 0}


@given(st.integers(1, 500), st.integers(1, 600))
def test_evenly_spaced_numbers_are_distinct_and_reach_both_ends(count, limit):
    rows = evenly_spaced(count, limit)
    assert len(rows) == min(count, limit)
    assert len(evenly_spaced(count, 0)) == len(evenly_spaced(count, None)) == count
    assert (np.diff(rows) >= 1).all()
    assert rows[0] == 0
    assert limit == 1 or rows[-1] == count - 1
    assert np.ptp(np.diff(rows)) <= 1 if len(rows) > 1 else True


@dataclass(frozen=True)
class Two(Options):
    a: Count = 1
    b: tuple[Count, ...] = (0,)


def test_options_are_closed():
    assert choose_options({"options": {"a": 2}}, Two) == {"a": 2, "b": [0]}
    assert choose_options({}, Two) == {"a": 1, "b": [0]}
    with pytest.raises(InputError, match="x: options: unknown option 'c'; choose one of a, b"):
        choose_options({"name": "x", "options": {"c": 2}}, Two)


def test_passages_are_lines_and_blank_ones_are_none(tmp_path):
    (tmp_path / "test.txt").write_text(" one\u2028still one \n\n two\n", "utf-8")
    assert read_passages(tmp_path) == ["one\u2028still one", "two"]
    (tmp_path / "test.txt").write_text("\n \n", "utf-8")
    with pytest.raises(InputError, match="no passage"):
        read_passages(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_passages(tmp_path / "absent")


def test_rows_of_a_tensor_are_read_alone(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    save_file({"embeddings": values}, tmp_path / "a.safetensors")
    assert (read_tensor(tmp_path / "a.safetensors", "embeddings") == values).all()
    assert (read_tensor(tmp_path / "a.safetensors", "embeddings", [3, 0, 3]) == values[[3, 0, 3]]).all()
    assert read_tensor(tmp_path / "a.safetensors", "embeddings", []).shape == (0, 3)
    assert has_tensor(tmp_path / "a.safetensors", "embeddings")
    assert not has_tensor(tmp_path / "a.safetensors", "absent")
    assert not has_tensor(tmp_path / "b.safetensors", "embeddings")
    with pytest.raises(InputError):
        read_tensor(tmp_path / "a.safetensors", "absent")
    (tmp_path / "c.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-5])
    with pytest.raises(InputError, match="unreadable"):
        has_tensor(tmp_path / "c.safetensors", "embeddings")
    with pytest.raises(InputError, match="no such file"):
        read_tensor(tmp_path / "b.safetensors", "embeddings")


def test_an_entity_is_found_by_id_by_name_and_by_how_its_description_begins(graph):
    assert find_entity(graph, "bonn") == 1
    assert find_entity(graph, "Bonn") == 1
    assert find_entity(graph, {"name": "sound", "description": "financially"}) == 8
    with pytest.raises(InputError, match="2 entities are meant by 'sound'"):
        find_entity(graph, "sound")
    with pytest.raises(InputError, match="no entity"):
        find_entity(graph, {"name": "sound", "description": "of a trumpet"})


def test_a_relation_is_found_by_id_and_by_text(graph):
    assert find_relation(graph, "_near") == find_relation(graph, "near") == 1
    with pytest.raises(InputError, match="no relations"):
        find_relation(graph, "far")

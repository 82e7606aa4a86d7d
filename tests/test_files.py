import errno

import pytest

from kglm import files
from kglm.artefacts import RELATIONS, read_parquet, write_parquet
from kglm.errors import InputError


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with pytest.raises(RuntimeError), files.atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert not list(path.parent.iterdir())
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"


def test_a_directory_is_whole_or_absent(tmp_path):
    path = tmp_path / "folder"
    with files.atomic_directory(path) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(RuntimeError), files.atomic_directory(path) as temporary:
        (temporary / "b").write_text("2")
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["a"] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, code):
    with pytest.raises(InputError, match="the disk is full"), files.atomic_file(tmp_path / "file"):
        raise OSError(code, "no room")
    assert not list(tmp_path.iterdir())


def test_json_refuses_what_json_has_not(tmp_path):
    with pytest.raises(ValueError):
        files.write_json({"loss": float("nan")}, tmp_path / "a.json")
    assert not list(tmp_path.iterdir())
    (tmp_path / "b.json").write_text("{'a': 1}")
    with pytest.raises(InputError, match=r"b\.json"):
        files.read_json(tmp_path / "b.json")


def test_a_damaged_or_foreign_parquet_file_is_told(tmp_path, ring_graph):
    path = tmp_path / "relations.parquet"
    write_parquet(ring_graph.relations, path, RELATIONS)
    assert read_parquet(path, RELATIONS).equals(ring_graph.relations)
    ring_graph.entities.to_parquet(tmp_path / "entities.parquet")
    with pytest.raises(InputError, match="has columns"):
        read_parquet(tmp_path / "entities.parquet", RELATIONS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_parquet(path, RELATIONS)

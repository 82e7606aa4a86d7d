"""Embeddings in several files, put together: rows, bounds and refusals."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from kglm.cli import main
from kglm.errors import InputError
from kglm.ranking import open_embeddings, shards
from kglm.ranking.shards import join


def queries(random, rows, width=3, dtype=np.float32):
    numbers = {"heads": random.integers(99, size=rows), "relations": random.integers(9, size=rows)}
    return numbers | {"embeddings": random.standard_normal((rows, width)).astype(dtype)}


def written(folder, parts):
    paths = [folder / f"{number}.safetensors" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        save_file(part, path, metadata={"format": "pt"})
    return paths


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 7), min_size=1, max_size=5),
    width=st.integers(1, 4),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    seed=st.integers(0, 100),
)
def test_equals_the_rows_one_after_another(tmp_path_factory, lengths, width, dtype, seed):
    folder, random = tmp_path_factory.mktemp("shards"), np.random.default_rng(seed)
    parts = [queries(random, rows, width, dtype) for rows in lengths]
    join(written(folder, parts), folder / "all.safetensors")
    found = load_file(folder / "all.safetensors")
    assert sorted(found) == ["embeddings", "heads", "relations"]
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, np.concatenate([part[name] for part in parts]), strict=True)
    content = (folder / "all.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    for name, entry in json.loads(content[8 : 8 + length]).items():
        assert (8 + length + entry["data_offsets"][0]) % found[name].itemsize == 0, "readers may map aligned numbers"


def test_the_joined_file_is_ranked_from_disk_and_joined_again(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_COPIED", 100)
    random = np.random.default_rng(0)
    parts = [{"embeddings": random.standard_normal((rows, 5), np.float32)} for rows in (40, 1, 0, 33)]
    paths = written(tmp_path, parts)
    whole = np.concatenate([part["embeddings"] for part in parts])
    assert main(["join", "--shards", *map(str, paths), "--out", str(tmp_path / "deep" / "all.safetensors")]) == 0
    opened = open_embeddings(tmp_path / "deep" / "all.safetensors")
    assert opened.shape == (74, 5)
    np.testing.assert_array_equal(opened[35:50], whole[35:50])
    join([tmp_path / "deep" / "all.safetensors", paths[0]], paths[0])
    np.testing.assert_array_equal(load_file(paths[0])["embeddings"], np.concatenate([whole, whole[:40]]))


def test_no_file_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_COPIED", 2**16)
    paths = written(tmp_path, [{"embeddings": np.zeros((2000, 256), np.float32)} for _ in range(3)])
    tracemalloc.start()
    join(paths, tmp_path / "all.safetensors")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**19 < (tmp_path / "all.safetensors").stat().st_size / 10


RANDOM = np.random.default_rng(0)
GOOD = queries(RANDOM, 4)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (queries(RANDOM, 4, width=2), r"1.safetensors: 'embeddings' is F32 with rows of shape \(2,\)"),
        (queries(RANDOM, 4, dtype=np.float16), "1.safetensors: 'embeddings' is F16"),
        (GOOD | {"heads": GOOD["heads"].astype(np.int32)}, "'heads' is I32"),
        (GOOD | {"heads": GOOD["heads"][:3].copy()}, "equally many"),
        ({"embeddings": GOOD["embeddings"]}, "1.safetensors: has no tensor 'heads'"),
        (GOOD | {"answers": GOOD["heads"]}, "1.safetensors: holds 'answers'"),
        ({"heads": GOOD["heads"]}, "not embeddings"),
        (GOOD | {"heads": np.zeros(4, bool)}, "has type BOOL"),
        (GOOD | {"heads": np.array(3)}, r"shape \[\]"),
    ],
)
def test_shards_that_do_not_fit_are_refused(tmp_path, second, message):
    paths = written(tmp_path, [GOOD, second])
    with pytest.raises(InputError, match=message):
        join(paths, tmp_path / "all.safetensors")
    assert not (tmp_path / "all.safetensors").exists()


def test_shards_that_are_none_are_told(tmp_path):
    (good,) = written(tmp_path, [GOOD])
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(good.read_bytes()[:-5])
    for paths, message in (
        ([], "no shard"),
        ([good, tmp_path / "none.safetensors"], "none.safetensors: no such file"),
        ([good, damaged], "damaged.safetensors: no readable safetensors"),
    ):
        with pytest.raises(InputError, match=message):
            join(paths, tmp_path / "all.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {good.name, damaged.name}

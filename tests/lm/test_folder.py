"""Which model folders are refused, and what is said about them."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from kglm.errors import InputError
from kglm.lm.folder import INDEX, check_folder, parameter_count, weight_files


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def test_whole_folder_passes(folder):
    check_folder(folder)
    assert [file.name for file in weight_files(folder)] == ["model.safetensors"]


def test_pickles_beside_safetensors_do_no_harm(folder):
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    check_folder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "last.ckpt"])
def test_pickle_as_the_only_weights(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"pickle")
    with pytest.raises(InputError, match=rf"only weights are pickles.*{name}.*never loaded"):
        check_folder(folder)


def test_no_weights_at_all(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no safetensors weights"):
        check_folder(folder)


def test_no_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no config\.json"):
        check_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_auto_map(folder, name):
    content = json.loads((folder / name).read_text("utf-8"))
    (folder / name).write_text(json.dumps(content | {"auto_map": {"AutoModel": "own.Model"}}), "utf-8")
    with pytest.raises(InputError, match=rf"{name} asks for code of its own \(auto_map\); such code is never run"):
        check_folder(folder)


def test_python_file(folder):
    (folder / "modeling_own.py").write_text("print('run')")
    with pytest.raises(InputError, match=r"holds code of its own \(modeling_own\.py\)"):
        check_folder(folder)


def test_weights_cut_short(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-10])
    with pytest.raises(InputError, match="damaged or cut short"):
        check_folder(folder)


def shards(folder, names):
    (folder / "model.safetensors").unlink()
    for number, name in enumerate(names):
        save_file({f"w{number}": np.ones((3, number + 1), np.float32)}, folder / name)
    weight_map = {f"w{number}": name for number, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}), "utf-8")


def test_shards_are_found_and_counted(folder):
    shards(folder, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    check_folder(folder)
    assert parameter_count(folder) == 3 + 6


def test_missing_shard(folder):
    shards(folder, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"names model-00002-of-00002\.safetensors, which is not there"):
        check_folder(folder)


def test_index_that_leads_outside(folder, tmp_path):
    shards(folder, ["../outside.safetensors"])
    with pytest.raises(InputError, match="which is not there"):
        check_folder(folder)


def test_integer_buffers_are_no_parameters(folder):
    save_file({"w": np.ones((2, 5), np.float16), "positions": np.arange(9)}, folder / "model.safetensors")
    assert parameter_count(folder) == 10

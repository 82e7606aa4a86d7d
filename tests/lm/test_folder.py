"""Which model folders are refused, and what is said about them."""

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import kglm
from kglm.errors import InputError
from kglm.lm.folder import INDEX, check_folder, parameter_count, refuse_links, weight_files


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


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"text_config": {"auto_map": {"AutoModel": "own.Model"}}}, "auto_map"),
        ({"parts": [{"auto_map": {}}]}, "auto_map"),
        ({"attn_implementation": "owner/kernel"}, "attn_implementation"),
        ({"_attn_implementation": "kernels-community/flash-attn@main:f"}, "_attn_implementation"),
        ({"text_config": {"_attn_implementation": {"": "owner/kernel"}}}, "_attn_implementation"),
    ],
)
def test_code_from_elsewhere_at_any_depth(folder, name, more, key):
    path = folder / name
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(content | more), "utf-8")
    with pytest.raises(InputError, match=rf"{name} asks for code of its own \({key}\); such code is never run"):
        check_folder(folder)


def test_the_librarys_own_attention_is_no_code_from_elsewhere(folder):
    content = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(content | {"_attn_implementation": "sdpa"}), "utf-8")
    check_folder(folder)


def test_quantised_weights(folder):
    content = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(content | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(InputError, match=r"quantised \(quantization_config\).*; give the model with its full weights"):
        check_folder(folder)


@pytest.mark.parametrize("content", ["5", "[]", '"text"', "null", "[" * 100_000, "{"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_configuration_of_another_form(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name} (holds no mapping|is no JSON)"):
        check_folder(folder)


def test_links_out_of_the_folder(folder, tmp_path):
    (tmp_path / "secret").write_text("root:x")
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="LICENSE: is a link out of the model's folder; put the file itself there"):
        refuse_links(folder)
    (folder / "LICENSE").unlink()
    (folder / "LICENSE").symlink_to(folder / "config.json")
    refuse_links(folder)


def test_links_of_the_hubs_cache(folder, tmp_path):
    """A snapshot is made of links to the blobs beside it."""
    cache = tmp_path / "models--owner--name"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    shutil.move(folder / "config.json", cache / "blobs/0123")
    snapshot = Path(shutil.move(folder, cache / "snapshots/abcd"))
    (snapshot / "config.json").symlink_to("../../blobs/0123")
    refuse_links(snapshot)
    (snapshot / "LICENSE").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="is a link out of"):
        refuse_links(snapshot)


def test_no_loader_of_transformers_is_called_without_a_word_on_remote_code():
    """The default asks the user on a terminal."""
    for path in Path(kglm.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("from_pretrained", "from_config"):
                owner = ast.unparse(call.func.value)
                given = {word.arg for word in call.keywords} | {
                    ast.unparse(w.value) for w in call.keywords if not w.arg
                }
                safe = {"trust_remote_code", "_SAFELY", "options"} & given
                assert safe or not owner.startswith(("Auto", "transformers.Auto")), f"{path}:{call.lineno}"

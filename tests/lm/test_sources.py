"""Models from a local folder, a wheel (folder and GGUF) and the hub: what is taken, what is refused."""

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kglm.errors import InputError
from kglm.files import MARK, sha256
from kglm.lm.build import model

from .conftest import COMMIT, SCRATCH

SENTENCE = "a fox faces 12 hens"


def logits(folder):
    ids = torch.tensor([AutoTokenizer.from_pretrained(folder)(SENTENCE)["input_ids"]])
    with torch.inference_mode():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(input_ids=ids).logits


def provenance(folder):
    return json.loads((folder / "provenance.json").read_text("utf-8"))


@pytest.fixture
def source(model_folder, tmp_path):
    folder = Path(shutil.copytree(model_folder, tmp_path / "source"))
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "README.md").write_text("read me", "utf-8")
    return folder


def test_local_folder(source, tmp_path):
    out = tmp_path / "models" / "tiny"
    model({"name": "tiny", "source": "local", "path": str(source), "licence": "MIT"}, out)
    found = provenance(out)
    assert {file.name for file in out.iterdir()} == {
        MARK,
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "provenance.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert found["name"] == "tiny"
    assert found["source"] == "local"
    assert found["path"] == str(source)
    assert found["licence"] == "MIT"
    assert found["weights"] == {"model.safetensors": sha256(source / "model.safetensors")}
    assert found["parameters"] == sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(out).parameters())
    assert found["libraries"]["torch"] == torch.__version__
    assert torch.equal(logits(out), logits(source))
    assert list(out.parent.iterdir()) == [out]


def test_local_copy_is_no_link(source, tmp_path):
    model({"source": "local", "path": str(source)}, tmp_path / "tiny")
    assert os.stat(tmp_path / "tiny" / "model.safetensors").st_nlink == 1


def test_local_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        model({"source": "local", "path": str(tmp_path / "nowhere")}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["pickle", "code", "tokenizer", "vocabulary", "larger", "nameless", "link"])
def test_refused_folder_leaves_nothing(source, tmp_path, damage):
    config = json.loads((source / "config.json").read_text("utf-8"))
    if damage == "pickle":
        (source / "model.safetensors").unlink()
    elif damage == "code":
        (source / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "own.Model"}}), "utf-8")
    elif damage == "tokenizer":
        (source / "tokenizer.json").write_text("{", "utf-8")
    elif damage == "larger":  # than the weights
        (source / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 1}), "utf-8")
    elif damage == "nameless":
        (source / "config.json").write_text(json.dumps(config | {"vocab_size": "many"}), "utf-8")
    elif damage == "link":
        (source / "LICENSE").symlink_to("/etc/hostname")
    else:
        (source / "config.json").write_text(json.dumps(config | {"vocab_size": 10}), "utf-8")
    with pytest.raises(InputError) as caught:
        model({"name": "tiny", "source": "local", "path": str(source)}, tmp_path / "models" / "tiny")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "models").iterdir()) == []


def test_tokenizer_without_padding_gets_some(source, tmp_path):
    settings = json.loads((source / "tokenizer_config.json").read_text("utf-8"))
    del settings["pad_token"]
    (source / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (source / "special_tokens_map.json").write_text(json.dumps({"eos_token": "</s>"}), "utf-8")
    before = (source / "tokenizer_config.json").read_bytes()
    model({"source": "local", "path": str(source)}, tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    assert tokenizer.pad_token == "</s>"
    assert tokenizer(SENTENCE)["input_ids"] == AutoTokenizer.from_pretrained(source)(SENTENCE)["input_ids"]
    assert (source / "tokenizer_config.json").read_bytes() == before


# A wheel is a zip archive; pip takes it from the folder that PIP_FIND_LINKS names and asks no index.


def pack(folder: Path, members: dict[str, bytes]) -> dict:
    metadata = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
    folder.mkdir()
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("tiny_model-1.0.dist-info/METADATA", metadata)
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return {
        "name": "tiny",
        "source": "wheel",
        "requirement": "tiny-model==1.0",
        "sha256": digest,
        "member": "tiny/model",
    }


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


def files_below(folder: Path, prefix: str) -> dict[str, bytes]:
    return {f"{prefix}/{file.name}": file.read_bytes() for file in folder.iterdir()}


def test_folder_in_a_wheel(source, wheels, tmp_path):
    members = files_below(source, "tiny/model")
    spec = pack(wheels, members | {"tiny/model/1_Pooling/config.json": b"{}", "tiny/__init__.py": b"1 / 0"})
    model(spec, tmp_path / "out")
    found = provenance(tmp_path / "out")
    assert found["requirement"] == "tiny-model==1.0"
    assert found["sha256"] == spec["sha256"]
    assert found["member"] == "tiny/model"
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()
    assert torch.equal(logits(tmp_path / "out"), logits(source))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sha256": "0" * 64}, r"tiny_model-1.0-py3-none-any.whl: sha256 is [0-9a-f]{64}, expected 0{64}"),
        ({"member": "tiny/other"}, "holds no 'tiny/other'"),
        (
            {"requirement": "tiny-model==2.0"},
            r"tiny-model==2.0: pip can not download it \(No matching distribution",
        ),
    ],
)
def test_unfit_wheel(source, wheels, tmp_path, change, told):
    spec = pack(wheels, files_below(source, "tiny/model")) | change
    with pytest.raises(InputError, match=told):
        model(spec, tmp_path / "models" / "tiny")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("name", ["tiny/model/../../../outside.json", "/outside.json"])
def test_wheel_member_that_climbs_out(source, wheels, tmp_path, name):
    spec = pack(wheels, files_below(source, "tiny/model") | {name: b"{}"})
    with pytest.raises(InputError, match=r"outside\.json' leads out of the wheel"):
        model(spec, tmp_path / "models" / "tiny")
    assert list(tmp_path.rglob("outside.json")) == []


def test_a_wheel_that_grows_beyond_all_models_is_not_unpacked(source, wheels, tmp_path, monkeypatch):
    spec = pack(wheels, files_below(source, "tiny/model"))
    monkeypatch.setattr("kglm.kg.compression._UNPACKED", 1000)
    monkeypatch.setattr("kglm.kg.compression._RATIO", 0)
    with pytest.raises(InputError, match="bytes when it is unpacked"):
        model(spec, tmp_path / "models" / "tiny")
    assert list((tmp_path / "models").iterdir()) == []


def test_wheel_with_a_pickle_only(source, wheels, tmp_path):
    (source / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no safetensors weights"):
        model(pack(wheels, files_below(source, "tiny/model")), tmp_path / "out")


def tiny_gguf(folder: Path, file: Path) -> None:
    """The LLaMA of `folder` in GGUF's names; llama.cpp keeps the rotary halves of q and k interleaved."""
    import gguf

    net = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer, config = AutoTokenizer.from_pretrained(folder), net.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    words = tokenizer.get_vocab()
    merges = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    tokens = sorted(words, key=words.get)
    tokens[tokenizer.mask_token_id] = "<|endoftext|>"  # transformers adds it to every GGUF tokenizer without it
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 4 + [1] * (len(words) - 4))
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_unk_token_id(tokenizer.mask_token_id)
    writer.add_add_bos_token(True)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in net.state_dict().items():
        value = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            value = value.reshape(config.num_attention_heads, 2, -1, value.shape[1]).swapaxes(1, 2)
        if name != "lm_head.weight":  # tied
            value = np.ascontiguousarray(value.reshape(tensor.shape))
            writer.add_tensor(names.get_name(name, (".weight",)), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_in_a_wheel(ring_folder, prose, wheels, tmp_path):
    model(SCRATCH, tmp_path / "before", ring_folder, [prose])
    tiny_gguf(tmp_path / "before", tmp_path / "tiny.gguf")
    members = {"tiny/tiny.gguf": (tmp_path / "tiny.gguf").read_bytes()}
    out = tmp_path / "out"
    model(pack(wheels, members) | {"member": "tiny/tiny.gguf"}, out)
    assert "quantization_config" not in json.loads((out / "config.json").read_text("utf-8"))
    assert {file.suffix for file in out.iterdir() if file.name != MARK} == {".json", ".safetensors"}
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert [tokenizer.bos_token, tokenizer.eos_token] == ["<s>", "</s>"]
    assert tokenizer.pad_token is not None
    torch.testing.assert_close(logits(out), logits(tmp_path / "before"))


def test_damaged_gguf(wheels, tmp_path):
    spec = pack(wheels, {"tiny/tiny.gguf": b"GGUF but no more"}) | {"member": "tiny/tiny.gguf"}
    with pytest.raises(InputError, match=r"tiny\.gguf: transformers can not read it"):
        model(spec, tmp_path / "models" / "tiny")
    assert list((tmp_path / "models").iterdir()) == []


HUB = {"name": "tiny", "source": "hub", "id": "owner/model", "revision": COMMIT}


def test_hub(hub, source, tmp_path):
    hub.folder = source
    (source / "original").mkdir()
    (source / "original" / "consolidated.00.pth").write_bytes(b"pickle")
    model(HUB, tmp_path / "out")
    fetched = {path.rsplit("/", 1)[1] for path in hub.asked if "/resolve/" in path}
    assert "model.safetensors" in fetched
    assert not {name for name in fetched if name.endswith((".bin", ".pth", ".py", ".md"))}
    assert provenance(tmp_path / "out")["revision"] == COMMIT
    assert torch.equal(logits(tmp_path / "out"), logits(source))


def test_hub_with_the_network_off_takes_what_the_cache_holds(hub, source, tmp_path, monkeypatch):
    hub.folder = source
    model(HUB, tmp_path / "first")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model(HUB, tmp_path / "second")
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


def test_hub_without_access(hub, tmp_path):
    hub.status, hub.code = 401, "GatedRepo"
    with pytest.raises(InputError, match="owner/model: no access without a token; accept the licence at"):
        model(HUB, tmp_path / "models" / "tiny")
    assert list((tmp_path / "models").iterdir()) == []


def test_hub_offline_and_not_cached(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE forbids"):
        model(HUB, tmp_path / "tiny")

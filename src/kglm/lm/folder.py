"""What a model folder may hold, told from its files alone. No torch, no pickle, no remote code."""

import json
import math
from pathlib import Path

from safetensors import SafetensorError, safe_open

from kglm.errors import InputError
from kglm.files import read_json

INDEX = "model.safetensors.index.json"
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")
# The only files that are ever fetched or copied: pickles, scripts and foreign formats stay where they are.
WANTED = (
    *WEIGHTS,
    INDEX,
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "LICENSE*",
    "USE_POLICY*",
)
# Input embeddings of LLaMA and its kin, GPT-2, BERT.
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")


def check_folder(folder: Path, where: object = None) -> None:
    """Refuse (InputError about `where`) a folder without whole safetensors weights or with own code."""
    folder, where = Path(folder), where or folder
    if not (folder / "config.json").is_file():
        raise InputError("no config.json", where, "give a Hugging Face model folder")
    _refuse_code(folder, where)
    if weight_files(folder):
        return
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
    if pickles:
        remedy = "pickles are never loaded: convert the weights to model.safetensors first"
        raise InputError(f"its only weights are pickles or a foreign format ({', '.join(pickles)})", where, remedy)
    raise InputError("no safetensors weights", where, "give a folder with model.safetensors")


def check_whole(folder: Path) -> None:
    """InputError that names the damaged file of a folder that was whole when the stage `model` wrote it."""
    for file in sorted(Path(folder).glob("*.json")):
        read_json(file)
    if not weight_files(folder):
        raise InputError("no such file", Path(folder) / WEIGHTS[0], "delete the folder and run the stage model again")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that the weights of a folder consist of, none if there are none.

    InputError if a shard of the index is missing or a file is damaged.
    """
    folder = Path(folder)
    files = [folder / "model.safetensors"]
    if not files[0].is_file():
        if not (folder / INDEX).is_file():
            return []
        files = [folder / name for name in sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))]
    for file in files:
        if file.parent != folder or not file.is_file():
            raise InputError(f"the index names {file.name}, which is not there", folder, "fetch the model again")
        try:
            _shapes(file)
        except (SafetensorError, OSError) as error:
            raise InputError(f"damaged or cut short ({error})", file, "fetch the model again") from None
    return files


def parameter_count(folder: Path) -> int:
    """How many numbers the weights of a folder hold (tied matrices once, integer buffers not)."""
    return sum(
        math.prod(shape)
        for file in weight_files(folder)
        for kind, shape in _shapes(file)
        if kind.startswith(("F", "BF"))
    )


def embedding_rows(folder: Path) -> int | None:
    """How many tokens the input embeddings of a folder have a row for; None where they have another name."""
    for file in weight_files(folder):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                if name.endswith(_EMBEDDINGS):
                    return tensors.get_slice(name).get_shape()[0]
    return None


def _shapes(file: Path) -> list[tuple[str, list[int]]]:
    with safe_open(file, framework="numpy") as tensors:
        slices = [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118 (no mapping)
        return [(one.get_dtype(), one.get_shape()) for one in slices]


def _mapping(path: Path, where: object) -> dict:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path.name} is no JSON ({error})", where, "fetch the model again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path.name} holds no mapping", where, "fetch the model again")
    return content


def _asked_code(content: object) -> str | None:
    """The key, at any depth, by which a configuration asks for code that transformers does not hold itself.

    An attention implementation with a slash is a repository of the hub, whose kernel would be fetched and run.
    """
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "auto_map" or (key.endswith("attn_implementation") and "/" in json.dumps(value)):
                return key
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return next(filter(None, map(_asked_code, parts)), None)


def refuse_links(folder: Path) -> None:
    """InputError for a file of a model folder that is a link to somewhere else.

    A snapshot in the hub's cache consists of links into the cache's own folder of that model.
    """
    folder = Path(folder).resolve()
    root = folder.parents[1] if folder.parent.name == "snapshots" else folder
    for file in sorted(folder.iterdir()):
        if file.is_symlink() and root not in file.resolve().parents:
            raise InputError("is a link out of the model's folder", file, "put the file itself there")


def _refuse_code(folder: Path, where: object) -> None:
    remedy = "such code is never run: take a model that transformers knows by itself"
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        if (folder / name).is_file() and (key := _asked_code(_mapping(folder / name, where))):
            raise InputError(f"{name} asks for code of its own ({key})", where, remedy)
    if "quantization_config" in _mapping(folder / "config.json", where):
        what = "its weights are quantised (quantization_config), which takes a package of their own to read"
        raise InputError(what, where, "give the model with its full weights")
    if scripts := sorted(file.name for file in folder.glob("*.py")):
        raise InputError(f"holds code of its own ({', '.join(scripts)})", where, remedy)

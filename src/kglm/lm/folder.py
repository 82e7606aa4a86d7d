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


def _shapes(file: Path) -> list[tuple[str, list[int]]]:
    with safe_open(file, framework="numpy") as tensors:
        slices = [tensors.get_slice(name) for name in tensors.keys()]  # noqa: SIM118 (no mapping)
        return [(one.get_dtype(), one.get_shape()) for one in slices]


def _refuse_code(folder: Path, where: object) -> None:
    remedy = "such code is never run: take a model that transformers knows by itself"
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        try:
            asks = path.is_file() and "auto_map" in json.loads(path.read_text("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"{name} is no JSON ({error})", where, "fetch the model again") from None
        if asks:
            raise InputError(f"{name} asks for code of its own (auto_map)", where, remedy)
    if scripts := sorted(file.name for file in folder.glob("*.py")):
        raise InputError(f"holds code of its own ({', '.join(scripts)})", where, remedy)

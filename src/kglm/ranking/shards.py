"""The stage `join`: parts of the embeddings of a huge graph, encoded by several jobs, become one file."""

import json
import math
from pathlib import Path
from typing import BinaryIO, NamedTuple

from safetensors import SafetensorError, safe_open

from kglm.binding import SAID
from kglm.errors import InputError
from kglm.files import atomic_file

_BYTES = {"I64": 8, "F64": 8, "I32": 4, "F32": 4, "F16": 2, "BF16": 2}
_COPIED = 2**24  # bytes at a time


class Part(NamedTuple):
    """One tensor of one file: its type and shape, and where its bytes stand in the file."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    length: int


def join(shards: list[Path], out: Path) -> None:
    """Put the rows of safetensors files, in the order given, one after another into one file.

    All files hold the same tensors (`embeddings`; of queries `heads` and `relations` too), which in each file have
    equally many rows. Bytes are copied as they stand, a few at a time: no file has to fit into memory.
    """
    if not shards:
        raise InputError("no shard to join", "option shards", "name the files of the shards in their order")
    parts = [_parts(Path(shard)) for shard in shards]
    names = sorted(parts[0], key=lambda name: (-_BYTES[parts[0][name].dtype], name))  # so that all are aligned
    tensors = {name: _alike([part.get(name) for part in parts], name, shards) for name in names}
    for part, shard in zip(parts, shards, strict=True):
        if extra := sorted(part.keys() - tensors.keys()):
            raise InputError(f"holds {extra[0]!r}, which {shards[0]} has not", shard, "encode the shards again")
    told = [_told(Path(shard)) for shard in shards]
    if other := next((shard for shard, one in zip(shards, told, strict=True) if one != told[0]), None):
        raise InputError(f"is of another run or graph than {shards[0]}", other, "encode the shards again")
    with atomic_file(out) as temporary, open(temporary, "wb") as target:
        _write_header(target, tensors, told[0])
        for part in (part for name in names for part in tensors[name]):
            _copy(part, target)


def _parts(path: Path) -> dict[str, Part]:
    """The tensors of a file, which safetensors has checked to be whole."""
    try:
        with safe_open(path, framework="numpy"), open(path, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage embed for this shard") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"no readable safetensors ({error})", path, "encode this shard again") from None
    header.pop("__metadata__", None)
    parts = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        parts[name] = Part(path, entry["dtype"], tuple(entry["shape"]), 8 + length + start, stop - start)
        if entry["dtype"] not in _BYTES or not entry["shape"]:
            what = f"{name!r} has type {entry['dtype']} and shape {entry['shape']}"
            raise InputError(what, path, f"give rows of one of {', '.join(_BYTES)}")
    rows = {name: part.shape[0] for name, part in parts.items()}
    if "embeddings" not in rows or len(set(rows.values())) > 1:
        raise InputError(f"has rows {rows}, not embeddings and equally many of all", path, "encode this shard again")
    return parts


def _alike(parts: list[Part | None], name: str, shards: list[Path]) -> list[Part]:
    """The parts of one tensor; InputError where one is missing or has another type or width than the first."""
    for part, shard in zip(parts, shards, strict=True):
        if part is None:
            raise InputError(f"has no tensor {name!r}", shard, "encode the shards again")
        if (part.dtype, part.shape[1:]) != (parts[0].dtype, parts[0].shape[1:]):
            kind, first = (f"{p.dtype} with rows of shape {p.shape[1:]}" for p in (part, parts[0]))
            raise InputError(f"{name!r} is {kind}, in {shards[0]} it is {first}", shard, "encode the shards again")
    return parts


def _told(path: Path) -> dict[str, str]:
    """What a file says of itself, see `kglm.binding.header`."""
    with safe_open(path, framework="numpy") as file:
        return {key: value for key, value in (file.metadata() or {}).items() if key == SAID}


def _write_header(target: BinaryIO, tensors: dict[str, list[Part]], told: dict[str, str]) -> None:
    header, start = {"__metadata__": told} if told else {}, 0
    for name, parts in tensors.items():
        shape = [sum(part.shape[0] for part in parts), *parts[0].shape[1:]]
        stop = start + math.prod(shape) * _BYTES[parts[0].dtype]
        header[name] = {"dtype": parts[0].dtype, "shape": shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    target.write(len(text).to_bytes(8, "little") + text)


def _copy(part: Part, target: BinaryIO) -> None:
    with open(part.path, "rb") as source:
        source.seek(part.start)
        left = part.length
        while left:
            block = source.read(min(left, _COPIED))
            if not block:
                raise InputError("ended while it was read", part.path, "encode this shard again")
            target.write(block)
            left -= len(block)

"""One base model as the configuration describes it: closed, typed keys for each source. No torch here."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

from kglm.errors import InputError
from kglm.options import Options, Positive, Range, Seed, Size

_ENTRY = "model entry"


@dataclass(frozen=True)
class Hub(Options):
    """A repository of the Hugging Face hub."""

    id: str
    revision: str
    gated: bool = False
    licence: str = ""


@dataclass(frozen=True)
class Local(Options):
    """A Hugging Face folder on this machine."""

    path: str
    licence: str = ""


@dataclass(frozen=True)
class Wheel(Options):
    """A folder, or a GGUF file, inside a wheel of the Python package index."""

    requirement: str
    sha256: str
    member: str
    licence: str = ""

    def __post_init__(self):
        super().__post_init__()
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*", self.requirement):
            raise InputError(f"requirement {self.requirement!r} is not pinned", _ENTRY, "write name==version")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InputError("sha256 is not 64 lower-case hexadecimal digits", _ENTRY, "give the wheel's own")
        if climbs(self.member):
            raise InputError(f"member {self.member!r} leads out of the wheel", _ENTRY, "write a path inside it")


@dataclass(frozen=True)
class Scratch(Options):
    """A small model trained on a graph's texts; `dataset` and `corpora` name what the workflow hands over."""

    architecture: Literal["llama", "bert", "gpt2"]
    dataset: str
    hidden_size: Size
    layers: Size
    heads: Size
    intermediate_size: Size
    vocabulary_size: Annotated[int, Range(least=262)]  # 256 bytes and the special tokens
    positions: Annotated[int, Range(least=2)]
    steps: Size
    batch_size: Size
    sequence_length: Annotated[int, Range(least=2)]
    learning_rate: Positive
    seed: Seed = 0
    corpora: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        # LLaMA's rotary embeddings turn pairs of coordinates: each head needs an even width.
        if self.hidden_size % (2 * self.heads):
            raise InputError(f"hidden_size {self.hidden_size} is no multiple of twice the heads", _ENTRY)
        if self.sequence_length > self.positions:
            raise InputError("sequence_length is above positions", _ENTRY, "lower it")


SOURCES = {"hub": Hub, "local": Local, "wheel": Wheel, "scratch": Scratch}
Entry = Hub | Local | Wheel | Scratch


def read_entry(spec: dict) -> Entry:
    """The entry that a model's `spec` describes; InputError names the key that is unfit."""
    source = spec.get("source")
    if not isinstance(source, str) or source not in SOURCES:
        raise InputError(f"unknown source {source!r}", _ENTRY, f"choose one of {', '.join(SOURCES)}")
    return SOURCES[source].of({key: value for key, value in spec.items() if key not in ("name", "source")}, _ENTRY)


def climbs(name: str) -> bool:
    """Whether a path of an archive leads out of the folder that the archive is unpacked into."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in path.parts[0] if path.parts else True

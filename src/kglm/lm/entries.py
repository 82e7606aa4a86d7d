"""One base model as the configuration describes it: closed, typed keys for each source. No torch here."""

import re
from dataclasses import MISSING, dataclass, fields
from pathlib import PurePosixPath

from kglm.errors import InputError

_ENTRY = "model entry"


@dataclass(frozen=True)
class Hub:
    """A repository of the Hugging Face hub."""

    id: str
    revision: str
    gated: bool = False
    licence: str = ""


@dataclass(frozen=True)
class Local:
    """A Hugging Face folder on this machine."""

    path: str
    licence: str = ""


@dataclass(frozen=True)
class Wheel:
    """A folder, or a GGUF file, inside a wheel of the Python package index."""

    requirement: str
    sha256: str
    member: str
    licence: str = ""

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*", self.requirement):
            raise InputError(f"requirement {self.requirement!r} is not pinned", _ENTRY, "write name==version")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InputError("sha256 is not 64 lower-case hexadecimal digits", _ENTRY, "give the wheel's own")
        if climbs(self.member):
            raise InputError(f"member {self.member!r} leads out of the wheel", _ENTRY, "write a path inside it")


@dataclass(frozen=True)
class Scratch:
    """A small model trained on a graph's texts; `dataset` and `corpora` name what the workflow hands over."""

    architecture: str
    dataset: str
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    vocabulary_size: int
    positions: int
    steps: int
    batch_size: int
    sequence_length: int
    learning_rate: float
    seed: int = 0
    corpora: tuple[str, ...] = ()

    def __post_init__(self):
        if self.architecture not in ARCHITECTURES:
            raise InputError(
                f"unknown architecture {self.architecture!r}",
                _ENTRY,
                f"choose one of {', '.join(ARCHITECTURES)}",
            )
        if min(self.layers, self.heads, self.steps, self.batch_size, self.learning_rate) <= 0:
            raise InputError("layers, heads, steps, batch_size and learning_rate must be positive", _ENTRY)
        # LLaMA's rotary embeddings turn pairs of coordinates: each head needs an even width.
        if self.hidden_size % (2 * self.heads):
            raise InputError(f"hidden_size {self.hidden_size} is no multiple of twice the heads", _ENTRY)
        if self.vocabulary_size < 262:
            raise InputError("vocabulary_size is below 262: 256 bytes and the special tokens", _ENTRY)
        if not 1 < self.sequence_length <= self.positions:
            raise InputError("sequence_length must lie between 2 and positions", _ENTRY)


ARCHITECTURES = ("llama", "bert", "gpt2")
SOURCES = {"hub": Hub, "local": Local, "wheel": Wheel, "scratch": Scratch}
Entry = Hub | Local | Wheel | Scratch


def read_entry(spec: dict) -> Entry:
    """The entry that a model's `spec` describes; InputError names the key that is unfit."""
    source = spec.get("source")
    if source not in SOURCES:
        raise InputError(f"unknown source {source!r}", _ENTRY, f"choose one of {', '.join(SOURCES)}")
    kind = SOURCES[source]
    values = {key: value for key, value in spec.items() if key not in ("name", "source")}
    known = {field.name: field for field in fields(kind)}
    if unknown := sorted(set(values) - set(known)):
        raise InputError(f"unknown key {unknown[0]!r}", _ENTRY, f"source {source} takes {', '.join(known)}")
    required = [name for name, field in known.items() if field.default is MISSING]
    if missing := [name for name in required if name not in values]:
        raise InputError(f"key {missing[0]!r} is missing", _ENTRY, f"source {source} needs {', '.join(required)}")
    return kind(**{key: _typed(key, value, known[key].type) for key, value in values.items()})


def climbs(name: str) -> bool:
    """Whether a path of an archive leads out of the folder that the archive is unpacked into."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or ":" in path.parts[0] if path.parts else True


def _typed(key: str, value: object, kind: type) -> object:
    if kind == tuple[str, ...]:
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    name = getattr(kind, "__name__", str(kind)) if kind != tuple[str, ...] else "list of str"
    raise InputError(f"{key} is {value!r}, expected {name}", _ENTRY, "YAML reads 1e-4 as text: write 1.0e-4")

"""What the analyses of a run share. Their spec is {"name", "run": {the run's spec}, "options": {...}}."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from kglm.errors import InputError
from kglm.files import run_identity
from kglm.kg.graph import Graph
from kglm.options import Options


def choose_options(spec: dict, parameters: type[Options]) -> dict:
    """spec["options"] over an analysis' defaults; InputError for an unknown option and a value that it cannot have."""
    if "run" in spec:
        run_identity(spec["run"])
    given = spec.get("options")
    chosen = parameters.of({} if given is None else given, f"{spec.get('name', 'analysis')}: options")
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(chosen).items()}


def identity(spec: dict) -> dict:
    """What every result of an analysis says of its run."""
    return run_identity(spec["run"])


def read_passages(corpus: Path) -> list[str]:
    """The passages of a corpus' test.txt, one a line; InputError where there is none."""
    path = Path(corpus) / "test.txt"
    try:
        # split("\n") and not splitlines(): a passage may hold U+2028 or a form feed.
        passages = [line.strip() for line in path.read_text("utf-8").split("\n")]
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage corpus") from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error})", path, "run the stage corpus again") from None
    passages = [passage for passage in passages if passage]
    if not passages:
        raise InputError("holds no passage", path, "run the stage corpus again")
    return passages


def wilson(successes: int, trials: int, z: float = 1.959963984540054) -> list[float]:
    """Wilson's score interval of a proportion, 95 % unless `z` says otherwise (Wilson, 1927)."""
    if trials == 0:
        return [0.0, 1.0]
    share, square = successes / trials, z * z / trials
    centre = share + square / 2
    half = z * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    low = (centre - half) / (1 + square) if successes else 0.0
    high = (centre + half) / (1 + square) if successes < trials else 1.0
    return [low, high]


def proportion(successes: int, trials: int) -> dict:
    """{"accuracy", "confidence": 95 % interval, "questions"}; the accuracy of no question is None."""
    accuracy = successes / trials if trials else None
    return {"accuracy": accuracy, "confidence": wilson(successes, trials), "questions": trials}


def has_tensor(path: Path, name: str) -> bool:
    """Whether a safetensors file is there and holds a tensor of that name; InputError where it is damaged."""
    if not Path(path).exists():
        return False
    try:
        with safe_open(path, "numpy") as file:
            return name in file.keys()  # noqa: SIM118 (the file object is no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"unreadable ({error})", path, "run the stage that writes it again") from None


def read_tensor(path: Path, name: str, rows: Sequence[int] | None = None) -> np.ndarray:
    """A tensor of a safetensors file, or only its rows `rows`: the file may be larger than the memory."""
    try:
        with safe_open(path, "numpy") as file:
            if rows is None:
                return file.get_tensor(name)
            part = file.get_slice(name)
            if len(rows) == 0:
                return part[0:0]
            return np.concatenate([part[int(row) : int(row) + 1] for row in rows])
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage that writes it") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"unreadable ({error})", path, "run the stage that writes it again") from None


def is_reference(one: object) -> bool:
    """Whether something names an entity as `find_entity` reads it."""
    if isinstance(one, dict):
        return {"name"} <= set(one) <= {"name", "description"} and all(isinstance(text, str) for text in one.values())
    return isinstance(one, str)


def find_entity(graph: Graph, reference: str | dict) -> int:
    """The number of an entity given by its id, its name, or {"name", "description": its beginning}.

    InputError where no entity fits, and where more than one does.
    """
    entities = graph.entities
    if isinstance(reference, str):
        fits = entities["id"] == reference
        if not fits.any():
            fits = entities["name"] == reference
    else:
        fits = entities["name"] == reference["name"]
        fits &= entities["description"].str.startswith(reference.get("description", ""))
    numbers = np.flatnonzero(fits)
    if len(numbers) != 1:
        many = f"{len(numbers)} entities are" if len(numbers) else "no entity is"
        raise InputError(f"{many} meant by {reference!r}", remedy="give the id, or name and description")
    return int(numbers[0])


def find_relation(graph: Graph, reference: str) -> int:
    """The number of a relation given by its id or its text; InputError where not exactly one fits."""
    relations = graph.relations
    fits = relations["id"] == reference
    numbers = np.flatnonzero(fits if fits.any() else relations["text"] == reference)
    if len(numbers) != 1:
        raise InputError(f"{len(numbers) or 'no'} relations are meant by {reference!r}", remedy="give the id")
    return int(numbers[0])

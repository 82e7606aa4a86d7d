"""What memory decides: whether a step computes again what it could keep, and how much is encoded at once."""

import itertools

from kglm.plan import memory
from kglm.plan.models import Architecture
from kglm.plan.work import Dataset

AUTO = "auto"
_SAVING = ("gradient_checkpointing", "gradient_caching")
# Numbers of a layer's input, of which several lie in the cache of a core: 1,024 tokens of all-MiniLM-L6-v2, with which
# a step of SimKGC took 2.7 s, with 250 tokens 3.2 and with 4,000 3.2.
_CACHED = 400_000
_GPU = 1 << 17  # tokens at once on a GPU, where pieces cost more than padding; fewer where memory asks


def chosen(
    spec: dict, graph: Dataset, model: Architecture | None, limit: float, gpu: bool, processes: int = 1
) -> dict[str, bool | int]:
    """The values that `auto` and a chunk_tokens of 0 stand for in a run's parameters.

    limit: bytes that a process may fill; what saves memory is off while a step fits, and all of it is on where no step
    does. Chunks are of as many tokens as fit where nothing but vectors is kept of them.
    """
    p = spec["parameters"]
    if model is None or not spec["training"]["epochs"]:
        return {name: False for name in _SAVING if p.get(name) == AUTO}
    asked = [name for name in _SAVING if p.get(name) == AUTO]
    tries = sorted(itertools.product((False, True), repeat=len(asked)), key=sum)
    for values in tries:
        found = dict(zip(asked, values, strict=True))
        if _needed(spec, found, graph, model, processes) <= limit:
            break
    if p.get("chunk_tokens") == 0:
        found["chunk_tokens"] = _tokens(spec, found, graph, model, limit, gpu, processes)
    return found


def resolved(spec: dict, values: dict) -> dict:
    """A specification with these parameters."""
    return {**spec, "parameters": {**spec["parameters"], **values}}


def _needed(spec: dict, values: dict, graph: Dataset, model: Architecture, processes: int) -> int:
    return memory.training(resolved(spec, values), graph, model, processes).total


def _tokens(
    spec: dict, values: dict, graph: Dataset, model: Architecture, limit: float, gpu: bool, processes: int
) -> int:
    """A power of two on a GPU; 64 is what the least memory gets."""
    if not gpu:
        return max(_CACHED // model.width, 64)
    tokens = _GPU
    while tokens > 64 and _needed(spec, {**values, "chunk_tokens": tokens}, graph, model, processes) > limit:
        tokens //= 2
    return tokens

"""What the memory of this machine decides for a training, once: its checkpoints keep it."""

import os
from pathlib import Path

from kglm.errors import InputError
from kglm.files import read_json, write_json
from kglm.kg.graph import Graph
from kglm.kg.statistics import statistics
from kglm.plan.choice import chosen
from kglm.plan.models import architecture
from kglm.plan.work import counted
from kglm.training.surroundings import writes

CHOSEN = "chosen.json"
_SHARE = 0.95  # of a GPU's memory, that may be filled; of a machine's, a half: other jobs are there
_OF_MACHINE = 0.5


def choices(spec: dict, graph: Graph, folder: Path, model: Path | None, checkpoints: Path) -> dict:
    """The values that stand for `auto` in a run's parameters; those that its checkpoints were begun with, if any.

    folder: the graph's, whose statistics tell the lengths of texts.
    """
    file = Path(checkpoints) / CHOSEN
    if file.is_file():
        return read_json(file)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    values = chosen(spec, _dataset(spec, graph, folder), _architecture(spec, model), *_memory(), processes)
    if spec["training"]["epochs"] and writes():
        write_json(values, file)
    return values


def _dataset(spec: dict, graph: Graph, folder: Path):
    file = Path(folder) / "statistics.json"
    counts = read_json(file) if file.is_file() else statistics(graph)
    return counted(spec["dataset"], {}, counts)


def _architecture(spec: dict, model: Path | None):
    """None where there is no model, or none whose numbers are known: then nothing is saved."""
    if model is None:
        return None
    try:
        return architecture({"source": "local", "path": str(model)}, Path(model))
    except InputError:
        return None


def _memory() -> tuple[float, bool]:
    """Bytes that this process may fill, and whether they are a GPU's."""
    import torch

    if torch.cuda.is_available():
        return _SHARE * torch.cuda.get_device_properties(0).total_memory, True
    return _OF_MACHINE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), False

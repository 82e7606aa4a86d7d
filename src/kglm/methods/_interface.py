"""What the training loop, the embedder and the ranker ask of a method; one file beside this one for each."""

import importlib
from abc import ABC, abstractmethod
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

import numpy as np
import torch

from kglm.errors import InputError
from kglm.kg.graph import Graph


class Method(torch.nn.Module, ABC):
    """A model of the graph that can be trained on triples and that places queries and entities in one space.

    A query (h, r, ?) is encoded without its answer: the interface has no way to pass a tail.
    """

    Parameters: ClassVar[type]  # frozen dataclass: the method's own hyper-parameters

    def __init__(self, parameters: Any, graph: Graph, model: Path):
        super().__init__()

    @abstractmethod
    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """The share of process `part` of `parts` in one training step on the global batch `triples` (b, 3).

        Inverse triples stand among the others. All chance is `generator`'s, which is alike in every process.
        """

    @abstractmethod
    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        """One batch -> {"loss": scalar, and its parts by name}."""

    @abstractmethod
    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """Queries (h, r, ?) as float32 (n, d); r counts inverse relations behind the others."""

    @abstractmethod
    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """Entities as float32 (n, d); the score of a triple is the inner product of the two."""

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write what training changed, as safetensors, into a directory."""

    @abstractmethod
    def load(self, directory: Path) -> None:
        """Read what `save` wrote."""


def build_method(name: str, parameters: dict, graph: Graph, model: Path) -> Method:
    """The method of the file methods/<name>.py, with its parameters checked against its dataclass."""
    module = importlib.import_module(f"kglm.methods.{name}")
    options, where = module.Method.Parameters, f"method {name}"
    known = {field.name for field in fields(options)}
    if unknown := sorted(set(parameters) - known):
        remedy = f"choose among {', '.join(sorted(known))}"
        raise InputError(f"unknown parameter {unknown[0]!r}", where, remedy)
    for option, kind in get_type_hints(options).items():
        choices = get_args(kind)  # of a Literal; other types have none
        if choices and parameters.get(option, choices[0]) not in choices:
            remedy = f"choose one of {', '.join(choices)}"
            raise InputError(f"{option} is {parameters[option]!r}", where, remedy)
    return module.Method(options(**parameters), graph, model)

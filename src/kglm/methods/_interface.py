"""What the training loop, the embedder and the ranker ask of a method; one file beside this one for each."""

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import save_file

from kglm.artefacts import read_tensors
from kglm.binding import MADE_OF, check_weights, made_of
from kglm.errors import InputError
from kglm.files import write_json
from kglm.kg.graph import Graph
from kglm.options import Options, unknown
from kglm.ranking.matching import MatchingMLP, pair_scores

WEIGHTS = "method.safetensors"
REQUEUE = 75  # EX_TEMPFAIL: saved, not finished; start the same command again
FOREIGN = "holds the weights of another model or of other parameters"


class Method(torch.nn.Module, ABC):
    """A model of the graph that can be trained on triples and that tells how plausible a triple is."""

    Parameters: ClassVar[type[Options]]  # frozen dataclass: the method's own hyper-parameters
    criterion: ClassVar[str]  # the figure of validation that chooses the best weights
    inverse_triples: ClassVar[bool] = True  # trained on (t, r⁻¹, h) beside (h, r, t)
    reads_new_entities: ClassVar[bool] = False  # an entity's text says all, or nearly all, that is to be known of it
    # Parameters without which the weights mean something else, though their shapes may be the same.
    of_weights: ClassVar[tuple[str, ...]] = ()
    base_model: ClassVar[str] = "any"  # any, causal (one that reads from left to right) or none
    specification: dict | None = None  # the specification that it is trained or used by, where there is one

    def __init__(self, parameters: Any, graph: Graph, model: Path):
        super().__init__()
        self.graph, self._model_folder = graph, model
        self._parameters_given = asdict(parameters) if is_dataclass(parameters) else {}

    @classmethod
    def check_training(cls, options: Any) -> None:
        """InputError for options (`kglm.training.options.Training`) that the method cannot be trained with."""

    @abstractmethod
    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """The share of process `part` of `parts` in one training step on the global batch `triples` (b, 3).

        Inverse triples stand among the others. All chance is `generator`'s, which is alike in every process.
        """

    @abstractmethod
    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        """One batch -> {"loss": scalar, and its parts by name}."""

    @abstractmethod
    def score_triples(self, triples: np.ndarray, batch_size: int) -> np.ndarray:
        """Triples (n, 3) as float32 (n,): the higher, the more plausible."""

    def fit(self, options: Any, seed: int, checkpoints: Path, validate: Callable[[], dict[str, float]]) -> dict | None:
        """Train by a library's own loop: its history {"log": rows, "best": None or where}; None: by ours.

        options: `kglm.training.options.Training`. As ours does, such a loop resumes from `checkpoints`, writes the
        weights <checkpoints>/best (or <checkpoints>/last, if never validated), and leaves with the status `REQUEUE`
        after SIGTERM or SIGUSR1.
        """
        return None

    def tokens_read(self, batch: Any) -> int:
        """How many tokens the language model reads of a batch, or a part of one, padding left out."""
        if isinstance(batch, dict) and "attention_mask" in batch:
            return int(batch["attention_mask"].sum())
        parts = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, list | tuple) else ()
        return sum(map(self.tokens_read, parts))

    def language_model(self) -> list[torch.nn.Module]:
        """What is trained at the option `learning_rate`, all else at `other_learning_rate`; none: no difference."""
        return []

    def sparse_parameters(self) -> list[torch.nn.Parameter]:
        """Tables whose gradients hold the rows that a step reads, and no others."""
        return []

    def trainable(self) -> dict[str, torch.Tensor]:
        """What training changes, by name; a tensor that is shared stands here once."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def save(self, directory: Path) -> None:
        """Write what training changes, as safetensors, into a directory, and beside it what it is made of."""
        self.write(directory)
        write_json(self.made_of(), Path(directory) / MADE_OF)

    def load(self, directory: Path) -> None:
        """Read what `save` wrote; InputError where it is of another model, graph or run, see `kglm.binding`."""
        parameters = {key: self._parameters_given[key] for key in self.of_weights}
        check_weights(directory, self._name, parameters, self.graph, self._model_folder, self.specification)
        self.read(directory)

    def made_of(self) -> dict:
        """See `kglm.binding`."""
        return made_of(self._name, self._parameters_given, self.graph, self._model_folder, self.specification)

    @property
    def _name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def write(self, directory: Path) -> None:
        """What `save` writes of the weights."""
        state = {name: tensor.cpu().contiguous() for name, tensor in self.trainable().items()}
        save_file(state, Path(directory) / WEIGHTS)

    def read(self, directory: Path) -> None:
        """Read what `write` wrote; InputError where names or shapes are another model's."""
        restore(self, read_tensors(Path(directory) / WEIGHTS, "pt"), Path(directory) / WEIGHTS)


class Untrained(Method):
    """A method that has no training step: a floor for those that have one. It needs `epochs: 0`."""

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """There is no training step."""
        raise InputError("is not trained", f"method {self._name}", "set its training epochs to 0")

    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        """There is no training step."""
        raise InputError("is not trained", f"method {self._name}", "set its training epochs to 0")

    @classmethod
    def check_training(cls, options: Any) -> None:
        """There is no training step."""
        if options.epochs:
            raise InputError("is not trained", f"method {cls.__module__.rpartition('.')[2]}", "set its epochs to 0")

    def write(self, directory: Path) -> None:
        """Nothing was changed: a note of the method's name is all."""
        write_json({"method": self._name}, Path(directory) / "method.json")

    def read(self, directory: Path) -> None:
        """Nothing to read."""


class LinkPredictor(Method):
    """A method that places queries and entities in one space, so that all entities are ranked at little cost.

    A query (h, r, ?) is encoded without its answer: the interface has no way to pass a tail.
    """

    criterion = "MRR"
    # Whether its publication encodes each relation with each entity, and not the queries that are asked alone.
    published_with_all_pairs = False

    @abstractmethod
    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """Queries (h, r, ?) as float32 (n, d); r counts inverse relations behind the others."""

    @abstractmethod
    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """Entities as float32 (n, d)."""

    def interaction(self) -> MatchingMLP | None:
        """How a query meets an entity; None: the score is their inner product."""
        return None

    def score_triples(self, triples: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; by the two encoders and the interaction, each distinct query and entity encoded once."""
        queries, query_rows = np.unique(triples[:, :2], axis=0, return_inverse=True)
        entities, entity_rows = np.unique(triples[:, 2], return_inverse=True)
        q = self.encode_queries(*np.ascontiguousarray(queries.T), batch_size)[query_rows.reshape(-1)]
        k = self.encode_entities(entities, batch_size)[entity_rows]
        interaction = self.interaction()
        if interaction is None:
            return np.einsum("nd,nd->n", q, k)
        degrees = self.graph.degrees
        return pair_scores(interaction, q, k, degrees[triples[:, 0]], degrees[triples[:, 2]])


class CandidateScorer(Method):
    """A method whose score is no function of one vector for the query and one for the entity."""

    criterion = "MRR"

    @abstractmethod
    def score_candidates(
        self, heads: np.ndarray, relations: np.ndarray, candidates: np.ndarray, batch_size: int
    ) -> np.ndarray:
        """Scores of each of the entities `candidates` (m,) as the answer of each query (h, r, ?): float32 (n, m).

        r counts inverse relations behind the others. batch_size: triples that the model sees at once.
        """


class TripleClassifier(Method):
    """A method that reads the whole triple at once: it tells true from false; ranking all entities is too expensive."""

    criterion = "accuracy"
    inverse_triples = False


def restore(method: Method, state: dict[str, torch.Tensor], where: Path) -> None:
    """Put tensors into a method's trainable parameters; InputError where names or shapes differ."""
    own = method.trainable()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in own.items()}:
        raise InputError(FOREIGN, where, "train this run again")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def build_method(name: str, parameters: dict, graph: Graph, model: Path) -> Method:
    """The method of the file methods/<name>.py, with its parameters checked against its dataclass."""
    method = method_class(name)
    return method(method.Parameters.of(parameters, f"method {name}"), graph, model)


def method_class(name: str) -> type[Method]:
    """The method of the file methods/<name>.py; InputError where there is none."""
    known = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    if name not in known and f"kglm.methods.{name}" not in sys.modules:
        raise unknown(name, known, "spec", "method")
    return importlib.import_module(f"kglm.methods.{name}").Method

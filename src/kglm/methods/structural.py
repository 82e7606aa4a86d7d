"""Structure-based baselines: TransE, DistMult, ComplEx and RotatE by PyKEEN's models and losses, in our training loop.

Entities and relations are numbers with vectors of their own; no text is read and no base model is used. PyKEEN gets
the graph's full vocabulary, so that entities without a training triple are ranked like all others. A prediction of
heads is one of tails through the relation's inverse: -r of TransE, r itself of DistMult, the conjugate of r of
ComplEx and RotatE.
"""

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.kg.negatives import among, triple_keys, true_keys
from kglm.methods import _interface
from kglm.methods._contrastive import as_tensor

COMPLEX, DISTANCES = ("complex", "rotate"), ("transe", "rotate")
LOSS_OPTIONS = {"nssa": ("margin", "adversarial_temperature"), "marginranking": ("margin",)}
ROUNDS = 10  # of drawing again; what is then still a true answer stays, as where all entities answer


@dataclass(frozen=True)
class Parameters:
    """The baselines' options; the values are those of RotatE for WN18RR (Sun et al. 2019), put into the L2 norm."""

    interaction: Literal["transe", "distmult", "complex", "rotate"] = "rotate"
    dimension: int = 500  # of complex and rotate: complex numbers, each two of an embedding's
    norm: int = 2  # of the distances of transe and rotate
    initial_range: float = 0.36  # vectors start uniform in ± this; rotate's relations as random phases
    loss: Literal["nssa", "marginranking", "softplus", "crossentropy", "bcewithlogits"] = "nssa"  # PyKEEN's name
    margin: float = 6.0  # of nssa and marginranking
    adversarial_temperature: float = 0.5  # of nssa: the weights are a softmax of scores times this
    negatives: int = 1024  # for each positive, all with another head or all with another tail
    corruption: Literal["filtered", "uniform"] = "filtered"  # uniform: true training triples may be among them
    regularisation: float = 0.0  # weight of the sum of all parameters' third powers, as in RotatE's released code

    def __post_init__(self):
        if self.norm != 2:
            remedy = "set norm: 2; the L1 distance is no inner product of a query's and an entity's vector"
            raise InputError(f"norm is {self.norm}", "method structural", remedy)
        if self.negatives < 1:
            raise InputError(f"negatives is {self.negatives}", "method structural", "it must be at least 1")


class Method(_interface.LinkPredictor):
    """See the module."""

    Parameters = Parameters
    inverse_triples = False

    def __init__(self, parameters: Parameters, graph: Graph, model: Path | None):
        super().__init__(parameters, graph, model)
        self.parameters_ = parameters
        self.model = _pykeen_model(parameters, graph)
        self.known = true_keys(graph, ["train"])

    # Training

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """See Method; `negatives` (b, n) replace the head where `of_heads` (b,) is true, else the tail."""
        of_heads, mine = generator.random(len(triples)) < 0.5, slice(part, None, parts)
        return {
            "triples": as_tensor(triples[mine]),
            "negatives": as_tensor(self._wrong_ends(triples, of_heads, generator)[mine]),
            "of_heads": torch.from_numpy(of_heads[mine].copy()),
        }

    def _wrong_ends(self, triples: np.ndarray, of_heads: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Entities (b, n), uniform over those that make no true training triple at that end of triples (b, 3)."""
        count = self.parameters_.negatives
        false, ends = np.repeat(triples, count, axis=0), np.repeat(np.where(of_heads, 0, 2), count)
        left = np.arange(len(false))
        for _ in range(ROUNDS):
            false[left, ends[left]] = generator.integers(self.graph.entity_count, size=len(left))
            if self.parameters_.corruption == "uniform":
                break
            left = left[among(triple_keys(false[left], self.graph), self.known)]
        return false[np.arange(len(false)), ends].reshape(len(triples), count)

    def forward(self, triples, negatives, of_heads) -> dict[str, torch.Tensor]:
        """PyKEEN's loss over the scores of triples (b, 3) and of their negatives (b, n), and the regularisation."""
        positive = self.model.score_hrt(triples)
        negative = positive.new_empty(negatives.shape)
        negative[of_heads] = self.model.score_h(triples[of_heads][:, 1:], heads=negatives[of_heads])
        negative[~of_heads] = self.model.score_t(triples[~of_heads][:, :2], tails=negatives[~of_heads])
        fit = self.model.loss.process_slcwa_scores(positive, negative)
        if not self.parameters_.regularisation:
            return {"loss": fit}
        cubes = sum(parameter.abs().pow(3).sum() for parameter in self.model.parameters())
        penalty = self.parameters_.regularisation * cubes
        return {"loss": fit + penalty, "fit": fit, "regularisation": penalty}

    # Ranking

    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; the score of an entity is the inner product up to a number that is the query's alone."""
        return self._in_batches(self._queries, np.stack([heads, relations], axis=1), batch_size)

    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; of distances the last column is -|e|², so that 2 q · e - |e|² = |q|² - |q - e|²."""
        return self._in_batches(self._entities, entities, batch_size)

    def score_triples(self, triples: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; by the model itself: the negative distance of transe and rotate."""
        inverse = triples[:, 1] >= self.graph.relation_count
        triples = np.where(inverse[:, None], self.graph.inverse(triples), triples)
        return self._in_batches(self.model.score_hrt, triples, batch_size)[:, 0]

    @torch.inference_mode()
    def _in_batches(self, function: Callable[[torch.Tensor], torch.Tensor], rows: np.ndarray, size: int) -> np.ndarray:
        training, device = self.training, self.model.device
        self.eval()
        parts = as_tensor(rows).split(size)
        results = torch.cat([function(part.to(device)).cpu() for part in parts]).numpy()
        self.train(training)
        return results

    def _queries(self, queries: torch.Tensor) -> torch.Tensor:
        entities, relations = self.model.entity_representations[0], self.model.relation_representations[0]
        heads, numbers = queries.T
        count = self.graph.relation_count
        moved = _compose(
            self.parameters_.interaction,
            entities(heads),
            relations(numbers % count),
            (numbers >= count)[:, None],
        )
        vectors = _real(moved)
        if self.parameters_.interaction not in DISTANCES:
            return vectors
        return torch.cat([2 * vectors, torch.ones_like(vectors[:, :1])], dim=1)

    def _entities(self, entities: torch.Tensor) -> torch.Tensor:
        vectors = _real(self.model.entity_representations[0](entities))
        if self.parameters_.interaction not in DISTANCES:
            return vectors
        return torch.cat([vectors, -vectors.square().sum(dim=1, keepdim=True)], dim=1)


def _compose(interaction: str, heads: torch.Tensor, relations: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """What the answer's vector has to be like; heads and relations (n, d), inverse: bool (n, 1)."""
    if interaction == "transe":
        return heads + torch.where(inverse, -relations, relations)
    if interaction == "distmult":
        return heads * relations
    return heads * torch.where(inverse, relations.conj(), relations)


def _real(vectors: torch.Tensor) -> torch.Tensor:
    """Complex (n, d) as real (n, 2d), whose inner product is the real part of u · v̄; real ones as they are."""
    return torch.view_as_real(vectors).flatten(1) if vectors.is_complex() else vectors


def _pykeen_model(parameters: Parameters, graph: Graph):
    """PyKEEN's model for all entities and relations of a graph, its loss included."""
    logging.getLogger("pykeen").setLevel(logging.ERROR)
    # PyKEEN makes its folders when it is imported: not in a home directory, which may be read-only.
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("PYSTOW_HOME", folder)
        from pykeen.models import ERModel
        from pykeen.nn.init import init_phases
        from pykeen.triples import CoreTriplesFactory
        from pykeen.utils import NoRandomSeedNecessary, complex_normalize
    p = parameters
    uniform = {
        "shape": p.dimension,
        "dtype": torch.cfloat if p.interaction in COMPLEX else torch.float,
        "initializer": "uniform",
        "initializer_kwargs": {"a": -p.initial_range, "b": p.initial_range},
    }
    # A normaliser and no constrainer: that one changes parameters between the steps, which only PyKEEN's loop does.
    phases = {"initializer": init_phases, "initializer_kwargs": None, "normalizer": complex_normalize}
    return ERModel(
        triples_factory=CoreTriplesFactory(graph.split("train").copy(), graph.entity_count, graph.relation_count),
        interaction=p.interaction,
        interaction_kwargs={"p": p.norm} if p.interaction == "transe" else None,
        entity_representations_kwargs=uniform,
        relation_representations_kwargs=uniform | phases if p.interaction == "rotate" else uniform,
        loss=p.loss,
        loss_kwargs={option: getattr(p, option) for option in LOSS_OPTIONS.get(p.loss, ())},
        random_seed=NoRandomSeedNecessary,  # the stage has set it
    )

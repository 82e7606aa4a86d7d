"""Structure-based baselines: fourteen models of PyKEEN, trained by its losses and its loops, ranked by ours.

Entities and relations are numbers with vectors of their own; no text is read and no base model is used. PyKEEN gets
the graph's full vocabulary, so that entities without a training triple are ranked like all others. Heads are asked
for by the model's own head scores, or, where it has relations for the inverses, by the tails of these. What is not set
here is as in PyKEEN's class of the model, which follows the model's paper; RotatE as in its released code.
"""

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.methods import _interface
from kglm.methods._contrastive import as_tensor
from kglm.methods._pykeen_loop import LOOPS, Course
from kglm.methods._pykeen_scores import MatrixProduct, NumberDropout, Rotation, rotations, uniform
from kglm.options import Count, Options, Positive, Rate, Size, Weight

from pykeen.models import model_resolver  # isort: skip; after the loop, which tells PyKEEN where its folders go
from pykeen.nn.modules import DistMultInteraction
from pykeen.regularizers import regularizer_resolver
from pykeen.triples import CoreTriplesFactory
from pykeen.typing import LABEL_TAIL
from pykeen.utils import NoRandomSeedNecessary

LOSS_OPTIONS = {"nssa": ("margin", "adversarial_temperature"), "marginranking": ("margin",)}
SMOOTHED = ("bcewithlogits", "bceaftersigmoid", "crossentropy")
DROPPED = ("entity_dropout", "relation_dropout")
# The options of the vectors that a model reads; one that is set beside them would be without effect.
READ = {
    "transe": {"norm", "initial_range", "unit_entities", *DROPPED},
    "transh": {"norm"},
    "transr": {"norm", "relation_dimension"},
    "transd": {"relation_dimension"},
    "distmult": {"initial_range", "unit_entities", *DROPPED},
    "complex": {"initial_range", *DROPPED},
    "rotate": {"norm", "initial_range"},
    "tucker": {"relation_dimension", "input_dropout", "feature_dropout", "hidden_dropout"},
    "conve": {"height", "channels", "input_dropout", "feature_dropout", "hidden_dropout", *DROPPED},
    "convkb": {"channels", "hidden_dropout", "initial_range"},
    "r_gcn": {"layers", "bases", "blocks", "edge_dropout", "self_loop_dropout"},
    "comp_gcn": {"layers", "hidden_dropout"},
    "quate": set(),
    "rescal": {"initial_range", *DROPPED},
}
KERNEL = 3  # the side of conve's filters
CACHES = ("enriched_embeddings", "enriched_representations")  # of R-GCN and CompGCN


@dataclass(frozen=True)
class Parameters(Options):
    """The baselines' options; as in RotatE for WN18RR (Sun et al. 2019), which has norm 1 and initial_range 0.016."""

    interaction: Literal[
        "rotate",
        "transe",
        "transh",
        "transr",
        "transd",
        "distmult",
        "complex",
        "tucker",
        "conve",
        "convkb",
        "r_gcn",
        "comp_gcn",
        "quate",
        "rescal",
    ] = "rotate"
    dimension: Size = 500  # of entities; of complex and rotate complex numbers, of quate quaternions
    relation_dimension: Count = 0  # of transr, transd and tucker; 0: the same
    norm: Literal[1, 2] = 2  # of the distances of transe, transh, transr and rotate (1: its sum of moduli)
    initial_range: Weight = 0.0  # vectors start uniform in ± this, π of rotate's relations; 0: as PyKEEN has it
    unit_entities: bool = True  # of transe and distmult: entities have length 1
    inverse_relations: bool = False  # (t, r⁻¹, h) has a relation of its own; comp_gcn needs it
    input_dropout: Rate = 0.2  # of conve's image and of tucker's heads
    feature_dropout: Rate = 0.2  # of conve's feature maps and of tucker's relation matrices
    hidden_dropout: Rate = 0.3  # before the product with the entities; of convkb's features, of comp_gcn's messages
    edge_dropout: Rate = 0.4  # of r_gcn
    self_loop_dropout: Rate = 0.2  # of r_gcn
    entity_dropout: Rate = 0.0  # of the numbers of an entity's vectors, those of the candidates included
    relation_dropout: Rate = 0.0
    height: Size = 10  # of conve's image of an entity; its width is dimension / height
    channels: Size = 32  # of conve; filters of convkb
    layers: Size = 2  # of r_gcn and comp_gcn
    bases: Count = 0  # matrices of which r_gcn's relation matrices are sums; 0: the root of the count of relations
    blocks: Count = 0  # on the diagonal of r_gcn's relation matrices; 0: they are sums of base matrices
    # a triple beside drawn false ones; all tails of a (head, relation) beside all entities; each by itself beside them
    loop: Literal["slcwa", "lcwa", "1vsall"] = "slcwa"
    loss: Literal[
        "nssa", "marginranking", "softplus", "crossentropy", "bcewithlogits", "bceaftersigmoid", "infonce"
    ] = "nssa"  # PyKEEN's name
    margin: Weight = 6.0  # of nssa and marginranking
    adversarial_temperature: Weight = 0.5  # of nssa: the weights are a softmax of scores times this
    label_smoothing: Rate = 0.0  # of the cross-entropies
    negatives: Size = 1024  # for each positive of slcwa
    negative_sampler: Literal["basic", "bernoulli"] = (
        "basic"  # bernoulli: the end with fewer answers (Wang et al. 2014)
    )
    corrupted: Literal["both", "tail"] = "both"  # ends of a triple for which basic draws others
    filtered_negatives: bool = False  # true training triples are left out
    regulariser: Literal["model", "none", "lp", "powersum", "all"] = "model"  # model: as PyKEEN has it
    # weight of the mean norm (lp), or of its power (powersum), of a batch's vectors; all: of all parameters' powers
    regularisation: Weight = 0.0
    regularisation_power: Positive = 3.0
    optimizer: Literal["adam", "adagrad", "adadelta", "sgd"] = "adam"

    def __post_init__(self):
        super().__post_init__()
        for field in fields(self):
            of_vectors = any(field.name in options for options in READ.values())
            if of_vectors and field.name not in READ[self.interaction] and getattr(self, field.name) != field.default:
                _refuse(f"{field.name} is no option of {self.interaction}", "leave it out")
        if self.interaction == "comp_gcn" and not self.inverse_relations:
            _refuse("comp_gcn passes messages along inverse relations", "set inverse_relations: true")
        if self.bases and self.blocks:
            _refuse("bases and blocks are two ways to make r_gcn's matrices", "set one")
        if self.interaction == "r_gcn" and self.inverse_relations:
            _refuse("r_gcn makes the inverses itself", "set inverse_relations: false")
        width, rest = divmod(self.dimension, self.height)
        if self.interaction == "conve" and (rest or width < KERNEL):
            what = f"dimension {self.dimension} is no image of height {self.height}"
            _refuse(what, f"choose a height that divides it into {KERNEL} or more columns")
        if self.corrupted != "both" and self.negative_sampler == "bernoulli":
            _refuse("bernoulli chooses the corrupted end itself", "leave corrupted out")
        if self.label_smoothing and self.loss not in SMOOTHED:
            _refuse(f"{self.loss} has no label smoothing", f"choose one of {', '.join(SMOOTHED)}")


class Method(_interface.CandidateScorer):
    """See the module."""

    Parameters = Parameters
    base_model = "none"
    inverse_triples = False
    of_weights = (
        "interaction",
        "dimension",
        "relation_dimension",
        "norm",
        "unit_entities",
        "inverse_relations",
        "height",
        "channels",
        "layers",
        "bases",
        "blocks",
    )

    def __init__(self, parameters: Parameters, graph: Graph, model: Path | None):
        super().__init__(parameters, graph, model)
        self.parameters_ = parameters
        self.triples = CoreTriplesFactory(
            graph.split("train").copy(),
            graph.entity_count,
            graph.relation_count,
            create_inverse_triples=parameters.inverse_relations,
        )
        self.model = _pykeen_model(parameters, self.triples)
        self._exact: list[torch.nn.Module] = []  # a list, for a module would count as a part of this one

    # Training

    @classmethod
    def check_training(cls, options: Any) -> None:
        """See Method."""
        if options.precision != "fp32":
            _refuse(f"PyKEEN's loops train in fp32, not in {options.precision}", "set the training's precision: fp32")
        if options.other_learning_rate:
            _refuse("there is no language model beside which others learn", "leave other_learning_rate out")

    def fit(self, options: Any, seed: int, checkpoints: Path, validate: Callable[[], dict[str, float]]) -> dict:
        """See Method; by PyKEEN's loop, in fp32 and in one process."""
        self.check_training(options)
        if os.environ.get("WORLD_SIZE", "1") != "1":
            _refuse("PyKEEN's loops train in one process", "start one")
        self.to("cuda" if torch.cuda.is_available() else "cpu")
        p = self.parameters_
        optimizer = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
        if p.optimizer == "adam":
            optimizer["betas"] = (options.beta1, options.beta2)
        negatives: dict[str, Any] = {"num_negs_per_pos": p.negatives, "filtered": p.filtered_negatives}
        if p.corrupted == "tail":
            negatives["corruption_scheme"] = (LABEL_TAIL,)
        sampler = {"negative_sampler": p.negative_sampler, "negative_sampler_kwargs": negatives}
        loop = LOOPS[p.loop](
            model=self.model,
            triples_factory=self.triples,
            optimizer=p.optimizer,
            optimizer_kwargs=optimizer,
            automatic_memory_optimization=False,
            **(sampler if p.loop == "slcwa" else {}),
        )
        return Course(self, loop, options, checkpoints, validate).run(self.triples, p.label_smoothing, seed)

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """PyKEEN's loop makes its own batches."""
        raise InputError("trains by PyKEEN's loop", "method structural", "call fit")

    def forward(self, **batch: Any) -> dict[str, torch.Tensor]:
        """PyKEEN's loop computes its own loss."""
        raise InputError("trains by PyKEEN's loop", "method structural", "call fit")

    def trainable(self) -> dict[str, torch.Tensor]:
        """See Method; with the running statistics of batch normalisation."""
        statistics = {name: buffer for name, buffer in self.named_buffers() if ".running_" in name}
        return super().trainable() | statistics

    def read(self, directory: Path) -> None:
        """See Method."""
        super().read(directory)
        self._forget()

    def train(self, mode: bool = True) -> "Method":
        """See torch; what was computed for scoring holds until then."""
        if mode:
            self._forget()
        return super().train(mode)

    def _forget(self) -> None:
        self._exact.clear()
        for module, cache in _caches(self.model):
            setattr(module, cache, None)

    # Scoring

    def score_candidates(
        self, heads: np.ndarray, relations: np.ndarray, candidates: np.ndarray, batch_size: int
    ) -> np.ndarray:
        """See CandidateScorer."""
        count, candidates = self.graph.relation_count, as_tensor(candidates)
        scores = np.empty((len(heads), len(candidates)), np.float32)
        for inverse in (False, True):
            rows = np.flatnonzero((relations >= count) == inverse)
            if not len(rows):
                continue
            pairs = np.stack([heads[rows], relations[rows]], axis=1)
            if inverse:  # (t, r⁻¹, ?) asks for the head of (?, r, t)
                pairs = np.stack([pairs[:, 1] - count, pairs[:, 0]], axis=1)
            scores[rows] = self._tiled(as_tensor(pairs), inverse, candidates, batch_size)
        return scores

    def score_triples(self, triples: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; an inverse triple as the triple that it is the inverse of."""
        inverse = triples[:, 1] >= self.graph.relation_count
        triples = as_tensor(np.where(inverse[:, None], self.graph.inverse(triples), triples))
        return self._scored(lambda model, rows: model.predict_hrt(rows)[:, 0], triples, batch_size)

    def _tiled(self, pairs: torch.Tensor, heads: bool, candidates: torch.Tensor, size: int) -> np.ndarray:
        """Scores (n, m) of candidates as the heads of (r, t) or else the tails of (h, r), pairs (n, 2)."""

        def score(model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
            tiles = candidates.to(model.device).split(size)
            if heads:
                return torch.cat([model.predict_h(rows, heads=tile) for tile in tiles], dim=1)
            return torch.cat([model.predict_t(rows, tails=tile) for tile in tiles], dim=1)

        return self._scored(score, pairs, max(1, size // max(1, len(candidates))))

    @torch.inference_mode()
    def _scored(self, score: Callable[..., torch.Tensor], rows: torch.Tensor, size: int) -> np.ndarray:
        training = self.training
        self.eval()
        try:
            model = self._exact_model()
            parts = [score(model, part.to(model.device)).float().cpu() for part in rows.split(size)]
        finally:
            self.train(training)
        return torch.cat(parts).numpy()

    def _exact_model(self) -> torch.nn.Module:
        """The model in double precision: equal vectors must tie, and a product's last bits depend on the place.

        They are rounded away. What a graph network makes of all vectors is computed once, in single precision.
        """
        if not self._exact:
            for module, cache in _caches(self.model):
                setattr(module, cache, None)
            model = copy.deepcopy(self.model).eval()
            for vectors in (*model.entity_representations, *model.relation_representations):
                vectors(torch.zeros(1, dtype=torch.long, device=model.device))  # fills its cache if it has one
            model.double()
            for module, cache in _caches(model):
                value = getattr(module, cache)
                doubled = value.double() if torch.is_tensor(value) else tuple(part.double() for part in value)
                setattr(module, cache, doubled)
            self._exact.append(model)
        return self._exact[0]


def _caches(model: torch.nn.Module) -> list[tuple[torch.nn.Module, str]]:
    """Where the graph networks of a model keep what they computed."""
    return [(module, name) for module in model.modules() for name in CACHES if getattr(module, name, None) is not None]


def _pykeen_model(p: Parameters, triples: CoreTriplesFactory) -> torch.nn.Module:
    """PyKEEN's model for all entities and relations, its loss and its regulariser included."""
    model = model_resolver.make(
        p.interaction.replace("_", ""),
        _options(p),
        triples_factory=triples,
        loss=p.loss,
        loss_kwargs={option: getattr(p, option) for option in LOSS_OPTIONS.get(p.loss, ())},
        random_seed=NoRandomSeedNecessary,  # the stage has set it
    )
    if isinstance(model.interaction, DistMultInteraction):
        model.interaction = MatrixProduct()
    if p.interaction == "rotate":
        model.interaction = Rotation(p.norm)
        model.relation_representations[0] = rotations(
            model.relation_representations[0].max_id, p.dimension, p.initial_range or 1.0
        )
    for names, rate in (("entity", p.entity_dropout), ("relation", p.relation_dropout)):
        for vectors in getattr(model, f"{names}_representations") if rate else ():
            vectors.dropout = NumberDropout(rate)
    if p.regulariser != "model":
        for vectors in (*model.entity_representations, *model.relation_representations):
            vectors.regularizer = _regulariser(p)
    if p.regulariser == "all":
        for parameter in model.parameters():
            _regularise(model, parameter, p)
    return model


def _options(p: Parameters) -> dict[str, Any]:
    """Our options under the names that PyKEEN's class of the model has for them."""
    options: dict[str, Any] = {"embedding_dim": p.dimension}
    read = READ[p.interaction]
    if "relation_dimension" in read:
        options["relation_dim"] = p.relation_dimension or p.dimension
    if "norm" in read and p.interaction != "rotate":  # PyKEEN's has no other
        options["scoring_fct_norm"] = p.norm
    if "unit_entities" in read and not p.unit_entities:
        options["entity_constrainer"] = None
    if p.initial_range:
        options["entity_initializer"] = uniform(p.initial_range)
        if p.interaction != "rotate":  # see rotations
            options["relation_initializer"] = uniform(p.initial_range)
    return options | _sizes(p)


def _sizes(p: Parameters) -> dict[str, Any]:
    """What only one model has."""
    dropouts = p.input_dropout, p.feature_dropout, p.hidden_dropout
    match p.interaction:
        case "tucker":
            return dict(zip(("dropout_0", "dropout_1", "dropout_2"), dropouts, strict=True))
        case "conve":
            names = ("input_dropout", "feature_map_dropout", "output_dropout")
            size = {"embedding_height": p.height, "embedding_width": p.dimension // p.height}
            return {**size, "output_channels": p.channels, **dict(zip(names, dropouts, strict=True))}
        case "convkb":
            return {"num_filters": p.channels, "hidden_dropout_rate": p.hidden_dropout}
        case "r_gcn":
            matrices: dict[str, Any] = {}
            if p.blocks:
                matrices = {"decomposition": "block", "decomposition_kwargs": {"num_blocks": p.blocks}}
            elif p.bases:
                matrices = {"decomposition": "bases", "decomposition_kwargs": {"num_bases": p.bases}}
            dropouts = {"edge_dropout": p.edge_dropout, "self_loop_dropout": p.self_loop_dropout}
            return {"num_layers": p.layers, "edge_weighting": "inverseindegree", **dropouts, **matrices}
        case "comp_gcn":
            layer = {"dropout": p.hidden_dropout, "activation": "tanh", "composition": "circularcorrelation"}
            return {"encoder_kwargs": {"num_layers": p.layers, "layer_kwargs": layer}}
    return {}


def _regulariser(p: Parameters) -> torch.nn.Module | None:
    if p.regulariser in ("none", "all"):
        return None
    return regularizer_resolver.make(p.regulariser, {"weight": p.regularisation, "p": p.regularisation_power})


def _regularise(model: torch.nn.Module, parameter: torch.nn.Parameter, p: Parameters) -> None:
    """The sum of a parameter's powers, as in RotatE's released code; PyKEEN takes a mean over its rows."""
    weight = p.regularisation * parameter.numel() / parameter.shape[-1]
    options = {"weight": weight, "p": p.regularisation_power, "apply_only_once": True}
    model.append_weight_regularizer(parameter, regularizer="powersum", regularizer_kwargs=options)


def _refuse(what: str, remedy: str) -> None:
    raise InputError(what, "method structural", remedy)

"""The untrained base model: KaLM's texts and pooling, no training. Every trained row is read beside its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kglm.errors import InputError
from kglm.files import write_json
from kglm.kg.graph import Graph
from kglm.lm.language_model import load_causal, load_tokenizer
from kglm.methods import _interface
from kglm.methods._dual_view import DualViewEncoder, DualViewTexts


@dataclass(frozen=True)
class Parameters:
    """How texts are made; the same keys as KaLM's."""

    entity_text: Literal["name", "description", "name_and_description"] = "name_and_description"
    inverse_text: Literal["dataset", "prefix"] = "dataset"
    maximum_description_length: int = 50
    base_weights: Literal["float32", "bfloat16", "int8"] = "float32"


class Method(DualViewEncoder, _interface.LinkPredictor):
    """See the module."""

    Parameters = Parameters

    def __init__(self, parameters: Parameters, graph: Graph, model: Path):
        super().__init__(parameters, graph, model)
        self.texts = DualViewTexts.of(
            graph,
            load_tokenizer(model),
            parameters.entity_text,
            parameters.inverse_text,
            parameters.maximum_description_length,
        )
        self.causal = load_causal(model, dtype=parameters.base_weights).requires_grad_(False)

    @property
    def backbone(self):
        return self.causal.base_model

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """There is no training step."""
        raise InputError("the base model is not trained", "method base", "set its training epochs to 0")

    def forward(self, **batch: Any):
        """There is no training step."""
        raise InputError("the base model is not trained", "method base", "set its training epochs to 0")

    def save(self, directory: Path) -> None:
        """Nothing was changed: a note of the method's name is all."""
        write_json({"method": "base"}, Path(directory) / "method.json")

    def load(self, directory: Path) -> None:
        """Nothing to read."""

"""The untrained base model: KaLM's texts and pooling, no training. Every trained row is read beside its own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kglm.kg.graph import Graph
from kglm.lm.language_model import load_causal, load_tokenizer
from kglm.lm.speed import quicken
from kglm.methods import _interface
from kglm.methods._dual_view import DualViewEncoder, DualViewTexts
from kglm.options import Options, Size


@dataclass(frozen=True)
class Parameters(Options):
    """How texts are made; the same keys as KaLM's."""

    entity_text: Literal["name", "description", "name_and_description"] = "name_and_description"
    inverse_text: Literal["dataset", "prefix"] = "dataset"
    maximum_description_length: Size = 50
    base_weights: Literal["float32", "bfloat16", "int8"] = "float32"


class Method(_interface.Untrained, DualViewEncoder, _interface.LinkPredictor):
    """See the module."""

    Parameters = Parameters
    reads_new_entities = True

    def __init__(self, parameters: Parameters, graph: Graph, model: Path):
        super().__init__(parameters, graph, model)
        self.texts = DualViewTexts.of(
            graph,
            load_tokenizer(model),
            parameters.entity_text,
            parameters.inverse_text,
            parameters.maximum_description_length,
        )
        self.causal = quicken(load_causal(model, dtype=parameters.base_weights)).requires_grad_(False)

    @property
    def backbone(self):
        return self.causal.base_model

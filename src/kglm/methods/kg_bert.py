"""KG-BERT: an encoder reads `[CLS] head [SEP] relation [SEP] tail [SEP]` and tells from [CLS] how probable it is.

Yao et al. 2019, Section 3.2, KG-BERT (a). Sentences are numbered 0, 1, 0, as there. The paper's two outputs add up to
1: that is one logit.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from kglm.kg.graph import Graph
from kglm.lm.language_model import load_encoder, load_tokenizer
from kglm.methods import _interface
from kglm.methods._binary_classifier import BinaryClassifier
from kglm.methods._encoding import Chunk, distinct_chunks
from kglm.methods._segmented_texts import SegmentedTexts
from kglm.options import Automatic, Count, Options, Size


@dataclass(frozen=True)
class Parameters(Options):
    """KG-BERT's options, with the paper's values (Section 4.1) for link prediction on WN18RR."""

    entity_text: Literal["name", "description", "name_and_description"] = "name_and_description"
    maximum_length: Size = 50  # tokens of a triple; the longest of its parts is cut (released code)
    negatives: Size = 5  # for each true triple; 1 for classification
    base_weights: Literal["float32", "bfloat16"] = "float32"
    chunk_tokens: Count = 0  # tokens encoded at once, padding counted; 0: what the machine takes well
    chunk_size: Count = 0  # sequences encoded at once; 0: no limit but that
    gradient_caching: Automatic = "auto"  # keep of each chunk its logits only: batches larger than memory


class Method(BinaryClassifier, _interface.CandidateScorer):
    """See the module."""

    Parameters = Parameters
    reads_new_entities = True
    criterion = "accuracy"  # as it is trained, and far cheaper than ranks

    def __init__(self, parameters: Parameters, graph: Graph, model: Path):
        super().__init__(parameters, graph, model)
        p = parameters
        self.encoder = load_encoder(model, p.base_weights)
        texts = graph.entity_texts(p.entity_text)
        self.texts = SegmentedTexts.of(graph, load_tokenizer(model), self.encoder, texts, "dataset", p.maximum_length)
        self.classifier = torch.nn.Linear(self.encoder.config.hidden_size, 1)

    def language_model(self) -> list[torch.nn.Module]:
        """The encoder; not the classifier."""
        return [self.encoder]

    def batches(self, triples: np.ndarray, size: int, tokens: int = 0) -> tuple[list[Chunk], torch.Tensor]:
        """See BinaryClassifier; equal texts are read once."""
        return distinct_chunks(self.texts.triples(triples), self.texts.padding, size, tokens)

    def logits(self, inputs: Chunk) -> torch.Tensor:
        """See BinaryClassifier."""
        return self.classifier(self.texts.first(self.encoder, inputs))[:, 0].float()

    def score_candidates(
        self, heads: np.ndarray, relations: np.ndarray, candidates: np.ndarray, batch_size: int
    ) -> np.ndarray:
        """See CandidateScorer; (h, r⁻¹, ?) asks for the heads of triples that end in h, in their natural order."""
        queries = np.repeat(np.stack([heads, relations], axis=1), len(candidates), axis=0)
        triples = np.column_stack([queries, np.tile(candidates, len(heads))])
        natural = np.where(triples[:, 1:2] < self.graph.relation_count, triples, self.graph.inverse(triples))
        return self.score_triples(natural, batch_size).reshape(len(heads), len(candidates))

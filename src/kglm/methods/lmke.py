"""LMKE: an encoder reads a whole triple and its descriptions, and tells from [CLS] how probable it is.

Section 3.2 and Equation 1 of the paper; negatives as in Section 4.1.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from kglm.kg.graph import Graph
from kglm.lm.entity_tokens import stock_modules
from kglm.lm.language_model import load_encoder, load_tokenizer
from kglm.methods._binary_classifier import BinaryClassifier
from kglm.methods._encoding import Chunk
from kglm.methods._triple_texts import TripleTexts, batches, encode, extend
from kglm.options import Automatic, Count, Options, Size


@dataclass(frozen=True)
class Parameters(Options):
    """LMKE's options, with the paper's values where it gives them."""

    entity_text: Literal["name", "description", "name_and_description"] = "description"
    maximum_description_length: Size = 230  # tokens, of each; two of them and a relation fit into 512 positions
    token_initialisation: Literal["random", "name"] = "random"  # of entities and relations; name: mean of its words
    negatives: Size = 1  # for each true triple, drawn anew each time
    base_weights: Literal["float32", "bfloat16"] = "float32"
    chunk_tokens: Count = 0  # tokens encoded at once, padding counted; 0: what the machine takes well
    chunk_size: Count = 0  # sequences encoded at once; 0: no limit but that
    gradient_caching: Automatic = "auto"  # keep of each chunk its vectors only: batches larger than memory


class Method(BinaryClassifier):
    """See the module."""

    Parameters = Parameters
    reads_new_entities = True

    def __init__(self, parameters: Parameters, graph: Graph, model: Path):
        super().__init__(parameters, graph, model)
        p = parameters
        tokenizer = load_tokenizer(model)
        self.encoder = load_encoder(model, p.base_weights)
        words = self.encoder.get_input_embeddings().num_embeddings
        self.texts = TripleTexts.of(graph, tokenizer, words, p.entity_text, p.maximum_description_length)
        self.texts.check_length(self.encoder.config.max_position_embeddings, entities=2)
        self.tokens = extend(self.encoder, graph, tokenizer, p.token_initialisation)
        self.classifier = torch.nn.Linear(self.encoder.config.hidden_size, 1)

    def language_model(self) -> list[torch.nn.Module]:
        """The encoder with its words; not the vectors of entities and relations, nor the classifier."""
        return stock_modules(self.encoder, self.tokens)

    def batches(self, triples: np.ndarray, size: int, tokens: int = 0) -> tuple[list[Chunk], torch.Tensor]:
        """See BinaryClassifier."""
        return batches(self.texts.triples(triples), self.texts.padding, size, tokens)

    def logits(self, inputs: Chunk) -> torch.Tensor:
        """See BinaryClassifier; Equation 1."""
        return self.classifier(encode(self.encoder, inputs))[:, 0].float()

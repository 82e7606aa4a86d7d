"""Counting in train, without any model: what every trained row has to be better than.

Candidates are ranked by how often they answer anything in train, or how often they answer the relation that is asked
for, whatever the query's entity is. A triple is plausible if its head and its tail were each seen with its relation.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import sparse

from kglm.kg.graph import Graph
from kglm.methods import _interface
from kglm.options import Options


@dataclass(frozen=True)
class Parameters(Options):
    """What is counted of a candidate: its answers in train to the relation that is asked for, or to any relation."""

    answers_to: Literal["relation", "anything"] = "relation"


class Method(_interface.Untrained, _interface.CandidateScorer):
    """See the module."""

    Parameters = Parameters
    base_model = "none"

    def __init__(self, parameters: Parameters, graph: Graph, model: Path | None):
        super().__init__(parameters, graph, model)
        self.parameters_ = parameters
        train = graph.split("train", inverse=True)
        shape = (2 * graph.relation_count, graph.entity_count)
        ones = np.ones(len(train), np.float32)
        # Answers (2R, E): a head answers the inverse of its relation. What stands at one place is added up.
        self.answers = sparse.csr_matrix((ones, (train[:, 1], train[:, 2])), shape=shape)
        self.anything = np.asarray(self.answers.sum(axis=0), np.float32).ravel()

    def score_candidates(
        self, heads: np.ndarray, relations: np.ndarray, candidates: np.ndarray, batch_size: int
    ) -> np.ndarray:
        """See CandidateScorer; equal counts tie."""
        if self.parameters_.answers_to == "anything":
            return np.broadcast_to(self.anything[candidates], (len(heads), len(candidates))).copy()
        return self.answers[relations][:, candidates].toarray()

    def score_triples(self, triples: np.ndarray, batch_size: int) -> np.ndarray:
        """See Method; 1 if train has the head and the tail with the relation at their own ends, else 0."""
        back = self.graph.inverse(triples)
        seen = [np.asarray(self.answers[of[:, 1], of[:, 2]]).ravel() > 0 for of in (triples, back)]
        return (seen[0] & seen[1]).astype(np.float32)

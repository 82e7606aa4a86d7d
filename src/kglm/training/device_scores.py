"""Scores of queries and entities on the device where the model is, tile by tile: a GPU has better to do than to wait.

In single precision, without TF32. All tiles have one shape, so that equal vectors have equal scores.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from kglm.kg.graph import Graph
from kglm.ranking.matching import MatchingMLP
from kglm.ranking.scorer import Scorer
from kglm.ranking.triples import Asked, QueryOf, ScorerOf

TILE = (256, 8192)  # queries and entities
_ROWS = 8  # queries whose hidden units are held at a time, with all entities of a tile


def scorer_on(
    device: torch.device, graph: Graph, query_of: QueryOf, entities: np.ndarray, interaction: MatchingMLP | None
) -> ScorerOf:
    """As `kglm.ranking.triples.embedding_scorer`, on a device, for tiles of at most TILE; entities (|E|, d)."""

    def scorer_of(asked: Asked, candidates: np.ndarray | None) -> Scorer:
        rows = entities if candidates is None else entities[candidates]
        queries, degrees = query_of(asked.heads, asked.relations), graph.degrees
        if interaction is None:
            return _Products(device, queries, rows)
        of_entities = degrees if candidates is None else degrees[candidates]
        targets = degrees[asked.targets] if interaction.degree == "leaked" else None
        return _Matching(device, interaction, queries, rows, degrees[asked.heads], of_entities, targets)

    return scorer_of


class _Products:
    """Inner products; a strip of entities is on the device while it is scored."""

    def __init__(self, device: torch.device, queries: np.ndarray, entities: np.ndarray):
        self._device, self._entities = device, entities
        self._queries = self._here(queries)
        self._columns, self._strip = slice(0, 0), None

    def __call__(self, rows: slice, columns: slice) -> np.ndarray:
        """Scores (queries, entities), float32."""
        with torch.no_grad(), _exactly():
            if columns != self._columns:
                self._columns, self._strip = columns, self._padded(self._here(self._entities[columns]), TILE[1])
            scores = self._scored(rows, columns)
        return scores[: rows.stop - rows.start, : columns.stop - columns.start].cpu().numpy()

    def _scored(self, rows: slice, columns: slice) -> torch.Tensor:
        return self._padded(self._queries[rows], TILE[0]) @ self._strip.T

    def _here(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(array, np.float32)).to(self._device)

    @staticmethod
    def _padded(rows: torch.Tensor, count: int) -> torch.Tensor:
        return torch.nn.functional.pad(rows, (0, 0, 0, count - len(rows)))


class _Matching(_Products):
    """C-LMKE's perceptron, factored as in `kglm.ranking.matching`."""

    def __init__(self, device, mlp: MatchingMLP, queries, entities, query_degrees, entity_degrees, target_degrees):
        super().__init__(device, queries, entities)
        self._mlp = {name: self._here(value) for name, value in mlp._asdict().items() if name != "degree"}
        of_queries = self._here(np.log1p(query_degrees))
        self._constant = self._queries @ self._mlp["query"].T + self._mlp["bias"]
        self._degrees = self._here(np.log1p(entity_degrees)) if mlp.degree == "train" else None
        if mlp.degree != "none":
            self._constant = self._constant + of_queries[:, None] * self._mlp["degrees"][:, 0]
        if target_degrees is not None:
            of_targets = self._here(np.log1p(target_degrees))
            self._constant = self._constant + of_targets[:, None] * self._mlp["degrees"][:, 1]

    def _scored(self, rows: slice, columns: slice) -> torch.Tensor:
        mlp = self._mlp
        of_entities = self._strip @ mlp["entity"].T
        if self._degrees is not None:
            degrees = self._padded(self._degrees[columns, None], TILE[1])
            of_entities = of_entities + degrees * mlp["degrees"][:, 1]
        queries, constant = self._padded(self._queries[rows], TILE[0]), self._padded(self._constant[rows], TILE[0])
        scores = []
        for start in range(0, rows.stop - rows.start, _ROWS):
            own = slice(start, start + _ROWS)
            weights = mlp["product"] * queries[own, None]
            hidden = self._strip @ weights.transpose(1, 2) + constant[own, None] + of_entities
            scores.append(hidden.relu() @ mlp["output"] + mlp["output_bias"])
        return torch.cat(scores)


@contextmanager
def _exactly() -> Iterator[None]:
    """Products in whole single precision."""
    former = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(former)

"""C-LMKE's matching function as the paper writes it (Equation 2): one layer over [q; k; q − k; q ⊙ k; d] of a pair."""

from typing import NamedTuple

import numpy as np

from kglm.ranking import MatchingMLP


class Layers(NamedTuple):
    """Two layers in float64: first (w, 4d + 2) and its bias (w,), second (w,) and its bias."""

    first: np.ndarray
    bias: np.ndarray
    second: np.ndarray
    second_bias: float


def draw(random: np.random.Generator, width: int, hidden: int) -> Layers:
    first = random.standard_normal((hidden, 4 * width + 2)) / np.sqrt(width)
    return Layers(first, random.standard_normal(hidden), random.standard_normal(hidden), random.standard_normal())


def factored(layers: Layers, degree: str) -> MatchingMLP:
    """The same function with its first layer taken apart."""
    width = (layers.first.shape[1] - 2) // 4
    q, k, difference, product = (layers.first[:, i * width : (i + 1) * width] for i in range(4))
    parts = [q + difference, k - difference, product, layers.first[:, 4 * width :], *layers[1:]]
    return MatchingMLP(*(np.asarray(part, np.float32, order="C") for part in parts), degree)


def scores(layers: Layers, queries: np.ndarray, entities: np.ndarray, degrees: np.ndarray | None) -> np.ndarray:
    """Scores (n, m) of all pairs, one after another; degrees (n, m, 2) are dq and dk of each pair, or None."""
    width = queries.shape[1]
    result = np.empty((len(queries), len(entities)))
    for i, q in enumerate(queries.astype(np.float64)):
        for j, k in enumerate(entities.astype(np.float64)):
            d = np.zeros(2) if degrees is None else np.log(degrees[i, j] + 1.0)
            features = np.concatenate([q, k, q - k, q * k, d])
            assert len(features) == 4 * width + 2
            result[i, j] = layers.second @ np.maximum(layers.first @ features + layers.bias, 0) + layers.second_bias
    return result

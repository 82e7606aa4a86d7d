"""Measures of a cloud of L2-normalised embeddings: anisotropy, alignment, uniformity, KaLM's Theorem 2.

All take float arrays (n, d), compute in float64 and never hold the matrix of all pairs.
"""

from collections.abc import Iterator

import numpy as np
from scipy.special import logsumexp

_BLOCK = 1024  # rows of the pair matrix in memory at a time


def sentence_anisotropy(embeddings: np.ndarray) -> float:
    """Mean inner product of two different rows, n >= 2 (KaLM, Equation 7).

    Exact in O(n d): the sum over all pairs is the squared length of the sum of the rows.
    """
    rows = np.asarray(embeddings, np.float64)
    total = rows.sum(axis=0)
    return float((total @ total - np.vdot(rows, rows)) / (len(rows) * (len(rows) - 1)))


def alignment(queries: np.ndarray, answers: np.ndarray, alpha: float = 2.0) -> float:
    """Mean distance to the power alpha of row i and row i (Wang and Isola, 2020; KaLM, Section 4.1)."""
    difference = np.asarray(queries, np.float64) - np.asarray(answers, np.float64)
    return float((np.linalg.norm(difference, axis=1) ** alpha).mean())


def uniformity(embeddings: np.ndarray, t: float = 2.0) -> float:
    """Log of the mean of exp(-t · distance²) over pairs of different rows, n >= 2 (Wang and Isola, 2020)."""
    rows = _normalised(embeddings)
    total = 0.0
    for start, products in _pair_blocks(rows):
        potential = np.exp(-2 * t * (1 - products))
        potential[np.arange(len(potential)), start + np.arange(len(potential))] = 0
        total += potential.sum()
    return float(np.log(total / (len(rows) * (len(rows) - 1))))


def theorem2(embeddings: np.ndarray, temperature: float) -> dict:
    """Both sides of KaLM's Theorem 2 (Equation 8) with p_data uniform over the rows, n >= 2.

    left = mean_i log mean_j exp(e_i · e_j / τ), right = (n - 1) / (τ n) · anisotropy + 1 / (τ n),
    slack = left - right; `holds` allows for the rounding of float64 alone.
    """
    rows = _normalised(embeddings)
    n = len(rows)
    sums = [logsumexp(products / temperature, axis=1).sum() for _, products in _pair_blocks(rows)]
    left = float(sum(sums) / n - np.log(n))
    right = (n - 1) / (temperature * n) * sentence_anisotropy(rows) + 1 / (temperature * n)
    holds = bool(left >= right - 1e-12 / temperature)
    return {
        "temperature": temperature,
        "left": left,
        "right": right,
        "slack": left - right,
        "holds": holds,
        "texts": n,
    }


def _normalised(embeddings: np.ndarray) -> np.ndarray:
    """Unit rows in float64: those of float32 are off by 1e-7, which τ = 0.05 and exp would magnify."""
    rows = np.asarray(embeddings, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _pair_blocks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, inner products of the rows from there on with all rows), block by block."""
    for start in range(0, len(rows), _BLOCK):
        yield start, rows[start : start + _BLOCK] @ rows.T

"""C-LMKE's matching function (LMKE, Equation 2), factored so that all entities are scored in bounded memory.

The paper's MLP reads [q; k; q − k; q ⊙ k; d]. The part of q − k belongs to those of q and of k, and the part of
q ⊙ k is, for one query, linear in k with weights scaled by q. So one query meets a block of entities in a single
matrix product with the weights `entity + product ⊙ q`; two more columns hold the entities' degrees and what is the
same for all of them. Adding a stored part of the entities to each product instead would read more and hold more.

As for the inner product, equal entities must tie: blocks have one size, and rows of it round alike.
"""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from threadpoolctl import ThreadpoolController

from kglm.errors import InputError
from kglm.files import atomic_file
from kglm.ranking.embedding_file import EmbeddingFile, embedding_rows, float32_rows
from kglm.ranking.inner_product import Product, blas_product, slow_product
from kglm.ranking.scorer import Scorer

DEGREES = ("none", "train", "leaked")

# Hidden units of so many entities are held at a time: they stay in a core's cache.
BLOCK = 480
# Queries and entities of one tile: as many entities as eight blocks.
TILE = (64, 8 * BLOCK)
# Blocks of small graphs are cut to a multiple of this, so that kernels of 12, 16 or 24 rows leave no edges.
_STEP = 48
# Pairs of which `pair_scores` holds the hidden units at a time.
_PAIRS = 4096

# The file's metadata has one key: safetensors writes several in an order that changes from time to time. Behind the
# MLP's kind stands its degree.
_KINDS = ("inner_product", "matching_mlp")


class MatchingMLP(NamedTuple):
    """C-LMKE's matching function over vectors of width d, with w hidden units; float32.

    score = output · relu(query q + entity k + product (q ⊙ k) + degrees [log(dq + 1), log(dk + 1)] + bias)
    + output_bias. Where the paper's first layer has weights W for [q; k; q − k; q ⊙ k; d], `query` is
    W_q + W_difference and `entity` is W_k − W_difference.

    degree: none (no feature d), train (degrees in train), or leaked: dk of every candidate is the degree of the
    entity that is asked for, as in the results that the authors withdrew; for comparison only.
    """

    query: np.ndarray  # (w, d)
    entity: np.ndarray  # (w, d)
    product: np.ndarray  # (w, d)
    degrees: np.ndarray  # (w, 2)
    bias: np.ndarray  # (w,)
    output: np.ndarray  # (w,)
    output_bias: np.ndarray  # ()
    degree: str


def matching_scorer(
    mlp: MatchingMLP,
    queries: np.ndarray,
    entities: "np.ndarray | EmbeddingFile | Path",
    query_degrees: np.ndarray,
    entity_degrees: np.ndarray,
    target_degrees: np.ndarray | None = None,
    threads: int | None = None,
) -> Scorer:
    """The scorer (see `filtered_ranks_by`) of queries (n, d) and entities (m, d), which may lie on disk.

    query_degrees (n,) are those of the given entities, entity_degrees (m,) those of the candidates.
    target_degrees (n,), of the entities asked for, must be given where the degree is leaked, and is refused
    elsewhere. A query that equals the one before it is not scored again. InputError for NaN, infinity or shapes
    that do not fit.
    """
    _check(mlp, "interaction")
    if (target_degrees is not None) != (mlp.degree == "leaked"):
        what = f"degrees of the entities asked for and an interaction with degree {mlp.degree!r} do not go together"
        raise InputError(what, "interaction", "give them to a leaked interaction and to no other")
    queries, entities = float32_rows(np.asarray(queries), "queries"), embedding_rows(entities)
    of_queries = [query_degrees] if target_degrees is None else [query_degrees, target_degrees]
    _check_shapes(mlp, queries, entities, of_queries, entity_degrees)
    constant = queries @ mlp.query.T + mlp.bias
    if mlp.degree != "none":
        # Without target_degrees, dk differs between the candidates and stands in their rows.
        constant += _logarithms(*of_queries) @ mlp.degrees[:, : len(of_queries)].T
    return _Matcher(mlp, queries, constant, _repeats(queries, *of_queries), entities, entity_degrees, threads)


def pair_scores(
    mlp: MatchingMLP,
    queries: np.ndarray,
    entities: np.ndarray,
    query_degrees: np.ndarray,
    entity_degrees: np.ndarray,
) -> np.ndarray:
    """Scores (n,) of query i with entity i, both float32 (n, d); an entity is asked for with its own degree."""
    _check(mlp, "interaction")
    _check_shapes(mlp, queries, entities, [query_degrees], entity_degrees)
    if len(queries) != len(entities):
        raise InputError(f"{len(queries)} queries and {len(entities)} entities make no pairs", "shapes")
    features = _logarithms(query_degrees, entity_degrees)
    scores = np.empty(len(queries), np.float32)
    for start in range(0, len(queries), _PAIRS):
        rows = slice(start, start + _PAIRS)
        q, k = queries[rows], entities[rows]
        hidden = q @ mlp.query.T + k @ mlp.entity.T + (q * k) @ mlp.product.T + mlp.bias
        if mlp.degree != "none":
            hidden += features[rows] @ mlp.degrees.T
        scores[rows] = np.maximum(hidden, 0, out=hidden) @ mlp.output + mlp.output_bias
    return scores


def write_interaction(path: Path, mlp: MatchingMLP | None) -> None:
    """Write how a query meets an entity, as safetensors; None for the inner product."""
    tensors, metadata = {}, {"kind": _KINDS[mlp is not None]}
    if mlp is not None:
        _check(mlp, "interaction")
        tensors = {name: np.asarray(value, order="C") for name, value in mlp._asdict().items() if name != "degree"}
        metadata["kind"] += f" {mlp.degree}"
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, metadata)


def read_interaction(path: Path) -> MatchingMLP | None:
    """What `write_interaction` wrote, None for the inner product; InputError for a file that is missing or damaged."""
    remedy = "run the stage embed again"
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage embed") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"holds no readable interaction ({error})", path, remedy) from None
    kind, _, degree = metadata.get("kind", "").partition(" ")
    if kind not in _KINDS:
        raise InputError(f"holds an interaction of unknown kind {kind!r}", path, remedy)
    if kind == _KINDS[0]:
        return None
    if sorted(tensors) != sorted(MatchingMLP._fields[:-1]):
        raise InputError(f"holds the tensors {', '.join(sorted(tensors))}, which make no MLP", path, remedy)
    mlp = MatchingMLP(**tensors, degree=degree)
    _check(mlp, path)
    return mlp


class _Matcher:
    """Scores of tiles of queries × entities; of the hidden units, a thread holds those of one query and one block."""

    def __init__(self, mlp, queries, constant, repeats, entities, entity_degrees, threads):
        self._mlp, self._entities = mlp, entities
        self._queries, self._constant, self._repeats = queries, constant, repeats
        self._degrees = _logarithms(entity_degrees)[:, 0] if mlp.degree == "train" else None
        self._block = min(BLOCK, -(-entities.shape[0] // _STEP) * _STEP)
        self._zeros = np.zeros((self._block, len(mlp.bias)), np.float32)
        self._threads = threads or len(os.sched_getaffinity(0))
        self._libraries = ThreadpoolController()

    def __call__(self, rows: slice, columns: slice) -> np.ndarray:
        first = ~self._repeats[rows]
        first[:1] = True
        blocks = self._blocks(columns)
        scores = np.empty((first.sum(), len(blocks), self._block), np.float32)
        # The cores go to the threads; and how BLAS rounds depends on how many it may use itself.
        with self._libraries.limit(limits=1, user_api="blas"), ThreadPoolExecutor(self._threads) as pool:
            queries = rows.start + np.flatnonzero(first)
            list(pool.map(lambda query, out: self._score(query, blocks, out), queries.tolist(), scores))
        scores = scores.reshape(len(scores), -1)[:, : columns.stop - columns.start]
        return scores if first.all() else scores[np.cumsum(first) - 1]

    def _blocks(self, columns: slice) -> np.ndarray:
        """Entities as rows [k, log(dk + 1), 1] of blocks (blocks, BLOCK, d + 2), the last one filled up with zeros."""
        count, width = columns.stop - columns.start, self._entities.shape[1]
        blocks = np.zeros((-(-count // self._block), self._block, width + 2), np.float32)
        rows = blocks.reshape(-1, width + 2)[:count]
        numbers = np.arange(columns.start, columns.stop)
        rows[:, :width] = float32_rows(self._entities[columns], "entities", numbers)
        if self._degrees is not None:
            rows[:, width] = self._degrees[columns]
        rows[:, width + 1] = 1
        return blocks

    def _score(self, query: int, blocks: np.ndarray, out: np.ndarray) -> None:
        """Write the scores of one query with all rows of blocks into `out` (blocks, BLOCK)."""
        mlp, width = self._mlp, blocks.shape[2]
        weights = np.empty((len(mlp.bias), width), np.float32)
        np.multiply(mlp.product, self._queries[query], out=weights[:, :-2])
        weights[:, :-2] += mlp.entity
        weights[:, -2], weights[:, -1] = mlp.degrees[:, 1], self._constant[query]
        first, second = _product(self._block, width, len(mlp.bias)), _product(self._block, len(mlp.bias), 1)
        hidden = np.empty(self._zeros.shape, np.float32)
        for block, scores in zip(blocks, out, strict=True):
            first(block, weights, hidden)
            np.maximum(hidden, self._zeros, out=hidden)  # four times as fast as with the number 0
            second(hidden, mlp.output[None], scores[:, None])
        out += mlp.output_bias


@lru_cache
def _product(rows: int, width: int, columns: int) -> Product:
    """rows · columnsᵀ: by BLAS where it gives equal rows equal results wherever they stand, else by a slow loop."""
    random = np.random.default_rng(0)
    row, weights = random.standard_normal((1, width), np.float32), random.standard_normal((columns, width), np.float32)
    out = np.empty((rows, columns), np.float32)
    blas_product(np.tile(row, (rows, 1)), weights, out)
    if (out == out[0]).all():
        return blas_product
    warnings.warn("this BLAS rounds equal products differently: ranking will be slow", stacklevel=2)
    return slow_product


def _logarithms(*degrees: np.ndarray) -> np.ndarray:
    """log(degree + 1) as float32 (n, number of degrees)."""
    return np.log1p(np.stack(degrees, axis=1)).astype(np.float32)


def _repeats(*columns: np.ndarray) -> np.ndarray:
    """Which rows equal, in all columns, the row before them: bool (n,)."""
    repeats = np.ones(len(columns[0]), bool)
    repeats[:1] = False
    for column in columns:
        repeats[1:] &= (column[1:] == column[:-1]).all(axis=tuple(range(1, column.ndim)))
    return repeats


def _check_shapes(mlp, queries, entities, of_queries, entity_degrees) -> None:
    width = mlp.query.shape[1]
    shapes = f"queries {queries.shape}, entities {tuple(entities.shape)}, degrees"
    shapes += f" {[np.shape(degrees) for degrees in [*of_queries, entity_degrees]]}"
    if queries.shape[1:] != (width,) or tuple(entities.shape[1:]) != (width,):
        raise InputError(f"{shapes} do not fit an interaction of width {width}", "shapes", "embed with this run again")
    right = np.shape(entity_degrees) == tuple(entities.shape[:1])
    if not right or any(np.shape(degrees) != queries.shape[:1] for degrees in of_queries):
        raise InputError(f"{shapes} are not one degree each", "shapes", "take the degrees of this graph")


def _check(mlp: MatchingMLP, where: object) -> None:
    """InputError for a degree, a shape or a type that no matching MLP has, and for NaN or infinity."""
    if mlp.degree not in DEGREES:
        raise InputError(f"unknown degree {mlp.degree!r}", where, f"choose one of {', '.join(DEGREES)}")
    arrays = dict(zip(MatchingMLP._fields, mlp[:-1], strict=False))
    hidden, width = (*mlp.query.shape, 0, 0)[:2]
    expected = [(hidden, width)] * 3 + [(hidden, 2), (hidden,), (hidden,), ()]
    if [array.shape for array in arrays.values()] != expected or not hidden * width:
        told = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(f"{told} do not fit each other", where, "run the stage embed again")
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise InputError(f"{name} is no finite float32", where, "see whether the training diverged")

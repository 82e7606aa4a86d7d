"""Filtered ranks where the score is an inner product: tiles of queries × entities, counts instead of sorts.

Equal vectors must tie, so every score, the targets' own included, comes out of a matrix product of one and the
same shape (edges are padded): BLAS chooses its kernels by shape, and their last bits differ. They differ even by
the place in the tile (on AVX2 machines a few columns are summed in another order), so a probe, once a width, finds
the columns that round alike, and queries stand in those alone.
"""

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from kglm.errors import InputError
from kglm.ranking.candidates import Ranks, candidate_counts, checked_targets, filtered_pairs, ranks_of
from kglm.ranking.embedding_file import EmbeddingFile, embedding_rows, float32_rows, gather_rows, largest

# A tile of scores (0.5 MB) stays in a core's cache. Multiples of the kernels' 12, 16 or 24 rows leave no edges.
# TILE_QUERIES is at most TILE_ENTITIES: the targets of a tile's queries fit one tile.
TILE_ENTITIES, TILE_QUERIES = 480, 256

# A sum of so many comparisons fits a byte.
_BYTE = 255

Product = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def filtered_ranks(
    queries: np.ndarray,
    entities: "np.ndarray | EmbeddingFile | Path",
    targets: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    threads: int | None = None,
) -> Ranks:
    """Ranks of entity targets[i] by score queries[i] · entities[j] in fp32, the known ones left out.

    queries (n, d) and entities (m, d) are floats; entities may be a memory map, an `open_embeddings` or the
    path of one, and are then read once, tile by tile. targets (n,) are rows of entities. known = (indptr,
    indices) lists each query's other true answers; their order, repetitions and the target among them are of
    no effect. InputError for NaN or infinity, shapes that do not fit, targets or indices out of range.
    """
    queries, entities = np.asarray(queries), embedding_rows(entities)
    _check_shapes(queries, entities, targets)
    targets = checked_targets(targets, entities.shape[0])
    filtered = filtered_pairs(known, targets, entities.shape[0])
    with threadpool_limits(limits=1, user_api="blas"):  # the cores go to the threads below
        tiles = _Tiles(queries, entities, *filtered)
        scores = tiles.target_scores(targets)
        counts = np.zeros((2, *scores.shape), np.int64)
        with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
            blocks = range(-(-entities.shape[0] // TILE_ENTITIES)) if len(targets) else ()
            for part in pool.map(lambda block: tiles.count(scores, block), blocks):
                counts += part
    greater, not_less = counts.reshape(2, -1)[:, tiles.places]
    return ranks_of(greater, not_less, candidate_counts(filtered[0], len(targets), entities.shape[0]))


class _Tiles:
    """The score matrix cut into tiles of TILE_ENTITIES × TILE_QUERIES, of which none outlives its use."""

    def __init__(self, queries, entities, filtered_queries, filtered_entities):
        self.entities, width = entities, entities.shape[1]
        self._product, columns = _product(TILE_ENTITIES, TILE_QUERIES, width)
        tile, column = np.divmod(np.arange(len(queries)), len(columns))
        self.places = tile * TILE_QUERIES + columns[column]  # of each query, in the tiles' columns one after another
        self._queries = np.zeros((-(-len(queries) // len(columns)), TILE_QUERIES, width), np.float32)
        self._queries.reshape(-1, width)[self.places] = float32_rows(queries, "queries")
        self._largest_query = largest(self._queries)
        blocks, rows = np.divmod(filtered_entities, TILE_ENTITIES)
        tiles, columns = np.divmod(self.places[filtered_queries], TILE_QUERIES)
        number = blocks * len(self._queries) + tiles
        order = np.argsort(number, kind="stable")
        count = -(-entities.shape[0] // TILE_ENTITIES) * len(self._queries)
        self._pointers = np.searchsorted(number[order], np.arange(count + 1))
        self._masked = rows[order], columns[order]

    def target_scores(self, targets: np.ndarray) -> np.ndarray:
        """Score of each query's target, float32 as (tiles, TILE_QUERIES); an empty place scores infinity."""
        scores = np.full(self._queries.shape[:2], np.inf, np.float32)
        tile = np.empty((TILE_ENTITIES, TILE_QUERIES), np.float32)
        numbers, columns = np.divmod(self.places, TILE_QUERIES)
        for number, queries in enumerate(self._queries):
            here = numbers == number
            self._product(self._padded(gather_rows(self.entities, targets[here]), targets[here]), queries, tile)
            scores[number, columns[here]] = tile[np.arange(here.sum()), columns[here]]
        return scores

    def count(self, target_scores: np.ndarray, block: int) -> np.ndarray:
        """How many candidates of a block of entities score > and >= the targets, int64 (2, tiles, TILE_QUERIES)."""
        start, stop = block * TILE_ENTITIES, min((block + 1) * TILE_ENTITIES, self.entities.shape[0])
        entities = self._padded(self.entities[start:stop], np.arange(start, stop))
        tile = np.empty((TILE_ENTITIES, TILE_QUERIES), np.float32)
        mask = np.empty(tile.shape, bool)
        counts = np.zeros((2, *target_scores.shape), np.int64)
        for number, queries in enumerate(self._queries):
            self._product(entities, queries, tile)
            masked = slice(*self._pointers[block * len(self._queries) + number :][:2])
            tile[self._masked[0][masked], self._masked[1][masked]] = np.nan  # neither > nor >= to anything
            for compare, count in zip((np.greater, np.greater_equal), counts[:, number], strict=True):
                compare(tile, target_scores[number], out=mask)
                for first in range(0, stop - start, _BYTE):
                    part = mask[first : min(first + _BYTE, stop - start)].view(np.uint8)
                    count += np.add.reduce(part, axis=0, dtype=np.uint8)
        return counts

    def _padded(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Entity embeddings as float32 (TILE_ENTITIES, d), refused where a score might not be finite."""
        rows = float32_rows(rows, "entities", numbers)
        bound = rows.shape[1] * self._largest_query * largest(rows)
        if bound >= float(np.finfo(np.float32).max):
            raise InputError("scores exceed the range of fp32", "embeddings", "normalise them")
        if len(rows) == TILE_ENTITIES:
            return rows
        return np.concatenate([rows, np.zeros((TILE_ENTITIES - len(rows), rows.shape[1]), np.float32)])


def _check_shapes(queries, entities, targets) -> None:
    shapes = f"queries {queries.shape}, entities {tuple(entities.shape)}, targets {np.shape(targets)}"
    if len(queries.shape) != 2 or len(entities.shape) != 2 or np.shape(targets) != queries.shape[:1]:
        raise InputError(f"{shapes} are not (n, d), (m, d), (n,)", "shapes")
    if queries.shape[1] != entities.shape[1] or not queries.shape[1]:
        raise InputError(f"{shapes} have different widths or none", "shapes")
    types = [array.dtype for array in (queries, entities) if isinstance(array, np.ndarray)]
    if any(kind.kind not in "fiu" for kind in types):
        raise InputError(f"are {' and '.join(map(str, types))}", "types", "give real numbers")


@lru_cache
def _product(entity_rows: int, query_rows: int, width: int) -> tuple[Product, np.ndarray]:
    """The product of a tile and the query rows at which it rounds alike: BLAS if most do, else einsum and all."""
    random = np.random.default_rng(0)
    entities = random.standard_normal((entity_rows, width), np.float32)
    queries = random.standard_normal((query_rows, width), np.float32)
    tile = np.empty((entity_rows, query_rows), np.float32)
    # For each place of an entity: the queries' places that give what most of them give for the same two vectors.
    blas_product(entities, np.tile(queries[0], (query_rows, 1)), tile)
    alike = (tile == np.median(tile, axis=1, keepdims=True)).all(axis=0)
    # For each of these, all places of an entity must give the same for the same two vectors.
    blas_product(np.tile(entities[0], (entity_rows, 1)), queries, tile)
    if 2 * alike.sum() > query_rows and (tile[:, alike] == tile[0, alike]).all():
        return blas_product, np.flatnonzero(alike)
    warnings.warn("this BLAS rounds equal products differently: ranking will be slow", stacklevel=2)
    return slow_product, np.arange(query_rows)


def blas_product(entities: np.ndarray, queries: np.ndarray, out: np.ndarray) -> np.ndarray:
    """entities · queriesᵀ by BLAS."""
    return np.matmul(entities, queries.T, out=out)


def slow_product(entities: np.ndarray, queries: np.ndarray, out: np.ndarray) -> np.ndarray:
    """entities · queriesᵀ by one loop that is the same for each pair of vectors."""
    return np.einsum("ed,qd->eq", entities, queries, out=out, optimize=False)

"""Metrics are group-bys over ranks; all are of the realistic rank.

MR, MRR and Hits@k are means; AMR (Berrendorf et al., "On the ambiguity of rank-based evaluation of entity
alignment or link prediction methods", 2020) is the mean rank over the expected one of random scores; chance
is 1.
"""

import zlib

import numpy as np
import pandas as pd

from kglm.kg.graph import Graph

# Raised whenever the same embeddings would get other figures; figures of different versions are not compared.
EVALUATION_VERSION = 1

METRICS = ("MR", "MRR", "Hits@1", "Hits@3", "Hits@10", "AMR")

# Random numbers drawn at a time by the bootstrap.
_DRAWS = 2**22


def summarise(ranks: pd.DataFrame) -> dict[str, float]:
    """The METRICS of some rows of RANKS (at least one) and the number of `queries`."""
    totals = _totals(ranks).sum(axis=0)
    return dict(zip(METRICS, _metrics(totals).tolist(), strict=True)) | {"queries": len(ranks)}


def confidence_intervals(
    ranks: pd.DataFrame, resamples: int, level: float, seed: "int | list[int]" = 0
) -> dict[str, list[float]]:
    """Percentile bootstrap [low, high] of each metric over triples: both queries of one go together."""
    triple = ranks.groupby(["head", "relation", "tail"], sort=True).ngroup().to_numpy()
    count = triple.max() + 1
    totals = np.stack([np.bincount(triple, column, count) for column in _totals(ranks).T], axis=1)
    random = np.random.default_rng(seed)
    values = []
    for start in range(0, resamples, step := max(1, _DRAWS // count)):
        rows = min(step, resamples - start)
        drawn = random.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        values.append(_metrics(times.astype(np.float64) @ totals))
    outside = (1 - level) / 2
    bounds = np.quantile(np.concatenate(values), [outside, 1 - outside], axis=0)
    return dict(zip(METRICS, bounds.T.tolist(), strict=True))


def evaluate_ranks(ranks: pd.DataFrame, graph: Graph | None, resamples: int, level: float, seed: int) -> dict:
    """split -> group (see `groups`; without a graph `directions` alone) -> its `summarise` and `confidence`."""
    result = {}
    for split, part in ranks.groupby("split", sort=False):
        result[split] = {}
        for name, rows in (directions(part) if graph is None else groups(part, graph)).items():
            # Each group draws from its own stream: another group beside it changes none of its figures.
            stream = [seed, zlib.crc32(f"{split}/{name}".encode())]
            confidence = confidence_intervals(part[rows], resamples, level, stream)
            result[split][name] = summarise(part[rows]) | {"confidence": confidence}
    return result


def directions(ranks: pd.DataFrame) -> dict[str, np.ndarray]:
    """both, head and tail, by what is asked for -> mask of the rows in it (at least one)."""
    direction = ranks["direction"].to_numpy()
    return {"both": np.ones(len(ranks), bool)} | {
        name: direction == name for name in ("head", "tail") if name in direction
    }


def groups(ranks: pd.DataFrame, graph: Graph) -> dict[str, np.ndarray]:
    """Group -> mask of the rows in it (at least one).

    both, head, tail: by what is asked for; with /seen: triples whose two entities are in train.
    relation/<id>: both directions of a relation. degree/<a>-<b>: the answer ends a to b train triples, a a
    power of two and b = 2a - 1 (degree/0 and degree/1 stand alone; a loop counts twice). either_degree/<a>-<b>:
    the triple's head or its tail does, so that a triple stands in one or two of them (LMKE, Section 4.3).
    """
    in_train = graph.entities["in_train"].to_numpy()
    seen = in_train[ranks["head"]] & in_train[ranks["tail"]]
    masks = directions(ranks)
    masks |= {f"{name}/seen": mask & seen for name, mask in masks.items()}
    for relation in np.unique(ranks["relation"]):
        masks[f"relation/{graph.relations['id'].iat[relation]}"] = (ranks["relation"] == relation).to_numpy()
    of_head, of_tail = (_bucket(graph.degrees)[ranks[end]] for end in ("head", "tail"))
    of_answer = np.where(ranks["direction"] == "tail", of_tail, of_head)
    for low in np.unique([of_head, of_tail]).tolist():
        group = str(low) if low < 2 else f"{low}-{2 * low - 1}"
        masks[f"degree/{group}"] = of_answer == low
        masks[f"either_degree/{group}"] = (of_head == low) | (of_tail == low)
    return {name: mask for name, mask in masks.items() if mask.any()}


def _totals(ranks: pd.DataFrame) -> np.ndarray:
    """What the metrics are quotients of, one row a query: summands of MR … Hits@10, expected rank, one."""
    rank = ranks["realistic"].to_numpy(np.float64)
    expected = (ranks["candidates"].to_numpy(np.float64) + 1) / 2
    return np.stack([rank, 1 / rank, rank <= 1, rank <= 3, rank <= 10, expected, np.ones(len(rank))], axis=1)


def _metrics(totals: np.ndarray) -> np.ndarray:
    """Sums (..., 7) of `_totals` -> (..., 6), the METRICS."""
    means = totals[..., :5] / totals[..., 6:]
    return np.concatenate([means, totals[..., :1] / totals[..., 5:6]], axis=-1)


def _bucket(degrees: np.ndarray) -> np.ndarray:
    """The largest power of two that is not above the degree; 0 for 0."""
    return np.where(degrees > 0, 1 << (np.frexp(degrees)[1] - 1).clip(min=0), 0)

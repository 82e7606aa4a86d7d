"""Triple classification: a triple is held for true where its score reaches a threshold chosen on valid.

One threshold for all relations (LMKE), or one for each (Socher et al., "Reasoning With Neural Tensor Networks for
Knowledge Base Completion", 2013). Where scores are a classifier's logits there is one more that asks nothing of valid:
0, a probability of one half.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kglm.artefacts import SCORES, read_parquet
from kglm.errors import InputError
from kglm.files import run_identity, write_json
from kglm.ranking.metrics import EVALUATION_VERSION
from kglm.ranking.stages import evaluation_options


class Scored(NamedTuple):
    """Triples of one split: relation int64 (n,), label 1 or -1 as int64 (n,), score float32 (n,)."""

    relations: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def classify(spec: dict, scores: Path, out: Path) -> None:
    """Accuracy on test of the thresholds chosen on valid, with confidence intervals by bootstrap over triples."""
    frame = read_parquet(scores, SCORES)
    results = accuracies(frame, evaluation_options(spec), scores)
    write_json(run_identity(spec) | {"evaluation_version": EVALUATION_VERSION, "thresholds": results}, out)


def accuracies(frame: pd.DataFrame, options: dict, scores: Path) -> dict:
    """Of rows of SCORES, by one threshold (`global`), by one for each relation (`relation`), and by 0 (`zero`).

    options: `resamples`, `confidence` and `seed` of the bootstrap; scores: the file that an InputError names.
    """
    valid, test = (_split(frame, name, scores) for name in ("valid", "test"))
    one, _ = best_threshold(valid.scores, valid.labels)
    each = relation_thresholds(valid, one)
    results = {"global": _accuracies(valid, test, {}, one, options) | {"threshold": one}}
    by_number = {str(relation): threshold for relation, threshold in each.items()}
    results |= {"relation": _accuracies(valid, test, each, one, options) | {"threshold": by_number}}
    return results | {"zero": _accuracies(valid, test, {}, 0.0, options) | {"threshold": 0.0}}


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The threshold, of scores (n,) with labels 1 and -1 (n,), with the most right, and its accuracy.

    A triple is held for true if score >= threshold. A threshold lies half-way between two neighbours of the
    distinct scores, is the lowest score (all are true) or comes next after the highest (none is), and is a number
    of the scores' own type; of equally good ones the middle is taken (of an even number the lower middle).
    InputError for no scores, and for NaN or infinity.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if not len(scores) or not np.isfinite(scores).all():
        what = "NaN or infinity among the scores" if len(scores) else "there is no score"
        raise InputError(what, "classification", "see whether the training diverged")
    order = np.argsort(scores)
    scores, true = scores[order], labels[order] == 1
    # A cut at i holds the triples from the i-th on for true; equal scores are not cut apart.
    right = np.append(0, np.cumsum(~true)) + np.append(np.cumsum(true[::-1])[::-1], 0)
    cuts = np.flatnonzero(np.concatenate([[True], scores[1:] > scores[:-1], [True]]))
    best = cuts[right[cuts] == right[cuts].max()]
    cut = best[(len(best) - 1) // 2]
    return _between(scores, cut), float(right[cut] / len(scores))


def relation_thresholds(valid: Scored, otherwise: float) -> dict[int, float]:
    """The best threshold of each relation of valid; `otherwise` where all its triples have one label.

    From triples of one label no threshold can be told: all that do not cut them are equally good.
    """
    order = np.argsort(valid.relations, kind="stable")
    relations, labels, scores = (column[order] for column in valid)
    numbers, starts = np.unique(relations, return_index=True)
    parts = zip(np.split(scores, starts[1:]), np.split(labels, starts[1:]), strict=True)
    return {
        number: best_threshold(*part)[0] if len(np.unique(part[1])) > 1 else otherwise
        for number, part in zip(numbers.tolist(), parts, strict=True)
    }


def accuracy_interval(correct: np.ndarray, resamples: int, level: float, seed: int = 0) -> list[float]:
    """Percentile bootstrap [low, high] of the share of `correct` (n,) over triples.

    How many of n triples drawn with replacement are right is binomial, so that the triples need not be drawn.
    """
    drawn = np.random.default_rng(seed).binomial(len(correct), correct.mean(), resamples) / len(correct)
    outside = (1 - level) / 2
    return np.quantile(drawn, [outside, 1 - outside]).tolist()


def _between(scores: np.ndarray, cut: int) -> float:
    """The threshold of the cut before the cut-th of the sorted scores."""
    if cut == 0:
        return float(scores[0])
    above = np.nextafter(scores[cut - 1], scores.dtype.type(np.inf))
    return float(above if cut == len(scores) else max(above, scores[cut - 1] / 2 + scores[cut] / 2))


def _accuracies(valid: Scored, test: Scored, thresholds: dict[int, float], otherwise: float, options: dict) -> dict:
    on_valid, on_test = (_correct(part, thresholds, otherwise) for part in (valid, test))
    confidence = accuracy_interval(on_test, options["resamples"], options["confidence"], options["seed"])
    return {
        "valid": {"accuracy": float(on_valid.mean()), "triples": len(on_valid)},
        "test": {"accuracy": float(on_test.mean()), "confidence": confidence, "triples": len(on_test)},
    }


def _correct(part: Scored, thresholds: dict[int, float], otherwise: float) -> np.ndarray:
    """Which triples are told right, bool (n,); a relation without a threshold takes `otherwise`."""
    numbers, places = np.unique(part.relations, return_inverse=True)
    threshold = np.array([thresholds.get(number, otherwise) for number in numbers.tolist()])[places]
    return (part.scores >= threshold) == (part.labels == 1)


def _split(frame: pd.DataFrame, name: str, path: Path) -> Scored:
    rows = frame[frame["split"] == name]
    if not {-1, 1} <= set(rows["label"]):
        what = f"its {name} split has {'only one kind of' if len(rows) else 'no'} triples, true or false"
        raise InputError(what, path, "give the dataset labelled valid and test triples")
    part = Scored(rows["relation"].to_numpy(np.int64), rows["label"].to_numpy(np.int64), rows["score"].to_numpy())
    if not np.isfinite(part.scores).all():
        triple = rows[["head", "relation", "tail"]].to_numpy()[np.argmin(np.isfinite(part.scores))].tolist()
        raise InputError(
            f"the {name} triple {triple} scores NaN or infinity", path, "see whether the training diverged"
        )
    return part

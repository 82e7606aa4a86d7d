"""How probable an answer with some score is: isotonic regression on valid (Zadrozny and Elkan, KDD 2002)."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kglm.errors import InputError
from kglm.inference.finished_run import FinishedRun, Query
from kglm.kg.graph import evenly_spaced

if TYPE_CHECKING:
    from sklearn.isotonic import IsotonicRegression

LEAST, MOST = 50, 300  # queries of valid; fewer tell too little, more tell nothing new
_RIVALS = 100  # of each query, the best answers that are not known
_BINS, _FOLDS = 10, 5


class Calibration(NamedTuple):
    """The curve from score to probability, and its expected calibration error on queries that it has not seen."""

    curve: "IsotonicRegression"
    error: float
    queries: int

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities (n,) of scores (n,)."""
        return self.curve.predict(np.asarray(scores, np.float64))

    def told(self) -> str:
        """One sentence for a reader."""
        return (
            f"probabilities by isotonic regression on {self.queries} queries of valid; expected calibration error on "
            f"held-out ones {self.error:.3f}"
        )


def calibrated(run: FinishedRun) -> Calibration:
    """The calibration of a run's scores: for the true answers of valid, and for each query's best unknown ones.

    InputError where valid has fewer than `LEAST` queries. The error is the mean of |probability − share of true ones|
    over ten bins of equal width, weighted by their sizes, in cross-validation over five parts of the queries.
    """
    triples = run.graph.split("valid")
    if 2 * len(triples) < LEAST:
        what = f"valid has {2 * len(triples)} queries, and a calibration needs {LEAST}"
        raise InputError(what, run.spec["name"], "ask without probabilities")
    triples = triples[evenly_spaced(len(triples), MOST // 2)]
    queries = [Query(h, r, None) for h, r, _ in triples.tolist()] + [Query(None, r, t) for _, r, t in triples.tolist()]
    targets = np.concatenate([triples[:, 2], triples[:, 0]])
    parts = [_sample(run, query, scores, targets[i]) for i, (query, scores) in enumerate(run.scored(queries))]
    of = np.repeat(np.arange(len(parts)), [len(scores) for scores, _ in parts])
    scores, true = (np.concatenate(column) for column in zip(*parts, strict=True))
    held_out = np.empty(len(scores))
    for fold in range(min(_FOLDS, len(parts))):
        out = of % _FOLDS == fold
        held_out[out] = _fitted(scores[~out], true[~out]).predict(scores[out])
    return Calibration(_fitted(scores, true), expected_error(held_out, true), len(queries))


def _sample(run: FinishedRun, query: Query, scores: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the true answer and of the best that are not known, and which one is true."""
    unknown = np.flatnonzero(~run.known(query))
    best = unknown[np.argsort(-scores[unknown], kind="stable")[:_RIVALS]]
    return scores[np.append(target, best)].astype(np.float64), np.append(True, np.zeros(len(best), bool))


def _fitted(scores: np.ndarray, true: np.ndarray) -> "IsotonicRegression":
    from sklearn.isotonic import IsotonicRegression

    return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, true)


def expected_error(probabilities: np.ndarray, true: np.ndarray) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015) over ten bins of equal width."""
    bins = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    gaps = [abs(probabilities[bins == b].sum() - true[bins == b].sum()) for b in range(_BINS)]
    return float(sum(gaps) / len(probabilities))

"""What the papers' texts say of their own tables (`claims.csv`), checked against the numbers that these print.

A claim is a sentence, or part of one, with the cells that it speaks of: a table, datasets, metrics, the method that is
praised, and the others ("quoted": the rows of other papers; nothing: all other rows). "; " stands between names.
A printed number stands for all numbers that round to it, so that there are three outcomes: the printed numbers show it;
they do not, but numbers that round to them might; no such numbers do.
"""

from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kglm.errors import InputError
from kglm.paper.bounds import Interval, rounded
from kglm.paper.findings import CONTRADICTED, OWN, SHOWN, UNDECIDED, Finding, Number, Row, numbers_of
from kglm.paper.reported import CORRECTED, LOWER_IS_BETTER, read_csv

COLUMNS = [
    "paper", "section", "quote", "kind", "table", "dataset", "metric", "method", "others", "value", "unit"
]  # fmt: skip
QUOTED = "quoted"
# From the better outcome of a part of a claim to the worse.
_OUTCOMES = [SHOWN, UNDECIDED, CONTRADICTED]
_PER_ONE = {"percent": 100}


class Part(NamedTuple):
    """One comparison of a claim: what it came to, and the arithmetic that shows it."""

    outcome: str
    text: str


class Claim:
    """A row of `claims.csv` with the tables of its paper."""

    def __init__(self, row, frame: pd.DataFrame, where: str):
        self.where, self.kind = where, row.kind
        self.paper, self.section, self.quote, self.table = row.paper, row.section, row.quote, row.table
        self.datasets, self.metrics, self.others = (
            [name for name in text.split("; ") if name] for text in (row.dataset, row.metric, row.others)
        )
        self.method, self.value, self.unit = row.method, row.value, row.unit
        here = frame[(frame["paper"] == row.paper) & (frame["table"] == row.table)]
        self._rows = {
            (dataset, method): of for (dataset, method), of in here.groupby(["dataset", "method"], sort=False)
        }
        if self.kind not in KINDS:
            raise InputError(f"unknown kind {self.kind!r}", where, f"one of {', '.join(KINDS)}")

    def number(self, dataset: str, method: str, metric: str) -> Number:
        """A printed number; InputError where the table has none."""
        if number := self._numbers(dataset, method).get(metric):
            return number
        what = " / ".join((self.paper, self.table, dataset, method, metric))
        raise InputError(f"no reported number is at {what}", self.where, "see reported.csv")

    def _numbers(self, dataset: str, method: str) -> dict[str, Number]:
        of = self._rows.get((dataset, method))
        return {} if of is None else numbers_of(of[of["unit"] != "text"])

    def rivals(self, dataset: str, metric: str) -> list[str]:
        """The others that the method is held against."""
        if self.others and self.others != [QUOTED]:
            return self.others
        return [
            method
            for (of_dataset, method), of in self._rows.items()
            if of_dataset == dataset and method != self.method and metric in set(of["metric"])
            if not (self.others and (of["citation"] == OWN).any())
        ]

    def methods(self) -> set[str]:
        """All rows of the table."""
        return {method for _, method in self._rows}

    def cells(self) -> Iterator[tuple[str, str, Number]]:
        """(dataset, metric, number) of the method."""
        for dataset, metric in product(self.datasets, self.metrics):
            yield dataset, metric, self.number(dataset, self.method, metric)

    def claimed(self) -> Interval:
        """The numbers that round to the one in the text."""
        return rounded(self.value, _PER_ONE.get(self.unit, 1))


def claims(frame: pd.DataFrame, path: Path | None = None) -> list[Finding]:
    """What became of each claim (of the package's file unless another is given) by the numbers of `reported`."""
    path = path or Path(__file__).with_name("claims.csv")
    found = []
    for index, row in enumerate(read_csv(path, COLUMNS).itertuples()):
        claim = Claim(row, frame, f"{path}, row {index + 2}")
        worst, told = _came_to(claim)
        corrected = _with_corrections(claim, frame)
        if corrected is not None:
            then = told
            worst, told = _came_to(Claim(row, corrected, claim.where))
            told = f"{told} (with the numbers that its authors put in the place of withdrawn ones; by those: {then})"
        about = Row(
            [(claim.paper, claim.section, claim.method)], ", ".join(claim.datasets), "", "", True, False, {}, []
        )
        found.append(Finding(worst, about, None, f"“{claim.quote}”: {claim.table}: {told}"))
    return sorted(found, key=lambda finding: _OUTCOMES[::-1].index(finding.check))


def _came_to(claim: Claim) -> tuple[str, str]:
    """The worst outcome of a claim's parts, and their arithmetic."""
    parts = list(KINDS[claim.kind](claim))
    worst = max((part.outcome for part in parts), key=_OUTCOMES.index)
    return worst, "; ".join(dict.fromkeys(part.text for part in parts if part.outcome == worst))


def _with_corrections(claim: Claim, frame: pd.DataFrame) -> pd.DataFrame | None:
    """The numbers with the corrected ones in their places; None where the claim speaks of no number that has one."""
    place = ["table", "dataset", "method", "metric"]
    corrected = frame[(frame["paper"] == claim.paper + CORRECTED) & (frame["table"] == claim.table)]
    corrected = corrected[corrected["dataset"].isin(claim.datasets) & corrected["metric"].isin(claim.metrics)]
    spoken_of = {claim.method, *(claim.others or [])}
    if not corrected["method"].isin(spoken_of).any():
        return None
    former = (frame["paper"] == claim.paper) & frame.set_index(place).index.isin(corrected.set_index(place).index)
    return pd.concat([frame[~former], corrected.assign(paper=claim.paper)], ignore_index=True)


def _outcome(shown: bool, possible: bool) -> str:
    return SHOWN if shown else UNDECIDED if possible else CONTRADICTED


def _gain(metric: str, one: Number, other: Number) -> tuple[Decimal, Interval]:
    """By how much the first is better, as printed, and what roundings leave of it."""
    if metric in LOWER_IS_BETTER:
        one, other = other, one
    between = Interval(one.interval.low - other.interval.high, one.interval.high - other.interval.low)
    return one.fraction - other.fraction, between


def _named(claim: Claim, dataset: str, metric: str) -> str:
    return f"{metric} on {dataset}" if len(claim.datasets) > 1 else metric


def _is(claim: Claim) -> Iterator[Part]:
    """The method has this number."""
    for dataset, metric, number in claim.cells():
        same = number.interval.agrees(claim.claimed())
        yield Part(_outcome(same, same), f"{_named(claim, dataset, metric)} is {number}")


def _difference(claim: Claim) -> Iterator[Part]:
    """The method is better than each of the others by this much; on the mean of the datasets."""
    (metric,) = claim.metrics
    for other in claim.others:
        pairs = [(claim.number(of, claim.method, metric), claim.number(of, other, metric)) for of in claim.datasets]
        gains = [_gain(metric, *pair) for pair in pairs]
        mean = sum(gain for gain, _ in gains) / len(gains)
        between = Interval(*(sum(ends) / len(gains) for ends in zip(*(of for _, of in gains), strict=True)))
        claimed = claim.claimed()
        outcome = _outcome(Interval(float(mean), float(mean)).meets(claimed), between.meets(claimed))
        sums = ", ".join(f"{one} − {two}" for one, two in pairs)
        unit = " points" if claim.unit == "percent" else ""
        shown = mean * _PER_ONE.get(claim.unit, 1)
        mean_of = "on the mean " if len(pairs) > 1 else ""
        yield Part(outcome, f"{metric}: {sums}, {mean_of}{shown.normalize():f}{unit}")


def _compared(claim: Claim, sign: int, strictly: bool) -> Iterator[Part]:
    """The method is better (sign 1) or worse (−1) than its rivals, or not the other way round."""
    for dataset, metric, number in claim.cells():
        rivals: dict[str, list[str]] = {outcome: [] for outcome in _OUTCOMES}
        for rival in claim.rivals(dataset, metric):
            other = claim.number(dataset, rival, metric)
            gain, between = _gain(metric, number, other)
            shown = sign * gain > 0 or (not strictly and gain == 0)
            possible = max(sign * between.low, sign * between.high) > 0
            rivals[_outcome(shown, possible)].append(f"{other} of {rival}")
        worst = max((outcome for outcome, of in rivals.items() if of), key=_OUTCOMES.index)
        against = "" if worst == SHOWN else f" against {', '.join(rivals[worst])}"
        yield Part(worst, f"{_named(claim, dataset, metric)} {number}{against}")


def _mostly_worse(claim: Claim) -> Iterator[Part]:
    """In more than half of all comparisons with its rivals the method is worse."""
    gains = [
        _gain(metric, claim.number(dataset, rival, metric), number)
        for dataset, metric, number in claim.cells()
        for rival in claim.rivals(dataset, metric)
    ]
    shown, possible = (sum(one) for one in zip(*((gain > 0, of.high > 0) for gain, of in gains), strict=True))
    text = f"the others are better in {shown} of {len(gains)} numbers"
    yield Part(_outcome(2 * shown > len(gains), 2 * possible > len(gains)), text)


def _most(claim: Claim) -> Iterator[Part]:
    """Of the metrics, the method is better than the others by most in the first."""
    (dataset,), (first, *rest) = claim.datasets, claim.metrics
    for other in claim.others:
        gains = {
            metric: _gain(metric, claim.number(dataset, claim.method, metric), claim.number(dataset, other, metric))
            for metric in claim.metrics
        }
        told = ", ".join(f"{metric} {gain:f}" for metric, (gain, _) in gains.items())
        for metric in rest:
            (gain, most), (less, least) = gains[first], gains[metric]
            yield Part(_outcome(gain > less, most.high > least.low), f"differences: {told}")


def _product(claim: Claim) -> Iterator[Part]:
    """The product of two counts."""
    (dataset,) = claim.datasets
    counts = [claim.number(dataset, claim.method, metric) for metric in claim.metrics]
    found = prod(int(count.text) for count in counts)
    claimed = Decimal(claim.value)
    cut = claimed <= found < claimed + Decimal(10) ** claimed.as_tuple().exponent  # digits left out, not rounded
    same = cut or Interval(found, found).meets(claim.claimed())
    yield Part(_outcome(same, same), f"{' × '.join(claim.metrics)} is {found:,}")


def _degree(claim: Claim) -> Iterator[Part]:
    """The mean degree of a graph, twice its triples over its entities; of two graphs the first over the second."""
    degrees = []
    for dataset in claim.datasets:
        triples, entities = (int(claim.number(dataset, claim.method, metric).text) for metric in claim.metrics)
        degrees.append(2 * triples / entities)
    found = degrees[0] / degrees[1] if len(degrees) > 1 else degrees[0]
    same = Interval(found, found).meets(claim.claimed())
    over = f" / {degrees[1]:.3f} = {found:.3f}" if len(degrees) > 1 else ""
    yield Part(_outcome(same, same), f"2 × {' / '.join(claim.metrics)} is {degrees[0]:.3f}{over}")


def _ratio(claim: Claim) -> Iterator[Part]:
    """The first dataset has more than `value` times as many as the second."""
    (metric,) = claim.metrics
    first, second = (int(claim.number(dataset, claim.method, metric).text) for dataset in claim.datasets)
    more = first > float(claim.value) * second
    yield Part(_outcome(more, more), f"{metric}: {first:,} / {second:,} = {first / second:.1f}")


def _rows(claim: Claim) -> Iterator[Part]:
    """How many others the table has, whatever numbers it has of them."""
    count = len(claim.methods() - {claim.method})
    same = count == int(claim.value)
    yield Part(_outcome(same, same), f"{count} other rows")


KINDS = {
    "is": _is,
    "difference": _difference,
    "best": partial(_compared, sign=1, strictly=False),
    "worst": partial(_compared, sign=-1, strictly=False),
    "better": partial(_compared, sign=1, strictly=True),
    "mostly worse": _mostly_worse,
    "most": _most,
    "product": _product,
    "degree": _degree,
    "ratio": _ratio,
    "rows": _rows,
}

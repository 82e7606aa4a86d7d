"""What in reported numbers cannot be, or does not agree: checks of single rows, and of rows with each other.

A row is one method on one dataset in one table of one paper. It is on the validation split if its note says so
("validation split", "dev set", …). Two rows are of the same system if `aliases.csv` says so, or if they have the same
method name and either cite the same first author or one of them is its own paper's ("this paper").
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kglm.paper.bounds import Interval, Ranks, rounded
from kglm.paper.reported import UNITS, read_csv

OWN = "this paper"
# Marks the reported numbers of a row that cannot be, and the note that says why.
FLAG = "†"
BELOW = "↓"  # behind a measured number that a rule without a model reaches
ROW = ["paper", "table", "dataset", "method"]
ALIASES = ["paper", "dataset", "method", "system", "reason"]
_VALID = re.compile(r"\b(valid(ation)?|dev(elopment)?) (split|set)\b", re.IGNORECASE)
HITS = re.compile(r"Hits@([1-9]\d*)")

# What became of a sentence about numbers (see `kglm.paper.claims`).
CONTRADICTED, UNDECIDED, SHOWN = "claim contradicted", "claim not shown", "claim shown"
# What is checked -> what a finding of the kind says. The first five are of a single row, and prove that it cannot be.
CHECKS = {
    "range": "a value outside what its unit allows",
    "Hits@k": "fewer ranks up to a larger k, or not all up to the number of entities",
    "MRR": "an MRR that the row's Hits@k exclude",
    "MR": "a mean rank that the row's Hits@k or the number of entities exclude",
    "MRR and MR": "an MRR that the row's mean rank and Hits@k exclude",
    "valid and test": "said to be on the validation split, with the very numbers of test",
    "changed copy": "the same row twice: at least half of the numbers agree, the others do not",
    "other values": "the same system on the same data, with numbers further apart than rounding",
    CONTRADICTED: "a sentence that the tables of its own paper contradict, whatever their numbers are rounded from",
    UNDECIDED: "a sentence that the printed numbers do not show; what they are rounded from might",
    SHOWN: "a sentence that the tables of its own paper bear out",
}


class Number(NamedTuple):
    """A number as printed, and the values that it may be rounded from; a percentage as a fraction."""

    text: str
    unit: str
    interval: Interval

    def __str__(self) -> str:
        return f"{self.text} %" if self.unit == "percent" else self.text

    @property
    def fraction(self) -> Decimal:
        return Decimal(self.text).scaleb(-2 if self.unit == "percent" else 0)


@dataclass(frozen=True)
class Row:
    """The numbers of one method on one dataset, and all places (paper, table, method) that print the same ones."""

    places: list[tuple[str, str, str]]
    dataset: str
    system: str
    source: str
    own: bool
    on_valid: bool
    numbers: dict[str, Number]
    notes: list[str]

    def __str__(self) -> str:
        tables: dict[tuple[str, str], list[str]] = {}
        for paper, table, method in self.places:
            tables.setdefault((paper, method), []).append(table)
        return "; ".join(f"{paper}, {' and '.join(of)}: {method}" for (paper, method), of in tables.items())

    def number(self, metric: str) -> Number | None:
        """The number of a ranking metric, if there is one in a unit that fits."""
        number = self.numbers.get(metric)
        return number if number and number.unit in (["rank"] if metric == "MR" else ["fraction", "percent"]) else None

    def hits(self) -> dict[int, Number]:
        """Hits@k by k, in the order of k."""
        found = {int(match[1]): self.number(metric) for metric in self.numbers if (match := HITS.fullmatch(metric))}
        return {k: found[k] for k in sorted(found) if found[k]}

    def ranks(self, size: float, step: float = 1) -> Ranks:
        """What Hits@k say of the ranks."""
        return Ranks({k: share.interval for k, share in self.hits().items()}, size, step)


class Finding(NamedTuple):
    """What is wrong (a key of CHECKS), with which row, against which other, and the arithmetic that shows it."""

    check: str
    row: Row
    against: Row | None
    text: str


def findings(frame: pd.DataFrame) -> list[Finding]:
    """All findings of reported numbers (see `reported`), in the order of CHECKS; rows of the same numbers are one."""
    rows = _rows(frame)
    sizes = _entities(frame)
    found = [finding for row in rows for finding in impossible(row, sizes.get(row.dataset, math.inf))]
    found += [_like_test(valid, test) for valid in rows for test in rows if _is_test_of(valid, test)]
    found += [_differing(*pair) for pair in combinations(rows, 2) if _same(*pair) and _differences(*pair)]
    return sorted(found, key=lambda finding: list(CHECKS).index(finding.check))


def _rows(frame: pd.DataFrame) -> list[Row]:
    """The rows that hold numbers; those of one system with the same numbers become one."""
    named = _systems()
    merged: dict[tuple, Row] = {}
    for (paper, table, dataset, method), of in frame[frame["unit"] != "text"].groupby(ROW, sort=False):
        alias = named.get((paper, dataset, method), named.get((paper, "any", method)))
        own = of["citation"].iloc[0] == OWN
        notes = list(dict.fromkeys(filter(None, of["note"])))
        numbers = numbers_of(of)
        # Without a citation it is nobody else's: only rows of the same paper can be the same system's.
        cited = of["citation"].iloc[0].split()
        source = "" if alias else paper if own or not cited else cited[0]
        on_valid = any(map(_VALID.search, notes))
        same = frozenset((metric, number.interval) for metric, number in numbers.items())
        row = Row([], dataset, alias or method, source, own and not alias, on_valid, numbers, [])
        kept = merged.setdefault((dataset, row.system, source, on_valid, same), row)
        kept.places.append((paper, table, method))
        kept.notes.extend(note for note in notes if note not in kept.notes)
    return list(merged.values())


@cache
def _systems() -> dict[tuple[str, str, str], str]:
    """(paper, dataset or any, method) -> the system that goes by this name there."""
    aliases = read_csv(Path(__file__).with_name("aliases.csv"), ALIASES)
    return {(alias.paper, alias.dataset, alias.method): alias.system for alias in aliases.itertuples()}


def numbers_of(rows: pd.DataFrame) -> dict[str, Number]:
    """Metric -> number of the rows of reported.csv that make up one row of a table."""
    return {
        row.metric: Number(row.value, row.unit, rounded(row.value, 100 if row.unit == "percent" else 1))
        for row in rows.itertuples()
    }


def _entities(frame: pd.DataFrame) -> dict[str, float]:
    """How many entities a dataset has, and so candidates at most; where papers differ, the greatest number."""
    counts = frame[(frame["metric"] == "entities") & (frame["number"] >= 1)]
    return counts.groupby("dataset")["number"].max().to_dict()


def impossible(row: Row, size: float) -> list[Finding]:
    """The checks of a single row: what its numbers exclude, if ranks are whole numbers of at most `size`.

    The coarser checks come first; the finer ones say nothing new of a row that does not pass them.
    """
    found = [("range", text) for text in _out_of_range(row)] + [("Hits@k", text) for text in _disordered(row, size)]
    found = found or [(metric, text) for metric in ("MRR", "MR") if (text := _excluded(row, metric, size))]
    found = found or [("MRR and MR", text) for text in [_excluded_together(row, size)] if text]
    return [Finding(check, row, None, text) for check, text in found]


def _out_of_range(row: Row) -> list[str]:
    return [
        f"{metric} is {number}, but a {number.unit} lies between {low:g} and {high:g}"
        for metric, number in row.numbers.items()
        for low, high in [UNITS[number.unit]]
        if not low <= float(number.text) <= high
    ]


def _disordered(row: Row, size: float) -> list[str]:
    hits = row.hits().items()
    return [
        f"Hits@{k} is {one} and Hits@{above} {other}, but every rank up to {k} is one up to {above}"
        for (k, one), (above, other) in combinations(hits, 2)
        if one.interval.low > other.interval.high
    ] + [
        f"Hits@{k} is {share}, but there is no rank above {size:.0f}, the number of entities"
        for k, share in hits
        if k >= size and share.interval.high < 1
    ]


def _excluded(row: Row, metric: str, size: float) -> str:
    """Why a mean over ranks cannot be, as a sum over the bins of ranks; nothing where it can."""
    number = row.number(metric)
    allowed = _allowed(metric, row.ranks(size))
    if number is None or number.interval.meets(allowed):
        return ""
    below = number.interval.high < allowed.low
    lasts = below == (metric == "MRR")
    ends = [last if lasts else first for first, last in row.ranks(size).bins]
    edges = ["", *(f"{share.fraction:f}" for k, share in row.hits().items() if k < size), "1"]
    shares = [f"({high} − {low})" if low else high for low, high in pairwise(edges)]
    sign, decimals = ("/", 4) if metric == "MRR" else ("×", 1)
    sums = [
        share if end == 1 else f"{share} {sign} {end:.0f}"
        for share, end in zip(shares, ends, strict=True)
        if math.isfinite(end)
    ]
    return (
        f"{metric} is {number.fraction:f}, but at {'least' if below else 'most'} {' + '.join(sums)}, "
        f"{allowed.low if below else allowed.high:.{decimals}f} with all roundings"
        + _unless_tied(number, _allowed(metric, row.ranks(size, step=0.5)))
    )


def _allowed(metric: str, ranks: Ranks) -> Interval:
    return ranks.reciprocal() if metric == "MRR" else ranks.mean()


def _excluded_together(row: Row, size: float) -> str:
    """Why MRR and MR cannot both be; nothing where they can."""
    mrr, mr = row.number("MRR"), row.number("MR")
    if not (mrr and mr) or mrr.interval.meets(allowed := row.ranks(size).reciprocal_with(mr.interval)):
        return ""
    below = mrr.interval.high < allowed.low
    hits = "".join(f", Hits@{k} {share.fraction:f}" for k, share in row.hits().items())
    return (
        f"MRR is {mrr.fraction:f}, but with MR {mr}{hits} at {'least' if below else 'most'} "
        f"{allowed.low if below else allowed.high:.4f}: 1/r is convex, "
        + ("its mean is at least 1 over the mean of r" if below else "and below its chord between any two ranks")
        + _unless_tied(mrr, row.ranks(size, step=0.5).reciprocal_with(mr.interval))
    )


def _unless_tied(number: Number, allowed: Interval) -> str:
    """A bound that only whole ranks keep says so: evaluations may give tied candidates their mean rank."""
    return "; not excluded where tied candidates get their mean rank" if number.interval.meets(allowed) else ""


def _same(one: Row, other: Row) -> bool:
    """Whether two rows should hold the same numbers; two papers' own rows of one name are two systems."""
    alike = (one.dataset, one.system, one.on_valid) == (other.dataset, other.system, other.on_valid)
    return alike and (one.source == other.source or one.own != other.own)


def _shared(one: Row, other: Row) -> list[str]:
    return [metric for metric in one.numbers if metric in other.numbers]


def _differences(one: Row, other: Row) -> list[str]:
    """The metrics in which two rows are further apart than rounding."""
    return [
        metric
        for metric in _shared(one, other)
        if not one.numbers[metric].interval.agrees(other.numbers[metric].interval)
    ]


def _differing(one: Row, other: Row) -> Finding:
    differing = _differences(one, other)
    alike = [metric for metric in _shared(one, other) if metric not in differing]
    texts = [f"{metric} {one.numbers[metric]} against {other.numbers[metric]}" for metric in differing]
    noted = dict.fromkeys([*one.notes, *other.notes])
    text = "; ".join([*texts, *([f"the same: {', '.join(alike)}"] if alike else [])])
    check = "changed copy" if len(alike) >= len(differing) else "other values"
    return Finding(check, one, other, text + (f" (noted: {'; '.join(noted)})" if noted else ""))


def _is_test_of(valid: Row, test: Row) -> bool:
    """Whether a row on valid has the numbers, at least two, of one of the same paper that is not on valid."""
    papers = [{paper for paper, _, _ in row.places} for row in (valid, test)]
    together = valid.on_valid and not test.on_valid and valid.dataset == test.dataset and papers[0] & papers[1]
    return bool(together) and len(_shared(valid, test)) > 1 and not _differences(valid, test)


def _like_test(valid: Row, test: Row) -> Finding:
    same = [f"{metric} {valid.numbers[metric]} and {test.numbers[metric]}" for metric in _shared(valid, test)]
    return Finding("valid and test", valid, test, f"{'; '.join(same)}: all numbers in common are the same")


def by_row(found: list[Finding]) -> dict[tuple[str, str, str, str], list[Finding]]:
    """(paper, table, dataset, method) -> the findings about this printed row."""
    about: dict[tuple[str, str, str, str], list[Finding]] = {}
    for finding in found:
        for row in filter(None, (finding.row, finding.against)):
            for paper, table, method in row.places:
                about.setdefault((paper, table, row.dataset, method), []).append(finding)
    return about


def footnote(finding: Finding, place: tuple[str, str, str, str]) -> str:
    """A finding in short, below a table that shows the row at `place`; nothing of other values, which are many."""
    if not finding.against:
        return finding.text
    paper, table, _, method = place
    here = (paper, table, method) in finding.row.places
    one, other = (finding.row, finding.against) if here else (finding.against, finding.row)
    where = " and ".join(of if by == paper else f"{by}'s {of}" for by, of, _ in other.places)
    if finding.check == "valid and test":
        verb = "has" if len(other.places) == 1 else "have"
        return f"{where} {verb} the same numbers on {'test' if here else 'valid'}"
    values = " and ".join(f"{metric} is {other.numbers[metric]}" for metric in _differences(one, other))
    return f"{values} in {where}" if finding.check == "changed copy" else ""

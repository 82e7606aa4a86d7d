"""What the metrics of one ranking leave for each other: bounds that every list of ranks keeps, by arithmetic alone.

Hits@k says how many ranks lie in which bin: 1 to k, above k to the next k, and so on. The mean of any function of
the rank then lies between the means of its least and of its greatest values in the bins. MR, MRR and Hits@k are means
with the same weights, so that the bounds also hold for means over directions, relations or seeds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple


class Interval(NamedTuple):
    """All numbers from low to high."""

    low: float
    high: float

    def agrees(self, other: "Interval") -> bool:
        """Whether two rounded numbers may be roundings of one and the same."""
        return max(self.low, other.low) < min(self.high, other.high)

    def meets(self, other: "Interval") -> bool:
        """Whether they have a number in common, up to an error in the last digits of a float."""
        room = 1e-9 * max(1.0, abs(self.low))
        return self.low <= other.high + room and other.low <= self.high + room


def rounded(text: str, per_one: int = 1) -> Interval:
    """The numbers that are printed as `text`, half a unit of its last digit to either side, over `per_one`."""
    number = Decimal(text)
    half = Decimal((0, (5,), number.as_tuple().exponent - 1))
    return Interval(float((number - half) / per_one), float((number + half) / per_one))


@dataclass(frozen=True)
class Ranks:
    """What is known of a list of ranks: the share of ranks up to k for some k, the greatest rank that there can be,
    and how far apart ranks are (1; 0.5 where tied candidates get their mean rank)."""

    hits: dict[int, Interval]
    size: float = math.inf
    step: float = 1

    @property
    def _known(self) -> list[int]:
        return [k for k in sorted(self.hits) if k < self.size]

    @property
    def _shares(self) -> list[Interval]:
        return [Interval(max(0.0, self.hits[k].low), min(1.0, self.hits[k].high)) for k in self._known]

    @property
    def bins(self) -> list[tuple[float, float]]:
        """The first and the last rank of each bin, from the best on."""
        return list(zip([1, *(k + self.step for k in self._known)], [*self._known, self.size], strict=True))

    def least(self, value: Callable[[float, float], float]) -> float:
        """The least mean of a function that has `value(first, last)` in a bin; each share takes its worse end.

        The sum of (share of a bin × value) by parts, where every Hits@k stands in one term of its own.
        """
        values = [value(*ends) for ends in self.bins]
        if values[-1] == -math.inf:
            return -math.inf
        steps = [one - after for one, after in pairwise(values)]
        return values[-1] + sum(min(low * d, high * d) for (low, high), d in zip(self._shares, steps, strict=True))

    def most(self, value: Callable[[float, float], float]) -> float:
        """The greatest mean of a function that has `value(first, last)` in a bin."""
        return -self.least(lambda first, last: -value(first, last))

    def reciprocal(self) -> Interval:
        """Between what values MRR lies: all ranks last in their bins, or all first."""
        return Interval(self.least(lambda first, last: 1 / last), self.most(lambda first, last: 1 / first))

    def mean(self) -> Interval:
        """Between what values MR lies: all ranks first in their bins, or all last."""
        return Interval(self.least(lambda first, last: first), self.most(lambda first, last: last))

    def reciprocal_with(self, mean: Interval) -> Interval:
        """Between what values MRR lies where MR is known too; without any Hits@k from 1 / MR on (harmonic mean).

        For every b > 0, MRR = mean of (1/r + b r) − b MR. Its least value takes each bin's least of 1/r + b r, which is
        convex and least at r = 1/√b; its greatest takes that of the bin's two ends. The best b is where the ranks of
        one bin stand between its ends: 1/c² for the mean rank c that is left for a bin, 1/(first × last) for any.
        """
        low, high = self.reciprocal()
        for c in self._left(mean.high):
            tangent = self.least(lambda first, last, c=c: _tilted(min(max(c, first), last), 1 / c**2))
            low = max(low, tangent - mean.high / c**2)
        for b in (1 / (first * last) for first, last in self.bins if math.isfinite(self.size)):
            chord = self.most(lambda first, last, b=b: max(_tilted(first, b), _tilted(last, b)))
            high = min(high, chord - b * mean.low)
        return Interval(low, high)

    def _left(self, mean: float) -> list[float]:
        """For each bin the mean rank left for it, with lower bins at their last rank and higher ones at their first."""
        edges = [0.0, *((low + high) / 2 for low, high in self._shares), 1.0]
        shares = [after - one for one, after in pairwise(edges)]
        left = []
        for i, share in enumerate(shares):
            ends = [bin[0] if j > i else bin[1] for j, bin in enumerate(self.bins)]
            others = sum(s * end for j, (s, end) in enumerate(zip(shares, ends, strict=True)) if j != i)
            if share > 0 and mean > others:
                left.append((mean - others) / share)
        return left


def _tilted(rank: float, b: float) -> float:
    return 1 / rank + b * rank

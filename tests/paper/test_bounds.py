"""Every list of ranks keeps the bounds; a linear programme, which knows nothing of them, finds them tight."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from kglm.paper.bounds import Interval, Ranks, rounded

KS = st.sets(st.sampled_from([1, 2, 3, 5, 10, 20]), max_size=4)


def metrics(ranks: list[float], ks) -> tuple[dict[int, Interval], float, float]:
    """Hits@k as exact intervals, MRR and MR of a list of ranks."""
    values = np.array(ranks, float)
    hits = {k: Interval(*[float((values <= k).mean())] * 2) for k in ks}
    return hits, float((1 / values).mean()), float(values.mean())


@st.composite
def lists(draw, step=1):
    """Ranks with the size that they were drawn from, and the k of some Hits@k."""
    size = draw(st.integers(1, 60))
    ranks = draw(st.lists(st.integers(round(1 / step), round(size / step)), min_size=1, max_size=30))
    return [rank * step for rank in ranks], size, draw(KS)


@pytest.mark.parametrize(
    ("text", "per_one", "expected"),
    [
        ("0.47", 1, (0.465, 0.475)),
        ("24.3", 100, (0.2425, 0.2435)),
        ("2300", 1, (2299.5, 2300.5)),
        (".403", 1, (0.4025, 0.4035)),
        ("0", 100, (-0.005, 0.005)),
        ("1e-4", 1, (0.00005, 0.00015)),
    ],
)
def test_a_printed_number_stands_for_an_interval(text, per_one, expected):
    assert rounded(text, per_one) == pytest.approx(expected)


@given(st.floats(-1e4, 1e4), st.integers(0, 4))
def test_rounding_stays_in_the_interval(value, decimals):
    assert rounded(f"{value:.{decimals}f}").meets(Interval(value, value))


def test_two_roundings_of_one_number_agree():
    assert rounded("24.3", 100).agrees(rounded("0.243"))
    assert rounded("0.2").agrees(rounded("0.21"))
    assert not rounded("0.452").agrees(rounded("0.453"))
    assert not rounded("19").agrees(rounded("19.6"))


@pytest.mark.parametrize("step", [1, 0.5])
@given(data=st.data(), known=st.booleans())
def test_real_ranks_keep_all_bounds(step, data, known):
    ranks, size, ks = data.draw(lists(step))
    hits, mrr, mr = metrics(ranks, ks)
    bounds = Ranks(hits, size if known else math.inf, step)
    assert bounds.reciprocal().meets(Interval(mrr, mrr))
    assert bounds.mean().meets(Interval(mr, mr))
    assert bounds.reciprocal_with(Interval(mr, mr)).meets(Interval(mrr, mrr))


def extremes(objective, size, hits, mean=None) -> Interval:
    """The least and the greatest mean of a function of the rank, over all distributions of ranks 1 to `size`."""
    ranks = np.arange(1, size + 1)
    rows, values = [np.ones(size)], [1.0]
    for k, share in hits.items():
        rows.append((ranks <= k).astype(float))
        values.append(share.low)
    if mean is not None:
        rows.append(ranks.astype(float))
        values.append(mean)
    ends = [linprog(sign * objective(ranks), A_eq=np.array(rows), b_eq=values).fun * sign for sign in (1, -1)]
    return Interval(*ends)


@given(lists())
def test_bounds_are_reached(case):
    """MRR and MR alone: exactly what the programme finds. With MR: the upper end too; the lower to a whole rank."""
    ranks, size, ks = case
    hits, _, mr = metrics(ranks, ks)
    bounds = Ranks(hits, size)
    assert bounds.reciprocal() == pytest.approx(extremes(lambda r: 1 / r, size, hits), abs=1e-7)
    assert bounds.mean() == pytest.approx(extremes(lambda r: r, size, hits), abs=1e-6)
    found, ours = extremes(lambda r: 1 / r, size, hits, mr), bounds.reciprocal_with(Interval(mr, mr))
    assert ours.high == pytest.approx(found.high, abs=1e-6)
    assert ours.low <= found.low + 1e-6
    assert found.low - ours.low < 0.09  # between whole ranks 1/r lies below its chord, most so between 1 and 2


def test_the_harmonic_mean():
    assert Ranks({}).reciprocal_with(Interval(5, 5)).low == pytest.approx(1 / 5)


def test_hits_of_more_than_all_ranks_say_nothing():
    assert Ranks({10: Interval(1, 1)}, size=5).mean() == Interval(1, 5)


def test_an_unknown_size_leaves_the_mean_rank_open():
    assert Ranks({1: Interval(0.5, 0.5)}).mean() == Interval(1.5, math.inf)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from kglm.analysis import geometry

from .conftest import unit_rows

clouds = st.builds(
    lambda seed, n, d: unit_rows(np.random.default_rng(seed), n, d),
    st.integers(0, 2**32 - 1),
    st.integers(2, 30),
    st.integers(1, 6),
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(geometry, "_BLOCK", 7)


@given(clouds)
def test_anisotropy_is_the_mean_over_all_pairs(rows):
    n = len(rows)
    naive = sum(float(rows[i].astype(float) @ rows[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    assert geometry.sentence_anisotropy(rows) == pytest.approx(naive, abs=1e-12)


def test_anisotropy_of_one_direction_and_of_a_basis():
    assert geometry.sentence_anisotropy(np.ones((5, 4)) / 2) == pytest.approx(1)
    assert geometry.sentence_anisotropy(np.eye(4)) == pytest.approx(0)


@given(clouds)
def test_uniformity_is_that_of_the_list_of_distances(rows):
    exact = rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    expected = np.log(np.exp(-2 * pdist(exact, "sqeuclidean")).mean())
    assert geometry.uniformity(rows) == pytest.approx(expected, abs=1e-12)


@given(clouds, st.floats(0.5, 3))
def test_alignment_against_a_loop(rows, alpha):
    other = rows[::-1]
    expected = np.mean([np.sqrt(((a.astype(float) - b) ** 2).sum()) ** alpha for a, b in zip(rows, other, strict=True)])
    assert geometry.alignment(rows, other, alpha) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=300)
@given(clouds, st.floats(0.001, 10))
def test_theorem_2_holds_for_every_cloud(rows, temperature):
    bound = geometry.theorem2(rows, temperature)
    assert bound["holds"]
    assert bound["slack"] == bound["left"] - bound["right"]


@given(clouds, st.floats(0.05, 10))
def test_theorem_2_sides_against_the_definition(rows, temperature):
    exact = rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    n = len(exact)
    left = np.mean([np.log(np.mean([np.exp(a @ b / temperature) for b in exact])) for a in exact])
    pairs = sum(exact[i] @ exact[j] for i in range(n) for j in range(n) if i != j)
    right = (n - 1) / (temperature * n) * pairs / (n * (n - 1)) + 1 / (temperature * n)
    bound = geometry.theorem2(rows, temperature)
    assert bound["left"] == pytest.approx(left, rel=1e-9, abs=1e-9)
    assert bound["right"] == pytest.approx(right, rel=1e-9, abs=1e-9)


def test_theorem_2_is_tight_where_all_embeddings_are_equal_and_can_fail_to_hold_when_wrong():
    rows = np.ones((9, 4)) / 2
    assert geometry.theorem2(rows, 0.05)["slack"] == pytest.approx(0, abs=1e-9)
    assert geometry.theorem2(rows, 0.05)["holds"]

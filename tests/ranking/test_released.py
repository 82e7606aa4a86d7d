"""The released evaluation: where it agrees with the filtered rank, and where it does not."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.ranking import filtered_ranks
from kglm.ranking.released import released_ranks

from .oracle import csr


def unit(random: np.random.Generator, rows: int, width: int = 8) -> np.ndarray:
    vectors = random.standard_normal((rows, width), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), queries=st.integers(1, 130), entities=st.integers(1, 30), known=st.integers(0, 5))
def test_the_place_counts_known_answers_one_lower(seed, queries, entities, known):
    random = np.random.default_rng(seed)
    q, e, targets = unit(random, queries), unit(random, entities), random.integers(entities, size=queries)
    filtered = random.integers(entities, size=(queries, known)).tolist()
    scores = q @ e.T
    expected = []
    for row, target, others in zip(scores, targets, filtered, strict=True):
        lowered = row - np.isin(np.arange(entities), [j for j in others if j != target])
        expected.append(1 + (lowered > row[target]).sum())
    ranks = released_ranks(q, e, targets, csr(filtered))
    assert ranks.realistic.tolist() == expected
    assert (ranks.candidates == entities).all()


def test_without_known_answers_and_ties_it_is_the_filtered_rank():
    random = np.random.default_rng(0)
    q, e, targets = unit(random, 40), unit(random, 500), random.integers(500, size=40)
    nothing = csr([[] for _ in targets])
    np.testing.assert_array_equal(
        released_ranks(q, e, targets, nothing).realistic, filtered_ranks(q, e, targets, nothing).realistic
    )


def test_a_known_answer_may_still_stand_before_the_target():
    queries, entities = np.array([[1, 0]], np.float32), np.array([[-0.5, 0.866], [1, 0]], np.float32)
    known = csr([[1]])
    assert released_ranks(queries, entities, np.array([0]), known).realistic == [2.0]
    assert filtered_ranks(queries, entities, np.array([0]), known).realistic == [1.0]

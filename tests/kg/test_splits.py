import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.kg.splits import split_triples

TRIPLES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2), st.integers(0, 7)), min_size=60, max_size=120).map(
    np.array
)
RATIO = (0.6, 0.2, 0.2)


@settings(deadline=None)
@given(triples=TRIPLES, seed=st.integers(0, 9))
def test_splits(triples, seed):
    try:
        splits = split_triples(triples, RATIO, seed, "own")
    except InputError:
        # refused only where hardly anything but first mentions is there
        assert len(np.unique(triples, axis=0)) < 25
        return
    # every row gets a split, and equal rows the same one
    assert set(splits) == {0, 1, 2}
    assert len({(*row, split) for row, split in zip(triples.tolist(), splits, strict=True)}) == len(
        np.unique(triples, axis=0)
    )
    # train knows every entity and relation
    train = triples[splits == 0]
    assert np.isin(triples[:, [0, 2]], train[:, [0, 2]]).all()
    assert np.isin(triples[:, 1], train[:, 1]).all()
    # the order of lines does not matter, nor does a second call
    order = np.random.default_rng(seed).permutation(len(triples))
    assert (split_triples(triples[order], RATIO, seed, "own") == splits[order]).all()


def test_sizes_and_seeds():
    triples = np.stack(np.unravel_index(np.arange(1000), (10, 10, 10)), axis=1)
    splits = split_triples(triples, (8, 1, 1), 0, "own")
    assert np.bincount(splits).tolist() == [800, 100, 100]
    assert (splits != split_triples(triples, (8, 1, 1), 1, "own")).any()


def test_valid_and_test_shrink_together_where_train_needs_the_triples():
    triples = np.array([(head, 0, tail) for head in range(6) for tail in range(6) if head != tail])
    splits = split_triples(triples, (0.02, 0.49, 0.49), 3, "own")
    train, valid, test = np.bincount(splits)
    assert train >= 3  # six entities take three triples at least; 2 % would be one
    assert abs(valid - test) <= 1
    assert train + valid + test == len(triples)


def test_too_few_triples_are_refused():
    with pytest.raises(InputError, match=r"own.nt: 0 of 2 triples could leave train"):
        split_triples(np.array([(0, 0, 1), (2, 0, 3)]), RATIO, 0, "own.nt")

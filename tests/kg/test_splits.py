import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.kg.splits import BETWEEN_SETS, RELATION_NOT_IN_TRAIN, inverse_relations, split_entities, split_triples

TRIPLES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2), st.integers(0, 7)), min_size=60, max_size=120).map(
    np.array
)
MANY_RELATIONS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 30), st.integers(0, 7)), min_size=60, max_size=120
).map(np.array)
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
    triples = np.add(np.stack(np.unravel_index(np.arange(1000), (10, 10, 10)), axis=1), [0, 0, 10])
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


@settings(deadline=None)
@given(triples=TRIPLES, seed=st.integers(0, 9))
def test_a_triple_and_the_same_reversed_stay_together(triples, seed):
    both = np.concatenate([triples, triples[:, [2, 1, 0]]])
    try:
        splits = split_triples(both, RATIO, seed, "own")
    except InputError:
        return
    assert (splits[: len(triples)] == splits[len(triples) :]).all()


def test_inverse_relations_stay_together():
    links = np.random.default_rng(0).integers(0, 40, (400, 2))
    links = np.unique(links[links[:, 0] != links[:, 1]], axis=0)
    parent = np.insert(links, 1, 0, axis=1)
    child = np.insert(links[:, ::-1], 1, 1, axis=1)
    other = np.insert(links[: len(links) // 2, ::-1], 1, 2, axis=1)  # goes with half of the others only
    triples = np.concatenate([parent, child, other])
    assert sorted(map(tuple, inverse_relations(triples).tolist())) == [(0, 1), (1, 0)]
    splits = split_triples(triples, (8, 1, 1), 0, "own")
    assert (splits[: len(links)] == splits[len(links) : 2 * len(links)]).all()
    assert (splits[: len(other)] != splits[2 * len(links) :]).any()
    shares = np.bincount(splits) / len(splits)
    assert np.allclose(shares, (0.8, 0.1, 0.1), atol=0.01)


def test_loops_are_not_their_own_inverse():
    loops = np.array([(entity, relation, entity) for entity in range(9) for relation in range(3)])
    assert not len(inverse_relations(loops))


def test_too_few_triples_are_refused():
    with pytest.raises(InputError, match=r"own.nt: 0 of 2 triples could leave train"):
        split_triples(np.array([(0, 0, 1), (2, 0, 3)]), RATIO, 0, "own.nt")


@settings(deadline=None, max_examples=40)
@given(triples=MANY_RELATIONS, seed=st.integers(0, 9))
def test_splits_by_entities(triples, seed):
    shares = {"valid": 0.25, "test": 0.25}
    try:
        splits = split_entities(triples, shares, seed, "own")
    except InputError as error:
        assert "0 in valid" in str(error) or "0 in test" in str(error) or "0 would be in train" in str(error)
        return
    ends = [set(triples[splits == split][:, [0, 2]].ravel().tolist()) for split in range(3)]
    assert all(ends)
    assert not ends[0] & ends[1] and not ends[0] & ends[2] and not ends[1] & ends[2]
    relations = set(triples[splits == 0, 1].tolist())
    for (head, relation, tail), split in zip(triples.tolist(), splits.tolist(), strict=True):
        assert split <= 0 or relation in relations
        assert split != RELATION_NOT_IN_TRAIN or relation not in relations
        if split == BETWEEN_SETS:
            assert not any({head, tail} <= own for own in ends)
    # the order of lines does not matter
    order = np.random.default_rng(seed).permutation(len(triples))
    assert (split_entities(triples[order], shares, seed, "own") == splits[order]).all()


def test_shares_are_of_the_entities():
    triples = np.stack(np.unravel_index(np.arange(3200), (40, 2, 40)), axis=1)
    splits = split_entities(triples, {"valid": 0.1, "test": 0.25}, 0, "own")
    entities = [len(np.unique(triples[splits == split][:, [0, 2]])) for split in range(3)]
    assert entities == [26, 4, 10]
    assert (splits == BETWEEN_SETS).sum() == 3200 - 2 * (26**2 + 4**2 + 10**2)
    assert (split_entities(triples, {"valid": 0.1, "test": 0.25}, 1, "own") != splits).any()


@pytest.mark.parametrize("shares", [{"valid": 0.01, "test": 0.2}, {"valid": 0.5, "test": 0.6}])
def test_an_inductive_split_without_triples_in_a_part_is_refused(shares):
    triples = np.stack(np.unravel_index(np.arange(100), (10, 1, 10)), axis=1)
    with pytest.raises(InputError, match=r"own: of 100 triples .* would be in train, .* in valid and .* in test"):
        split_entities(triples, shares, 0, "own")

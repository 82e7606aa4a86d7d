"""Negatives against sets of tuples: false, one end replaced, drawn evenly, and never for ever."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.kg.graph import SPLITS
from kglm.kg.negatives import among, corrupted, triple_keys, true_keys

from .conftest import rows_of, small_graph

ENTITIES, RELATIONS = 5, 3


def drawn(triples, known, entities=ENTITIES, seed=0):
    """Negatives of the triples, where those of `known` are true."""
    rows = [("train", *triple, 1) for triple in known]
    graph = small_graph(rows, entities)
    return corrupted(np.array(triples), true_keys(graph), graph, np.random.default_rng(seed))


@settings(deadline=None, max_examples=40)
@given(rows=rows_of(ENTITIES, min_size=1, max_size=80), seed=st.integers(0, 9))
def test_one_end_is_replaced_and_the_triple_is_false(rows, seed):
    true = {tuple(row[1:4]) for row in rows if row[4] == 1}
    triples = [tuple(row[1:4]) for row in rows]
    try:
        negatives = drawn(triples, true, seed=seed)
    except InputError:
        # refused only where nothing is left
        everything = range(ENTITIES)
        left = [{(e, r, t) for e in everything} | {(h, r, e) for e in everything} for h, r, t in triples]
        assert any(not possible - true - {triple} for possible, triple in zip(left, triples, strict=True))
        return
    assert not set(map(tuple, negatives.tolist())) & true
    changed = negatives != np.array(triples)
    assert not changed[:, 1].any()
    assert (changed.sum(axis=1) == 1).all()
    assert (negatives == drawn(triples, true, seed=seed)).all()


@settings(deadline=None, max_examples=40)
@given(rows=rows_of(ENTITIES, max_size=40))
def test_true_keys_are_those_of_all_true_triples(rows):
    built = small_graph(rows, ENTITIES)
    everything = np.stack(np.unravel_index(np.arange(ENTITIES**2 * RELATIONS), (ENTITIES, RELATIONS, ENTITIES)), axis=1)
    known = among(triple_keys(everything, built), true_keys(built))
    assert {tuple(row) for row in everything[known].tolist()} == {tuple(row[1:4]) for row in rows if row[4] == 1}
    of_train = true_keys(built, ["train"])
    assert (of_train == np.unique(triple_keys(built.split("train"), built))).all()


@given(values=st.lists(st.integers(-3, 9)), pool=st.lists(st.integers(-3, 9)))
def test_among_is_membership(values, pool):
    assert among(np.array(values, np.int64), np.sort(np.array(pool, np.int64))).tolist() == [v in pool for v in values]


def test_both_ends_and_all_entities_have_equal_chances():
    count = 20_000
    negatives = drawn([(2, 1, 3)] * count, [(2, 1, 3), (2, 1, 0)])
    heads, tails = negatives[negatives[:, 2] == 3][:, 0], negatives[negatives[:, 0] == 2][:, 2]
    assert len(heads) + len(tails) == count
    for found, share in ((len(heads), 1 / 2), *((n, 1 / 8) for n in np.bincount(heads)[[0, 1, 3, 4]])):
        assert abs(found - share * count) < 5 * np.sqrt(count * share * (1 - share))
    assert not np.isin(tails, [0, 3]).any()
    for found in np.bincount(tails)[[1, 2, 4]]:
        assert abs(found - count / 6) < 5 * np.sqrt(count * 5 / 36)


def test_the_last_false_triples_are_found_and_drawn_evenly():
    entities = 200
    known = [(head, 0, 7) for head in range(entities)] + [
        (5, 0, tail) for tail in range(entities) if tail not in (3, 9)
    ]
    negatives = drawn([(5, 0, 7)] * 400, known, entities)
    assert {tuple(row) for row in negatives.tolist()} == {(5, 0, 3), (5, 0, 9)}
    assert 140 < (negatives[:, 2] == 3).sum() < 260


def test_a_triple_of_which_nothing_false_is_left_is_refused():
    known = [(head, 0, tail) for head in range(ENTITIES) for tail in range(ENTITIES)]
    with pytest.raises(InputError, match=r"every other head and every other tail makes a true triple of \(e1, r, e2\)"):
        drawn([(1, 0, 2)], known)


def test_no_triples_give_no_negatives():
    assert drawn(np.zeros((0, 3), np.int64), []).shape == (0, 3)


def test_stored_negatives(build):
    lines = [f"n{i}\tr{i * j % 2}\tn{j}\n" for i in range(8) for j in range(8) if (i + j) % 3]
    files = {"train.tsv": "".join(lines[12:]), "valid.tsv": "".join(lines[:6]), "test.tsv": "".join(lines[6:12])}
    splits = {f"{name}": f"{name}.tsv" for name in SPLITS}
    both = build(files, splits=splits | {"drawn_negatives": {"seed": 3, "splits": ["test", "valid"]}})
    assert both.triples["split"].tolist() == ["train"] * (len(lines) - 12) + (["valid"] * 6 + ["test"] * 6) * 2
    assert not among(
        triple_keys(both.triples[both.triples["label"] == -1].iloc[:, 1:4].to_numpy(), both), true_keys(both)
    ).any()
    for name in ("valid", "test"):
        triples, labels = both.labelled(name)
        assert labels.tolist() == [1] * 6 + [-1] * 6
        changed = triples[6:] != triples[:6]  # row i of the negatives belongs to row i of the split
        assert (changed.sum(axis=1) == 1).all() and not changed[:, 1].any()
        assert (triples[:6] == both.split(name)).all()
    # neither the other split nor a second call changes the negatives of a split; the seed does
    alone = build(files, splits=splits | {"drawn_negatives": {"seed": 3, "splits": ["test"]}})
    assert (alone.labelled("test")[0] == both.labelled("test")[0]).all()
    assert alone.labelled("valid")[1].tolist() == [1] * 6
    other = build(files, splits=splits | {"drawn_negatives": {"seed": 4, "splits": ["test"]}})
    assert (other.labelled("test")[0] != both.labelled("test")[0]).any()


def test_negatives_of_a_split_that_is_made_here(build):
    lines = "".join(f"n{i}\tr\tn{j}\n" for i in range(6) for j in range(6) if (i + j) % 2)
    splits = {"file": "all.tsv", "ratio": [0.6, 0.2, 0.2], "seed": 1}
    built = build({"all.tsv": lines}, splits=splits | {"drawn_negatives": {"seed": 0, "splits": ["valid", "test"]}})
    for name in ("valid", "test"):
        triples, labels = built.labelled(name)
        count = len(built.split(name))
        assert labels.tolist() == [1] * count + [-1] * count
        assert (triples[:count] == built.split(name)).all()


def test_repeated_negatives_are_reported(build, tmp_path):
    # Of each triple of valid there is one false one left, the same.
    true = [(i, j) for i in range(2) for j in range(2) if (i, j) != (1, 1)]
    files = {
        "train.tsv": "0\tr\t0\n",
        "valid.tsv": "".join(f"{i}\tr\t{j}\n" for i, j in true[1:]),
        "test.tsv": "0\ts\t1\n",
    }
    splits = {name: f"{name}.tsv" for name in SPLITS} | {"drawn_negatives": {"seed": 0, "splits": ["valid"]}}
    built = build(files, splits=splits)
    assert built.labelled("valid")[0][2:].tolist() == [[1, 0, 1]] * 2
    found = json.loads((tmp_path / "out" / "problems.json").read_text())["duplicates"]
    assert found["false_repeated"]["valid"]["examples"] == ["drawn for valid.tsv:2 repeats drawn for valid.tsv:1"]
    assert found["false_but_true_elsewhere"]["valid"]["triples"] == 0

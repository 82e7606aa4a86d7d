"""The graph in memory against plain dictionaries."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings

from kglm.kg.graph import SPLITS, turned_path

from .conftest import rows_of, small_graph

ENTITIES, RELATIONS = 6, 3


@settings(deadline=None)
@given(rows=rows_of(ENTITIES, max_size=40))
def test_known_answers_are_those_of_a_dictionary(rows):
    oracle = defaultdict(set)
    for _, head, relation, tail, label in rows:
        if label == 1:
            oracle[head, relation].add(tail)
            oracle[tail, relation + RELATIONS].add(head)
    queries = [(head, relation) for head in range(ENTITIES) for relation in range(2 * RELATIONS)]
    indptr, indices = small_graph(rows, ENTITIES).known_answers(*np.array(queries).T)
    assert indptr[-1] == len(indices)
    for number, query in enumerate(queries):
        assert indices[indptr[number] : indptr[number + 1]].tolist() == sorted(oracle[query])


@settings(deadline=None)
@given(rows=rows_of(ENTITIES, max_size=20))
def test_the_inverse_of_the_inverse_is_the_triple(rows):
    built = small_graph(rows, ENTITIES)
    for split in SPLITS:
        both = built.split(split, inverse=True)
        assert (built.inverse(built.inverse(both)) == both).all()
        assert (built.inverse(both[: len(both) // 2]) == both[len(both) // 2 :]).all()


def test_texts_of_relations_and_their_inverses():
    assert small_graph([], 1).relation_texts() == ["r", "s", "t", "inverse r", "of", "t"]


@settings(deadline=None)
@given(rows=rows_of(ENTITIES, max_size=40))
def test_degrees_count_the_ends_of_true_training_triples(rows):
    ends = [end for split, head, _, tail, label in rows if split == "train" and label == 1 for end in (head, tail)]
    assert small_graph(rows, ENTITIES).degrees.tolist() == [Counter(ends)[entity] for entity in range(ENTITIES)]


@settings(deadline=None)
@given(rows=rows_of(ENTITIES, max_size=6))
def test_only_a_split_of_unseen_entities_has_candidates_of_its_own(rows):
    ends = {name: set() for name in SPLITS}
    for split, head, _, tail, label in rows:
        ends[split] |= {head, tail} if label == 1 else set()
    built = small_graph(rows, ENTITIES)
    assert built.candidates("train") is None
    for split in ("valid", "test"):
        inductive = ends[split] and not ends[split] & ends["train"]
        found = built.candidates(split)
        assert (None if found is None else found.tolist()) == (sorted(ends[split]) if inductive else None)


@pytest.mark.parametrize(
    ("relation", "inverse"),
    [
        ("/music/artist/origin", "origin artist music"),
        ("/a/b_c/d", "d b c a"),
        (
            "/organization/organization/headquarters./location/mailing_address/state_province_region",
            "location mailing address state province region. organization organization headquarters",
        ),
    ],
)
def test_the_inverse_of_a_freebase_path(relation, inverse):
    assert turned_path(relation) == inverse

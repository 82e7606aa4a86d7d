"""The graph in memory against plain dictionaries."""

from collections import defaultdict

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.kg.graph import SPLITS, Graph

ENTITIES, RELATIONS = 6, 3
ROW = st.tuples(
    st.sampled_from(SPLITS),
    st.integers(0, ENTITIES - 1),
    st.integers(0, RELATIONS - 1),
    st.integers(0, ENTITIES - 1),
    st.sampled_from([1, 1, 1, -1]),
)


def graph(rows) -> Graph:
    names = [f"e{i}" for i in range(ENTITIES)]
    entities = pd.DataFrame({"id": names, "name": names, "description": "", "in_train": True})
    relations = pd.DataFrame({"id": list("rst"), "text": list("rst"), "inverse": ["inverse r", "of", "t"]})
    return Graph(entities, relations, pd.DataFrame(rows, columns=["split", "head", "relation", "tail", "label"]))


@settings(deadline=None)
@given(rows=st.lists(ROW, max_size=40))
def test_known_answers_are_those_of_a_dictionary(rows):
    oracle = defaultdict(set)
    for _, head, relation, tail, label in rows:
        if label == 1:
            oracle[head, relation].add(tail)
            oracle[tail, relation + RELATIONS].add(head)
    queries = [(head, relation) for head in range(ENTITIES) for relation in range(2 * RELATIONS)]
    indptr, indices = graph(rows).known_answers(*np.array(queries).T)
    assert indptr[-1] == len(indices)
    for number, query in enumerate(queries):
        assert indices[indptr[number] : indptr[number + 1]].tolist() == sorted(oracle[query])


@settings(deadline=None)
@given(rows=st.lists(ROW, max_size=20))
def test_the_inverse_of_the_inverse_is_the_triple(rows):
    built = graph(rows)
    for split in SPLITS:
        both = built.split(split, inverse=True)
        assert (built.inverse(built.inverse(both)) == both).all()
        assert (built.inverse(both[: len(both) // 2]) == both[len(both) // 2 :]).all()


def test_texts_of_relations_and_their_inverses():
    assert graph([]).relation_texts() == ["r", "s", "t", "inverse r", "of", "t"]

"""Walks along the training triples: what they may take, and that every step is as likely as another."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.kg.subgraphs import Subgraphs

from .conftest import rows_of, small_graph

ENTITIES = 8


@settings(max_examples=60, deadline=None)
@given(
    rows=rows_of(ENTITIES, max_size=30),
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 6),
    radius=st.integers(1, 3),
)
def test_walks_are_of_the_training_graph_without_the_triple_asked_for(rows, seed, count, radius):
    graph, random = small_graph(rows, ENTITIES), np.random.default_rng(seed)
    subgraphs, known = Subgraphs(graph), set(map(tuple, graph.split("train", inverse=True).tolist()))
    for asked in known:
        head = asked[0]
        barred = {asked, *map(tuple, graph.inverse(np.array([asked])).tolist())}
        walks = subgraphs.drawn(head, count, radius, random, asked)
        first = {(head, *step) for step in walks[:, 0].tolist()}
        assert len(first) == len(walks) == min(count, len({t for t in known - barred if t[0] == head}))
        for walk in walks.tolist():
            steps = [step for step in walk if step[0] >= 0]
            assert walk[: len(steps)] == steps  # what has ended does not go on
            ends = [head, *(entity for _, entity in steps)]
            triples = {(origin, *step) for origin, step in zip(ends, steps, strict=False)}
            assert triples <= known - barred
            assert len(set(ends[1:])) == len(steps)  # no way back
            assert head not in ends[2:]


def test_every_step_is_drawn_equally_often():
    triples = [("train", 0, 0, tail, 1) for tail in (1, 2, 3, 4, 5)] + [("train", 1, 0, tail, 1) for tail in (6, 7)]
    random, subgraphs = np.random.default_rng(0), Subgraphs(small_graph(triples, ENTITIES))
    walks = np.concatenate([subgraphs.drawn(0, 2, 2, random, (0, 0, 5)) for _ in range(2000)])
    first, second = walks[:, 0, 1], walks[walks[:, 0, 1] == 1][:, 1, 1]
    np.testing.assert_allclose(np.bincount(first, minlength=6) / 2000, [0, 0.5, 0.5, 0.5, 0.5, 0], atol=0.04)
    # From 1 the way back to 0 is barred: it is drawn anew, four times at most.
    np.testing.assert_allclose(np.bincount(second[second >= 0])[6:] / (second >= 0).sum(), [0.5, 0.5], atol=0.05)
    assert (second < 0).mean() < 0.03
    assert (walks[walks[:, 0, 1] > 1][:, 1] == -1).all()  # nothing else leads on from 2, 3 and 4


def test_a_fixed_draw_is_always_the_same(ring_graph):
    subgraphs = Subgraphs(ring_graph)
    assert (subgraphs.fixed(3, 2, 2) == subgraphs.fixed(3, 2, 2)).all()


@settings(max_examples=60, deadline=None)
@given(rows=rows_of(ENTITIES, max_size=30))
def test_a_joint_is_of_one_triple_alone(rows):
    graph = small_graph(rows, ENTITIES)
    subgraphs, train = Subgraphs(graph), {tuple(triple) for triple in graph.split("train").tolist()}
    for head, relation, tail in graph.split("train", inverse=True).tolist():
        between = [triple for triple in train if {triple[0], triple[2]} == {head, tail}]
        expected = (head, tail) if head != tail and len(between) == 1 else (-1, -1)
        assert subgraphs.joint(head, relation, tail) == expected

"""Splits that are ranked among some of the entities: as if all others were left out, and read from disk by the row."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.ranking import EmbeddingFile, filtered_ranks_by, open_embeddings, rank_triples, rank_triples_by
from kglm.ranking.candidates import among
from kglm.ranking.embedding_file import gather_rows

from . import unfactored
from .oracle import csr

RELATIONS = 3


def inductive(seed: int, sizes: tuple[int, int, int] = (12, 9, 15)) -> Graph:
    """Train, valid and test have entities of their own, whose numbers are mixed."""
    random = np.random.default_rng(seed)
    numbers, frames = random.permutation(sum(sizes)), []
    for split, own in zip(("train", "valid", "test"), np.split(numbers, np.cumsum(sizes)[:2]), strict=True):
        ends = {end: np.append(random.choice(own, 20), random.permutation(own)) for end in ("head", "tail")}
        relation = random.integers(RELATIONS, size=20 + len(own))
        frames.append(pd.DataFrame(ends | {"relation": relation, "split": split, "label": 1}))
    names = [f"e{number}" for number in range(sum(sizes))]
    in_train = np.isin(np.arange(sum(sizes)), numbers[: sizes[0]])
    entities = pd.DataFrame({"id": names, "name": names, "description": "", "in_train": in_train})
    ids = [f"r{number}" for number in range(RELATIONS)]
    relations = pd.DataFrame({"id": ids, "text": ids, "inverse": ids})
    return Graph(entities, relations, pd.concat(frames, ignore_index=True))


def drawn(graph, seed, width=3):
    random = np.random.default_rng(seed)
    entities = random.integers(-1, 2, (graph.entity_count, width)).astype(np.float32)
    return entities, random.integers(-1, 2, (graph.entity_count, 2 * RELATIONS, width)).astype(np.float32)


def others_left_out(graph, split, scores_of):
    """Ranks among all entities, with those that no triple of the split has as further known answers."""
    triples = graph.split(split)
    both = graph.split(split, inverse=True)
    own = set(triples[:, [0, 2]].ravel().tolist())
    outside = [entity for entity in range(graph.entity_count) if entity not in own]
    indptr, indices = graph.known_answers(both[:, 0], both[:, 1])
    known = [indices[a:b].tolist() + outside for a, b in itertools.pairwise(indptr)]
    scores = scores_of(both[:, 0], both[:, 1])
    return filtered_ranks_by(lambda q, e: scores[q, e], graph.entity_count, both[:, 2], csr(known))


def check(frame, ranks):
    for name, column in ranks._asdict().items():
        np.testing.assert_array_equal(frame[name], column, err_msg=name)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), split=st.sampled_from(["valid", "test"]))
def test_equals_all_entities_with_the_others_left_out(seed, split, tmp_path_factory):
    graph = inductive(seed)
    (entities, table), triples = drawn(graph, seed), graph.split(split)
    path = tmp_path_factory.mktemp("entities") / "entities.safetensors"
    save_file({"embeddings": entities}, path)
    expected = others_left_out(graph, split, lambda h, r: table[h, r] @ entities.T)
    for source in (entities, path, open_embeddings(path)):
        check(rank_triples(graph, triples, lambda h, r: table[h, r], source, split), expected)

    def scorer_of(asked, candidates):
        return lambda q, e: table[asked.heads[q], asked.relations[q]] @ entities[candidates[e]].T

    found = rank_triples_by(graph, triples, scorer_of, split, (4, 5))
    check(found, expected)
    assert (found["candidates"] < len(graph.candidates(split)) + 1).all()


@pytest.mark.parametrize("degree", ["none", "train", "leaked"])
def test_so_it_does_with_a_matching_function(degree):
    graph = inductive(1)
    random = np.random.default_rng(1)
    assert len(graph.candidates("test")) == 15
    degrees = random.integers(0, 20, graph.entity_count)
    graph.__dict__["degrees"] = degrees  # those of the split are all 0, which would hide a wrong order
    entities = random.standard_normal((graph.entity_count, 3), np.float32)
    table = random.standard_normal((graph.entity_count, 2 * RELATIONS, 3), np.float32)
    layers = unfactored.draw(random, 3, 5)
    targets = graph.split("test", inverse=True)[:, 2]

    def scores_of(heads, relations):
        pairs = np.empty((len(heads), graph.entity_count, 2))
        pairs[..., 0] = degrees[heads][:, None]
        pairs[..., 1] = degrees[targets][:, None] if degree == "leaked" else degrees
        return unfactored.scores(layers, table[heads, relations], entities, None if degree == "none" else pairs)

    expected = others_left_out(graph, "test", lambda h, r: scores_of(h, r).round(4))
    mlp, triples = unfactored.factored(layers, degree), graph.split("test")
    check(rank_triples(graph, triples, lambda h, r: table[h, r], entities, "test", interaction=mlp), expected)


def test_only_the_candidates_are_read(tmp_path, monkeypatch):
    graph = inductive(0, (500, 5, 7))
    entities, table = drawn(graph, 0)
    entities[graph.entities["in_train"].to_numpy()] = np.nan  # would be refused
    save_file({"embeddings": entities}, tmp_path / "entities.safetensors")
    read, of_rows = [], EmbeddingFile.__getitem__
    monkeypatch.setattr(EmbeddingFile, "__getitem__", lambda file, s: read.append(s.stop - s.start) or of_rows(file, s))
    source = open_embeddings(tmp_path / "entities.safetensors")
    frame = rank_triples(graph, graph.split("test"), lambda h, r: table[h, r], source, "test")
    assert sum(read) == 7 and (frame["candidates"] <= 7).all()


def test_what_is_asked_for_must_be_a_candidate():
    graph = inductive(1)
    entities, table = drawn(graph, 1)
    with pytest.raises(InputError, match="is asked for and is no candidate"):
        rank_triples(graph, graph.split("train"), lambda h, r: table[h, r], entities, "test")


@given(st.sets(st.integers(0, 30), min_size=1), st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=5))
def test_known_answers_are_renumbered_and_others_dropped(candidates, known):
    numbers = np.array(sorted(candidates))
    places, (indptr, indices) = among(numbers, np.resize(numbers, len(known)), csr(known))
    assert places.tolist() == np.resize(np.arange(len(numbers)), len(known)).tolist()
    found = [numbers[indices[a:b]].tolist() for a, b in itertools.pairwise(indptr)]
    assert found == [[entity for entity in row if entity in candidates] for row in known]


@settings(deadline=None)
@given(st.lists(st.integers(0, 19), max_size=12))
def test_rows_are_gathered_in_their_order(tmp_path_factory, numbers):
    rows = np.arange(40, dtype=np.float32).reshape(20, 2)
    path = tmp_path_factory.mktemp("rows") / "rows.safetensors"
    save_file({"embeddings": rows}, path)
    for source in (rows, open_embeddings(path)):
        np.testing.assert_array_equal(gather_rows(source, np.array(numbers, np.int64)), rows[numbers].reshape(-1, 2))

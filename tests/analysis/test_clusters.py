import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from kglm.analysis.clusters import (
    choose_entities,
    choose_groups,
    clusters,
    group_entities,
    group_titles,
    read_positions,
)
from kglm.errors import InputError
from kglm.files import read_json
from kglm.kg.graph import Graph
from kglm.ranking.matching import MatchingMLP, write_interaction

from .conftest import IDENTITY, SPEC
from .test_questions import random_graph

# Two groups of entities that all know each other but for one pair, one link between the groups, and one loner.
SIZES = (6, 5)


@pytest.fixture
def two_cliques() -> Graph:
    first, second = range(SIZES[0]), range(SIZES[0], sum(SIZES))
    pairs = [(a, b) for members in (first, second) for a in members for b in members if a < b]
    pairs = [pair for pair in pairs if pair not in ((0, 1), (6, 7))] + [(2, 8)]
    triples = pd.DataFrame([("train", a, 0, b, 1) for a, b in pairs] + [("train", a, 1, 9, 1) for a in (0, 1, 11)])
    triples = pd.concat([triples, pd.DataFrame([("test", 11, 0, 0, 1)])])
    triples.columns = ["split", "head", "relation", "tail", "label"]
    names = [f"n{number}" for number in range(12)]
    entities = pd.DataFrame({"id": names, "name": names, "description": "", "in_train": True})
    return Graph(entities, pd.DataFrame({"id": ["knows", "is"], "text": ["knows", "is"], "inverse": ""}), triples)


def write_embeddings(folder, vectors: np.ndarray, bias: np.ndarray | None = None, queries: int = 5):
    """Vectors of entities, with a last column that all queries meet alike if `bias` is given."""
    asked = np.random.default_rng(1).normal(size=(queries, vectors.shape[1]))
    if bias is not None:
        vectors, asked = np.column_stack([vectors, bias]), np.column_stack([asked, np.ones(queries)])
    folder.mkdir()
    save_file({"embeddings": vectors.astype(np.float32)}, folder / "entities.safetensors")
    save_file({"embeddings": asked.astype(np.float32)}, folder / "queries.safetensors")
    write_interaction(folder / "interaction.safetensors", None)
    return folder


def two_directions(noise: float) -> np.ndarray:
    """Vectors that point one way for the first group and another way for the rest, of random lengths."""
    generator = np.random.default_rng(0)
    centres = np.eye(8)[[0] * 6 + [1] * 6]
    return (centres + noise * generator.normal(size=(12, 8))) * generator.uniform(0.5, 5, size=(12, 1))


def measure(graph: Graph, embeddings, folder, **options) -> tuple[dict, np.ndarray]:
    graph.write(folder / "graph")
    out = folder / "out" / "clusters.safetensors"
    clusters(SPEC | {"options": {"perplexity": 3} | options}, folder / "graph", embeddings, out)
    return read_json(out.with_suffix(".json")), load_file(out)["points"]


def test_groups_that_lie_together_have_high_silhouettes(two_cliques, tmp_path):
    (tmp_path / "graph").mkdir()
    result, points = measure(two_cliques, write_embeddings(tmp_path / "near", two_directions(0.05)), tmp_path)
    assert result.items() >= IDENTITY.items()
    # 9 is the tail of three triples more, 2 of one more than the other members of its group.
    assert result["groups"] == ["n2", "n9"]
    assert [result["groups"][label] for label in result["labels"]] == ["n2"] * 6 + ["n9"] * 6
    assert result["entities"] == len(points) == 12
    assert result["silhouette"]["embeddings"] > 0.9
    assert result["silhouette"]["tsne"] > 0.5
    mixed = two_directions(0.05)[np.random.default_rng(3).permutation(12)]
    result, _ = measure(two_cliques, write_embeddings(tmp_path / "mixed", mixed), tmp_path)
    assert max(result["silhouette"].values()) < 0.3


def test_the_same_seed_gives_the_same_bytes(two_cliques, tmp_path):
    (tmp_path / "graph").mkdir()
    folder, out = write_embeddings(tmp_path / "e", two_directions(0.5)), tmp_path / "out"
    written = []
    for seed in (4, 4, 5):
        measure(two_cliques, folder, tmp_path, entities=10, seed=seed)
        written.append([path.read_bytes() for path in sorted(out.iterdir())])
    assert written[0] == written[1]
    assert written[0][1] != written[2][1]  # the points


def test_a_bias_is_no_position(tmp_path):
    vectors = two_directions(0.5)
    plain = write_embeddings(tmp_path / "plain", vectors)
    biased = write_embeddings(tmp_path / "biased", vectors, 100 * np.arange(12))
    rows = np.array([0, 3, 11])
    np.testing.assert_array_equal(read_positions(biased, rows), read_positions(plain, rows))
    expected = vectors[rows] / np.linalg.norm(vectors[rows], axis=1, keepdims=True)
    np.testing.assert_allclose(read_positions(plain, rows), expected, rtol=1e-5)
    d = vectors.shape[1] + 1
    weights = {name: np.zeros((2, d), np.float32) for name in ("query", "entity", "product")}
    small = {"degrees": np.zeros((2, 2), np.float32), "bias": np.zeros(2, np.float32)}
    mlp = MatchingMLP(**weights, **small, output=np.zeros(2, np.float32), output_bias=np.float32(0), degree="none")
    write_interaction(biased / "interaction.safetensors", mlp)
    assert read_positions(biased, rows).shape == (3, d)


def test_of_a_single_query_nothing_is_a_bias(tmp_path):
    folder = write_embeddings(tmp_path / "e", two_directions(0.5), queries=1)
    assert read_positions(folder, np.arange(12)).shape == (12, 8)


def test_entities_without_neighbours_are_in_no_community(ring_graph):
    lonely = Graph(ring_graph.entities, ring_graph.relations, ring_graph.triples[ring_graph.triples["head"] == 2])
    groups = group_entities(lonely, "neighbourhood", 0)
    assert sorted(np.flatnonzero(groups >= 0).tolist()) == [2, 3, 8]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(0, 40))
def test_a_type_is_the_commonest_tail_of_a_relation(seed, entities, count):
    graph = random_graph(seed, entities, 2, count)
    groups = group_entities(graph, graph.relations["id"].iloc[1], 0)
    pairs = {(h, t) for h, r, t in graph.split("train").tolist() if r == 1}
    for entity in range(entities):
        tails = [tail for head, tail in pairs if head == entity]
        sizes = [(-sum(tail == other for _, other in pairs), tail) for tail in tails]
        assert groups[entity] == (min(sizes)[1] if tails else -1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 6), min_size=1, max_size=40), st.integers(1, 8))
def test_the_largest_groups_are_told_apart(groups, largest):
    labels, names = choose_groups(np.array(groups), largest)
    sizes = {group: groups.count(group) for group in set(groups) - {-1}}
    kept = [name for name in names if name >= 0]
    assert len(kept) == min(largest, len(sizes))
    assert kept == sorted(sizes, key=lambda group: (-sizes[group], group))[: len(kept)]
    for label, group in zip(labels.tolist(), groups, strict=True):
        assert names[label] == (group if group in kept else -1)
    assert set(labels.tolist()) == set(range(len(names)))


def test_entities_are_drawn_by_seed():
    drawn = choose_entities(1000, 50, 0)
    assert len(set(drawn.tolist())) == 50
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() != choose_entities(1000, 50, 1).tolist()
    np.testing.assert_array_equal(choose_entities(7, 50, 0), np.arange(7))


def test_groups_of_one_name_are_told_by_their_ids(graph):
    assert group_titles(graph, [7, 8, 0, -1]) == ["sound (sound-sea)", "sound (sound-firm)", "Cologne", "other"]


def test_groups_by_a_relation_leave_the_others_out(two_cliques, tmp_path):
    (tmp_path / "graph").mkdir()
    folder = write_embeddings(tmp_path / "e", two_directions(0.5))
    with pytest.raises(InputError, match="3 of 12 entities are in 1 groups"):
        measure(two_cliques, folder, tmp_path, groups="is")
    with pytest.raises(InputError, match="no relations are meant by 'eats'"):
        measure(two_cliques, folder, tmp_path, groups="eats")
    assert not (tmp_path / "out").exists()

"""rank_triples and the stage `rank` where queries and entities meet in C-LMKE's matching function."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from kglm.artefacts import RANKS, read_parquet
from kglm.errors import InputError
from kglm.ranking import filtered_ranks_by, rank_triples, write_interaction
from kglm.ranking.stages import evaluate, rank

from . import unfactored
from .oracle import naive_ranks

RUN = {"name": "run", "method": "c_lmke", "dataset": "umls", "model": "tiny", "seed": 1}


@pytest.fixture
def layers():
    return unfactored.draw(np.random.default_rng(5), width=3, hidden=6)


@pytest.fixture
def vectors(graph):
    """Embeddings of the entities (three of them equal) and a table (head, relation) -> embedding."""
    random = np.random.default_rng(0)
    entities = random.standard_normal((graph.entity_count, 3), np.float32)
    entities[[4, 28]] = entities[2]
    return entities, random.standard_normal((graph.entity_count, 2 * graph.relation_count, 3), np.float32)


@pytest.fixture
def paths(graph, vectors, tmp_path):
    entities, table = vectors
    graph.write(tmp_path / "graph")
    heads, relations = np.indices(table.shape[:2]).reshape(2, -1)
    folder = tmp_path / "embeddings"
    folder.mkdir()
    save_file({"embeddings": entities}, folder / "entities.safetensors")
    tensors = {"heads": heads, "relations": relations, "embeddings": table[heads, relations]}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "queries.safetensors")
    files = {"out": tmp_path / "ranks.parquet", "answers": tmp_path / "answers.parquet"}
    return {"graph": tmp_path / "graph", "embeddings": folder, **files}


def expected_frame(graph, vectors, layers, degree, split):
    """Ranks by the definition and the paper's form of the score, from Python sets and counts."""
    entities, table = vectors
    true = {tuple(row) for name in ("train", "valid", "test") for row in graph.split(name).tolist()}
    ends = graph.split("train")[:, [0, 2]].ravel().tolist()
    degrees = np.array([ends.count(entity) for entity in range(graph.entity_count)])
    rows = []
    for direction in ("tail", "head"):
        for h, r, t in graph.split(split).tolist():
            given, target, relation = (h, t, r) if direction == "tail" else (t, h, r + graph.relation_count)
            triple = (lambda e, h=h, r=r: (h, r, e)) if direction == "tail" else (lambda e, r=r, t=t: (e, r, t))
            known = [entity for entity in range(graph.entity_count) if triple(entity) in true]
            pairs = np.empty((1, graph.entity_count, 2))
            pairs[..., 0], pairs[..., 1] = degrees[given], degrees[target] if degree == "leaked" else degrees
            query = table[given, relation][None]
            scores = unfactored.scores(layers, query, entities, None if degree == "none" else pairs).round(4)
            rows.append((split, direction, h, r, t, *naive_ranks(scores, np.array([target]), [known])[0]))
    return pd.DataFrame(rows, columns=RANKS.names)


@pytest.mark.parametrize("degree", ["none", "train", "leaked"])
def test_ranks_are_those_of_the_papers_score(graph, vectors, paths, layers, degree):
    write_interaction(paths["embeddings"] / "interaction.safetensors", unfactored.factored(layers, degree))
    rank({"name": "run", "protocol": "leaked" if degree == "leaked" else "filtered"}, **paths)
    frame = read_parquet(paths["out"], RANKS)
    parts = [expected_frame(graph, vectors, layers, degree, split) for split in ("valid", "test")]
    expected = pd.concat(parts, ignore_index=True)
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False, check_index_type=False)
    assert (frame["pessimistic"] > frame["optimistic"]).any(), "equal entities of equal degree tie"


def test_the_degrees_change_the_ranks(graph, vectors, layers):
    entities, table = vectors

    def ranks(degree):
        mlp = unfactored.factored(layers, degree)
        triples = graph.split("test")
        return rank_triples(graph, triples, lambda h, r: table[h, r], entities, "test", interaction=mlp)["realistic"]

    found = {degree: ranks(degree).tolist() for degree in ("none", "train", "leaked")}
    assert found["none"] != found["train"] != found["leaked"] != found["none"]


def test_no_query_sees_a_degree_of_its_answer_but_where_it_leaks(graph, vectors, layers, monkeypatch):
    """Scores of a query among all candidates do not change with what is asked for."""
    entities, table = vectors
    triples = graph.split("test")
    other = triples.copy()
    other[:, 2] = (triples[:, 2] + 1) % graph.entity_count

    def scores(degree, asked):
        seen = []

        def ranks(score, count, *rest):
            seen.append(score(slice(0, 2 * len(asked)), slice(0, count)))
            return filtered_ranks_by(score, count, *rest)

        monkeypatch.setattr("kglm.ranking.triples.filtered_ranks_by", ranks)
        monkeypatch.setattr(type(graph), "inverse", lambda _, rows: rows)  # the same queries, whatever is asked for
        mlp = unfactored.factored(layers, degree)
        rank_triples(graph, asked, lambda h, r: table[h, r], entities, "test", interaction=mlp)
        return seen[0]

    for degree in ("none", "train"):
        np.testing.assert_array_equal(scores(degree, triples), scores(degree, other))
    assert (scores("leaked", triples) != scores("leaked", other)).any()


def test_an_interaction_of_inner_products_is_none_at_all(paths):
    rank({"name": "run"}, **paths)
    without = read_parquet(paths["out"], RANKS)
    write_interaction(paths["embeddings"] / "interaction.safetensors", None)
    rank({"name": "run"}, **paths)
    pd.testing.assert_frame_equal(read_parquet(paths["out"], RANKS), without)


@pytest.mark.parametrize(
    ("degree", "protocol", "message"),
    [
        ("leaked", "filtered", "set `protocol: leaked` where the degree is leaked"),
        ("leaked", "released", "set `protocol: leaked` where the degree is leaked"),
        ("train", "leaked", "and nowhere else"),
        (None, "leaked", "and nowhere else"),
        ("train", "released", "inner products alone"),
    ],
)
def test_a_leak_is_told_by_the_protocol_or_refused(paths, layers, degree, protocol, message):
    mlp = degree and unfactored.factored(layers, degree)
    write_interaction(paths["embeddings"] / "interaction.safetensors", mlp)
    with pytest.raises(InputError, match=message):
        rank({"name": "run", "protocol": protocol}, **paths)
    assert not paths["out"].exists()


def test_a_leaked_run_says_so_in_its_metrics(paths, layers, tmp_path):
    from kglm.files import read_json

    write_interaction(paths["embeddings"] / "interaction.safetensors", unfactored.factored(layers, "leaked"))
    rank({"name": "run", "protocol": "leaked"}, **paths)
    spec = RUN | {"evaluation": {"resamples": 5, "protocol": "leaked"}}
    evaluate(spec, paths["graph"], paths["out"], tmp_path / "metrics.json")
    assert read_json(tmp_path / "metrics.json")["protocol"] == "leaked"

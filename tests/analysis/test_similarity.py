import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from kglm.analysis.similarity import choose_triples, similarity
from kglm.errors import InputError
from kglm.files import read_json
from kglm.lm.language_model import encode_texts, load_causal, load_tokenizer

from .conftest import ENTITIES, IDENTITY, SPEC
from .test_questions import random_graph

CHOSEN = ["rhine", "Elbe", {"name": "sound", "description": "a large"}, "sound-firm"]


def measure(folders: tuple, path, **options) -> tuple[dict, dict]:
    model, weights, corpus, graph, embeddings = folders
    similarity(SPEC | {"options": options}, model, weights, corpus, graph, embeddings, path)
    return load_file(path), read_json(path.with_suffix(".json"))


@pytest.fixture
def folders(model_folder, weights_folder, corpus_folder, graph_folder, embeddings_folder):
    return model_folder, weights_folder, corpus_folder, graph_folder, embeddings_folder


def test_matrices_and_labels(graph, folders, tmp_path):
    matrices, labels = measure(folders, tmp_path / "similarity.safetensors", sentences=3, entities=CHOSEN)
    entities = load_file(folders[4] / "entities.safetensors")["embeddings"]
    queries = load_file(folders[4] / "queries.safetensors")
    names = [name for _, name, _ in ENTITIES]
    for i, row in enumerate(labels["triples"]):
        head, relation = names.index(row["head"]), ["lies on", "near", "part of"].index(row["relation"])
        place = np.flatnonzero((queries["heads"] == head) & (queries["relations"] == relation)).item()
        for j, column in enumerate(labels["triples"]):
            expected = queries["embeddings"][place] @ entities[names.index(column["tail"])]
            assert matrices["triples"][i, j] == pytest.approx(expected, abs=1e-6)
    rows = entities[[2, 4, 7, 8]]
    np.testing.assert_allclose(matrices["entities"], rows @ rows.T, atol=1e-6)
    assert [entity["id"] for entity in labels["entities"]] == ["rhine", "elbe", "sound-sea", "sound-firm"]
    assert labels["entities"][3]["description"] == "financially secure"
    assert [entity["text"] for entity in labels["entities"]] == [graph.entity_texts()[row] for row in (2, 4, 7, 8)]
    assert labels.items() >= IDENTITY.items()


def test_the_text_of_an_entity_is_what_the_run_reads(graph, folders, tmp_path, monkeypatch):
    parameters = {"entity_text": "description", "maximum_description_length": 5}
    monkeypatch.setitem(SPEC, "run", SPEC["run"] | {"parameters": parameters})
    _, labels = measure(folders, tmp_path / "similarity.safetensors", sentences=3, entities=["rhine"])
    (entity,) = labels["entities"]
    assert entity["text"] and entity["description"].startswith(entity["text"])
    assert len(load_tokenizer(folders[0])(entity["text"], add_special_tokens=False)["input_ids"]) <= 5


def test_sentences_are_the_first_ones_that_are_no_headings(folders, tmp_path):
    matrices, labels = measure(folders, tmp_path / "similarity.safetensors", sentences=3)
    passages = (folders[2] / "test.txt").read_text("utf-8").splitlines()
    assert labels["sentences"] == passages[1:4]
    encoded = encode_texts(load_causal(folders[0]), load_tokenizer(folders[0]), passages[1:4], 128, 8)
    np.testing.assert_allclose(matrices["sentences"], encoded @ encoded.T, atol=1e-5)
    np.testing.assert_allclose(np.diag(matrices["sentences"]), 1, atol=1e-5)
    assert matrices["entities"].shape == (0, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 25), st.integers(1, 10), st.integers(0, 3))
def test_only_the_diagonal_of_chosen_triples_is_true(graph_seed, entities, count, seed):
    graph = random_graph(graph_seed, entities, 3, 60)
    chosen = choose_triples(graph, count, seed)
    true = set(zip(graph.triples["head"], graph.triples["relation"], graph.triples["tail"], strict=True))
    test = set(map(tuple, graph.split("test").tolist()))
    assert len(chosen) <= count
    assert bool(len(chosen)) == bool(test)
    for i, (head, relation, _) in enumerate(chosen.tolist()):
        for j, tail in enumerate(chosen[:, 2].tolist()):
            assert ((head, relation, tail) in true) == (i == j)
    assert set(map(tuple, chosen.tolist())) <= test


def test_embeddings_of_another_graph_are_told(folders, embeddings_folder, tmp_path):
    queries = load_file(embeddings_folder / "queries.safetensors")
    save_file({name: rows[:2].copy() for name, rows in queries.items()}, tmp_path / "queries.safetensors")
    with pytest.raises(InputError, match=r"queries of test are missing.*embed"):
        measure((*folders[:4], tmp_path), tmp_path / "similarity.safetensors")


def test_an_unknown_entity_stops_before_anything_is_written(folders, tmp_path):
    with pytest.raises(InputError, match="2 entities are meant by 'sound'"):
        measure(folders, tmp_path / "similarity.safetensors", entities=["sound"])
    assert list(tmp_path.iterdir()) == []

"""The stages rank and evaluate, and rank_triples, against the definition on a whole graph."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from kglm.artefacts import RANKS, read_parquet, write_parquet
from kglm.cli import main
from kglm.errors import InputError
from kglm.ranking import EVALUATION_VERSION, rank_triples, rank_triples_by, summarise
from kglm.ranking.stages import evaluate, rank

from .oracle import naive_ranks

SPEC = {
    "name": "kalm_umls",
    "method": "kalm",
    "dataset": "umls",
    "model": "tiny",
    "seed": 1,
    "parameters": {},
}


@pytest.fixture
def vectors(graph):
    """Embeddings of the entities and a table (head, relation) -> embedding, with many ties."""
    random = np.random.default_rng(0)
    entities = random.integers(-1, 2, (graph.entity_count, 3)).astype(np.float32)
    return entities, random.integers(-1, 2, (graph.entity_count, 2 * graph.relation_count, 3)).astype(np.float32)


@pytest.fixture
def paths(graph, vectors, tmp_path):
    """A graph folder and an embeddings folder, its queries in no order."""
    entities, table = vectors
    graph.write(tmp_path / "graph")
    splits = [graph.split(name, inverse=True) for name in ("valid", "test")]
    queries = np.unique(np.concatenate(splits)[:, :2], axis=0)
    heads, relations = np.random.default_rng(1).permutation(queries).T
    folder = tmp_path / "embeddings"
    folder.mkdir()
    save_file({"embeddings": entities}, folder / "entities.safetensors")
    tensors = {"heads": heads, "relations": relations, "embeddings": table[heads, relations]}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "queries.safetensors")
    files = {"out": tmp_path / "run" / "ranks.parquet", "answers": tmp_path / "run" / "answers.parquet"}
    return {"graph": tmp_path / "graph", "embeddings": folder, **files}


def expected_frame(graph, vectors):
    """Ranks by the definition, from Python sets."""
    entities, table = vectors
    true = {tuple(row) for name in ("train", "valid", "test") for row in graph.split(name).tolist()}
    rows = []
    for split in ("valid", "test"):
        triples = graph.split(split).tolist()
        for direction in ("tail", "head"):
            for h, r, t in triples:
                if direction == "tail":
                    scores, target = table[h, r] @ entities.T, t
                    known = [e for e in range(len(entities)) if (h, r, e) in true]
                else:
                    scores, target = table[t, r + graph.relation_count] @ entities.T, h
                    known = [e for e in range(len(entities)) if (e, r, t) in true]
                ranks = naive_ranks(scores[None], np.array([target]), [known])[0]
                rows.append((split, direction, h, r, t, *ranks))
    return pd.DataFrame(rows, columns=RANKS.names)


def test_ranks_are_those_of_the_definition(graph, vectors, paths):
    rank({"name": "run"}, **paths)
    frame = read_parquet(paths["out"], RANKS)
    pd.testing.assert_frame_equal(frame, expected_frame(graph, vectors), check_dtype=False, check_index_type=False)
    assert (frame["pessimistic"] > frame["optimistic"]).any() and (frame["candidates"] < graph.entity_count).any()


def test_triples_rank_without_files_and_by_a_callable(graph, vectors, paths):
    entities, table = vectors
    rank({"name": "run"}, **paths)
    frame = read_parquet(paths["out"], RANKS)
    test = frame[frame["split"] == "test"].reset_index(drop=True)
    triples = graph.split("test")
    asked = []

    def query_of(heads, relations):
        asked.append((heads, relations))
        return table[heads, relations]

    def scorer_of(asked, candidates):
        return lambda q, e: table[asked.heads[q], asked.relations[q]] @ entities[e].T

    for other in (
        rank_triples(graph, triples, query_of, entities, "test"),
        rank_triples(graph, triples, query_of, paths["embeddings"] / "entities.safetensors", "test"),
        rank_triples_by(graph, triples, scorer_of, "test", tile=(7, 11)),
    ):
        pd.testing.assert_frame_equal(other, test, check_dtype=False, check_index_type=False)
        assert summarise(other) == summarise(test)
    assert (asked[0][0] == np.concatenate([triples[:, 0], triples[:, 2]])).all()
    assert (asked[0][1] == np.concatenate([triples[:, 1], triples[:, 1] + graph.relation_count])).all()


def test_metrics_file(paths, tmp_path):
    rank({"name": "run"}, **paths)
    out = tmp_path / "metrics.json"
    files = {"graph": paths["graph"], "ranks": paths["out"], "out": out}
    evaluate(SPEC | {"evaluation": {"resamples": 60}}, **files)
    first = json.loads(out.read_text())
    assert {key: first[key] for key in ("run", "method", "dataset", "model", "seed")} == {
        "run": "kalm_umls", "method": "kalm", "dataset": "umls", "model": "tiny", "seed": 1,
    }  # fmt: skip
    assert first["evaluation_version"] == EVALUATION_VERSION
    assert list(first["metrics"]) == ["valid", "test"]
    frame = read_parquet(paths["out"], RANKS)
    both = first["metrics"]["test"]["both"]
    assert {**both, "confidence": None} == {**summarise(frame[frame["split"] == "test"]), "confidence": None}
    evaluate(SPEC | {"evaluation": {"resamples": 60, "confidence": 0.5}}, **files)
    narrow = json.loads(out.read_text())["metrics"]["test"]["both"]["confidence"]["MR"]
    assert both["confidence"]["MR"][0] < narrow[0] < narrow[1] < both["confidence"]["MR"][1]


def test_both_stages_run_from_the_command_line(paths, tmp_path, capsys):
    (tmp_path / "spec.json").write_text(json.dumps(SPEC | {"evaluation": {"resamples": 5}}))
    options = [f"--spec={tmp_path / 'spec.json'}", *(f"--{name}={path}" for name, path in paths.items())]
    assert main(["rank", *options]) == 0
    files = [f"--graph={paths['graph']}", f"--ranks={paths['out']}", f"--out={tmp_path / 'metrics.json'}"]
    assert main(["evaluate", f"--spec={tmp_path / 'spec.json'}", *files]) == 0
    (paths["embeddings"] / "queries.safetensors").unlink()
    assert main(["rank", *options]) == 2
    assert "queries.safetensors: no such file" in capsys.readouterr().err


def damage(change):
    """A change of the tensors of queries.safetensors."""

    def apply(embeddings):
        path = embeddings / "queries.safetensors"
        save_file({name: np.ascontiguousarray(value) for name, value in change(load_file(path)).items()}, path)

    return apply


def nan_entity(embeddings):
    entities = load_file(embeddings / "entities.safetensors")["embeddings"]
    entities[7] = np.nan
    save_file({"embeddings": entities}, embeddings / "entities.safetensors")


def fewer_entities(embeddings):
    entities = load_file(embeddings / "entities.safetensors")["embeddings"]
    save_file({"embeddings": entities[:-1]}, embeddings / "entities.safetensors")


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (damage(lambda q: {name: value[:-1] for name, value in q.items()}), "has no embedding of the query"),
        (damage(lambda q: {name: value[:0] for name, value in q.items()}), "has no embedding of the query"),
        (damage(lambda q: q | {"heads": q["heads"][:-1]}), "do not fit each other"),
        (damage(lambda q: q | {"embeddings": q["embeddings"][:, :2]}), "different widths"),
        (damage(lambda q: {"heads": q["heads"]}), "no readable queries"),
        (lambda folder: (folder / "queries.safetensors").write_bytes(b"no"), "no readable queries"),
        (lambda folder: (folder / "entities.safetensors").unlink(), "no such file"),
        (fewer_entities, "29 embeddings for 30 entities"),
        (nan_entity, "row 7 holds NaN"),
    ],
)
def test_embeddings_that_do_not_fit_the_graph_are_refused(paths, apply, message):
    apply(paths["embeddings"])
    with pytest.raises(InputError, match=message):
        rank({"name": "run"}, **paths)
    assert not paths["out"].parent.exists() or not list(paths["out"].parent.iterdir())


@pytest.mark.parametrize("evaluation", [{"resample": 5}, {"resamples": 0}, {"confidence": 1.0}])
def test_wrong_evaluation_options_are_refused(paths, tmp_path, evaluation):
    rank({"name": "run"}, **paths)
    with pytest.raises(InputError, match="evaluation"):
        evaluate(SPEC | {"evaluation": evaluation}, paths["graph"], paths["out"], tmp_path / "metrics.json")


def test_ranks_of_another_graph_are_refused(paths, tmp_path):
    rank({"name": "run"}, **paths)
    frame = read_parquet(paths["out"], RANKS)
    write_parquet(frame.assign(tail=30), paths["out"], RANKS)
    with pytest.raises(InputError, match="not in the graph"):
        evaluate(SPEC, paths["graph"], paths["out"], tmp_path / "metrics.json")


def test_the_released_protocol_is_told_apart(paths):
    rank({"name": "run", "protocol": "released"}, **paths)
    released = read_parquet(paths["out"], RANKS)
    rank({"name": "run"}, **paths)
    filtered = read_parquet(paths["out"], RANKS)
    assert (released["candidates"] >= filtered["candidates"]).all()
    assert (released["candidates"] > filtered["candidates"]).any()
    with pytest.raises(InputError, match="protocol: 'raw' is not known"):
        rank({"name": "run", "protocol": "raw"}, **paths)

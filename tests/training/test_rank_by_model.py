"""The stage `rank_by_model`: scores of the model itself, all candidates or those that another run proposes."""

import numpy as np
import pytest

from kglm.artefacts import ANSWERS, RANKS, read_parquet
from kglm.errors import InputError
from kglm.methods._interface import build_method
from kglm.ranking.stages import rank
from kglm.ranking.triples import asked_for
from kglm.training.stages import embed, rank_by_model, train

RUN = {
    "name": "kg_bert_ring",
    "method": "kg_bert",
    "dataset": "ring",
    "model": "tiny",
    "seed": 1,
    "parameters": {},
    "training": {"epochs": 0, "encoding_batch_size": 16},
}
BASE = RUN | {"name": "base_ring", "method": "base"}


def ranked(folder, graph, model, **spec):
    files = {"out": folder / "ranks.parquet", "answers": folder / "answers.parquet"}
    proposed = {"proposed": folder / "base"} if "candidates" in spec else {}
    rank_by_model({"name": RUN["name"], "run": RUN, **spec}, graph, model, folder / "run/weights", **files, **proposed)
    return read_parquet(files["out"], RANKS), read_parquet(files["answers"], ANSWERS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, ring_folder, encoder_folder, model_folder):
    """KG-BERT as it begins, and the embeddings and ranks of another run."""
    folder = tmp_path_factory.mktemp("runs")
    train(RUN, ring_folder, encoder_folder, folder / "checkpoints", folder / "run")
    train(BASE, ring_folder, model_folder, folder / "checkpoints", folder / "base")
    embed(BASE, ring_folder, model_folder, folder / "base/weights", folder / "base/embeddings")
    files = {"out": folder / "base/ranks.parquet", "answers": folder / "base/answers.parquet"}
    rank({"name": "base_ring"}, ring_folder, folder / "base/embeddings", **files)
    return folder


def scores_of(graph, model, folder):
    method = build_method("kg_bert", {}, graph, model)
    method.load(folder / "run/weights")
    count = graph.entity_count

    def scores(head, relation):
        inverse = relation >= graph.relation_count
        rows = [(e, relation - graph.relation_count, head) if inverse else (head, relation, e) for e in range(count)]
        return method.score_triples(np.array(rows), 16)

    return scores


def test_all_candidates_are_ranked(folder, ring_graph, ring_folder, encoder_folder):
    frame, answers = ranked(folder, ring_folder, encoder_folder, answers=2)
    scores, test = scores_of(ring_graph, encoder_folder, folder), frame[frame["split"] == "test"].reset_index()
    for row, (head, relation, target) in enumerate(zip(*asked_for(ring_graph, ring_graph.split("test")), strict=True)):
        known = ring_graph.known_answers(np.array([head]), np.array([relation]))[1]
        own = scores(head, relation)
        others = np.setdiff1d(np.arange(ring_graph.entity_count), np.setdiff1d(known, [target]))
        assert test.loc[row, "candidates"] == len(others)
        rank = 1 + (own[others] > own[target] + 1e-5).sum()
        assert test.loc[row, "optimistic"] <= rank + 1 and test.loc[row, "pessimistic"] >= rank
    assert set(answers["direction"]) == {"tail", "head"} and answers["place"].max() == 10


def test_only_proposals_are_scored(folder, ring_graph, ring_folder, encoder_folder, monkeypatch):
    from kglm.methods.kg_bert import Method

    seen, original = [], Method.score_triples

    def noted(self, rows, size):
        seen.append(rows)
        return original(self, rows, size)

    monkeypatch.setattr(Method, "score_triples", noted)
    monkeypatch.setattr(Method, "score_candidates", None)
    frame, answers = ranked(folder, ring_folder, encoder_folder, answers=2, candidates={"run": "base_ring", "top": 3})
    before = read_parquet(folder / "base/ranks.parquet", RANKS)
    moved = frame["optimistic"] != before["optimistic"]
    assert moved.any()
    assert (frame.loc[moved, "pessimistic"] <= 3).all() and (before.loc[moved, "optimistic"] <= 3).all()
    assert (frame["candidates"] == before["candidates"]).all()
    asked = sum(len(rows) for rows in seen[:2])
    assert asked == 3 * len(frame)
    assert answers.groupby(["direction", "head", "relation", "tail"]).size().max() == 3


def test_a_method_with_embeddings_ranks_by_these(folder, ring_folder, model_folder, tmp_path):
    with pytest.raises(InputError, match="ranks by embeddings"):
        files = {"out": tmp_path / "ranks.parquet", "answers": tmp_path / "answers.parquet"}
        rank_by_model({"name": "base_ring", "run": BASE}, ring_folder, model_folder, folder / "base/weights", **files)

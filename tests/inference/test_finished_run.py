"""Answers of finished runs: equal to their ranks, for every method, and to brute force."""

import numpy as np
import pandas as pd
import pytest

import kglm
from kglm.errors import InputError
from kglm.inference.finished_run import COLUMNS, FinishedRun, Query, realistic_ranks
from methods.test_contract import CASES

UNREAD = ("kg_bilm", "mem_kgc", "structural", "popularity")
RANKED = sorted(set(CASES) - {"lmke"})
TEXTUAL = sorted(name for name, (fixture, *_) in CASES.items() if fixture and name not in UNREAD)


@pytest.mark.parametrize("name", RANKED)
def test_ranks_of_gold_answers_are_those_of_the_run(name, finished):
    run = kglm.load(finished(name))
    ranks = pd.read_parquet(finished(name) / "ranks.parquet")
    queries = [
        Query(h, r, None) if direction == "tail" else Query(None, r, t)
        for direction, h, r, t in ranks[["direction", "head", "relation", "tail"]].itertuples(index=False)
    ]
    found = run.answers(queries, top=run.graph.entity_count, known="only")
    found = found.set_index(["head", "relation", "tail", "asked"])
    ids, relations = run.entities.ids, run.relations.ids
    wanted = [(ids[row.head], relations[row.relation], ids[row.tail], row.direction) for row in ranks.itertuples()]
    np.testing.assert_array_equal(found.loc[wanted, "rank"], ranks["realistic"])


@pytest.mark.parametrize("name", ["structural", "kalm", "lmke"])
def test_answers_are_those_with_the_best_scores(name, finished):
    run = kglm.load(finished(name))
    graph, head = run.graph, "ant"
    for relation, known in ((0, "exclude"), (1, "mark"), (0, "only")):
        query = Query(run.entities.number(head), relation, None)
        ((_, scores),) = run.scored([query])
        _, answers = graph.known_answers(np.array([query.head]), np.array([relation]))
        places = {"exclude": np.setdiff1d(np.arange(12), answers), "mark": np.arange(12), "only": answers}[known]
        best = places[np.argsort(-scores[places], kind="stable")][:4]
        found = run.predict(head=head, relation=run.relations.ids[relation], top=4, known=known)
        assert list(found.columns) == COLUMNS
        assert found["tail"].tolist() == [run.entities.ids[place] for place in best]
        assert (found["known"] == np.isin(best, answers)).all()
        assert found["score"].is_monotonic_decreasing


@pytest.mark.parametrize("name", ["structural", "kalm", "kg_bert", "lmke"])
def test_relations_are_asked_for_as_ends_are(name, finished):
    run = kglm.load(finished(name))
    found = run.predict(head="ant", tail="bee", top=9, known="mark").set_index("relation")
    assert found["known"].to_dict() == {"next": True, "across": False}
    for relation, score in found["score"].items():
        ends = run.predict(head="ant", relation=relation, top=12, known="mark").set_index("tail")
        assert ends.loc["bee", "score"] == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("name", TEXTUAL)
def test_an_entity_that_is_only_a_text_asks_and_answers(name, finished):
    """One with the very text of a known entity gets that entity's score."""
    run = kglm.load(finished(name))
    twin = pd.DataFrame({"id": ["twin"], "name": ["cat"], "description": ["the animal cat"]})
    more = run.with_entities(twin)
    answers = more.predict(head="ant", relation="across", top=13, known="mark").set_index("tail")["score"]
    if name not in ("lmke", "c_lmke", "simkgc"):  # their tokens, degrees, neighbours' names: the twin has none
        assert answers["twin"] == pytest.approx(answers["cat"], abs=1e-4)
        asked = more.predict(head="twin", relation="across", top=13, known="mark").set_index("tail")["score"]
        same = run.predict(head="cat", relation="across", top=12, known="mark").set_index("tail")["score"]
        assert asked[same.index].to_numpy() == pytest.approx(same.to_numpy(), abs=1e-4)
    assert len(answers) == 13
    assert len(run.graph.entities) == 12, "the run itself is as before"


@pytest.mark.parametrize("name", UNREAD)
def test_a_method_that_reads_no_texts_says_so(name, finished):
    run = kglm.load(finished(name))
    with pytest.raises(InputError, match="it has a vector for each entity of its graph"):
        run.with_entities(pd.DataFrame({"id": ["new"], "name": ["new"], "description": [""]}))


def test_what_is_missing_is_the_best_of_all_pairs(finished, monkeypatch):
    run = kglm.load(finished("structural"))
    everything = run.missing(7, known_only=False)
    monkeypatch.setattr("kglm.ranking.scorer._STRIP_BYTES", 4 * 12 * 5)  # five queries at a time
    pd.testing.assert_frame_equal(run.missing(7, known_only=False), everything)
    known = {tuple(row) for split in ("train", "valid", "test") for row in run.graph.split(split).tolist()}
    rows = [
        (relation, head, tail, scores[tail])
        for relation in range(2)
        for head in range(12)
        for _, scores in run.scored([Query(head, relation, None)])
        for tail in range(12)
        if head != tail and (head, relation, tail) not in known
    ]
    frame = pd.DataFrame(rows, columns=["relation", "head", "tail", "score"])
    best = frame.sort_values("score", ascending=False, kind="stable").groupby("relation", sort=True).head(7)
    for relation, of in best.groupby("relation"):
        own = everything[everything["relation"] == run.relations.ids[relation]]
        np.testing.assert_allclose(own["score"], of["score"])
    assert not run.missing(3, [0])["known"].any()


def test_the_model_is_not_loaded_for_a_query_that_is_stored(finished, monkeypatch):
    run = kglm.load(finished("kalm"))
    monkeypatch.setattr("kglm.inference.finished_run.loaded_method", lambda *a: pytest.fail("the model was loaded"))
    head, relation, _ = run.graph.split("test")[0]
    assert len(run.predict(head=run.entities.ids[head], relation=run.relations.ids[relation])) == 10


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"head": "ant"}, "gives not two"),
        ({"head": "ant", "relation": "next", "tail": "bee"}, "gives not two"),
        ({"head": "ants", "relation": "next"}, "entity 'ants': is not in the graph; the nearest are 'ant'"),
        ({"head": "ant", "relation": "nxt"}, "relation 'nxt': is not in the graph; the nearest are 'next'"),
    ],
)
def test_a_query_that_is_none_is_told(query, told, finished):
    with pytest.raises(InputError, match=told):
        kglm.load(finished("structural")).predict(**query)


def test_a_folder_that_is_no_run_is_told(tmp_path):
    with pytest.raises(InputError, match=r"is no finished run: it has no run\.json"):
        FinishedRun(tmp_path)


def test_ranks_are_realistic():
    scores = np.array([3.0, 2.0, 2.0, 1.0])
    everyone = np.ones(4, bool)
    assert realistic_ranks(scores, everyone, np.arange(4)).tolist() == [1, 2.5, 2.5, 4]
    candidates = np.array([True, False, True, True])
    assert realistic_ranks(scores, candidates, np.array([1])).tolist() == [2.5], "a known answer beside its tie"

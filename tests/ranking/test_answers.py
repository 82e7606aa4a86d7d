"""The best answers of queries, graph-based re-ranking, and candidates that another run proposes; by definition."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kglm.artefacts import ANSWERS, RANKS, read_parquet
from kglm.errors import InputError
from kglm.kg.graph import evenly_spaced
from kglm.ranking import rank_triples, reranking
from kglm.ranking.proposals import proposals, rank_proposals
from kglm.ranking.reranking import reranked
from kglm.ranking.stages import rank
from kglm.ranking.triples import asked_for, best_answers, embedding_scorer, rank_triples_by

from .test_stages import paths, vectors  # noqa: F401

KEYS = ["split", "direction", "head", "relation", "tail"]


@pytest.fixture
def scorer_of(graph, vectors):  # noqa: F811
    entities, table = vectors
    return embedding_scorer(graph, lambda h, r: table[h, r], entities)


def known_others(graph, head, relation, target):
    true = {tuple(row) for name in ("train", "valid", "test") for row in graph.split(name, inverse=True).tolist()}
    return {e for e in range(graph.entity_count) if (head, relation, e) in true and e != target}


def test_the_best_answers_are_the_first_of_a_filtered_sort(graph, vectors, scorer_of):  # noqa: F811
    entities, table = vectors
    triples = graph.split("test")[::3]
    found = best_answers(graph, triples, scorer_of, "test", 4, tile=(5, 7))
    expected = []
    for head, relation, target in zip(*asked_for(graph, triples), strict=True):
        scores = table[head, relation] @ entities.T
        others = known_others(graph, head, relation, target)
        order = sorted(set(range(graph.entity_count)) - others, key=lambda e, s=scores: (-s[e], e))[:4]
        expected += [(place, entity, scores[entity]) for place, entity in enumerate(order, 1)]
    assert list(found[["place", "entity", "score"]].itertuples(index=False, name=None)) == expected
    assert list(found["direction"].unique()) == ["tail", "head"]


def test_the_stage_keeps_the_answers_of_some_triples(graph, paths):  # noqa: F811
    rank({"name": "run", "answers": 3}, **paths)
    found = read_parquet(paths["answers"], ANSWERS)
    triples = graph.split("test")
    shown = set(map(tuple, triples[evenly_spaced(len(triples), 3)].tolist()))
    for _, of in found.groupby("direction"):
        assert set(of[["head", "relation", "tail"]].itertuples(index=False, name=None)) == shown
    assert 1 < len(shown) < len(triples)
    ranks = read_parquet(paths["out"], RANKS).set_index(KEYS)
    for key, of in found.groupby(KEYS):
        answer = key[4] if key[1] == "tail" else key[2]
        own = of.loc[of["entity"] == answer, "place"]
        row = ranks.loc[[key]].iloc[0]
        assert own.empty or row["optimistic"] <= own.iloc[0] <= row["pessimistic"]
    rank({"name": "run"}, **paths)
    assert read_parquet(paths["answers"], ANSWERS).empty


def test_a_bonus_for_who_is_near_in_train(graph, vectors, scorer_of, paths):  # noqa: F811
    entities, table = vectors
    near = np.eye(graph.entity_count, dtype=bool)
    for h, _, t in graph.split("train").tolist():
        near[h, t] = near[t, h] = True
    near = near @ near
    triples = graph.split("test")

    def by_definition(asked, _):
        scores = table[asked.heads, asked.relations] @ entities.T + 0.75 * near[asked.heads]
        return lambda q, e: scores[q, e]

    found = rank_triples_by(graph, triples, reranked(graph, scorer_of, 2, 0.75), "test", (7, 5))
    expected = rank_triples_by(graph, triples, by_definition, "test")
    pd.testing.assert_frame_equal(found, expected)
    plain = rank_triples(graph, triples, lambda h, r: table[h, r], entities, "test")
    assert (found["realistic"] != plain["realistic"]).any()
    rank({"name": "run", "protocol": "reranked", "reranking": {"hops": 2, "bonus": 0.75}}, **paths)
    written = read_parquet(paths["out"], RANKS)
    test = written[written["split"] == "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(test, expected, check_dtype=False, check_index_type=False)


@pytest.mark.parametrize("spec", [{"protocol": "reranked"}, {"reranking": {"hops": 1, "bonus": 0.1}}])
def test_reranking_is_always_told(paths, spec):  # noqa: F811
    with pytest.raises(InputError, match="do not go together"):
        rank({"name": "run"} | spec, **paths)


def test_proposals_are_ordered_anew_and_others_keep_their_rank(graph, vectors, scorer_of):  # noqa: F811
    entities, table = vectors
    triples = graph.split("test")
    before = rank_triples(graph, triples, lambda h, r: table[h, r], entities, "test")
    random = np.random.default_rng(3)
    new = random.integers(0, 4, (graph.entity_count, 2 * graph.relation_count, graph.entity_count)).astype(np.float32)
    chosen = proposals(graph, triples, "test", scorer_of, 5, lambda rows: new[tuple(rows.T)])
    found = rank_proposals(graph, triples, "test", *chosen, before)
    inside = 0
    for row, (head, relation, target) in enumerate(zip(*asked_for(graph, triples), strict=True)):
        scores = table[head, relation] @ entities.T
        others = known_others(graph, head, relation, target)
        top = sorted(set(range(graph.entity_count)) - others, key=lambda e, s=scores: (-s[e], e))[:5]
        if target in top:
            own = new[head, relation, top]
            greater, not_less = (own > new[head, relation, target]).sum(), (own >= new[head, relation, target]).sum()
            expected = (greater + 1, (greater + 1 + not_less) / 2, not_less)
            inside += 1
        else:
            expected = tuple(before.loc[row, ["optimistic", "realistic", "pessimistic"]])
        assert tuple(found.loc[row, ["optimistic", "realistic", "pessimistic"]]) == expected
    assert 0 < inside < len(found)
    with pytest.raises(InputError, match="are not those of the graph"):
        rank_proposals(graph, triples, "test", *chosen, before.iloc[1:])


def test_a_neighbourhood_that_is_too_large_gives_no_bonus(graph, monkeypatch):
    """As in the released code."""
    zeros = np.zeros((graph.entity_count, graph.entity_count), np.float32)

    def plain(asked, candidates):
        return lambda rows, columns: zeros[rows, columns]

    asked = SimpleNamespace(heads=np.arange(graph.entity_count))
    everything = slice(0, graph.entity_count)
    usual = reranked(graph, plain, 1, 0.5)(asked, None)(everything, everything)
    sizes = (usual > 0).sum(axis=1)
    assert len(set(sizes.tolist())) > 1
    monkeypatch.setattr(reranking, "LARGEST", int(sizes.min()))
    found = reranked(graph, plain, 1, 0.5)(asked, None)(everything, everything)
    np.testing.assert_array_equal(found, usual * (sizes == sizes.min())[:, None])

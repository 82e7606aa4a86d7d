"""What the browser shows is what a run's embeddings say, worked out once more by hand."""

import numpy as np
import pytest

from kglm.artefacts import ANSWERS, read_parquet, write_parquet
from kglm.errors import InputError
from kglm.report.queries import queries

from .conftest import DATASET, RUNS
from .expected import expected


@pytest.fixture(scope="module")
def data(results):
    return queries(results.files(), [results.root / "data" / DATASET])[DATASET]


def test_every_query_stands_there_in_both_directions(data, results):
    asked = {(one["direction"], one["head"], one["relation"], one["tail"]) for one in data["queries"]}
    test = [tuple(row) for row in results.graph.split("test").tolist()]
    assert asked == {(direction, *triple) for direction in ("tail", "head") for triple in test}
    assert set(data["runs"]) == set(RUNS)


def test_answers_ranks_and_known_ones_are_right(data, results):
    for one in data["queries"]:
        for run, result in one["results"].items():
            known, rank, scores = expected(results, run, one)
            assert one["known"] == known
            assert one["known_count"] == len(known)
            assert (result["rank"], result["candidates"]) == (rank, len(scores))
            assert [score for _, score in result["answers"]] == sorted(scores.values(), reverse=True)[:10]
            assert all(scores[entity] == score for entity, score in result["answers"])


def test_names_are_there_for_all_that_is_shown(data):
    for one in data["queries"]:
        shown = [one["head"], one["tail"], *one["known"]]
        shown += [entity for result in one["results"].values() for entity, _ in result["answers"]]
        assert {str(number) for number in shown} <= data["entities"].keys()
    assert all(len(name) <= 80 for name in data["entities"].values())


def damaged(results, tmp_path, **columns):
    """The files of the runs, where one run's answers have other columns."""
    path = tmp_path / "runs" / RUNS[0] / "answers.parquet"
    answers = read_parquet(results.root / "runs" / RUNS[0] / "answers.parquet", ANSWERS)
    write_parquet(answers.assign(**columns), path, ANSWERS)
    files = [file for file in results.files() if file.parts[-2:] != path.parts[-2:]]
    return [*files, path]


@pytest.mark.parametrize(("column", "told"), [("entity", "name what the graph has not"), ("tail", "have no rank")])
def test_answers_of_another_graph_are_refused(results, tmp_path, column, told):
    files = damaged(results, tmp_path, **{column: np.int32(99)})
    with pytest.raises(InputError, match=told):
        queries(files, [results.root / "data" / DATASET])


def test_a_score_without_end_is_left_blank(results, tmp_path):
    files = damaged(results, tmp_path, score=np.float32("-inf"))
    data = queries(files, [results.root / "data" / DATASET])[DATASET]
    assert {score for one in data["queries"] for _, score in one["results"][RUNS[0]]["answers"]} == {None}

"""What is published holds by itself: whatever is changed in it, or unknown of it, is refused."""

import json
import os
import re
import shutil

import pandas as pd
import pytest

from kglm.artefacts import RANKS, SCORES, read_parquet, write_parquet
from kglm.errors import InputError
from kglm.published import verify as verification
from kglm.published.publish import publish
from kglm.published.sums import write_sums
from kglm.published.verify import problems, verify

from .conftest import AGAIN, RUN


@pytest.fixture
def published(made):
    made.publish()
    return made


def test_a_published_run_is_accepted_and_whole(published, capsys):
    verify(published.published, published.data)
    told = capsys.readouterr().out
    assert told.startswith("2 published runs hold\n") and "known" not in told
    assert "classification.json of 1 runs; metrics.json of 2 runs" in told
    assert "not checked: times, memory, hardware and packages in run.json of all runs" in told
    names = {path.name for path in (published.published / RUN).iterdir()}
    assert names == {
        *("run.json", "metrics.json", "classification.json", "ranks.parquet", "scores.parquet"),
        *("log.jsonl", "loss.png", "statistics.json", "SHA256SUMS"),
    }
    record = json.loads((published.published / RUN / "run.json").read_text())
    assert record["spec"] == published.read(f"specs/run/{RUN}.json")
    assert record["jobs"] == {"train_run": {"seconds": 7.5, "peak_memory_mib": 555}}
    assert record["evaluation"]["protocol"] == "filtered"


def test_a_run_of_anothers_weights_has_its_record(published):
    record = json.loads((published.published / AGAIN / "run.json").read_text())
    assert (record["run"], record["weights"], record["hardware"]) == (AGAIN, RUN, "abacus")
    assert record["ranking"] == {"protocol": "reranked", "reranking": {"hops": 2, "bonus": 0.1}}


@pytest.mark.parametrize("run", [RUN, AGAIN])
def test_what_was_trained_with_another_specification_is_refused(made, run):
    """As where the specification was written anew, for a stage by hand, and nothing was trained."""
    spec = made.read(f"specs/run/{RUN}.json")
    made.write(f"specs/run/{RUN}.json", {**spec, "training": {**spec["training"], "epochs": 300}})
    with pytest.raises(InputError, match=r"another specification than .* now \(training\.epochs 1, here 300\)"):
        made.publish(run)
    assert not made.published.exists() or not any(made.published.iterdir())


def test_a_specification_that_is_not_what_was_trained_is_noticed(made):
    record = made.read(f"runs/{RUN}/run.json")
    trained = {key: record["spec"][key] for key in ("method", "parameters", "seed", "training")}
    made.write(f"runs/{RUN}/run.json", record | {"made_of": {**trained, "name": RUN, "graph": "0", "model": None}})
    made.publish(RUN)
    path = made.published / RUN / "run.json"
    record = json.loads(path.read_text())
    record["spec"]["training"]["learning_rate"] = 0.5
    path.write_text(json.dumps(record))
    write_sums(made.published / RUN)
    told = problems(made.published / RUN, RUN)
    assert told == ["its specification is not what was trained (training.learning_rate 0.0001, here 0.5)"]


@pytest.mark.parametrize(
    ("run", "result"), [(RUN, "scores.parquet"), (RUN, "embeddings"), (AGAIN, "embeddings"), (RUN, "ranks.parquet")]
)
def test_a_result_of_former_weights_is_refused(run, result, made):
    """Where a run has no embeddings, its ranks are made of the weights."""
    folder = made.root / "runs" / run
    if result == "ranks.parquet":
        shutil.rmtree(folder / "embeddings")
    os.utime(folder / result, (0, 0))
    with pytest.raises(InputError, match=rf"{re.escape(str(folder / result))}: is older than the weights"):
        made.publish(run)
    assert not made.published.exists() or not any(made.published.iterdir())


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def changed_ranks(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(realistic=frame["realistic"].where(frame.index != len(frame) - 1, frame["realistic"] + 1))


def changed_scores(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(score=frame["score"].where(frame.index != len(frame) - 1, 9.0).astype("float32"))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: change(folder / "run.json", commit=None), "its commit is not known"),
        (lambda folder: change(folder / "run.json", commit="0" * 40 + "+"), "changes that are in no commit"),
        (lambda folder: change(folder / "run.json", commit="v1.2"), "is no commit"),
        (lambda folder: change(folder / "run.json", run="other"), "is of the run other"),
        (lambda folder: change(folder / "metrics.json", evaluation_version=None), "evaluation version None"),
        (lambda folder: change(folder / "metrics.json", protocol="leaked"), "says protocol leaked"),
        (lambda folder: change(folder / "classification.json", evaluation_version=0), "evaluation version 0"),
        (lambda folder: (folder / "ranks.parquet").unlink(), "has metrics, but no ranks"),
        (lambda folder: (folder / "scores.parquet").unlink(), "no scores"),
        (lambda folder: (folder / "log.jsonl").unlink(), "has no log.jsonl"),
        (lambda folder: (folder / "run.json").unlink(), "no such file"),
        (lambda folder: (folder / "run.json").write_text("{}"), "'run' is a required property"),
        (lambda folder: [(folder / f"{name}.json").unlink() for name in ("metrics", "classification")], "has neither"),
        (
            lambda folder: write_parquet(
                changed_ranks(read_parquet(folder / "ranks.parquet", RANKS)), folder / "ranks.parquet", RANKS
            ),
            r"metrics.json test both MR is .* by its own ranks",
        ),
        (
            lambda folder: write_parquet(
                changed_scores(read_parquet(folder / "scores.parquet", SCORES)), folder / "scores.parquet", SCORES
            ),
            "classification.json global",
        ),
    ],
)
def test_what_does_not_hold_is_refused(published, spoil, told):
    spoil(published.published / RUN)
    with pytest.raises(InputError, match=told):
        verify(published.published, published.data)
    with pytest.raises(InputError, match=told):
        verify(published.published)  # without the graph


def test_every_figure_of_the_metrics_is_compared_where_the_graph_is(published):
    path = published.published / RUN / "metrics.json"
    metrics = json.loads(path.read_text())
    group = next(name for name in metrics["metrics"]["test"] if name.startswith("relation/"))
    metrics["metrics"]["test"][group]["confidence"]["MRR"][0] += 1e-6
    path.write_text(json.dumps(metrics))
    write_sums(path.parent)
    assert f"metrics.json test {group} confidence MRR 0" in problems(path.parent, RUN, published.data)[0]


def test_a_query_that_was_left_out_is_noticed(published):
    """The metrics follow from the ranks, but the ranks are not those of the whole split."""
    folder = published.published / RUN
    ranks = read_parquet(folder / "ranks.parquet", RANKS).iloc[1:]
    write_parquet(ranks, folder / "ranks.parquet", RANKS)
    metrics = verification.evaluate_ranks(ranks, published.graph, 1000, 0.95, 0)
    change(folder / "metrics.json", metrics=metrics)
    write_sums(folder)
    assert problems(folder, RUN) == []
    assert "are not one for each of its triples" in problems(folder, RUN, published.data)[0]


def test_other_counts_than_the_graphs_are_noticed(published):
    change(published.published / RUN / "statistics.json", entities=3)
    write_sums(published.published / RUN)
    assert problems(published.published / RUN, RUN, published.data) == ["statistics.json are not those of its graph"]


def test_another_graph_is_not_taken_for_the_runs(published):
    folder = published.published / RUN
    (published.data / "ring/triples.parquet").unlink()
    assert problems(folder, RUN, published.data) == []


def test_a_commit_outside_the_history_is_unknown(published, monkeypatch):
    answers = {"rev-parse": (0, "false\n"), "merge-base": (1, "")}

    def git(folder, command, *arguments):
        code, text = answers[command]
        return verification.subprocess.CompletedProcess([], code, text)

    monkeypatch.setattr(verification, "_git", git)
    assert "is not in this history" in verification.unknown_code("0" * 40)
    answers["merge-base"] = (0, "")
    assert verification.unknown_code("0" * 40) is None


def test_ranks_that_are_too_large_are_refused(published, monkeypatch):
    monkeypatch.setattr(verification, "LARGEST", 10)
    assert "at most 10 are published" in problems(published.published / RUN, RUN)[0]


def test_nothing_is_published_of_a_run_that_would_not_be_accepted(made):
    made.publish(RUN)
    before = {path: path.read_bytes() for path in (made.published / RUN).iterdir()}
    change(made.root / f"runs/{RUN}/run.json", commit=None)
    with pytest.raises(InputError, match="its commit is not known"):
        made.publish(RUN)
    assert {path: path.read_bytes() for path in made.published.rglob("*") if path.is_file()} == before


def test_a_run_that_was_not_finished_is_told(made):
    shutil.rmtree(made.root / f"runs/{RUN}")
    with pytest.raises(InputError, match="was not trained; let the workflow finish it"):
        made.publish(RUN)


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no published run"):
        verify(tmp_path / "none")


@pytest.mark.parametrize("out", ["runs", ".", "link"])
def test_publishing_over_what_was_not_published_is_refused(out, made, monkeypatch):
    """The folder of the run itself, a foreign folder of the run's name, a link to it."""
    weights = made.root / f"runs/{RUN}/weights/weights.safetensors"
    weights.write_text("hours of training")
    os.utime(weights.parent, (0, 0))
    target = {"runs": made.root / "runs", ".": made.published, "link": made.published}[out]
    if out == ".":
        (target / RUN).mkdir(parents=True)
        (target / RUN / "thesis.tex").write_text("precious")
        monkeypatch.chdir(target / RUN)
    if out == "link":
        target.mkdir()
        (target / RUN).symlink_to(weights.parent)
    before = {path: path.read_bytes() for path in made.root.parent.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"which no stage wrote|is the working folder|is a link"):
        publish([made.root / "runs" / RUN], target)
    assert {path: path.read_bytes() for path in made.root.parent.rglob("*") if path.is_file()} == before


def test_a_published_run_is_replaced_but_not_what_was_put_into_it(made):
    made.publish(RUN)
    made.publish(RUN)
    (made.published / RUN / "notes.md").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.md, which no stage wrote"):
        made.publish(RUN)
    assert (made.published / RUN / "notes.md").read_text() == "mine"

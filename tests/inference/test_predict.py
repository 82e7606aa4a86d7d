"""The stage `predict`: what it is asked, what it prints, what it writes."""

import io
import json

import numpy as np
import pandas as pd
import pytest

import kglm
from kglm.cli import main
from kglm.inference import calibration
from kglm.inference.calibration import calibrated, expected_error
from kglm.inference.predict import predict


def rows(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), sep="\t")


def test_one_query(finished, capsys):
    finished("structural")
    capsys.readouterr()  # of the training
    assert main(["predict", str(finished("structural")), "--head", "ant", "--relation", "next", "--top", "3"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["head"].tolist() == ["ant"] * 3
    assert "bee" not in found["tail"].tolist(), "it is in train"
    assert found["relation_name"].tolist() == ["is followed by"] * 3


def test_many_queries_from_a_file_and_from_standard_input(finished, tmp_path, capsys, monkeypatch):
    text = "head\trelation\ttail\nant\tnext\t\n\n\tacross\tbee\nant\t\tbee\n"
    (tmp_path / "queries.tsv").write_text(text)
    options = [str(finished("structural")), "--top", "2", "--known", "mark", "--format", "jsonl"]
    assert main(["predict", *options, "--queries", str(tmp_path / "queries.tsv")]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["asked"] for row in found] == ["relation"] * 2 + ["tail"] * 2 + ["head"] * 2
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["predict", *options, "--queries", "-"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == found


def test_new_entities_and_a_text(finished, tmp_path, capsys):
    (tmp_path / "new.tsv").write_text("id\tname\tdescription\nmole\tmole\tan animal below the ground\n=1+1\tnewt\n")
    options = [str(finished("kalm")), "--entities", str(tmp_path / "new.tsv"), "--relation", "next", "--top", "20"]
    capsys.readouterr()  # of the training
    assert main(["predict", *options, "--head", "mole"]) == 0
    found = rows(capsys.readouterr().out)
    assert {"'=1+1", "ant"} <= set(found["tail"]), "no cell is a formula"
    assert main(["predict", *options, "--text", "a small animal that follows the ant"]) == 0
    assert set(rows(capsys.readouterr().out)["head"]) == {"text"}
    assert main(["predict", options[0], "--text", "a small animal that follows the ant", "--tail", "bee"]) == 0
    assert set(rows(capsys.readouterr().out)["relation"]) == {"next", "across"}


def test_the_formats(finished, tmp_path, capsys):
    run = finished("structural")
    predict(run, head="ant", relation="next", format="table")
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["head", "relation", "tail", "rank", "score"]
    assert len(table) == 11 and "is followed by" in table[1]
    predict(run, head="ant", relation="next", format="parquet", out=tmp_path / "answers.parquet")
    predict(run, head="ant", relation="next", out=tmp_path / "answers.tsv")
    written = pd.read_parquet(tmp_path / "answers.parquet")
    assert written["tail"].tolist() == rows((tmp_path / "answers.tsv").read_text())["tail"].tolist()


def test_what_is_missing(finished, capsys):
    assert main(["predict", str(finished("structural")), "--missing", "2"]) == 0
    found = rows(capsys.readouterr().out)
    assert found.groupby("relation").size().to_dict() == {"across": 2, "next": 2}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--head", "ant"], "gives not two of head, relation and tail"),
        (["--head", "ant", "--relation", "next", "--format", "parquet"], "give --out a file"),
        (["--head", "ant", "--relation", "next", "--top", "0"], "ask for 1 or more"),
        (["--queries", "{tmp}/no.tsv"], "there is no such file"),
        (["--queries", "{tmp}/two.tsv"], "two.tsv:2: 2 columns, expected 3"),
        (["--queries", "{tmp}/wrong.tsv"], "wrong.tsv:1: entity 'ox': is not in the graph"),
        (["--text", " ", "--relation", "next"], "option text: is empty"),
        (["--head", "ant", "--relation", "next", "--probability"], "a calibration needs 50"),
    ],
)
def test_what_cannot_be_answered_is_one_line(options, told, finished, tmp_path, capsys):
    (tmp_path / "two.tsv").write_text("ant\tnext\t\nant\tnext\n")
    (tmp_path / "wrong.tsv").write_text("ox\tnext\t\n")
    options = [option.format(tmp=tmp_path) for option in options]
    assert main(["predict", str(finished("structural")), *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err and printed.err.count("\n") == 1


def test_probabilities_rise_with_scores_and_their_error_is_told(finished, capsys, monkeypatch):
    monkeypatch.setattr(calibration, "LEAST", 2)
    predict(finished("structural"), head="ant", relation="next", known="mark", top=12, probability=True)
    printed = capsys.readouterr()
    found = rows(printed.out)
    assert found["probability"].between(0, 1).all()
    assert found.sort_values("score")["probability"].is_monotonic_increasing
    assert "expected calibration error" in printed.err
    run = kglm.load(finished("structural"))
    assert calibrated(run).queries == 2 * len(run.graph.split("valid"))


def test_the_calibration_error_by_hand():
    probabilities, true = np.array([0.05, 0.05, 0.95, 0.95]), np.array([0, 0, 1, 0])
    assert expected_error(probabilities, true) == pytest.approx((0.1 + 0.9) / 4)
    assert expected_error(np.array([0.0, 1.0]), np.array([0, 1])) == 0


@pytest.mark.parametrize("target", [".", "..", "photos", "link", "~", "/"])
def test_nothing_of_anybody_is_replaced(target, finished, tmp_path, monkeypatch, capsys):
    run = finished("structural")
    (tmp_path / "work/photos").mkdir(parents=True)
    (tmp_path / "work/photos/1.jpg").write_text("precious")
    (tmp_path / "work/link").symlink_to("photos/1.jpg")
    monkeypatch.chdir(tmp_path / "work")
    assert main(["predict", str(run), "--head", "ant", "--relation", "next", "--out", target]) == 2
    assert capsys.readouterr().err.startswith("kglm predict: ")
    assert sorted(path.name for path in (tmp_path / "work").rglob("*")) == ["1.jpg", "link", "photos"]
    assert (tmp_path / "work/photos/1.jpg").read_text() == "precious"

"""`kglm doctor`: all that can be said of a configuration and its graphs before anything is made."""

from pathlib import Path

import pytest
import yaml

from kglm.cli import main

ROOT = Path(__file__).parents[1]
SPOKES = "".join(f"hub\tr\tn{i}\n" for i in range(40)) + "".join(f"n{i}\ts\tn{i + 1}\n" for i in range(40))
SPLITS = {"file": "all.tsv", "ratio": [0.8, 0.1, 0.1], "seed": 0}


@pytest.fixture
def told(tmp_path, capsys, monkeypatch):
    """told(triples, **changes): the status of `kglm doctor` on an own graph, and what it prints."""
    monkeypatch.delenv("KGLM_MIRROR", raising=False)

    def told(triples=SPOKES, **changes):
        (tmp_path / "all.tsv").write_text(triples, "utf-8")
        dataset = {"files": {"all.tsv": str(tmp_path / "all.tsv")}, "splits": SPLITS} | changes
        table = {
            **{"kind": "link_prediction", "paper": "KaLM", "table": "own", "caption": "Own.", "model": "none"},
            **{"metrics": ["MRR"], "rows": [{"label": "TransE"}]},
            "blocks": [{"dataset": "own", "title": "Own", "runs": {"TransE": "own_run"}}],
        }
        overlay = {
            "scale": "own",
            "results": str(tmp_path / "results"),
            "build": ["own_table"],
            "datasets": {"own": dataset},
            "runs": {"own_run": {"method": "structural", "dataset": "own"}},
            "tables": {"own_table": table},
        }
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(overlay, allow_unicode=True), "utf-8")
        status = main(["doctor", "--configfile", str(ROOT / "config.yaml"), str(tmp_path / "own.yaml")])
        assert not (tmp_path / "results").exists()
        return status, "".join(capsys.readouterr())

    return told


def test_a_sound_graph_is_counted(told):
    status, text = told(accepted=["small_splits"])
    assert status == 0
    assert text.splitlines() == [
        "configuration: no mistake found",
        "own: 42 entities, 2 relations, 64 train, 8 valid, 8 test",
    ]


def test_what_is_odd_is_told_and_no_error(told):
    status, text = told(SPOKES + "N1\ts\thub\nhub\ts\tN1\n")
    assert status == 0
    assert "note: own: 1 entity ids differ from others by case, spaces or quotes alone, as N1 and n1" in text
    assert "`accepted: [small_splits]`" in text


def test_letters_without_a_font_are_told(told):
    _, text = told(SPOKES + "hub\ts\t\U00012000\n")  # cuneiform
    assert "warning: own, figures and paper.pdf: no installed font has 1 letters (CUNEIFORM: \U00012000)" in text


@pytest.mark.parametrize(
    ("triples", "changes", "message"),
    [
        ("head\trelation\ttail\n" + SPOKES, {}, "write `header: true`"),
        (SPOKES + "a\tr\n", {}, "all.tsv:81: 2 columns, expected 3"),
        (SPOKES, {"files": {"all.tsv": "not/here.tsv"}}, "no source has this file (path not/here.tsv"),
        (SPOKES, {"splits": SPLITS | {"seed": "0"}}, "datasets.own.splits"),
    ],
)
def test_a_mistake_is_told_in_one_line(told, triples, changes, message):
    status, text = told(triples, **changes)
    assert status == 2
    assert message in text and "Traceback" not in text


def test_a_graph_that_would_be_downloaded_is_passed_over(told):
    files = {"all.tsv": {"url": "https://example.invalid/all.tsv"}}
    assert told(files=files) == (
        0,
        "configuration: no mistake found\nown: its files are not here; they are fetched when the workflow runs\n",
    )

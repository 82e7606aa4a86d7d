"""Tables and figures from published runs alone, and which rows those are."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from kglm.errors import InputError
from kglm.published.sums import write_sums
from kglm.rebuild import rebuild

from .conftest import AGAIN, RUN


@pytest.fixture
def rebuilt(made, tmp_path, capsys):
    def built() -> tuple[dict[str, str], str]:
        rebuild(made.configs, made.published, tmp_path / "out")
        texts = {path.stem: path.read_text() for path in (tmp_path / "out").rglob("*.md")}
        return texts, capsys.readouterr().out

    return built


def row(tmp_path, label: str) -> pd.Series:
    cells = pd.read_csv(tmp_path / "out/tables/kalm_table_1.csv")
    return cells[(cells["row"] == label) & (cells["metric"] == "MRR")].iloc[0]


def test_published_runs_alone_give_tables_and_figures(made, rebuilt, tmp_path):
    made.publish()
    metrics = made.read(f"runs/{RUN}/metrics.json")
    shutil.rmtree(made.root)
    texts, told = rebuilt()
    assert row(tmp_path, "TransE")["reproduced"] == pytest.approx(metrics["metrics"]["test"]["both"]["MRR"])
    assert "All results here are published ones" in texts["kalm_table_1"]
    assert {path.name for path in (tmp_path / "out/figures").iterdir()} == {
        f"lmke_figure_5.{ending}" for ending in ("pdf", "png", "tex")
    }
    assert "Published results." in (tmp_path / "out/figures/lmke_figure_5.tex").read_text()
    assert "of 4 runs 2 are published, 0 were made here" in told
    assert "not built, for no result of theirs is here: kalm_table_3" in told
    assert "| 12 |" in texts["kalm_table_2"]  # entities, counted when it was published


def test_a_run_that_was_made_here_comes_first(made, rebuilt):
    made.publish()
    shutil.rmtree(made.root / f"runs/{AGAIN}")
    texts, told = rebuilt()
    assert "Published results (results/published), not made anew: Ring, SimKGC." in texts["kalm_table_1"].replace(
        "\\", ""
    )
    assert "Published" not in texts["lmke_table_4"]
    assert "of 4 runs 1 are published, 1 were made here" in told


def test_a_run_with_other_settings_is_not_shown(made, rebuilt, tmp_path):
    made.publish()
    shutil.rmtree(made.root)
    overlay = made.configs[1]
    overlay.write_text(overlay.read_text().replace("epochs: 1", "epochs: 2", 1))
    _, told = rebuilt()
    assert f"published with other settings, and not shown: {RUN}" in told
    assert pd.isna(row(tmp_path, "TransE")["reproduced"])
    assert not pd.isna(row(tmp_path, "SimKGC")["reproduced"])


def test_an_option_that_came_later_is_no_other_setting(made, rebuilt, tmp_path):
    made.publish()
    shutil.rmtree(made.root)
    path = made.published / RUN / "run.json"
    record = json.loads(path.read_text())
    del record["spec"]["parameters"]["label_smoothing"]
    path.write_text(json.dumps(record))
    write_sums(path.parent)
    rebuilt()
    assert not pd.isna(row(tmp_path, "TransE")["reproduced"])


def test_the_working_folder_is_no_place_to_rebuild_into(made, monkeypatch, tmp_path):
    made.publish()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is the working folder"):
        rebuild(made.configs, made.published, Path("."))

import json
from pathlib import Path

import pytest

from kglm import cli


def test_every_stage_is_there_and_takes_paths():
    for stage in cli.STAGES:
        function = cli.load_stage(stage)
        assert function.__doc__, stage
        assert cli._parser(stage, function).format_help().startswith(f"usage: kglm {stage}")


def test_a_missing_spec_is_one_line_and_status_2(capsys, tmp_path):
    status = cli.main(["augment", "--graph", str(tmp_path / "nothing"), "--out", str(tmp_path / "out.parquet")])
    told = capsys.readouterr().err
    assert status == 2
    assert told.count("\n") == 1 and "nothing" in told and "Traceback" not in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["[1, 2]", "{", "\x00"])
def test_a_spec_that_is_no_mapping_is_told(capsys, tmp_path, content):
    spec = tmp_path / "spec.json"
    spec.write_text(content)
    assert cli.main(["fetch", "--spec", str(spec), "--out", str(tmp_path / "raw")]) == 2
    assert "spec.json" in capsys.readouterr().err


def test_an_unknown_stage_lists_the_stages(capsys):
    assert cli.main(["trian"]) == 2
    assert "train" in capsys.readouterr().err


def test_a_positional_only_parameter_is_positional(monkeypatch):
    given = []

    def stage(file: Path | None = None, /, out: Path | None = None):
        given.append((file, out))

    monkeypatch.setattr(cli, "load_stage", lambda _: stage)
    assert cli.main(["audit"]) == cli.main(["audit", "a.csv", "--out", "b"]) == 0
    assert given == [(None, None), (Path("a.csv"), Path("b"))]
    with pytest.raises(SystemExit):
        cli.main(["audit", "--file", "a.csv"])


def test_a_stage_runs_by_its_name(tmp_path, ring_folder):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"name": "ring", "entity_text": "name"}))
    out = tmp_path / "instructions"
    assert cli.main(["instructions", "--spec", str(spec), "--graph", str(ring_folder), "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [".kglm", "test.parquet", "train.parquet", "valid.parquet"]

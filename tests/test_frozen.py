"""The copy that submitted jobs work on."""

import json

import pytest

from kglm import frozen


@pytest.fixture
def root(tmp_path):
    for name, text in {
        "Snakefile": "rule all:",
        "workflow/rules/a.smk": "rule a:",
        "envs/kglm.yaml": "name: kglm",
    }.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    return tmp_path / "root"


def test_it_holds_the_configuration_the_rules_and_the_package(root, tmp_path):
    config = {"runs": {"é": {"learning_rate": 1e-4}}}
    copy = frozen.freeze(config, root, tmp_path / "frozen")
    assert json.loads((copy / "config.json").read_text("utf-8")) == config
    assert (copy / "workflow/rules/a.smk").read_text() == "rule a:" and (copy / "Snakefile").is_file()
    assert (copy / "src/kglm/frozen.py").read_bytes() == (frozen.PACKAGE / "frozen.py").read_bytes()
    assert not list(copy.rglob("*.pyc"))


def test_the_same_is_kept_once_and_another_beside_it(root, tmp_path):
    first = frozen.freeze({"seed": 0}, root, tmp_path / "frozen")
    stamp = first.stat().st_mtime_ns
    assert frozen.freeze({"seed": 0}, root, tmp_path / "frozen") == first and first.stat().st_mtime_ns == stamp
    second = frozen.freeze({"seed": 1}, root, tmp_path / "frozen")
    (root / "workflow/rules/a.smk").write_text("rule a: # edited")
    third = frozen.freeze({"seed": 1}, root, tmp_path / "frozen")
    assert len({first, second, third}) == 3
    assert (second / "workflow/rules/a.smk").read_text() == "rule a:"


def test_what_was_committed_meanwhile_is_told(root, tmp_path, monkeypatch):
    """Jobs that are submitted after a commit tell it, though not a byte of the code is another."""
    for told in ("a+", "b"):
        monkeypatch.setattr(frozen, "commit", lambda told=told: told)
        assert (frozen.freeze({}, root, tmp_path / "frozen") / "commit").read_text() == told


class Submitted:
    """What a job sees of Snakemake's workflow."""

    def __init__(self, basedir):
        self.basedir = str(basedir)


def test_a_job_with_another_package_ends_with_one_line(tmp_path):
    frozen.check_or_exit(Submitted(frozen.PACKAGE.parents[1]))
    with pytest.raises(SystemExit, match=r"^kglm: .* is not what was submitted"):
        frozen.check_or_exit(Submitted(tmp_path))

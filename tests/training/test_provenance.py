"""What run.json says of a training's origin and cost."""

import subprocess
import time

import pytest

from kglm.training import provenance
from kglm.training.provenance import commit, environment, joules


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "src/kglm/training/provenance.py"))
    monkeypatch.setattr(provenance, "FROZEN", tmp_path / "commit")
    (tmp_path / "src/kglm/training").mkdir(parents=True)
    (tmp_path / "src/code.py").write_text("A = 1\n")

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1")
    return tmp_path, git


def test_the_commit_is_whole_and_marked_where_files_differ(checkout):
    folder, git = checkout
    assert commit() == git("rev-parse", "HEAD")  # not v1, its tag
    (folder / "src/code.py").write_text("A = 2\n")
    assert commit() == git("rev-parse", "HEAD") + "+"


def test_a_frozen_copy_tells_the_commit_that_it_was_made_of(checkout):
    folder, _ = checkout
    (folder / "commit").write_text("abc+\n")
    assert commit() == "abc+"
    (folder / "commit").write_text("\n")
    assert commit() is None


def test_time_and_throughput_are_those_of_all_sittings():
    started = time.monotonic() - 10
    made = environment(started, {"earlier": 90.0, "seconds": 50.0, "tokens": 1000}, None)
    assert made["wall_seconds"] == pytest.approx(100, abs=2)
    assert made["tokens_per_second"] == 20
    assert made["energy_joules"] is None


def test_a_training_without_a_language_model_has_no_throughput():
    assert environment(time.monotonic(), {"log": [], "best": None}, None)["tokens_per_second"] is None


def test_energy_is_what_the_packages_meters_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_POWERCAP", tmp_path)
    monkeypatch.setattr(provenance, "_nvml", lambda: iter(()))
    assert joules() is None
    for name, microjoules in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 7_000_000), ("intel-rapl:0:0", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{microjoules}\n")
    assert joules() == 12
    (tmp_path / "intel-rapl:1/energy_uj").write_text("9000000\n")
    assert environment(time.monotonic(), {}, 12.0)["energy_joules"] == 2
    assert environment(time.monotonic(), {"earlier": 5.0}, 12.0)["energy_joules"] is None  # of one sitting alone

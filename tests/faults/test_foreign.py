"""Files of somebody else, wherever a stage is told to write: all of them are there afterwards."""

import inspect
from pathlib import Path

import pytest

from kglm.cli import STAGES, load_stage, main
from kglm.files import MARK, atomic_directory

from .pipeline import STEPS, command

pytestmark = pytest.mark.slow
# The first step of each stage: the others call the same function.
FIRST = {stage: step for step, (stage, _, options, _) in reversed(STEPS.items()) if "--out" in options}
# They need results of a whole workflow. The first two have tests among those of what is published; the others write
# one file each, by `atomic_file`.
ELSEWHERE = {"publish", "rebuild", "paper", "summary", "report", "predict"}


def test_every_stage_that_writes_is_tried():
    writes = {name for name in STAGES if "out" in inspect.signature(load_stage(name)).parameters}
    assert writes == set(FIRST) | ELSEWHERE


FILES = ["thesis.tex", "photos/1.jpg", "run.json", "models/run.json", "models/statistics.json", "models/test.txt"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with somebody's work in it; the working folder lies below."""
    work = tmp_path / "home/work"
    for name in (
        "models/statistics.json",
        "models/test.txt",
        "thesis.tex",
        "photos/1.jpg",
        "models/own.safetensors",
        "models/run.json",
        "run.json",
    ):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(f"precious {name}")
    with atomic_directory(work / "made") as folder:
        (folder / "config.json").write_text("{}")
    (work / "made/notes.md").write_text("put here by hand")
    (work / "link").symlink_to(work / "photos")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(work)
    return tmp_path / "home"


TARGETS = [".", "..", "./new/..", "photos", "models", "made", "thesis.tex", "link", "~", "/", "{home}", "{work}"]


@pytest.mark.parametrize("stage", FIRST)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_of_somebody_elses_is_lost(stage, target, made, home, capsys):
    """A stage that writes a single file may give a name beside them; everything else is refused in one line."""
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path.name != MARK}
    arguments = command(FIRST[stage], made)
    place = arguments.index("--out") + 1
    arguments[place] = target.format(home=home, work=Path.cwd())
    status = main(arguments)
    told = capsys.readouterr().err
    replaced = Path("thesis.tex").resolve() if target == "thesis.tex" else None  # a file by the name of a file
    after = {path: path.read_bytes() for path in before if path.is_file()}
    assert {p: t for p, t in after.items() if p != replaced} == {p: t for p, t in before.items() if p != replaced}
    assert status in (0, 2) and "Traceback" not in told
    if status:
        assert len([line for line in told.splitlines() if line.startswith("kglm ")]) == 1
    if target in (".", "..", "./new/..", "~", "/", "{home}", "{work}"):
        assert status == 2

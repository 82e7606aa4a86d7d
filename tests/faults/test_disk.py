"""A full disk and a read-only folder: one line from every stage that writes, and nothing half-written."""

import contextlib
import subprocess

import pytest

from kglm.cli import main

from .pipeline import RUNS, STEPS, command

pytestmark = pytest.mark.slow
WRITES = ("--out", "--answers", "--checkpoints")
# What audit writes without --out is the answer on the screen.
STEPS_THAT_WRITE = [step for step, (_, _, options, _) in STEPS.items() if "--out" in options]
PAGE = 4096


@pytest.fixture
def disk(tmp_path):
    """A function of a size in bytes that gives a file system of that size."""
    with contextlib.ExitStack() as mounted:

        def make(size: int):
            folder = tmp_path / "disk"
            folder.mkdir()
            done = _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
            if done.returncode:
                pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return folder

        yield make


def _mount(*arguments) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")


def onto(folder, step: str, made) -> list[str]:
    """A step's command with all that it writes on another disk."""
    arguments = command(step, made)
    for option in set(WRITES) & set(arguments):
        place = arguments.index(option) + 1
        arguments[place] = str(folder / "-".join(arguments[place].split("/")[-2:]))  # checkpoints and results apart
    return arguments


def told(capsys, arguments: list[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = main(arguments)
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("kglm ")]
    assert len(lines) == (status == 2)
    assert "Traceback" not in error
    return status, "".join(lines)


@pytest.mark.parametrize("step", STEPS_THAT_WRITE)
def test_a_full_disk(made, disk, capsys, step):
    folder = disk(PAGE)
    (folder / "full").write_bytes(bytes(PAGE))
    status, line = told(capsys, onto(folder, step, made))
    assert status == 2
    assert "the disk is full; free some space" in line
    left = [path for path in folder.rglob("*") if path.is_file() and "checkpoint" not in str(path)]
    assert [path.name for path in left if path.stat().st_size] == ["full"]
    assert not [path for path in left if ".kglm-" in path.name]


@pytest.mark.parametrize("step", STEPS_THAT_WRITE)
def test_a_disk_that_fills_up(made, disk, capsys, step):
    """What fits is there and whole; what does not leaves nothing behind."""
    folder = disk(3 * PAGE)
    status, line = told(capsys, onto(folder, step, made))
    assert status == 0 or "the disk is full; free some space" in line
    assert not [path for path in folder.rglob("*") if ".kglm-" in path.name]


@pytest.mark.parametrize("step", STEPS_THAT_WRITE)
def test_a_read_only_folder(made, disk, capsys, step):
    folder = disk(PAGE)
    assert not _mount("-o", "remount,ro", folder).returncode
    status, line = told(capsys, onto(folder, step, made))
    assert status == 2
    assert "the folder is read-only; choose another folder for results" in line


@pytest.mark.parametrize("pages", [4, 8, 12, 16, 32, 40])
def test_a_disk_that_fills_up_with_checkpoints(made, disk, capsys, monkeypatch, pages):
    """What torch wrote of it is no checkpoint, and the training goes on as soon as there is room."""
    often = RUNS["kalm"]["training"] | {"save_every_steps": 1, "batch_size": 4}
    monkeypatch.setitem(RUNS["kalm"], "training", often)
    folder = disk(pages * PAGE)
    arguments = onto(folder, "train_kalm", made)
    status, line = told(capsys, arguments)
    assert status == 2
    assert "the disk is full; free some space" in line
    assert not _mount("-o", f"remount,size={1000 * PAGE}", folder).returncode
    assert told(capsys, arguments)[0] == 0

"""Nothing is replaced but what a stage wrote, and a killed writer leaves the former result or the new one."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kglm import files, temporaries
from kglm.errors import InputError

OLD, NEW = {"a": "old a", "deep/b": "old b"}, {"a": "new a", "deep/c": "new c"}


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != files.MARK
    }


def write_folder(path: Path, parts: dict[str, str]) -> None:
    with files.atomic_directory(path) as folder:
        for name, text in parts.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)


def write_file(path: Path, text: str) -> None:
    with files.atomic_file(path) as temporary:
        temporary.write_text(text)


def in_child(work: Callable[[], None], kill_at: int | None = None) -> int:
    """Run in a process of its own that kills itself at its n-th operation on files: how many it began until then."""
    read, write = os.pipe()
    if child := os.fork():
        os.close(write)
        os.waitpid(child, 0)
        with os.fdopen(read, "rb") as stream:
            return len(stream.read())
    begun = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal begun
        if event.startswith(("open", "os.", "shutil.")) and event != "os.fork":
            os.write(write, b".")
            if begun == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            begun += 1

    sys.addaudithook(hook)
    with contextlib.suppress(BaseException):
        work()
    os._exit(0)


def test_a_folder_that_is_replaced_survives_a_kill_at_every_moment(tmp_path):
    path = tmp_path / "weights"
    write_folder(path, OLD)
    operations = in_child(lambda: write_folder(path, NEW))
    assert operations > 15 and content(path) == NEW
    seen = set()
    for moment in range(operations):
        write_folder(path, OLD)
        in_child(lambda: write_folder(path, NEW), kill_at=moment)
        temporaries.recover(path)
        assert content(path) in (OLD, NEW), moment
        assert list(tmp_path.iterdir()) == [path], moment
        seen.add(content(path)["a"])
    assert seen == {"old a", "new a"}


def test_a_file_that_is_replaced_survives_a_kill_at_every_moment(tmp_path):
    path = tmp_path / "ranks"
    operations = in_child(lambda: write_file(path, "new"))
    for moment in range(operations):
        write_file(path, "old")
        in_child(lambda: write_file(path, "new"), kill_at=moment)
        assert path.read_text() in ("old", "new"), moment
        write_file(path, "newest")
        assert list(tmp_path.iterdir()) == [path] and path.read_text() == "newest", moment


def test_the_next_writer_finds_the_only_good_folder_though_it_fails_itself(tmp_path):
    """Killed between the two renames: what stood there is out of the way, the new one not yet in its place."""
    path = tmp_path / "run"
    write_folder(path, OLD)
    moved = subprocess.run(
        [sys.executable, "-c", MOVE_ASIDE, str(path)], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert not path.exists() and content(Path(moved)) == OLD
    with pytest.raises(RuntimeError), files.atomic_directory(path):
        raise RuntimeError
    assert content(path) == OLD and list(tmp_path.iterdir()) == [path]


MOVE_ASIDE = """
import sys
from pathlib import Path
from kglm.temporaries import temporary_name
path = Path(sys.argv[1])
print(path.rename(temporary_name(path, old=True)))
"""
WRITE_SLOWLY = """
import sys, time
from pathlib import Path
from kglm.files import atomic_directory, atomic_file
kind, path, text = sys.argv[1:]
with {"file": atomic_file, "folder": atomic_directory}[kind](Path(path)) as temporary:
    print("begun", flush=True)
    sys.stdin.readline()
    (temporary if kind == "file" else temporary / "a").write_text(text)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("first", [0, 1])
def test_two_writers_of_one_path_both_end_well_and_the_last_one_stays(kind, first, tmp_path):
    path = tmp_path / "run"
    writers = []
    for text in ("one", "two"):
        command = [sys.executable, "-c", WRITE_SLOWLY, kind, str(path), text]
        writers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert writers[-1].stdout.readline() == "begun\n"
    for writer in (writers[first], writers[1 - first]):
        writer.communicate("go\n", timeout=60)
        assert writer.returncode == 0
    assert (path if kind == "file" else path / "a").read_text() == ("one", "two")[1 - first]
    assert list(tmp_path.iterdir()) == [path]


def test_writers_that_replace_a_folder_all_the_time_leave_one_whole_one(tmp_path):
    path = tmp_path / "run"
    write_folder(path, OLD)
    children = []
    for number in range(4):
        if not (child := os.fork()):
            with contextlib.suppress(BaseException):
                for turn in range(20):
                    write_folder(path, {"a": f"{number} {turn}", "b": f"{number} {turn}"})
                os._exit(0)
            os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    parts = content(path)
    assert parts["a"] == parts["b"] and list(tmp_path.iterdir()) == [path]


FOREIGN = [".run.json", ".run.json.original", ".run.json.mybackup", ".run.kglm", ".run.abcdefgh", "run.kglm-1-2-3-4"]


def test_what_may_be_alive_and_what_is_the_users_own_stays(tmp_path):
    """A process of another host, one that is alive, dot files that look alike."""
    host, process, start = temporaries.temporary_name(tmp_path / "x").name.rpartition("kglm-")[2].split("-")[:3]
    other = "0" * 8 if host != "0" * 8 else "1" * 8
    alive = [f".run.kglm-{other}-{process}-{start}-0", f".run.kglm-{host}-{process}-{start}-0"]
    dead = [f".run.kglm-{host}-{process}-{int(start) - 1}-0", f".run.kglm-{host}-4194305-1-0-old"]
    for name in [*FOREIGN, *alive, *dead]:
        (tmp_path / name).write_text("precious")
    write_file(tmp_path / "run", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"run", *FOREIGN, *alive}


@given(st.from_regex(r"\A\.?(run|runs)?\.?(kglm)?[-.a-z0-9]{0,30}(-old)?\Z"))
def test_a_file_of_no_name_of_ours_is_never_removed(name):
    assume(name not in ("", ".", "..", "run"))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_text("precious")
        write_file(Path(folder) / "run", "new")
        ours = re.fullmatch(rf"\.run\.kglm-{temporaries._HOST}(-[0-9]+){{3}}(-old)?", name)
        assert ours or (Path(folder) / name).read_text() == "precious"


TARGETS = ["foreign", "marked", "file", "link", "broken", "here", "here by name", "nothing", "above", "home"]
TARGETS += ["below and up", "root", "tilde", "other tilde"]


def hostile(tmp_path: Path) -> dict[str, Path]:
    """Targets that must not be replaced."""
    (tmp_path / "foreign/sub").mkdir(parents=True)
    (tmp_path / "foreign/sub/data.csv").write_text("x")
    write_folder(tmp_path / "marked", OLD)
    (tmp_path / "marked/notes.md").write_text("mine")
    (tmp_path / "file").write_text("text")
    write_folder(tmp_path / "made", OLD)
    (tmp_path / "link").symlink_to(tmp_path / "made")
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    work = tmp_path / "home/work"
    work.mkdir(parents=True)
    (work / "thesis.tex").write_text("precious")
    return {
        "foreign": tmp_path / "foreign",
        "marked": tmp_path / "marked",
        "file": tmp_path / "file",
        "link": tmp_path / "link",
        "broken": tmp_path / "broken",
        "here": Path("."),
        "here by name": work,
        "nothing": Path(""),
        "above": Path(".."),
        "home": tmp_path / "home",
        "below and up": Path("new/.."),
        "root": Path("/"),
        "tilde": Path("~/results"),
        "other tilde": Path("~"),
    }


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_no_stage_wrote_is_refused_before_anything_is_done(target, tmp_path, monkeypatch):
    targets = hostile(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home/work")
    before = {path: path.read_bytes() if path.is_file() else None for path in sorted(tmp_path.rglob("*"))}
    with pytest.raises(InputError) as error, files.atomic_directory(targets[target]):
        pytest.fail("the work began")
    assert "; " in str(error.value) and "\n" not in str(error.value)
    assert {path: path.read_bytes() if path.is_file() else None for path in sorted(tmp_path.rglob("*"))} == before


def test_what_a_stage_wrote_is_replaced_and_what_was_put_there_meanwhile_is_kept(tmp_path):
    path = tmp_path / "run"
    write_folder(path, OLD)
    (path / ".snakemake_timestamp").touch()  # Snakemake's, in each folder that a rule makes
    write_folder(path, NEW)
    assert content(path) == NEW
    told = pytest.raises(InputError, match=r"holds notes\.md, which no stage wrote")
    with told, files.atomic_directory(path) as folder:
        (folder / "a").write_text("newer")
        (path / "notes.md").write_text("mine")
    assert content(path) == NEW | {"notes.md": "mine"} and list(tmp_path.iterdir()) == [path]


def test_an_empty_folder_is_nobodys(tmp_path):
    (tmp_path / "run").mkdir()
    write_folder(tmp_path / "run", NEW)
    assert content(tmp_path / "run") == NEW


def test_a_folder_that_is_filled_bit_by_bit_is_claimed_once(tmp_path):
    path = tmp_path / "scratch"
    files.claim_directory(path)
    (path / "checkpoint-5").mkdir()
    (path / "checkpoint-5/state").touch()
    files.claim_directory(path)
    (tmp_path / "own/checkpoint-5").mkdir(parents=True)
    (tmp_path / "own/checkpoint-5/state").touch()
    with pytest.raises(InputError, match="which no stage wrote"):
        files.claim_directory(tmp_path / "own")


def test_a_file_replaces_no_folder_and_no_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "target").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name, told in (("folder", "is a folder"), ("link", "is a link")):
        with pytest.raises(InputError, match=told), files.atomic_file(tmp_path / name):
            pytest.fail("the work began")
    assert (tmp_path / "target").read_text() == "mine" and (tmp_path / "link").is_symlink()


def test_a_dead_process_is_told_from_one_of_its_number():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = temporaries._started(child.pid)
    assert started > 0 and not temporaries._is_dead(temporaries._HOST, child.pid, started)
    assert temporaries._is_dead(temporaries._HOST, child.pid, started + 1)
    child.kill()
    for _ in range(100):  # not yet waited for: it is a zombie
        if temporaries._started(child.pid) == 0:
            break
        time.sleep(0.05)
    assert temporaries._is_dead(temporaries._HOST, child.pid, started)
    child.wait()


def test_names_are_taken_in_a_folder_of_others(tmp_path):
    (tmp_path / "notes.md").write_text("mine")
    files.claim_files(tmp_path, ["graph", "counts"])
    (tmp_path / "graph").write_text("made")
    files.claim_files(tmp_path, ["graph"])
    (tmp_path / "log").write_text("mine")
    with pytest.raises(InputError, match="holds log, which no stage wrote"):
        files.claim_files(tmp_path, ["graph", "log"])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        files.claim_files(tmp_path / "file", ["graph"])

"""Files and folders that are either whole or absent, and that replace nothing but what a stage wrote before.

Everything is written under a temporary name and then renamed. A folder bears a mark, a file that lists what the stage
has put into it: a folder without a mark, or with a file that its mark does not list, is somebody else's.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from kglm.errors import InputError
from kglm.options import Options, Seed, mistyped
from kglm.temporaries import recover, temporary_name

MARK = ".kglm"  # lists the files that a stage has written into a folder
_NOBODYS = re.compile(r"\.snakemake_timestamp|\.nfs[0-9a-f]+")  # Snakemake's and the file system's own
_ATTEMPTS = 100  # of replacing a folder that others replace at the same time


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name `path` when the block ends well, else it is removed.

    InputError, before anything is written, where `path` is a folder or a link.
    """
    path = Path(path)
    refuse_place(path)
    if path.is_dir():
        raise InputError("is a folder, and a file is to be written", path, "choose another name")
    with _told_when_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path)
        temporary = temporary_name(path)
        try:
            temporary.touch(mode=0o600, exist_ok=False)
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path, mark: str = MARK) -> Iterator[Path]:
    """Yield an empty temporary directory; it replaces `path` when the block ends well, else it is removed.

    mark: the file in the folder that lists what was written, a line for each (a sum may stand before a name); it is
    written here where the block has not done it. InputError as of `check_replaceable`, before the block begins. At
    every moment the former folder or the new one is whole, under its name or where the next writer finds it.
    """
    path = Path(path)
    check_replaceable(path, mark)
    with _told_when_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path)
        check_replaceable(path, mark)
        temporary = temporary_name(path)
        try:
            temporary.mkdir(mode=0o700)
            yield temporary
            if not (temporary / mark).exists():
                (temporary / mark).write_text("".join(f"{name}\n" for name in _listed(temporary)), "utf-8")
            temporary.chmod(0o777 & ~_umask())
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
            _replace(temporary, path, mark)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def refuse_place(path: Path) -> None:
    """InputError for a path that is never a stage's own: the working folder, home, what they lie in, and links."""
    remedy = "name a folder or file of its own for the result"
    if path.parts[:1] and path.parts[0].startswith("~"):
        raise InputError("~ is not expanded here", path, "write the home folder out, or $HOME")
    whole = Path(os.path.realpath(path))
    home = Path(os.path.realpath(os.path.expanduser("~")))
    for place, what in ((Path.cwd(), "the working folder"), (home, "the home folder")):
        if whole == place or whole in place.parents:
            where = f"is {what}" if whole == place else f"holds {what}"
            raise InputError(where, whole, remedy)
    if path.is_symlink():
        raise InputError("is a link", path, "name what it points to, or remove the link")


def with_ending(out: Path, ending: str) -> Path:
    """The file `<out>.<ending>`, for a stage that writes several of one name; InputError as of `refuse_place`."""
    refuse_place(out)
    return Path(out).with_name(f"{Path(out).name}.{ending}")


def check_folder(path: Path) -> None:
    """InputError for a path at which no stage makes a folder: as of `refuse_place`, or a file."""
    refuse_place(path)
    if Path(path).exists() and not Path(path).is_dir():
        raise InputError("is a file, and a folder is to be written", path, "choose another name")


def check_replaceable(path: Path, mark: str = MARK) -> None:
    """InputError where a folder must not be replaced: it, or something in it, was not written by a stage.

    A stage that works for long before it writes asks at its beginning.
    """
    path = Path(path)
    check_folder(path)
    for _ in range(_ATTEMPTS):
        before, foreign = _inode(path), _foreign(path, mark)
        if _inode(path) == before:  # else another writer has just replaced it
            return _refuse(foreign, path)


def claim_directory(path: Path) -> None:
    """Take a folder that a stage fills bit by bit, and in which it removes what it no longer needs.

    InputError where somebody else's files are in it already.
    """
    path = Path(path)
    if not (path / MARK).is_file():
        check_replaceable(path)
        path.mkdir(parents=True, exist_ok=True)
        (path / MARK).touch()


def check_files(folder: Path, names: Iterable[str]) -> None:
    """InputError where a folder, in which others may have files, holds one of `names` that no stage wrote."""
    folder = Path(folder)
    check_folder(folder)
    known = _marked(folder / MARK)
    _refuse(sorted(name for name in names if name not in known and (folder / name).exists()), folder)


def claim_files(folder: Path, names: Iterable[str]) -> None:
    """Note that the files `names` of a folder are a stage's, just before it writes them; as `check_files` else."""
    folder = Path(folder)
    check_files(folder, names)
    known = _marked(folder / MARK)
    if not known.issuperset(names):
        with atomic_file(folder / MARK) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in sorted(known.union(names))), "utf-8")


def _refuse(foreign: list[str], folder: Path) -> None:
    if foreign:
        shown = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
        remedy = "choose a new or empty folder, or move what you want to keep and delete the rest"
        raise InputError(f"holds {shown}, which no stage wrote; nothing was touched", folder, remedy)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _foreign(folder: Path, mark: str) -> list[str]:
    """What lies in a folder and is not listed by the mark that a stage left there."""
    known = {mark, MARK, *_marked(folder / mark)}
    return [name for name in _listed(folder) if name not in known and not _NOBODYS.fullmatch(Path(name).name)]


def _marked(mark: Path) -> set[str]:
    """The names that a mark lists; none where there is no mark."""
    try:
        lines = mark.read_text("utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        lines = []
    return {re.sub("^[0-9a-f]{64}  ", "", line) for line in lines}


def _listed(folder: Path) -> list[str]:
    """All files and links below a folder, as relative paths, sorted."""
    return sorted(
        str(Path(place, name).relative_to(folder))
        for place, folders, files in os.walk(folder)
        for name in [*files, *(each for each in folders if Path(place, each).is_symlink())]
    )


def _replace(temporary: Path, path: Path, mark: str) -> None:
    """Give a folder the name `path`; what stood there is moved aside first and removed last."""
    aside: list[Path] = []
    try:
        for _ in range(_ATTEMPTS):
            try:
                temporary.rename(path)  # also in the place of an empty folder
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            former = temporary_name(path, old=True)
            with contextlib.suppress(FileNotFoundError):  # another writer has just moved it
                path.rename(former)
                aside.append(former)
                _refuse(_foreign(former, mark), path)
        else:
            raise InputError("others write it all the time", path, "let one of them write it")
    except BaseException:
        if aside and not path.exists():
            aside.pop().rename(path)
        raise
    finally:
        for former in aside:
            shutil.rmtree(former, ignore_errors=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(value: object, path: Path) -> None:
    """Write `value` as indented JSON with a final newline. NaN and infinities are refused (ValueError)."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def read_json(path: Path) -> dict:
    """Read a JSON file; InputError when it is missing or is no JSON."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage that writes it") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"not JSON ({error})", path, "delete it and run the stage that writes it again") from None


def read_json_lines(path: Path) -> list[dict]:
    """Read a file of one JSON value a line; InputError names the line that is none, or the missing file."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage that writes it") from None
    except UnicodeDecodeError as error:
        raise InputError(f"not JSON ({error})", path, "delete it and run the stage that writes it again") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except (json.JSONDecodeError, RecursionError) as error:
            remedy = "delete the file and run the stage that writes it again"
            raise InputError(f"not JSON ({error})", f"{path}:{number}", remedy) from None
    return rows


@contextlib.contextmanager
def _told_when_full(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if told := disk_trouble(error, path):
            raise told from error
        raise


def disk_trouble(error: BaseException, path: object = "") -> InputError | None:
    """What to tell of an error that a full or read-only disk caused; None for all others.

    Libraries written in Rust, and shutil of many files, tell the system's number in their text alone; others stumble
    once more while they close their file, so that the cause is the context of what is raised.
    """
    while error is not None:
        found = re.search(r"\(os error ([0-9]+)\)|\[Errno ([0-9]+)\]", str(error))
        number = int(found[1] or found[2]) if found else getattr(error, "errno", None)
        where = path or getattr(error, "filename", None) or ""
        if number in (errno.ENOSPC, errno.EDQUOT):
            return InputError("the disk is full", where, "free some space and run again")
        if number == errno.EROFS:
            return InputError("the folder is read-only", where, "choose another folder for results")
        error = error.__cause__ or error.__context__
    return None


def _sync(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@dataclass(frozen=True)
class Identity(Options):
    """The keys of a run's specification that say which run it is."""

    name: str
    method: str
    dataset: str
    model: str | None
    seed: Seed


def run_identity(run: dict) -> dict:
    """What every result of a run says of it: its name, method, dataset, base model and seed."""
    if not isinstance(run, Mapping):
        raise mistyped(run, "a mapping", "spec.run")
    known = {key: value for key, value in run.items() if key in Identity.__dataclass_fields__}
    identity = asdict(Identity.of(known, "spec"))
    return {"run": identity.pop("name"), **identity}

"""Files that are either whole or absent: everything is written under a temporary name and then renamed."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kglm.errors import InputError


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the name `path` when the block ends well, else it is removed."""
    path = Path(path)
    with _told_when_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty temporary directory; it replaces `path` when the block ends well, else it is removed."""
    path = Path(path)
    with _told_when_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


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

    Libraries written in Rust tell the system's number in their text alone; others stumble once more while they close
    their file, so that the cause is the context of what is raised.
    """
    while error is not None:
        found = re.search(r"\(os error ([0-9]+)\)", str(error))
        number = int(found[1]) if found else getattr(error, "errno", None)
        where = path or getattr(error, "filename", None) or ""
        if number in (errno.ENOSPC, errno.EDQUOT):
            return InputError("the disk is full", where, "free some space and run again")
        if number == errno.EROFS:
            return InputError("the folder is read-only", where, "choose another folder for results")
        error = error.__cause__ or error.__context__
    return None


def _sweep(path: Path) -> None:
    """Remove what writers of `path` that were killed have left; the eight letters of tempfile tell it from the rest."""
    left = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")
    for file in path.parent.iterdir():
        if left.fullmatch(file.name):
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def run_identity(run: dict) -> dict:
    """What every result of a run says of it: its name, method, dataset, base model and seed."""
    return {"run": run["name"]} | {key: run[key] for key in ("method", "dataset", "model", "seed")}

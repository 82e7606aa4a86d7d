"""SHA-256 sums of what a run has made, in the form that `sha256sum --check SHA256SUMS` reads."""

import re
from collections.abc import Iterator
from pathlib import Path

from kglm.errors import InputError
from kglm.files import atomic_file, sha256

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\\\n]+)")


def write_sums(folder: Path) -> None:
    """Write the sums of all files of a folder beside them; hidden ones are left out."""
    lines = [f"{sha256(path)}  {path.name}\n" for path in _files(folder)]
    with atomic_file(folder / SUMS) as temporary:
        temporary.write_text("".join(lines), "utf-8")


def changed_files(folder: Path) -> Iterator[str]:
    """What has changed in a folder since its sums were written, one sentence for each file."""
    path = folder / SUMS
    if not path.is_file():
        yield f"has no {SUMS}"
        return
    told = _read(path)
    present = {file.name for file in _files(folder)}
    for name in sorted(present | set(told)):
        if name not in present:
            yield f"{name} is in {SUMS}, but not there"
        elif name not in told:
            yield f"{name} is not in {SUMS}"
        elif sha256(folder / name) != told[name]:
            yield f"{name} has another sum than {SUMS} says"


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_file() and path.name != SUMS and not path.name.startswith(".")
    )


def _read(path: Path) -> dict[str, str]:
    told = {}
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1):
        if not (found := _LINE.fullmatch(line)):
            what = "is no line of a sum, two blanks and a file's name"
            raise InputError(what, f"{path}:{number}", "publish it again")
        told[found[2]] = found[1]
    return told

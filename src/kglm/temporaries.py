"""Names of what is being written: they tell who writes it, so that only what dead writers left is removed.

A temporary of `weights` is called `.weights.kglm-<host>-<process>-<start>-<number>`; a folder that has been moved
out of the way of a new one ends in `-old` besides.
"""

import hashlib
import itertools
import os
import re
import shutil
import socket
from contextlib import suppress
from pathlib import Path

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_numbers = itertools.count()


def temporary_name(path: Path, old: bool = False) -> Path:
    """A name beside `path` that no other writer has; old: for what stood at `path` before."""
    process = os.getpid()
    token = f"{_HOST}-{process}-{_started(process)}-{next(_numbers)}"
    return path.parent / f".{path.name}.kglm-{token}{'-old' if old else ''}"


def recover(path: Path) -> None:
    """Put back what a killed writer of `path` had moved away, and remove what killed writers have left beside it.

    What a live process, or any of another host, may still write stays, and so does every file of another name.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.kglm-([0-9a-f]{{8}})-([0-9]+)-([0-9]+)-[0-9]+(-old)?")
    found = [(file, pattern.fullmatch(file.name)) for file in path.parent.iterdir()]
    dead = [(file, name) for file, name in found if name and _is_dead(name[1], int(name[2]), int(name[3]))]
    for file, name in sorted(dead, key=lambda pair: pair[1][4] is None):  # the former ones first
        with suppress(FileNotFoundError):  # another writer did it at the same time
            if name[4] and not path.exists():
                file.rename(path)
            elif file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink()


def _is_dead(host: str, process: int, start: int) -> bool:
    return host == _HOST and _started(process) != start


def _started(process: int) -> int:
    """When a process began, in clock ticks since the machine did; 0 where there is no such process, or a dead one."""
    try:
        status = Path(f"/proc/{process}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return 0
    state, *fields = status.rpartition(")")[2].split()  # the name before the bracket may hold anything
    return 0 if state in ("Z", "X") else int(fields[18])

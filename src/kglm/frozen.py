"""What a submitted job works on: copies of the configuration, the rules and the package as they were at submission.

A job waits in the queue, for hours or days, and reads all of these when it starts. Of what is there by then it would
train one thing, while another is on record.
"""

import hashlib
import json
import os
import shutil
import socket
from pathlib import Path

from kglm.files import atomic_directory
from kglm.training.provenance import commit

PACKAGE = Path(__file__).parent
FOLDER = Path(".snakemake/frozen")


def freeze(config: dict, root: Path, folder: Path = FOLDER) -> Path:
    """The folder under `folder` that holds `config` as config.json, and the package and workflow of the folder `root`.

    It is named after its content and commit: what has not changed is kept once. It is there as a whole or not at all.
    """
    text = json.dumps(config, indent=1, ensure_ascii=False)
    parts = {"src/kglm": PACKAGE, "Snakefile": Path(root) / "Snakefile"}
    parts |= {name: Path(root) / name for name in ("workflow", "envs")}
    of = commit() or ""
    digest = hashlib.sha256(f"{of}\0{text}".encode())
    for name, source in parts.items():
        for path in sorted(path for path in (source, *source.rglob("*")) if path.is_file()):
            if path.suffix != ".pyc":
                digest.update(f"\0{name}/{path.relative_to(source)}\0".encode() + path.read_bytes())
    frozen = Path(folder).absolute() / digest.hexdigest()[:16]
    if not frozen.exists():
        with atomic_directory(frozen) as copy:
            (copy / "config.json").write_text(text, "utf-8")
            (copy / "commit").write_text(of, "utf-8")
            shutil.copy(parts.pop("Snakefile"), copy)
            for name, source in parts.items():
                shutil.copytree(source, copy / name, symlinks=True, ignore=shutil.ignore_patterns("*.pyc"))
    return frozen


def hand_on(workflow, config: dict) -> None:
    """Let all jobs that `workflow`, Snakemake's own, is about to submit work on a frozen copy; local ones too.

    Does nothing where nothing is submitted.
    """
    if not workflow.non_local_exec:
        return
    frozen = freeze(config, workflow.basedir)
    workflow.config_settings.configfiles = [frozen / "config.json"]
    workflow.scheduler._executor.snakefile = str(frozen / "Snakefile")
    Path(".snakemake/submitter").write_text(f"{socket.gethostname()} {os.getpid()}\n", "utf-8")  # for `make recover`
    if "SLURM_CONF" in os.environ:  # under a name that the executor does not take away from jobs
        os.environ["KGLM_SLURM_CONF"] = os.environ["SLURM_CONF"]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(frozen / "src"), os.environ.get("PYTHONPATH")]))


def check_or_exit(workflow) -> None:
    """In a submitted job: the package has to be that of the frozen copy. Else one line, and the exit status is 1."""
    if Path(workflow.basedir) / "src/kglm" != PACKAGE:
        raise SystemExit(f"kglm: {PACKAGE} is not what was submitted, which lies in {workflow.basedir}")

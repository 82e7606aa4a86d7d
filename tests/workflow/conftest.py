"""A copy of the workflow in a folder of its own, where code, configuration and data can be changed."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "workflow", "envs", "src", "examples", "slurm")


class Workflow:
    """A copy of the repository's workflow; `overlays` are merged over config.yaml."""

    def __init__(self, folder: Path, *overlays: str):
        self.folder, self.overlays = folder, overlays
        for part in PARTS:
            source = ROOT / part
            if source.is_symlink():
                (folder / part).symlink_to(os.readlink(source))
            elif source.is_dir():
                shutil.copytree(source, folder / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / part)

    def copied_to(self, folder: Path) -> "Workflow":
        """The same in another folder. Times are kept: they decide what is newer."""
        shutil.copytree(self.folder, folder, copy_function=shutil.copy2, symlinks=True)
        other = Workflow.__new__(Workflow)
        other.folder, other.overlays = folder, self.overlays
        return other

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """Run snakemake in the copy, with the copy's own package."""
        overlays = ["--configfile", *self.overlays] if self.overlays else []
        variables = {"PYTHONPATH": str(self.folder / "src"), "OMP_NUM_THREADS": "1", **environment}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments, *overlays],
            cwd=self.folder,
            env=os.environ | variables,
            capture_output=True,
            text=True,
        )

    def pretend_finished(self) -> None:
        """Make every output as an empty file or folder, noted as made with the present code and options."""
        listed = self.snakemake("--summary").stdout.splitlines()[1:]
        for line in listed:
            path = self.folder / line.split("\t")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if path.suffix else path.mkdir(exist_ok=True)
        done = self.snakemake("--touch", "--forceall", "--cores", "1", "--quiet", "all")
        assert done.returncode == 0, done.stderr

    def planned(self) -> set[str]:
        """The files that a dry run would make, relative to results/<scale>/."""
        done = self.snakemake("--dry-run")
        assert done.returncode == 0, done.stderr
        lines = re.findall(r"^    output: (.+)$", done.stdout, re.MULTILINE)
        return {path.split("/", 2)[2] for line in lines for path in line.split(", ")}

    def insert_statement(self, file: str, *names: str) -> None:
        """Add a statement without effect to a function (class, method) of the package."""
        path = self.folder / "src/kglm" / file
        node = ast.parse(path.read_text("utf-8"))
        for name in names:
            node = next(child for child in node.body if getattr(child, "name", None) == name)
        lines = path.read_text("utf-8").split("\n")
        last = node.body[-1]
        lines.insert(last.lineno - 1, " " * last.col_offset + "added_by_a_test = None")
        path.write_text("\n".join(lines), "utf-8")

    def replace(self, file: str, old: str, new: str) -> None:
        """Change a text that stands exactly once in a file."""
        path = self.folder / file
        text = path.read_text("utf-8")
        assert text.count(old) == 1, (file, old, text.count(old))
        path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def workflow(tmp_path):
    """A function of overlays that gives a copy."""
    return lambda *overlays: Workflow(tmp_path, *overlays)

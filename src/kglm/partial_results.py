"""What there is to show where a job of the workflow failed: tables, figures, paper and report of all that was finished.

A run that fails keeps back every table that it has a row in, and with these the paper and the report. They are made
without it instead, in results/<scale>/partial/, and say which run failed, at which step, and what its log ends with.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kglm import config as configuration
from kglm.errors import InputError
from kglm.files import MARK, atomic_directory
from kglm.paper.inputs import run_spec_file

FOLDER = "partial"
_ENDINGS = {"table": ("csv", "md", "tex"), "figure": ("png", "pdf", "tex")}


class Failure(NamedTuple):
    """A job that failed: the rule, what it was to make it for (a run, a model, a dataset), and its log."""

    rule: str
    name: str
    log: Path | None

    def told(self) -> str:
        """One sentence, with the last line of the log."""
        lines = self.log.read_text("utf-8", "replace").split("\n") if self.log and self.log.is_file() else []
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{self.name}: {self.rule} failed" + (f" ({last})" if last else "")


def show(workflow, config: dict) -> None:
    """Write the partial results of a `workflow` (Snakemake's own) that ended with errors, and print where they are.

    Does nothing where no job failed: it was interrupted, then.
    """
    single = [job for failed in workflow.scheduler.failed for job in (failed if failed.is_group() else [failed])]
    waiting = {str(path) for job in workflow.dag.needrun_jobs() for path in job.output}
    failures = [_failure(job) for job in single if not workflow.dag.finished(job)]
    if failures:
        out = write(config, waiting, sorted(failures))
        print(*(failure.told() for failure in sorted(failures)), sep="\n")
        print(f"What was finished is in {out}: report.html, paper.tex, tables and figures.")


def _failure(job) -> Failure:
    name = next(iter(job.wildcards), job.rule.name)
    return Failure(job.rule.name, str(name), Path(job.log[0]) if job.log else None)


def write(config: dict, waiting: Iterable[str], failures: list[Failure]) -> Path:
    """Make the folder partial/ of the scale's results from its files, all but those that are still `waiting`."""
    from kglm.paper.document import paper
    from kglm.report.page import report

    root = Path(config["results"]) / config["scale"]
    there = _There(root, waiting)
    spec = configuration.spec(config, "paper", "paper") | {"failures": [failure.told() for failure in failures]}
    with atomic_directory(root / FOLDER) as folder:
        tables = list(_shown(config, "table", there, folder))
        figures = list(_shown(config, "figure", there, folder))
        audit = [copied for ending in ("csv", "md", "tex") if (copied := there.copied(f"audit.{ending}", folder))]
        of = {path.suffix: path for path in audit}
        paper(spec, _with(tables, ".tex"), _with(figures, ".tex"), folder / "paper.tex", audit=of.get(".tex"))
        _typeset(folder / "paper.tex")
        runs, graphs = there.of_runs(config)
        page = folder / "report.html"
        report(spec, _with(tables, ".csv"), _with(figures, ".png"), runs, graphs, page, of.get(".csv"))
    return root / FOLDER


def remove(config: dict) -> None:
    """Delete the partial results: the whole ones are there."""
    folder = Path(config["results"]) / config["scale"] / FOLDER
    if (folder / MARK).is_file():
        shutil.rmtree(folder)


class _There:
    """The files below `root` that are finished."""

    def __init__(self, root: Path, waiting: Iterable[str]):
        self.root, self.waiting = root, {os.path.abspath(path) for path in waiting}

    def path(self, file: str) -> Path | None:
        path = self.root / file
        return path if path.is_file() and os.path.abspath(path) not in self.waiting else None

    def copied(self, file: str, folder: Path) -> Path | None:
        """A copy below `folder`; None where the file is not there."""
        source = self.path(file)
        if source is None:
            return None
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(source, folder / file))

    def of_runs(self, config: dict) -> tuple[list[Path], list[Path]]:
        """What the report shows of each run, and the graphs of the runs whose answers it shows."""
        runs, graphs = [], {}
        for run, files in configuration.reported_files(config).items():
            measured = [path for file in files if (path := self.path(file))]
            if measured:
                runs += [self.root / run_spec_file(run), *measured]
            if any(path.name == "ranks.parquet" for path in measured):
                dataset = config["runs"][run]["dataset"]
                graphs[dataset] = self.root / "data" / dataset
        return runs, list(graphs.values())


def _shown(config: dict, kind: str, there: _There, folder: Path) -> Iterator[Path]:
    """The tables or figures that have a result to show, without their endings: finished ones, else made in part."""
    from kglm.paper.figures import figure
    from kglm.paper.tables import table

    for name in configuration.built(config, f"{kind}s"):
        path = folder / f"{kind}s" / name
        copies = [there.copied(f"{kind}s/{name}.{ending}", folder) for ending in _ENDINGS[kind]]
        inputs = [found for file in configuration.inputs(config, kind, name) if (found := there.path(file))]
        if not all(copies):
            try:
                (table if kind == "table" else figure)(configuration.spec(config, kind, name), inputs, path)
            except InputError:  # there is nothing that it could show
                continue
        yield path


def _with(paths: list[Path], ending: str) -> list[Path]:
    return [path.with_name(path.name + ending) for path in paths]


def _typeset(path: Path) -> None:
    """paper.pdf, where there is a LaTeX that can make it; the workflow has its program on PATH."""
    if shutil.which("latexmk"):
        subprocess.run(["typeset-paper", path], stdout=subprocess.DEVNULL, check=False)

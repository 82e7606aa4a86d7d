"""A workflow submitted to a cluster, and what is done to its jobs."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from kglm.binding import MADE_OF
from kglm.files import read_json
from workflow.conftest import Workflow

from .cluster import Cluster

PROFILE = "workflow/profiles/slurm/config.yaml"
# As README tells, but for the pace: seconds instead of minutes.
COMMAND = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")


class Scenario:
    """`folder` becomes a copy of the folder of `finished`."""

    def __init__(self, cluster: Cluster, finished: Workflow, folder: Path):
        shutil.copytree(finished.folder, folder, copy_function=shutil.copy2, symlinks=True)
        self.cluster, self.finished, self.folder = cluster, finished, folder
        self.workflow = Workflow.__new__(Workflow)
        self.workflow.folder, self.workflow.overlays = folder, finished.overlays
        self.results, self.log = folder / "results/faults", folder / "snakemake.out"
        # run -> number of a checkpoint -> the inodes that its folder had
        self.checkpoints: dict[str, dict[int, set[int]]] = {}
        self.process: subprocess.Popen | None = None
        self._wanted: dict[str, int] = {}
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._note_checkpoints, daemon=True)
        self._watch.start()

    def _note_checkpoints(self) -> None:
        while not self._ended.wait(0.05):
            for path in self.results.glob("scratch/*/*/checkpoint-*"):
                try:
                    number, inode = int(path.name.partition("-")[2]), path.stat().st_ino
                except (FileNotFoundError, ValueError):
                    continue
                run = path.parts[-3]
                self.checkpoints.setdefault(run, {}).setdefault(number, set()).add(inode)
                if number > self._wanted.get(run, number) and (process := training(self.folder, run)):
                    os.kill(process, signal.SIGSTOP)
                    del self._wanted[run]

    def hold(self, *runs: str, after: int = 0) -> None:
        """Let the training of each of these runs be stopped at its next checkpoint later than `after`."""
        self._wanted |= dict.fromkeys(runs, after)

    def at_checkpoint(self, run: str) -> int:
        """Wait until a run is held; its last checkpoint."""
        self.cluster.wait_for(lambda: run not in self._wanted, f"checkpoint of {run}", 120)
        return max(self.checkpoints[run])

    def start(self, *targets: str, command: tuple = (sys.executable, "-m", "snakemake")) -> None:
        """Start snakemake in the background; its targets lie in results/faults."""
        arguments = [*COMMAND, "--configfile", *self.workflow.overlays, "--", *targets]
        programs = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": programs, "PYTHONPATH": str(self.folder / "src"), "OMP_NUM_THREADS": "1"}
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                cwd=self.folder,
                env=os.environ | environment | self.cluster.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self, seconds: float = 240) -> str:
        """Wait for snakemake, which has to succeed; what it said."""
        status = self.process.wait(seconds)
        assert status == 0, self.told()
        return self.told()

    def told(self) -> str:
        return self.log.read_text()

    def signal(self, run: str, number: int) -> None:
        """Send a signal to the training of a run."""
        os.kill(self.cluster.wait_for(lambda: training(self.folder, run), f"training of {run}"), number)

    def job(self, run: str, *states: str, other: str = "") -> str:
        """Wait for a job of a run, in one of these states, that is not `other`; its id."""

        def found():
            return [job for job in self.cluster.jobs(*states, name=f"train_run_wildcards_{run}") if job != other]

        return self.cluster.wait_for(found, f"job of {run} in {states}", 90)[-1]

    def equals_undisturbed(self, run: str) -> bool:
        """Whether weights and log are, byte for byte, the undisturbed ones, and no checkpoint was made twice."""
        assert all(len(inodes) == 1 for inodes in self.checkpoints.get(run, {}).values()), self.checkpoints[run]
        mine, other = self.results / "runs" / run, self.finished.folder / "results/faults/runs/undisturbed"
        files = [path for path in (mine / "weights").rglob("*") if path.is_file()] + [mine / "log.jsonl"]
        assert len(files) > 2
        return all(_content(path) == _content(other / path.relative_to(mine)) for path in files)

    def stop(self) -> None:
        self._ended.set()
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.cluster.start_controller()
        self.cluster.output("scancel", "--user=root", "--full")
        # What SLURM loses sight of without cgroups: a snakemake whose batch script was ended before it.
        for process in working_in(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _content(path: Path) -> object:
    """The bytes of a file; of what says whose weights these are, all but the name of the run."""
    return read_json(path) | {"name": ""} if path.name == MADE_OF else path.read_bytes()


def training(folder: Path, run: str) -> int | None:
    """The process that trains a run in a folder."""
    for process in working_in(folder):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process}/cmdline").read_text("utf-8", errors="replace").split("\0")
            if "train" in words[:4] and f"results/faults/specs/run/{run}.json" in words:
                return process
    return None


def working_in(folder: Path) -> list[int]:
    """The processes whose working directory is `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if Path(os.readlink(path)) == folder:
                found.append(int(path.parent.name))
    return found

"""The workflow is killed again and again; what it leaves in the end is what an undisturbed run leaves.

    python benchmarks/chaos.py --kills 50 --seed 0 workflow/scales/demo.yaml

The workflow is run in two frozen copies: in one in peace; in the other Snakemake is killed with SIGKILL, its jobs with
it, and started again by the same command. The moments are drawn over the length of the
undisturbed run. They are met by progress, not by the clock: a moment is "so many jobs done, so many seconds since", so
that the kills are spread over all of the work however long the work that is done again takes. Of the kills that meet a
training, the first and then every other one waits until there is a checkpoint to go on from.

All files are compared byte for byte. Left out are what tells the time and nothing else (logs, benchmarks, TensorBoard's
files and Snakemake's time stamps) and plan.txt, which knows more of a model once it is built; of run.json the keys of
COSTS are left out, and the report, which shows them, need only be there in both. Tables of the kind `cost` show
seconds: they are not built. Exit status 1 on any difference.
"""

import argparse
import contextlib
import filecmp
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from kglm.config import read

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "config.yaml", "workflow", "envs", "src", "examples")
LEFT_OUT = ("*/logs/*", "*/benchmarks/*", "*/runs/*/tensorboard/*", "*.snakemake_timestamp", "*/plan.txt")
SHOWS_COSTS = ("report.html",)
COSTS = ("wall_seconds", "tokens_per_second", "energy_joules", "peak_memory_mib", "peak_gpu_memory_mib")
EVERY = 0.05  # seconds between two looks at a running workflow


@dataclass
class Copy:
    """A frozen copy of the workflow: nothing that is edited meanwhile reaches its jobs."""

    folder: Path
    configs: list[str]
    cores: int

    @classmethod
    def of(cls, folder: Path, configs: list[Path], cores: int) -> "Copy":
        folder.mkdir(parents=True)
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        (folder / "overlays").mkdir()
        names = [f"overlays/{number}_{path.name}" for number, path in enumerate(configs)]
        for path, name in zip(configs, names, strict=True):
            shutil.copy(path, folder / name)
        return cls(folder, names, cores)

    def command(self, *options: str) -> list[str]:
        """What `make demo` calls, without the tables that show seconds."""
        limits = ["--cores", str(self.cores), "--resources", "mem_mb=3300", "--max-jobs-per-timespan", "1000/10s"]
        build = f"build={json.dumps(self.without_costs())}"
        return [sys.executable, "-m", "snakemake", "--rerun-incomplete", "--show-failed-logs", *limits, *options,
                "--configfile", *self.configs, "--config", build]  # fmt: skip

    def without_costs(self) -> list[str]:
        """What `build` names but for these tables."""
        config = read(*(self.folder / name for name in ("config.yaml", *self.configs)))
        return [name for name in config["build"] if config["tables"].get(name, {}).get("kind") != "cost"]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.folder / "src"), "TOKENIZERS_PARALLELISM": "false"}


@dataclass
class Session:
    """One start of Snakemake, in a session of its own with all its jobs; what it says is followed."""

    copy: Copy
    log: Path
    started: list[str] = field(default_factory=list)  # jobs, by their first output
    finished: list[tuple[float, str]] = field(default_factory=list)  # seconds since the start, and job
    first_job: float | None = None

    def __post_init__(self):
        self._rule, self._jobs, self._rest = "", {}, ""
        self._written = open(self.log, "w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            self.copy.command(),
            cwd=self.copy.folder,
            env=self.copy.environment,
            stdout=self._written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._read = open(self.log, encoding="utf-8", errors="replace")  # noqa: SIM115

    def look(self) -> bool:
        """Read on; False once Snakemake has ended."""
        running = self.process.poll() is None
        self._rest += self._read.read()
        *lines, self._rest = self._rest.split("\n")
        for line in lines:
            self._note(line)
        return running

    def _note(self, line: str) -> None:
        now = time.monotonic() - self.begun
        if found := re.match(r"(?:local)?(?:rule|checkpoint) (\w+):", line):
            self._rule, self._output = found[1], found[1]
            self.first_job = now if self.first_job is None else self.first_job
        elif found := re.match(r"    output: ([^,]+)", line):
            self._output = found[1].split("/", 2)[-1].strip()
        elif found := re.match(r"    jobid: (\d+)", line):
            self._jobs[found[1]] = self._output
            self.started.append(self._output)
        elif found := re.match(r"Finished jobid: (\d+)", line):
            self.finished.append((now, self._jobs[found[1]]))

    @property
    def trains(self) -> bool:
        """Whether a training is at work."""
        ended = {job for _, job in self.finished}
        return any(re.fullmatch(r"runs/[^/]+/weights", job) for job in self.started if job not in ended)

    def kill(self) -> None:
        """End Snakemake and all its jobs, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        while left := _of_session(self.process.pid):  # a job may have opened a process group of its own
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(EVERY)
        self.look()


def _of_session(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError):
            state, _, _, session, *_ = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            if int(session) == leader and state != "Z":
                found.append(int(process))
    return found


@dataclass
class Moment:
    """When to kill: once `done` jobs are done and then `seconds` have passed."""

    done: int
    seconds: float


def moments(finished: list[float], first_job: float, kills: int, seed: int) -> list[Moment]:
    """Uniform over an undisturbed run whose jobs ended at the times `finished`."""
    generator, drawn, before = random.Random(seed), [], (0, 0.0)
    for at in sorted(generator.uniform(first_job, finished[-1]) for _ in range(kills)):
        done = sum(time < at for time in finished)
        since = finished[done - 1] if done else first_job
        # A second kill in the same job comes so much later than the first.
        since = max(since, before[1]) if done == before[0] else since
        drawn.append(Moment(done, at - since))
        before = done, at
    return drawn


@dataclass
class Outcome:
    """What the kills did."""

    kills: int = 0
    seconds: float = 0.0
    interrupted: int = 0  # jobs that were at work when a kill came
    redone: list[str] = field(default_factory=list)  # jobs that had ended and were done again
    resumed: int = 0  # trainings that were killed with a whole checkpoint
    begun_anew: list[str] = field(default_factory=list)  # of these, those that did not go on from it


class Checkpoints:
    """Sees that no training passes a second time what a whole checkpoint of it holds."""

    def __init__(self, results: Path):
        self._results, self._kept, self._told = results, {}, set()
        self.begun_anew: list[str] = []
        self._seen: dict[str, dict[Path, int]] = {}

    @property
    def new(self) -> bool:
        """Whether a training is further than it was at the last kill."""
        return any(step > self._kept.get(run, 0) for run, step in self._whole().items())

    def look(self) -> None:
        for path in self._results.glob("*/scratch/*/*/checkpoint-*/history.json"):
            with contextlib.suppress(OSError):
                made, step = path.stat().st_mtime_ns, int(path.parent.name.rpartition("-")[2])
                run = str(path.parents[1])
                new = self._seen.setdefault(run, {}).get(path) != made
                self._seen[run][path] = made
                if new and step <= self._kept.get(run, 0) and run not in self._told:
                    self._told.add(run)
                    self.begun_anew.append(f"{path.parents[2].name}: step {step} after {self._kept[run]}")

    def killed(self) -> int:
        """Note what is whole; the number of trainings that were left with a checkpoint."""
        self.look()
        self._kept, self._told = self._whole(), set()
        return len(self._kept)

    def _whole(self) -> dict[str, int]:
        """The step of the newest whole checkpoint of each training that is not done."""
        whole: dict[str, int] = {}
        for path in self._results.glob("*/scratch/*/*/checkpoint-*/history.json"):
            run = str(path.parents[1])
            whole[run] = max(whole.get(run, 0), int(path.parent.name.rpartition("-")[2]))
        return whole


def in_peace(copy: Copy) -> Session:
    session = Session(copy, copy.folder / "start_0.log")
    while session.look():
        time.sleep(EVERY)
    _must_have_ended_well(session)
    return session


def disturbed(copy: Copy, plan: list[Moment], jobs: int) -> Outcome:
    """Start, kill and start again, until the plan is worked off and all is done."""
    outcome, done, begun, patient = Outcome(), set(), time.monotonic(), True
    checkpoints = Checkpoints(copy.folder / "results")
    for number, moment in enumerate([*plan, None]):
        session = Session(copy, copy.folder / f"start_{number}.log")
        killed = _follow(session, moment, done, checkpoints, patient)
        patient ^= session.trains
        ended = [job for _, job in session.finished]
        outcome.redone += [job for job in session.started if job in done]
        done |= set(ended)
        if not killed:
            _must_have_ended_well(session)
            break
        outcome.kills += 1
        outcome.interrupted += len(session.started) - len(ended)
        outcome.resumed += checkpoints.killed()
        print(f"kill {outcome.kills}: {len(done)} of {jobs} jobs done, {len(session.started) - len(ended)} at work",
              file=sys.stderr, flush=True)  # fmt: skip
        _unlock(copy)
    outcome.seconds, outcome.begun_anew = time.monotonic() - begun, checkpoints.begun_anew
    return outcome


def _follow(session: Session, moment: Moment | None, done: set[str], checkpoints: Checkpoints, patient: bool) -> bool:
    """Watch a session to its end or to the moment of its kill; True if it was killed."""
    reached = None
    while session.look():
        checkpoints.look()
        now = time.monotonic() - session.begun
        count = len(done | {job for _, job in session.finished})
        if moment and session.first_job is not None and count >= moment.done:
            reached = now if reached is None else reached
            too_early = patient and session.trains and not checkpoints.new
            if now - reached >= moment.seconds and not too_early:
                session.kill()
                return True
        time.sleep(EVERY)
    return False


def _unlock(copy: Copy) -> None:
    """What README advises after a crash: a second start is refused until the stale lock is taken away."""
    if any((copy.folder / ".snakemake/locks").glob("*")):
        command = copy.command("--unlock", "--quiet", "all")
        subprocess.run(command, cwd=copy.folder, env=copy.environment, check=True, capture_output=True)


def _must_have_ended_well(session: Session) -> None:
    if session.process.returncode:
        sys.exit(f"{session.log.read_text('utf-8')[-5000:]}\nsnakemake failed; its folder is {session.copy.folder}")


def artefacts(folder: Path) -> dict[str, Path]:
    """All files of a results folder that are compared, by their path in it."""
    files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in files.items() if not any(fnmatch(name, left) for left in LEFT_OUT)}


def equal(one: Path, other: Path) -> bool:
    if one.name == "run.json":
        left, right = (json.loads(path.read_text("utf-8")) for path in (one, other))
        return [*left] == [*right] and _without_costs(left) == _without_costs(right)
    return one.name in SHOWS_COSTS or filecmp.cmp(one, other, shallow=False)


def _without_costs(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in COSTS}


def differences(one: Path, other: Path) -> tuple[int, list[str]]:
    """How many artefacts there are, and the names of those that are not in both and equal."""
    left, right = artefacts(one), artefacts(other)
    apart = [
        name
        for name in sorted(left | right)
        if name not in left or name not in right or not equal(left[name], right[name])
    ]
    return len(left | right), apart


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("configs", nargs="*", type=Path, default=[ROOT / "workflow/scales/demo.yaml"])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, help="a new folder that is kept; by default one that is removed if all is equal"
    )
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kglm-chaos-"))
    one, other = (Copy.of(folder / name, options.configs, options.cores) for name in ("undisturbed", "disturbed"))

    calm = in_peace(one)
    times = [at for at, _ in calm.finished]
    outcome = disturbed(other, moments(times, calm.first_job, options.kills, options.seed), len(times))
    compared, apart = differences(one.folder / "results", other.folder / "results")
    rows = {
        "kills": f"{outcome.kills} (seed {options.seed})",
        "jobs": len(times),
        "jobs that a kill met at work": outcome.interrupted,
        "jobs that had ended and were done again": len(outcome.redone),
        "trainings left with a checkpoint": outcome.resumed,
        "of these begun anew": len(outcome.begun_anew),
        "artefacts compared": compared,
        "equal": compared - len(apart),
        "different": len(apart),
        "wall time undisturbed, s": round(times[-1]),
        "wall time with kills, s": round(outcome.seconds),
    }
    for name, value in rows.items():
        print(f"{name:42}{value}")
    for title, names in (("different", apart), ("done again", outcome.redone), ("begun anew", outcome.begun_anew)):
        for name in names:
            print(f"{title}: {name}")
    bad = bool(apart or outcome.begun_anew)
    if options.folder is None and not bad:
        shutil.rmtree(folder)
    else:
        print(f"both results are in {folder}")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())

"""`kglm plan` and `kglm check`: what the runs of `build` need, and whether it is there, before anything begins."""

import importlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kglm import config as configuration
from kglm.analysis.common import choose_options
from kglm.cli import STAGES
from kglm.errors import InputError
from kglm.files import atomic_file
from kglm.lm.access import check_access
from kglm.methods._interface import method_class
from kglm.plan import cost, memory, work
from kglm.plan.choice import chosen, resolved
from kglm.plan.models import Architecture, architecture
from kglm.training.options import Training
from kglm.training.specification import completed

GIB, GB = 1 << 30, 10**9
PROCESS = GIB // 2  # of a process on a CPU before it does anything: Python and libraries
HOST = 3 * GIB  # main memory of a job beside its weights and its graph: Python, libraries, batches
ATTEMPTS = 6  # times `runtime` that a job has with two retries, each with as much more: 1 + 2 + 3
NOTES = """\
Memory is that of one process at its peak; hours are of a run's own jobs, in the sum GPU-hours (without GPUs, hours).
Upper values: batches are heavy, texts as long as kglm/plan/texts.csv or the options' cuts have it.
Weights, gradients, Adam: Rajbhandari et al. 2020, 3.1. Entities: their vectors, gradients (twice, while they are added
up) and moments. Activations: Korthikanti et al. 2022, 4.1, with measured coefficients. Time: 6·N operations a token,
8·N with checkpointing, 4·N and 6·N under LoRA (Kaplan et al. 2020, 2.1), unless kglm/plan/throughputs.csv has a
measured throughput. Not counted: analyses of trained runs, and the hub's cache where it is on another file system."""
HEAD = [
    *("run", "parameters", "trained", "weights", "gradients", "Adam", "entities", "activations", "logits", "memory"),
    *("train h", "encode h", "disk GB"),
]
# What may be changed for less memory: first what changes no result, last what does.
REMEDIES = (
    ("parameters", "gradient_checkpointing", True),
    ("parameters", "gradient_caching", True),
    ("parameters", "chunk_size", 16),
    ("training", "encoding_batch_size", 32),
    *(("resources", "gpu", count) for count in (2, 4, 8)),
    ("parameters", "base_weights", "int8"),
    ("parameters", "base_weights", "bfloat16"),
    ("training", "batch_size", 16),
)


class Row(NamedTuple):
    """One run's needs."""

    spec: dict
    gpus: int
    size: work.Size
    memory: memory.Memory
    hours: cost.Hours
    disk: cost.Disk


class Plan:
    """The needs of runs; the package `kglm.plan` holds the formulas.

    spec: see `kglm.config.plan_spec`; runs: their resolved specifications.
    """

    def __init__(self, spec: dict, runs: list[dict]):
        self.spec, self.card, self.resources = spec, spec["card"], spec["resources"]
        self.folder = Path(spec["folder"])
        self.gpus = self.resources["train"].get("gpu", 0)
        self.model, self.dataset = cache(self._model), cache(self._dataset)
        self.rows: list[Row] = []
        self.unknown: list[str] = []
        for run in runs:
            try:
                self.rows.append(self.row(run))
            except InputError as error:  # of a model or a graph that is not here yet
                self.unknown.append(f"{run['name']}: {error}")

    def _model(self, name: str) -> Architecture | None:
        if name == configuration.NO_MODEL:
            return None
        return architecture(self.spec["models"][name], self.folder / "models" / name)

    def _dataset(self, name: str) -> work.Dataset:
        return work.dataset(name, self.spec["datasets"][name], self.folder / "data" / name)

    def row(self, run: dict) -> Row:
        """The needs of a run; InputError where its model's sizes or its graph's are not known."""
        asked = self.spec["runs"][run["name"]]
        if not asked["trains"]:
            run = {**run, "training": {**run["training"], "epochs": 0}}
        about = run, self.dataset(run["dataset"]), self.model(run["model"])
        gpus = asked["resources"].get("gpu", 0) if run["training"]["epochs"] else min(self.gpus, 1)
        # As the training itself chooses.
        run = resolved(run, chosen(*about, self.limit, bool(self.gpus), max(gpus, 1)))
        about = run, *about[1:]
        hours = cost.hours(*about, self.device, max(gpus, 1), asked["ranked"], asked["top"])
        disk = cost.run_disk(*about, asked["trains"])
        return Row(run, gpus, work.run_size(*about), self.needed(run, gpus), hours, disk)

    def needed(self, spec: dict, gpus: int) -> memory.Memory:
        """Of one process, of a run's specification on so many GPUs."""
        found = memory.training(spec, self.dataset(spec["dataset"]), self.model(spec["model"]), max(gpus, 1))
        return found if self.gpus else found._replace(reserve=PROCESS)

    @property
    def device(self) -> cost.Device:
        """What a job computes on."""
        if self.gpus:
            return cost.Device(self.card["name"], self.card["tflops"] * 1e12, cost.SHARE, 1e12)
        return cost.Device("CPU", cost.CORE * 1e12 * self.resources["train"]["threads"], 1.0, 1e10)

    @property
    def limit(self) -> float:
        """Bytes that a process may fill."""
        return self.card["memory_gib"] * GIB if self.gpus else self.resources["train"]["mem_mb"] * 1e6

    # What must change

    def problems(self) -> list[str]:
        """One line for each run that its GPU can not hold, and one if the disk can not hold them all."""
        return [self.explained(row) for row in self.rows if row.memory.total > self.limit] + self.shortage()

    def explained(self, row: Row) -> str:
        """How much a run needs, and changes that make it fit; or the GPU that it needs, without them and with them."""
        told = f"{row.spec['name']}: needs {_size(row.memory.total)} of {_size(self.limit)}"
        if row.memory.entities > self.limit:
            told += f", {_size(row.memory.entities)} for its vectors of entities"
        spec, gpus, least, changes = row.spec, row.gpus, row.memory.total, {}
        for change, changed, count in self.trials(row):
            total = self.needed(changed(spec), max(gpus, count)).total
            if total < 0.98 * least:
                spec, gpus, least = changed(spec), max(gpus, count), total
                changes |= change
            if least <= self.limit:
                break
        listed = ", ".join(f"{key}: {str(value).lower()}" for key, value in changes.items())
        if least <= self.limit:
            return f"{told}; set {listed} ({_size(least)})"
        with_them = f" or, with {listed}, of {_size(least)}" if listed else ""
        given = "a GPU (card)" if self.gpus else "main memory (resources.train.mem_mb)"
        return f"{told}; it needs {given} of {_size(row.memory.total)}{with_them}"

    def trials(self, row: Row) -> Iterator[tuple]:
        """Changes that the run's method knows: as key and value, as a function of its specification, and the GPUs."""
        known = configuration.method_options(row.spec["method"])
        for section, key, value in REMEDIES:
            if section == "resources":
                if row.spec["training"]["epochs"] and self.gpus:
                    yield {"resources.train.gpu": value}, lambda spec: spec, value
                continue
            choices = known[key].choices if key in known else ()
            if section == "training" or (key in known and (not choices or value in choices)):
                yield {key: value}, lambda spec, s=section, k=key, v=value: {**spec, s: {**spec[s], k: v}}, 0

    def warnings(self) -> list[str]:
        """What ends no run at once: sizes not known, jobs that outlast their time or outgrow their main memory."""
        told = [f"not planned: {line}" for line in self.unknown]
        shards = {name: about["shards"] for name, about in self.spec["runs"].items()}
        told += self.late("train", {row.spec["name"]: row.hours.training for row in self.rows}, self.asked("runtime"))
        encoding = {row.spec["name"]: row.hours.encoding / shards[row.spec["name"]] for row in self.rows}
        told += self.late("encode", encoding, dict.fromkeys(encoding, self.resources["encode"]["runtime"]))
        given = self.asked("mem_mb")
        host = {row.spec["name"]: self.host(row) / 1e6 for row in self.rows if self.gpus}
        large = [f"{name} ({needed:,.0f})" for name, needed in host.items() if needed > given[name]]
        if large:
            told.append(f"resources.train.mem_mb is too little; main memory in MB: {', '.join(large)}")
        return told

    def asked(self, what: str) -> dict[str, int]:
        """What the training of each run asks for."""
        return {name: about["resources"][what] for name, about in self.spec["runs"].items()}

    def late(self, kind: str, hours: dict[str, float], minutes: dict[str, int]) -> list[str]:
        """Lines on jobs whose hours are more than the minutes that they are given."""
        given = {name: minutes[name] / 60 for name in hours}
        lost = {name for name in hours if hours[name] > ATTEMPTS * given[name]}
        later = {name for name in hours if hours[name] > given[name]} - lost
        lines = []
        for names, what in ((later, "done by retries that go on"), (lost, "more than two retries have")):
            if names:
                told = {name: f"{name} ({hours[name]:,.0f} of {given[name]:.0f} h)" for name in hours}
                listed = ", ".join(told[name] for name in hours if name in names)
                lines.append(f"resources.{kind}.runtime; {what}: {listed}")
        return lines

    def host(self, row: Row) -> float:
        """Main memory of a job on a node: the model before it goes to the GPU, the graph with its texts, libraries."""
        graph, kind = self.dataset(row.spec["dataset"]), row.spec["parameters"].get("base_weights", "float32")
        words = min(graph.text("name_and_description").mean / work.TOKENS_PER_WORD, cost.LONG)
        own = row.size.whole * max(memory.BYTES[kind], 2) + 150 * graph.train + 12 * graph.entities * words
        nodes = self.spec["runs"][row.spec["name"]]["resources"].get("nodes", 1)
        return (own + HOST) * max(row.gpus // nodes, 1)

    # Disk

    def disk(self) -> dict[str, int]:
        """Bytes by what they are for; checkpoints: while all runs train at once."""
        specs = [row.spec for row in self.rows]
        models = [self.model(name) for name in {spec["model"] for spec in specs} - {configuration.NO_MODEL}]
        graphs = [self.dataset(name) for name in {spec["dataset"] for spec in specs}]
        return {
            "models": sum(map(cost.model_disk, models)),
            "graphs": sum(map(cost.graph_disk, graphs)),
            "runs": sum(row.disk.kept for row in self.rows),
            "checkpoints": sum(row.disk.checkpoints for row in self.rows),
        }

    def shortage(self) -> list[str]:
        """One line where the disk has less room than what is still to come, even if one run trains at a time."""
        present = self.folder.absolute()
        there = sum(file.stat().st_size for file in present.rglob("*") if file.is_file())
        while not present.exists():
            present = present.parent
        kept = sum(self.disk().values()) - self.disk()["checkpoints"]
        needed = kept + max((row.disk.checkpoints for row in self.rows), default=0) - there
        free = shutil.disk_usage(present).free
        told = f"{self.folder}: {free / GB:,.0f} GB are free and {needed / GB:,.0f} GB are needed"
        return [f"{told}; free some, or set `results` to a folder on another disk"] * (needed > free)

    # Print

    def text(self) -> str:
        """The whole table, with sums and the formulas' sources."""
        rows = [HEAD, *map(_cells, self.rows), _sums(self.rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        lines = [_line(row, widths) for row in rows]
        rule = "-" * len(lines[0])
        disk = ", ".join(f"{name} {size / GB:,.1f}" for name, size in self.disk().items())
        table = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        return "\n".join([self.given(), "", *table, "", f"GB of disk: {disk}", "", NOTES, ""])

    def given(self) -> str:
        """One line on what a training job gets."""
        own = f"{self.device.operations / 1e12:g} TFLOPS at its peak, {cost.SHARE:.0%} of it expected"
        if self.gpus:
            return f"A training job has {self.gpus} × {self.device.name}, each {_size(self.limit)}, {own}."
        threads = self.resources["train"]["threads"]
        return (
            f"A training job has {threads} × CPU thread, {_size(self.limit)}, {self.device.operations / 1e9:g} GFLOPS."
        )


def _cells(row: Row) -> list[str]:
    m = row.memory
    parts = (m.weights, m.gradients, m.optimiser, m.entities, max(m.activations, m.encoding), m.logits, m.total)
    counts = (f"{count / 1e6:,.2f} M" for count in (row.size.whole, row.size.trained))
    hours = (f"{value:.2g}" if value < 10 else f"{value:,.0f}" for value in row.hours)
    return [row.spec["name"], *counts, *map(_size, parts), *hours, f"{row.disk.kept / GB:.2g}"]


def _sums(rows: list[Row]) -> list[str]:
    trained = sum(row.hours.training * max(row.gpus, 1) for row in rows)
    sums = trained, sum(row.hours.encoding for row in rows), sum(row.disk.kept for row in rows) / GB
    most = max((row.memory.total for row in rows), default=0)
    return [f"{len(rows)} runs", *[""] * 8, _size(most), *(f"{value:,.3g}" for value in sums)]


def _line(cells: list[str], widths: list[int]) -> str:
    return "  ".join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])


def _size(count: float) -> str:
    """Bytes in GiB, small ones in MiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB / 2 else f"{count / (1 << 20):.0f} MiB"


def plan(configfile: list[Path] = (Path("config.yaml"),)) -> None:
    """Print what the runs of `build` need: parameters, GPU memory, hours, disk; InputError where something is missing.

    configfile: config.yaml and its overlays. Lines on standard error say what to change.
    """
    made = _plan(configuration.read(*configfile))
    print(made.text())
    _judge(made)


def check(configfile: list[Path] = (Path("config.yaml"),)) -> None:
    """What the workflow asks before its first job: is each gated model granted, does every run fit, and the disk?

    As `plan`, but the table goes to <results>/<scale>/plan.txt. InputError as well where the hub refuses a model.
    """
    config = configuration.read(*configfile)
    folder = Path(config["results"]) / config["scale"]
    check_access({name: config["models"][name] for name in configuration.built_models(config)}, folder / "models")
    check_options(config)
    made = _plan(config)
    with atomic_file(folder / "plan.txt") as temporary:
        temporary.write_text(made.text(), "utf-8")
    _judge(made, missing_packages(config))


def check_options(config: dict) -> None:
    """InputError for options of runs or analyses of `build` that do not go together, which only their code can tell."""
    for name in configuration.built_runs(config):
        spec = completed(configuration.run_spec(config, name), f"config: runs.{name}")
        if spec["training"]["epochs"]:
            method_class(spec["method"]).check_training(Training.of(spec["training"]))
        for analysis in configuration.ANALYSES:
            module = importlib.import_module(STAGES[analysis].partition(":")[0])
            choose_options(configuration.analysis_spec(config, analysis, name), module.Parameters)


def _plan(config: dict) -> Plan:
    runs = [configuration.run_spec(config, name) for name in configuration.built_runs(config)]
    return Plan(configuration.plan_spec(config), runs)


def missing_packages(config: dict) -> list[str]:
    """One line for each tracker, and each run of `build`, that needs a package which is not installed here."""
    lines = [
        f"report_to: the tracker {name} is not installed; pip install {name}, or leave it out"
        for name in config.get("report_to", [])
        if importlib.util.find_spec(name) is None
    ]
    specs = [configuration.run_spec(config, name) for name in configuration.built_runs(config)]
    eight_bits = [spec["name"] for spec in specs if spec["parameters"].get("base_weights") == "int8"]
    if importlib.util.find_spec("bitsandbytes") is not None:
        return lines
    remedy = "install it where the jobs run (pip install bitsandbytes), or set base_weights: bfloat16"
    return lines + [f"{name}: 8-bit base weights need the package bitsandbytes; {remedy}" for name in eight_bits]


def _judge(made: Plan, further: Sequence[str] = ()) -> None:
    for line in made.warnings():
        print(f"note: {line}")
    sys.stdout.flush()
    problems = [*made.problems(), *further]
    for line in problems:
        print(line, file=sys.stderr)
    if problems:
        raise InputError(f"{len(problems)} needs are not met", remedy="change what the lines above say")

"""A card for each run: what it was told, what it cost, what it measured, and how it learnt."""

import base64
import importlib.resources
import io
import json
from pathlib import Path
from typing import NamedTuple

from matplotlib import style
from matplotlib.figure import Figure

from kglm.files import read_json
from kglm.paper.inputs import find, run_file, run_spec_file
from kglm.paper.results import run_json
from kglm.paper.text import one_line
from kglm.report.grids import Cell, Column, Grid

# Metrics of the test split, both directions, and their decimals.
_METRICS = {"MRR": 3, "Hits@1": 3, "Hits@3": 3, "Hits@10": 3, "MR": 2}
_USUAL = {"", "filtered"}  # figures of any other protocol are compared with none


class Card(NamedTuple):
    """One run, as texts; `curves` is an SVG file in base64, "" where nothing was trained."""

    name: str
    facts: list[tuple[str, str]]
    cost: list[tuple[str, str]]
    results: list[tuple[str, str]]
    options: list[tuple[str, list[tuple[str, str]]]]
    curves: str
    told: str  # what the curves show, in words
    protocol: str  # "" for the usual one


def cards(runs: list[Path]) -> tuple[Grid, list[Card]]:
    """All runs as one table, and a card for each; `runs` are files specs/run/<run>.json and runs/<run>/*."""
    names = [Path(path).stem for path in runs if Path(path).parts[-3:-1] == ("specs", "run")]
    read = [_Run(name, runs) for name in sorted(set(names))]
    return _grid(read), [run.card() for run in read]


class _Run:
    """What the files of one run say."""

    def __init__(self, name: str, inputs: list[Path]):
        self.name = name
        self.spec = read_json(find(inputs, run_spec_file(name)))
        self.made = run_json(inputs, name, "run.json") or {}
        ranked = run_json(inputs, name, "metrics.json") or {}
        classified = run_json(inputs, name, "classification.json") or {}
        self.protocol = ranked.get("protocol", "")
        self.metrics = ranked.get("metrics", {}).get("test", {}).get("both", {})
        self.accuracy = classified.get("thresholds", {}).get("global", {}).get("test", {}).get("accuracy")
        log = find(inputs, run_file(name, "log.jsonl"))
        self.log = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log else []

    def card(self) -> Card:
        loss, criterion, valid = self._losses(), *self._validations()
        return Card(
            self.name,
            self._facts(),
            self._cost(),
            self._results(),
            _options(self.spec),
            _drawn(loss, criterion, valid) if loss or valid else "",
            _told(loss, criterion, valid),
            "" if self.protocol in _USUAL else self.protocol,
        )

    def _facts(self) -> list[tuple[str, str]]:
        facts = [(key, _text(self.spec.get(key))) for key in ("method", "dataset", "model", "seed")]
        facts += [("protocol", self.protocol)] if self.protocol else []
        best = self.made.get("best")
        chosen = f"epoch {best['epoch']:g}, step {best['step']:,}" if best else ""
        return [*facts, *([("chosen on valid", chosen)] if chosen else [])]

    def _cost(self) -> list[tuple[str, str]]:
        if not self.made:
            return [("training", "none: it takes the weights of another run")]
        cost = [
            ("wall time", _duration(self.made["wall_seconds"])),
            ("tokens a second", _rate(self.made.get("tokens_per_second"))),
            ("energy", _energy(self.made.get("energy_joules"))),
            ("peak memory", _memory(self.made["peak_memory_mib"])),
            ("peak GPU memory", _memory(self.made["peak_gpu_memory_mib"])),
            ("hardware", _text(self.made["hardware"])),
            ("processes × threads", f"{self.made['processes']} × {self.made['threads']}"),
            ("trained parameters", f"{self.made['trained_parameters']:,}"),
            ("packages", ", ".join(f"{name} {version}" for name, version in self.made["packages"].items())),
            ("commit", _commit(self.made["commit"])),
        ]
        return [(name, text) for name, text in cost if text]

    def _results(self) -> list[tuple[str, str]]:
        intervals = self.metrics.get("confidence", {})
        found = []
        for metric, decimals in _METRICS.items():
            if metric in self.metrics:
                ends = intervals.get(metric)
                interval = f" [{ends[0]:.{decimals}f}, {ends[1]:.{decimals}f}]" if ends else ""
                found.append((metric, f"{self.metrics[metric]:.{decimals}f}{interval}"))
        return found + ([("accuracy", f"{self.accuracy:.3f}")] if self.accuracy is not None else [])

    def _losses(self) -> list[tuple[float, float]]:
        return [(row["epoch"], row["loss"]) for row in self.log if "loss" in row]

    def _validations(self) -> tuple[str, list[tuple[float, float]]]:
        """The metric that chose the weights, and (epoch, value) of each validation."""
        rows = [row for row in self.log if row.get("valid")]
        measured = rows[0]["valid"] if rows else {}
        wanted = [metric for metric in ("MRR", "accuracy", *measured) if metric in measured]
        criterion = wanted[0] if wanted else ""
        return criterion, [(row["epoch"], row["valid"][criterion]) for row in rows]

    def line(self) -> list[Cell]:
        """The run in the table of all."""
        numbers = [(self.metrics.get(metric), f".{decimals}f") for metric, decimals in _METRICS.items()]
        numbers += [(self.accuracy, ".3f"), (self.made.get("trained_parameters"), ",")]
        numbers += [(self.made.get("wall_seconds"), ",.1f"), (self.made.get("peak_memory_mib"), ",")]
        texts = [Cell(_text(self.spec.get(key))) for key in ("method", "dataset", "model")]
        return [
            Cell("", runs=(self.name,)),
            *texts,
            Cell(self.protocol),
            *(Cell("", "") if value is None else Cell(format(value, how), float(value)) for value, how in numbers),
        ]


def _grid(runs: list[_Run]) -> Grid:
    columns = [Column("Run"), *(Column(title, "choice") for title in ("Method", "Dataset", "Base model", "Protocol"))]
    columns += [Column(metric, "number", "Test, both directions") for metric in _METRICS]
    columns += [Column("Accuracy", "number", "Classification"), Column("Trained parameters", "number", "Cost")]
    columns += [Column("Seconds", "number", "Cost"), Column("Peak MiB", "number", "Cost")]
    return Grid("runs", "All runs", [], columns, [run.line() for run in runs])


def _options(spec: dict) -> list[tuple[str, list[tuple[str, str]]]]:
    """The resolved configuration by section; what stands in no section comes first."""
    plain = [(key, _text(value)) for key, value in spec.items() if not isinstance(value, dict)]
    sections = [
        (key, [(name, _text(option)) for name, option in value.items()])
        for key, value in spec.items()
        if isinstance(value, dict)
    ]
    return [("run", plain), *sections]


def _text(value: object) -> str:
    if value is None:
        return ""
    return one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _commit(name: str | None) -> str:
    """The first digits of a commit, with "+" where the tree was changed."""
    return "" if name is None else name[:12] + "+" * name.endswith("+")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _memory(mebibytes: int | None) -> str:
    return "" if mebibytes is None else f"{mebibytes:,} MiB"


def _rate(tokens: float | None) -> str:
    return "" if tokens is None else f"{tokens:,.0f}"


def _energy(joules: float | None) -> str:
    return "" if joules is None else f"{joules / 3600:,.1f} Wh"


def _told(loss: list, criterion: str, valid: list) -> str:
    parts = [f"training loss from {loss[0][1]:.3g} to {loss[-1][1]:.3g}"] if loss else []
    parts += [f"{criterion} on valid from {valid[0][1]:.3f} to {valid[-1][1]:.3f}"] if valid else []
    return f"{'; '.join(parts)}, by training epoch" if parts else ""


def _drawn(loss: list, criterion: str, valid: list) -> str:
    """Both curves as an SVG file in base64: the same bytes for the same log."""
    look = importlib.resources.files("kglm.paper") / "kglm.mplstyle"
    with (
        importlib.resources.as_file(look) as path,
        style.context([path, {"svg.hashsalt": "kglm", "svg.fonttype": "none"}]),
    ):
        figure = Figure(figsize=(6.4, 2.0))
        shown = [(loss, "training loss", "C0", "")] * bool(loss)
        shown += [(valid, f"{criterion} on valid", "C5", "o")] * bool(valid)
        for axis, (points, label, colour, marker) in zip(
            figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True
        ):
            axis.plot(*zip(*points, strict=True), color=colour, marker=marker if len(points) > 1 else "o", markersize=3)
            axis.set(xlabel="epoch", ylabel=label)
            axis.update_datalim([(points[0][0], 0)])
            axis.autoscale_view()
            axis.xaxis.get_major_locator().set_params(integer=True)
        with io.BytesIO() as stream:
            figure.savefig(stream, format="svg", metadata={"Date": None})
            return base64.b64encode(stream.getvalue()).decode()

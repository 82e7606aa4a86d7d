"""What each kind of figure draws: functions fill a figure and return the facts that its caption tells."""

import textwrap
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kglm.artefacts import read_tensors
from kglm.errors import InputError
from kglm.paper import quotations
from kglm.paper.inputs import find, run_file
from kglm.paper.reported import reported
from kglm.paper.results import NO_MODEL, PERPLEXITIES, intervals, models, run_json

PAGE_WIDTH = 6.5  # inches, of paper.tex
MARKERS = "os^DvPX"  # of a chart's series, one after another
# Of a panel's bars.
_METRICS = {"kgqa": [f"accuracy/{task}" for task in quotations.TASKS], "perplexity": ["PPL"], "mmlu": ["MMLU"]}


def similarity(spec: dict, inputs: list[Path], figure: Figure) -> list[str]:
    """Matrices of cosine similarities side by side, all on one colour scale: darker is more similar."""
    matrices, results = _matrices(spec, inputs)
    figure.set_size_inches(PAGE_WIDTH, 3.3)
    axes = figure.subplots(1, len(spec["panels"]), squeeze=False)[0]
    low = min([float(matrix.min()) for matrix in matrices.values()], default=0.0)
    for column, (panel, axis) in enumerate(zip(spec["panels"], axes, strict=True)):
        axis.set_title(f"({chr(97 + column)}) {panel['label']}")
        if panel["run"] not in matrices:
            not_run(axis, panel["run"])
            continue
        sns.heatmap(
            matrices[panel["run"]],
            ax=axis,
            vmin=low,
            vmax=1.0,
            cmap="Blues",
            square=True,
            rasterized=True,
            xticklabels=False,
            yticklabels=False,
            cbar=column == len(axes) - 1,
            cbar_kws={"label": "cosine similarity", "shrink": 0.75},
        )
        names = [entity["name"] or entity["id"] for entity in results[panel["run"]]["entities"]]
        _ticks(axis, len(matrices[panel["run"]]), names if spec["matrix"] == "entities" else None, column == 0)
        axis.set_xlabel(spec["axes"][0])
        axis.set_ylabel(spec["axes"][1] if column == 0 else "")
    sizes = sorted({len(matrix) for matrix in matrices.values()})
    corpus = {result["corpus"] for result in results.values()} if spec["matrix"] == "sentences" else set()
    return facts_of(results.values(), " and ".join(map(str, sizes)), corpus)


def _ticks(axis: Axes, size: int, names: list[str] | None, first: bool) -> None:
    """Names at every row and column (rows in the first panel alone), or each fifth number, counted from 1."""
    if names is None:
        places = list(range(4, size, 5)) or list(range(size))
        labels = [str(place + 1) for place in places]
    else:
        places, labels = list(range(size)), [_clip(name) for name in names]
    middles = [place + 0.5 for place in places]
    axis.set_xticks(middles, labels, rotation=0 if names is None else 90)
    axis.set_yticks(middles, labels if first or names is None else [""] * len(labels), rotation=0)


def _matrices(spec: dict, inputs: list[Path]) -> tuple[dict, dict]:
    matrices, results = {}, {}
    for run in dict.fromkeys(panel["run"] for panel in spec["panels"]):
        path = find(inputs, run_file(run, "similarity.safetensors"))
        labels = run_json(inputs, run, "similarity.json")
        if path and labels and labels[spec["matrix"]]:
            matrices[run], results[run] = read_tensors(path)[spec["matrix"]], labels
    return matrices, results


def bars(spec: dict, inputs: list[Path], figure: Figure) -> list[str]:
    """Grouped bars, one panel an analysis, with confidence bars; a diamond is the reported number."""
    panels = spec["panels"]
    # The panel of the four tasks is as wide as four of the others.
    widths = [4.0 if panel["analysis"] == "kgqa" else 1.4 for panel in panels]
    figure.set_size_inches(PAGE_WIDTH, 2.9)
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    results, facts = {}, []
    for panel, axis in zip(panels, axes, strict=True):
        groups, label, read = _measured(panel, spec)
        heights = [0.0]
        for column, series in enumerate(spec["series"]):
            result = run_json(inputs, series["run"], f"{panel['analysis']}.json")
            results |= {series["run"]: result} if result else {}
            places = [x + (column - (len(spec["series"]) - 1) / 2) * 0.38 for x in range(len(groups))]
            values = read(result) if result else [None] * len(groups)
            heights += _bars(axis, places, values, series["label"], f"C{column}")
            heights += _diamonds(axis, places, _reported_bars(series, panel))
        heights += _floors(axis, panel, results)
        axis.set_xticks(range(len(groups)), [textwrap.fill(group, 12, break_long_words=False) for group in groups])
        axis.set_ylabel(label)
        axis.set_title(panel["title"])
        axis.set_ylim(0, 1.18 * max(heights) or 1)
        facts += _questions(panel, spec, results)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    missing = [series["label"] for series in spec["series"] if series["run"] not in results]
    return facts_of(results.values(), "") + facts + ([f"Not run: {', '.join(missing)}."] if missing else [])


def _measured(panel: dict, spec: dict) -> tuple[list[str], str, Callable[[dict], list]]:
    """A panel's groups, its axis' label, and how to read (value, low, high) of each group from a result."""
    groups = {"kgqa": list(quotations.TASKS.values())}.get(panel["analysis"], [""])
    perplexity = panel.get("perplexity", PERPLEXITIES[0])
    options = {"perplexity": perplexity} | ({"setting": spec["setting"]} if "setting" in spec else {})
    percent = panel["analysis"] != "perplexity"
    label = "accuracy (%) ↑" if percent else f"perplexity per {perplexity.split('_')[0]} ↓"

    def read(result: dict) -> list[tuple | None]:
        metrics = _METRICS[panel["analysis"]]
        values = intervals(result, metrics[0], options)
        return [_scaled(values[metric], percent) if metric in values else None for metric in metrics]

    return groups, label, read


def _scaled(values: tuple, percent: bool) -> tuple:
    return tuple(100 * value if percent and value is not None else value for value in values)


def _bars(axis: Axes, places: list[float], values: list, label: str, color: str) -> list[float]:
    """Draw the bars that are known, each with its number above; returns how high they and intervals reach."""
    known = [(place, *value) for place, value in zip(places, values, strict=True) if value]
    if not known:
        return []
    axis.bar([place for place, *_ in known], [value for _, value, *_ in known], 0.36, label=label, color=color)
    tops = []
    for place, value, low, high in known:
        if low is not None:
            axis.errorbar(place, value, [[value - low], [high - value]], color="0.2", linewidth=1, capsize=2)
        tops.append(value if high is None else high)
        axis.annotate(f"{value:.1f}", (place, tops[-1]), (0, 2), textcoords="offset points", ha="center", fontsize=6.5)
    return tops


def _reported_bars(series: dict, panel: dict) -> list:
    """What the paper reports for the groups of a panel, None where it reports nothing."""
    about = _reported(series.get("reported"))
    return [about.get(metric) for metric in _METRICS[panel["analysis"]]]


def _diamonds(axis: Axes, places: list[float], values: list) -> list[float]:
    known = [(place, value) for place, value in zip(places, values, strict=True) if value is not None]
    if known:
        label = None if "reported" in axis.get_legend_handles_labels()[1] else "reported"
        axis.scatter(
            *zip(*known, strict=True),
            marker="D",
            s=22,
            zorder=4,
            label=label,
            facecolor="white",
            edgecolor="black",
        )
    return [value for _, value in known]


def _floors(axis: Axes, panel: dict, results: dict) -> list[float]:
    """A dash across each task of question answering: what counting in train gets right of the questions."""
    floors = [result["floors"] for result in results.values() if "floors" in result]
    if panel["analysis"] != "kgqa" or not floors:
        return []
    shares = [floors[0].get(task, {}).get("accuracy") for task in quotations.TASKS]
    known = [(place, 100 * share) for place, share in enumerate(shares) if share is not None]
    for number, (place, value) in enumerate(known):
        label = None if number else "counted in train"
        axis.hlines(value, place - 0.42, place + 0.42, "0.2", linestyles="dashed", linewidth=1, zorder=3, label=label)
    return [value for _, value in known]


_FLOOR = (
    "Dashes: what counting in train gets right: the entity most often at that end of the relation, the most common "
    "relation, a triple being true if train has its relation with its tail."
)
_CLAIMS = (
    "Triple classification asks about half of these test triples twice: as they are, and with a tail drawn uniformly "
    "from all entities that make them true in no split."
)


def _about_kgqa(result: dict) -> list[str]:
    return [_CLAIMS] * ("classification" in result["tasks"]) + [_FLOOR] * ("floors" in result)


def _reported(row: dict | None) -> dict[str, float]:
    """The numbers of one row of reported.csv by metric; InputError where it holds no such row."""
    if row is None:
        return {}
    numbers = reported()
    keys = ("paper", "table", "dataset", "method")
    fits = numbers[(numbers[list(keys)] == [row[key] for key in keys]).all(axis=1)]
    if not len(fits):
        raise InputError(f"reports nothing on {' / '.join(row[key] for key in keys)}", "reported.csv")
    return dict(zip(fits["metric"], fits["number"], strict=True))


def _questions(panel: dict, spec: dict, results: dict) -> list[str]:
    counts, about, shots = set(), [], None
    for result in results.values():
        if panel["analysis"] == "kgqa" and "tasks" in result:
            counts |= {
                task[spec["setting"]]["questions"] for task in result["tasks"].values() if spec["setting"] in task
            }
            about = max(about, _about_kgqa(result), key=len)
        elif panel["analysis"] == "mmlu" and "questions" in result:
            counts.add(result["questions"])
            shots = result.get("options", {}).get("shots")
        elif panel["analysis"] == "perplexity" and "tokens" in result:
            context = f", context of {result['context']:,}" if "context" in result else ""
            return [f"{panel['title']}: {result['corpus']}, n = {result['tokens']:,} tokens{context}."]
    many = " or ".join(f"{count:,}" for count in sorted(counts))
    how = f", {spec['setting'].replace('_', '-')}" if panel["analysis"] == "kgqa" else ""
    how += f", {shots} worked examples before each" if shots else ""
    facts = [f"{panel['title']}{how}: n = {many} questions, bars are 95 % intervals."] if counts else []
    return facts + about


def lines(spec: dict, inputs: list[Path], figure: Figure) -> list[str]:
    """Anisotropy over layers or epochs, one line a run; hollow: the paper's numbers, each at its layer or epoch."""
    figure.set_size_inches(0.75 * PAGE_WIDTH, 3.2)
    axis = figure.subplots()
    results, last = {}, 0
    for column, series in enumerate(spec["series"]):
        result = run_json(inputs, series["run"], "anisotropy.json")
        points = _points(result, spec["over"]) if result else []
        if points:
            results[series["label"]] = result
            last = max(last, points[-1][0])
            style = {"marker": MARKERS[column % len(MARKERS)], "color": f"C{column}"}
            axis.plot(*zip(*points, strict=True), label=series["label"], **style)
    if results:
        _reported_points(axis, spec, last)
    axis.set_xlabel({"layers": "layer", "epochs": "training epoch"}[spec["over"]])
    axis.set_ylabel("anisotropy (mean cosine similarity)")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_ylim(top=1.0, bottom=min(0.0, axis.get_ylim()[0]))
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    missing = [series["label"] for series in spec["series"] if series["label"] not in results]
    sentences = " or ".join(sorted({f"{result['sentences']:,}" for result in results.values()}))
    facts = facts_of(results.values(), f"{sentences} sentences", {result["corpus"] for result in results.values()})
    return facts + ([f"Not run: {', '.join(missing)}."] if missing else [])


def _reported_points(axis: Axes, spec: dict, last: int) -> None:
    """The paper's numbers at the layer or epoch `at`; below 0 it counts from our last one (-1)."""
    labels = [series["label"] for series in spec["series"]]
    named = set()
    for row in spec.get("reported", []):
        place = row["at"] if row["at"] >= 0 else max(0, last + 1 + row["at"])
        color = f"C{labels.index(row['series'])}" if row.get("series") in labels else "black"
        label = None if row["label"] in named else row["label"]
        named.add(row["label"])
        value = _reported(row)["anisotropy"]
        axis.scatter(place, value, marker="D", s=26, zorder=4, facecolor="white", edgecolor=color, label=label)


def _points(result: dict, over: str) -> list[tuple[int, float]]:
    if over == "layers":
        return list(enumerate(result["layers"]))
    return [(point["epoch"], point["value"]) for point in result["epochs"]]


def cases(spec: dict, inputs: list[Path], figure: Figure) -> list[str]:
    """Questions and answers as a drawn table; in paper.tex the table of the same name takes its place."""
    return _quotation(figure, quotations.cases(spec, inputs))


def entities(spec: dict, inputs: list[Path], figure: Figure) -> list[str]:
    """Names and descriptions as a drawn table; in paper.tex the table of the same name takes its place."""
    return _quotation(figure, quotations.entities(spec, inputs))


# Of a right and a wrong answer.
_COLOURS = {quotations.RIGHT: "#006b3d", quotations.WRONG: "#b81a1a"}


def _quotation(figure: Figure, content: quotations.Quotation) -> list[str]:
    """The texts as a table: titles above their columns, a line below each row, answers by whether they are right."""
    shares = {2: [22, 124]}.get(len(content.header)) or [146 // len(content.header)] * len(content.header)
    if content.groups:
        answers = len(content.header) - 2
        shares = [14, 44, *[88 // max(1, answers)] * answers]
    spans = [(title, len(list(of))) for title, of in groupby(content.groups)]
    starts = [sum(size for _, size in spans[:n]) for n in range(len(spans))]
    above = [
        (sum(shares[:start]), textwrap.wrap(title, sum(shares[start : start + size])))
        for start, (title, size) in zip(starts, spans, strict=True)
        if title
    ]
    rows = [
        [(sum(shares[:n]), textwrap.wrap(cell, shares[n])) for n, cell in enumerate(row)]
        for row in [content.header, *content.rows]
    ]
    rows = [above] * bool(above) + rows
    heights = [0.7 + max(1, *(len(wrapped) for _, wrapped in row)) for row in rows]
    figure.set_size_inches(1.5 * PAGE_WIDTH, 0.165 * sum(heights) + 0.2)
    axis = figure.subplots()
    axis.set(xlim=(0, sum(shares)), ylim=(sum(heights), 0))
    axis.set_axis_off()
    titles, top = len(rows) - len(content.rows), 0.0
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for left, wrapped in row:
            color = _COLOURS.get(wrapped[-1][-1], "black") if wrapped else "black"
            for depth, line in enumerate(wrapped):
                style = {"fontsize": 8, "weight": "bold" if number < titles else "normal", "color": color}
                axis.text(left + 0.5, top + 1.05 + depth, line, va="baseline", **style)
        top += height
        if number >= titles - 1:
            axis.axhline(top, color="0.1" if number < titles else "0.8", linewidth=0.8)
    return content.notes


def facts_of(results, count: str, corpora: set[str] = frozenset()) -> list[str]:
    """Dataset, model, corpus and n of the runs that a figure shows."""
    results = list(results)
    if not results:
        return []
    datasets = ", ".join(sorted({result["dataset"] for result in results}))
    named = {result["model"] for result in results}
    some = " (of the text-based methods)" if NO_MODEL in named and len(named) > 1 else ""
    facts = [f"dataset: {datasets}", f"model: {models(named)}{some}"]
    facts += [f"corpus: {', '.join(sorted(corpora))}"] if corpora else []
    facts += [f"n = {count}"] if count else []
    text = "; ".join(facts)
    return [f"{text[0].upper()}{text[1:]}."]


def not_run(axis: Axes, run: str) -> None:
    axis.text(0.5, 0.5, f"{run}\nnot run", ha="center", va="center")
    axis.set_axis_off()


def _clip(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"

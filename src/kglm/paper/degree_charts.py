"""Figures by the degree of entities: how many there are of each, and how well their triples are predicted."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kglm.errors import InputError
from kglm.files import read_json
from kglm.paper.charts import MARKERS, PAGE_WIDTH, facts_of, not_run
from kglm.paper.inputs import find, statistics_file
from kglm.paper.reported import DEGREES, reported
from kglm.paper.results import run_json

_GROUP = "either_degree/"
_TOP = 1.04  # of an axis of shares: a marker at 1 is seen whole
_MEANING = (
    "Groups: entities with a degree from the number given to below the next, degrees being counted in train; a triple "
    "is relevant to the groups of both its entities"
)


def degrees(spec: dict, inputs: list[Path], figure: Figure) -> list[str]:
    """Entities of each degree, the test triples that touch them, and how a run predicts these (LMKE's Figure 1)."""
    figure.set_size_inches(PAGE_WIDTH, 2.6)
    entity_axis, triple_axis, result_axis = figure.subplots(1, 3)
    path = find(inputs, statistics_file(spec["dataset"]))
    counts = read_json(path) if path else {}
    entities = counts.get("degree_groups", {})
    result = run_json(inputs, spec["run"], "metrics.json")
    found = _by_degree(result, spec) if result else {}
    names = sorted({*entities, *found}, key=_lowest)
    _count_bars(entity_axis, "(a) entities", names, [entities.get(name, 0) for name in names])
    if not result:
        not_run(triple_axis, spec["run"])
        not_run(result_axis, spec["run"])
        return [*_shares(counts, spec["dataset"]), f"Not run: {spec['label']}."]
    _count_bars(triple_axis, "(b) relevant test triples", names, [_triples(found.get(name)) for name in names], "C4")
    for column, metric in enumerate(spec["metrics"]):
        _line(result_axis, names, found, metric, metric, column, 0.0)
    _degree_axis(result_axis, names)
    result_axis.set_title(f"(c) {spec['label']}")
    result_axis.set_ylim(0, _TOP)
    result_axis.legend(loc="best", handlelength=1.5)
    return [
        *facts_of([result], f"{result['metrics']['test']['both']['queries'] // 2:,} test triples"),
        *_shares(counts, spec["dataset"]),
        f"{_MEANING}. Bars in (c): 95 % intervals.",
    ]


def groups(spec: dict, inputs: list[Path], figure: Figure) -> list[str]:
    """One panel a metric: its value by the degree of the entities, one line a run (LMKE's Figure 4)."""
    figure.set_size_inches(PAGE_WIDTH, 3.3)
    axes = figure.subplots(1, len(spec["metrics"]), squeeze=False)[0]
    results = {series["label"]: run_json(inputs, series["run"], "metrics.json") for series in spec["series"]}
    found = {label: _by_degree(result, spec) for label, result in results.items() if result}
    names = sorted({name for of_run in found.values() for name in of_run}, key=_lowest)
    for column, (metric, axis) in enumerate(zip(spec["metrics"], axes, strict=True)):
        for place, (label, of_run) in enumerate(found.items()):
            # Lines stand a little apart, so that their intervals can be told apart.
            _line(axis, names, of_run, metric, label, place, 0.08 * (place - (len(found) - 1) / 2))
        axis.set_title(f"({chr(97 + column)}) {metric} ↑")
        axis.set_ylim(0, _TOP)
        _degree_axis(axis, names)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))
    missing = [label for label, result in results.items() if not result]
    ran = [result for result in results.values() if result]
    triples = " or ".join(sorted({f"{result['metrics']['test']['both']['queries'] // 2:,}" for result in ran}))
    facts = [*facts_of(ran, f"{triples} test triples"), f"{_MEANING}. Bars: 95 % intervals."] if ran else []
    return facts + ([f"Not run: {', '.join(missing)}."] if missing else [])


def _by_degree(result: dict, spec: dict) -> dict[str, dict]:
    """Degree group -> its metrics."""
    test = result["metrics"]["test"]
    found = {name.removeprefix(_GROUP): value for name, value in test.items() if name.startswith(_GROUP)}
    if not found:
        raise InputError(f"metrics.json has no groups {_GROUP}…", result["run"], "run the stage evaluate again")
    for metric in spec["metrics"]:
        if metric not in next(iter(found.values())):
            raise InputError(f"the run {result['run']} has no {metric}", spec["name"], "choose another metric")
    return found


def _lowest(name: str) -> int:
    return int(name.partition("-")[0])


def _triples(group: dict | None) -> int:
    """Each triple is asked for in both directions."""
    return group["queries"] // 2 if group else 0


def _count_bars(axis: Axes, title: str, names: list[str], counts: list[int], color: str = "C0") -> None:
    """Bars on a logarithmic scale: few entities have very many triples."""
    axis.bar(range(len(names)), counts, color=color)
    if any(counts):
        axis.set_yscale("log")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")  # not as a power: no text is read as mathematics
    axis.set_ylim(0.7, 2 * max([1, *counts]))
    axis.set_title(title)
    _degree_axis(axis, names)


def _line(axis: Axes, names: list[str], found: dict, metric: str, label: str, number: int, shift: float) -> None:
    known = [(place, found[name]) for place, name in enumerate(names) if name in found]
    values = [group[metric] for _, group in known]
    bounds = [group["confidence"][metric] for _, group in known]
    axis.errorbar(
        [place + shift for place, _ in known],
        values,
        # the mean of a bootstrap's percentiles may lie beyond them by rounding
        [
            [max(0.0, value - low) for value, (low, _) in zip(values, bounds, strict=True)],
            [max(0.0, high - value) for value, (_, high) in zip(values, bounds, strict=True)],
        ],
        marker=MARKERS[number % len(MARKERS)],
        color=f"C{number % 7}",
        elinewidth=0.7,
        capsize=1.5,
        label=label,
    )


def _degree_axis(axis: Axes, names: list[str]) -> None:
    axis.set_xticks(range(len(names)), [str(_lowest(name)) for name in names], rotation=90)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel("lowest degree of the group")


def _shares(counts: dict, dataset: str) -> list[str]:
    """What LMKE's introduction says of a graph, in train and in all splits: how many entities have few triples."""
    said = []
    for key, where in (("degree_groups", "train"), ("degree_groups_of_all_splits", "train, valid and test together")):
        entities = counts.get(key, {})
        if total := sum(entities.values()):
            one = entities.get("1", 0) / total
            few = sum(entities.get(name, 0) for name in ("0", "1", "2-3")) / total
            said.append(f"{one:.1%} have degree 1 and {few:.1%} at most 3 in {where}")
            heading = f"Of the {total:,} entities of {dataset}, "
    return [f"{heading}{'; '.join(said)}{_reported_shares(dataset)}."] if said else []


def _reported_shares(dataset: str) -> str:
    numbers = reported()
    about = numbers[(numbers["dataset"] == dataset) & numbers["metric"].isin(DEGREES)]
    value = dict(zip(about["metric"], about["value"], strict=True))
    one, few = (value.get(f"entities-of-degree-{which}") for which in ("1", "at-most-3"))
    return f"; the paper has {one}% and {few}%" if one and few else ""

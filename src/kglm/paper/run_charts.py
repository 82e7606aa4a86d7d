"""Figures of single runs: how they learn, how their entities cluster, and what they attend to."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from kglm.artefacts import read_tensors
from kglm.errors import InputError
from kglm.files import read_json, read_json_lines
from kglm.paper.charts import MARKERS, PAGE_WIDTH, facts_of, not_run
from kglm.paper.inputs import find, run_file, run_spec_file
from kglm.paper.results import run_json

# Those of kglm.mplstyle and the eighth of Okabe and Ito's; all other groups are grey.
_COLOURS = [*(f"C{place}" for place in range(7)), "#F0E442"]
_GREY = "0.82"
_OTHER = "other"  # what clusters.json calls the entities of no group


def curves(spec: dict, inputs: list[Path], figure: Figure) -> list[str]:
    """A metric on valid by training epoch, one line a run (LMKE's Figure 5)."""
    figure.set_size_inches(0.75 * PAGE_WIDTH, 3.2)
    axis = figure.subplots()
    ran, missing = [], []
    for column, series in enumerate(spec["series"]):
        points = _validations(inputs, series["run"], spec["metric"])
        if not points:
            missing.append(series["label"])
            continue
        ran.append(_run_spec(inputs, series["run"]))
        axis.plot(
            *zip(*points, strict=True),
            marker=MARKERS[column % len(MARKERS)],
            color=_COLOURS[column % len(_COLOURS)],
            linestyle="-" if column < len(_COLOURS) else "--",
            label=series["label"],
        )
    axis.set_xlabel("training epoch")
    axis.set_ylabel(f"{spec['metric']} on valid ↑")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_ylim(bottom=0)
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right upper", title=spec["legend"])
    counts = " or ".join(sorted({_validated(run) for run in ran}))
    return facts_of(ran, f"{counts} validation triples") + ([f"Not run: {', '.join(missing)}."] if missing else [])


def _validations(inputs: list[Path], run: str, metric: str) -> list[tuple[float, float]]:
    """(epoch, value) of each validation in a run's log; empty where it did not run."""
    path = find(inputs, run_file(run, "log.jsonl"))
    rows = read_json_lines(path) if path else []
    points = [(row["epoch"], row["valid"]) for row in rows if "valid" in row]
    if points and metric not in points[0][1]:
        raise InputError(f"validation measures no {metric}", path, f"it has {', '.join(points[0][1])}")
    return [(epoch, valid[metric]) for epoch, valid in points]


def _run_spec(inputs: list[Path], run: str) -> dict:
    path = find(inputs, run_spec_file(run))
    if path is None:
        raise InputError("the run's spec is no input", run, "give it beside log.jsonl")
    return read_json(path)


def _validated(run: dict) -> str:
    count = run["training"].get("validation_triples", 0)
    return f"{count:,}" if count else "all"


def clusters(spec: dict, inputs: list[Path], figure: Figure) -> list[str]:
    """Entities placed by t-SNE, one panel a run, beside what a run attends to (KG-BiLM's Figure 3)."""
    count = len(spec["panels"])
    figure.set_size_inches(PAGE_WIDTH, 2.2 * count + 0.9)
    places, right = figure.subfigures(1, 2, width_ratios=[1.0, 1.45])  # each is laid out by itself
    results = {panel["run"]: run_json(inputs, panel["run"], "clusters.json") for panel in spec["panels"]}
    colours = _group_colours([result for result in results.values() if result])
    for place, panel in enumerate(spec["panels"]):
        _scatter(places.add_subplot(count, 1, place + 1), panel, f"({chr(97 + place)})", results, colours, inputs)
    axis = right.add_subplot()
    attention = run_json(inputs, spec["attention"]["run"], "attention.json")
    handles = [Patch(color=colour, label=name) for name, colour in colours.items() if colour != _GREY]
    handles += [Patch(color=_GREY, label=_OTHER)] if _GREY in colours.values() else []
    if attention:
        _heat_map(axis, f"({chr(97 + count)}) {spec['attention']['label']}", attention, inputs)
    else:
        not_run(axis, spec["attention"]["run"])
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7)
    ran = [result for result in results.values() if result]
    counts = " or ".join(sorted({f"{result['entities']:,}" for result in ran}))
    missing = [panel["label"] for panel in spec["panels"] if not results[panel["run"]]]
    missing += [] if attention else [spec["attention"]["label"]]
    return [
        *facts_of([*ran, *([attention] if attention else [])], f"{counts} entities" if ran else ""),
        *_about_groups(ran),
        *(_about_attention(attention) if attention else []),
        *([f"Not run: {', '.join(missing)}."] if missing else []),
    ]


def _group_colours(results: list[dict]) -> dict[str, str]:
    """The same colour for a group in all panels; the largest groups have one of their own."""
    sizes: dict[str, int] = {}
    for result in results:
        for label in result["labels"]:
            sizes[result["groups"][label]] = sizes.get(result["groups"][label], 0) + 1
    largest = sorted(sizes, key=lambda name: (name == _OTHER, -sizes[name], name))
    own = dict(zip(largest, _COLOURS, strict=False))
    return {name: own.get(name, _GREY) if name != _OTHER else _GREY for name in largest}


def _scatter(axis: Axes, panel: dict, letter: str, results: dict, colours: dict, inputs: list[Path]) -> None:
    result = results[panel["run"]]
    path = find(inputs, run_file(panel["run"], "clusters.safetensors"))
    if not (result and path):
        not_run(axis, panel["run"])
        axis.set_title(f"{letter} {panel['label']}")
        return
    points = read_tensors(path)["points"]
    names = [result["groups"][label] for label in result["labels"]]
    # grey ones lie below the others; the size falls with their number
    order = sorted(range(len(names)), key=lambda i: colours[names[i]] != _GREY)
    axis.scatter(
        *points[order].T,
        s=np.clip(2500 / len(points), 1.5, 16),
        c=[colours[names[i]] for i in order],
        linewidths=0,
        rasterized=True,
    )
    silhouette = result["silhouette"]
    axis.set_title(
        f"{letter} {panel['label']}\nsilhouette {silhouette['embeddings']:.2f}, after t-SNE {silhouette['tsne']:.2f}"
    )
    axis.set(xticks=[], yticks=[])
    axis.spines[["top", "right"]].set_visible(True)


def _heat_map(axis: Axes, title: str, attention: dict, inputs: list[Path]) -> None:
    """Rows attend to columns; what the mask hides is grey and hatched. Tokens of the graph are bold."""
    path = find(inputs, run_file(attention["run"], "attention.safetensors"))
    if path is None:
        raise InputError("attention.safetensors is no input", attention["run"], "give it beside attention.json")
    tensors = read_tensors(path)
    weights = np.where(tensors["visible"], tensors["weights"], np.nan)
    size = len(weights)
    axis.set_facecolor(_GREY)
    axis.patch.set(hatch="////", edgecolor="0.7", linewidth=0)
    # Most weights are small: on the scale of the square root they can be seen.
    image = axis.imshow(weights, cmap="Blues", norm=PowerNorm(0.5, 0, max(np.nanmax(weights), 1e-6)), rasterized=True)
    axis.figure.colorbar(image, ax=axis, location="bottom", shrink=0.6, label="attention weight (hatched: hidden)")
    axis.set_title(title)
    labels = [_token(token) for token in attention["tokens"]]
    small = float(np.clip(190 / size, 3.5, 7))
    axis.set_xticks(range(size), labels, rotation=90, fontsize=small)
    axis.set_yticks(range(size), labels, fontsize=small)
    axis.tick_params(length=1.5, pad=1)
    for ticks in (axis.get_xticklabels(), axis.get_yticklabels()):
        for text, kind in zip(ticks, attention["kinds"], strict=True):
            text.set(weight="normal" if kind == "word" else "bold")


def _token(token: str) -> str:
    """A token without its tokenizer's mark for a space before it."""
    shown = token.lstrip("Ġ▁Ċ") or "␣"
    return shown if len(shown) <= 16 else f"{shown[:15]}…"


def _about_groups(results: list[dict]) -> list[str]:
    """What the colours mean, where the analysis says how it grouped the entities."""
    meant = {str(result["options"]["groups"]) for result in results if "options" in result}
    if not meant:
        return []
    named = {"neighbourhood": "communities of the training graph, called after their entity of most triples"}
    what = " or ".join(named.get(kind, f"tails of the relation {kind}") for kind in sorted(meant))
    return [f"Groups: {what}; silhouettes are of these, without the others."]


def _about_attention(attention: dict) -> list[str]:
    names = attention["query"].get("names") or [attention["query"]["head"], attention["query"]["relation"]]
    if isinstance(names, dict):
        names = list(names.values())
    query = ", ".join(map(str, names))
    return [
        f"Attention: layer {attention['layer']}, mean of its heads, for the query ({query}); bold: tokens of the graph."
    ]

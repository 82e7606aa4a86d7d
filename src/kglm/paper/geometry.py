"""KaLM's Theorem 2 on measured embeddings, with alignment and uniformity: the paper states it and shows no number."""

from pathlib import Path

from kglm.paper.quotations import Quotation
from kglm.paper.results import run_json

_HEADER = ["", "Embeddings of", "n", "τ", "left", "right", "slack", "anisotropy", "uniformity", "alignment"]
_WORDS = (
    "Theorem 2 (Equation 8): the left side, mean_i log mean_j exp(e_i·e_j / τ), is at least the right one, "
    "(n − 1) / (τn) · anisotropy + 1 / (τn); slack is the difference. Lower is better for anisotropy, uniformity and "
    "alignment, the mean squared distance of a query and its answer. The limit of Theorem 1 (Equation 6), for "
    "infinitely many negatives, is not measured."
)


def geometry(spec: dict, inputs: list[Path]) -> Quotation:
    """Header, rows and notes: of each run a row for the corpus' texts and one for the graph's entities.

    Both sides of Equation 8 are those of `kglm.analysis.geometry.theorem2`. Alignment is that of queries and their
    answers, so it stands in the row of the entities.
    """
    results = [(series["label"], run_json(inputs, series["run"], "anisotropy.json")) for series in spec["series"]]
    ran = [(label, result) for label, result in results if result]
    rows = [row for label, result in ran for row in _rows(label, result)]
    notes = []
    if ran:
        notes.append("; ".join(f"{label}: {result['model']} on {result['dataset']}" for label, result in ran) + ".")
        notes.append(_WORDS)
        notes += _directions(ran)
    notes += [f"Not run: {label}." for label, result in results if result is None]
    return Quotation(_HEADER, rows, notes)


def _rows(label: str, result: dict) -> list[list[str]]:
    rows = [_row(label, f"texts ({result['corpus']})", result["theorem2"], result["value"], result["uniformity"], None)]
    if entities := result["entities"]:
        measured = entities["theorem2"], entities["anisotropy"], entities["uniformity"]
        rows.append(_row(label, f"entities ({result['dataset']})", *measured, result["alignment"]))
    return rows


def _row(
    label: str, of: str, theorem: dict, anisotropy: float, uniformity: float, alignment: float | None
) -> list[str]:
    sides = [theorem[side] for side in ("left", "right", "slack")]
    numbers = [f"{theorem['temperature']:.4f}", *(f"{side:.2f}" for side in sides), f"{anisotropy:.3f}"]
    last = "–" if alignment is None else f"{alignment:.3f}"
    return [label, of, str(theorem["texts"]), *numbers, f"{uniformity:.2f}".replace("-", "−"), last]


def _directions(ran: list[tuple[str, dict]]) -> list[str]:
    """What got worse between the first run, the base model, and each of the others."""
    (base, before), *others = ran
    notes = []
    for label, after in others:
        pairs = {"alignment": (before["alignment"], after["alignment"])}
        if before["entities"] and after["entities"]:
            for name in ("anisotropy", "uniformity"):
                pairs[f"the entities' {name}"] = (before["entities"][name], after["entities"][name])
        pairs["the texts' anisotropy"] = (before["value"], after["value"])
        known = {name: pair for name, pair in pairs.items() if None not in pair}
        worse = [f"{name} ({old:.3f} → {new:.3f})" for name, (old, new) in known.items() if new > old]
        if worse:
            notes.append(f"Worse after training ({base} → {label}): {', '.join(worse)}.".replace("-", "−"))
    return notes

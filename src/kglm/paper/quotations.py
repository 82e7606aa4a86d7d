"""Tables of texts: what the models answered (KaLM's Figure 5), and entities described (Figure 7)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kglm.analysis.questions import PROMPTS
from kglm.paper.results import run_json
from kglm.paper.text import shorten


class Quotation(NamedTuple):
    """Column titles, rows and notes; `groups` are the titles above the columns, where there are any."""

    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    groups: Sequence[str] = ()

    def titles(self) -> list[str]:
        """One title a column."""
        groups = self.groups or [""] * len(self.header)
        return [": ".join(filter(None, pair)) for pair in zip(groups, self.header, strict=True)]


TASKS = {
    "head": "head prediction",
    "tail": "tail prediction",
    "relation": "relation prediction",
    "classification": "triple classification",
}
_ANSWER, _DESCRIPTION = 100, 400  # characters shown at most
RIGHT, WRONG = "✓", "✗"  # how an answer ends


def cases(spec: dict, inputs: list[Path]) -> Quotation:
    """KaLM's Figure 5: a row a task with its prompt; for each triple the answer of each run, ✓ or ✗."""
    results = [(series, run_json(inputs, series["run"], "kgqa.json")) for series in spec["series"]]
    answers = {}
    for column, (_, result) in enumerate(results):
        for case in (result or {}).get("cases", []):
            if case["setting"] == spec["setting"]:
                mark = RIGHT if case["correct"] else WRONG
                answer = f"{shorten(case['answer'], _ANSWER) or '(nothing)'} {mark}"
                answers[tuple(case["triple"]), case["task"], column] = answer
    triples = list(dict.fromkeys(triple for triple, *_ in answers))
    tasks = [task for task in PROMPTS if any(task == asked for _, asked, _ in answers)]
    places = [(triple, column) for triple in triples for column in range(len(results))]
    rows = [
        [TASKS[task], PROMPTS[task], *(answers.get((triple, task, column), "") for triple, column in places)]
        for task in tasks
    ]
    header = ["Task", "Prompt", *(results[column][0]["label"] for _, column in places)]
    groups = ["", "", *(f"⟨{', '.join(triple)}⟩" for triple, _ in places)]
    return Quotation(header, rows, _about_cases(spec, results, len(triples) * len(tasks)), groups)


def _about_cases(spec: dict, results: list[tuple[dict, dict | None]], count: int) -> list[str]:
    """Which models answered, to how many questions, after how many worked examples, and what was not run."""
    missing = [series["label"] for series, result in results if result is None]
    ran = [f"{series['label']}: {result['model']} on {result['dataset']}" for series, result in results if result]
    counts = {result.get("options", {}).get("settings", {}).get(spec["setting"]) for _, result in results if result}
    shots = ", ".join(f"{count} worked examples before each" for count in sorted(filter(None, counts)))
    setting = "; ".join(filter(None, [spec["setting"].replace("_", "-"), shots]))
    notes = [f"{'; '.join(ran)}; {setting}; n = {count} questions."] if ran else []
    return notes + ([f"Not run: {', '.join(missing)}."] if missing else [])


def entities(spec: dict, inputs: list[Path]) -> Quotation:
    """Header, rows and notes: the entities that a run's similarity matrix shows, and what its encoder read of them.

    Of an older result, which does not hold what was read, the description.
    """
    result = run_json(inputs, spec["run"], "similarity.json")
    chosen = result["entities"] if result else []
    rows = [[entity["name"] or entity["id"], _text_read(entity)] for entity in chosen]
    note = f"Dataset: {result['dataset']}; n = {len(rows)} entities." if result else f"Not run: {spec['run']}."
    return Quotation(["Entity", "Description"], rows, [note])


def _text_read(entity: dict) -> str:
    return entity["text"] if "text" in entity else shorten(entity["description"], _DESCRIPTION)

"""Tables of texts: what the models answered (KaLM's Figure 5), and entities described (Figure 7)."""

from pathlib import Path

from kglm.paper.results import run_json
from kglm.paper.text import shorten

Quotation = tuple[list[str], list[list[str]], list[str]]
TASKS = {
    "head": "head prediction",
    "tail": "tail prediction",
    "relation": "relation prediction",
    "classification": "triple classification",
}
_QUESTION, _ANSWER, _DESCRIPTION = 280, 100, 400  # characters shown at most


def cases(spec: dict, inputs: list[Path]) -> Quotation:
    """Header, rows, notes: the questions that the runs were asked, and what each answered, ✓ or ✗."""
    results = [(series, run_json(inputs, series["run"], "kgqa.json")) for series in spec["series"]]
    asked, answers = {}, {}
    for column, (_, result) in enumerate(results):
        for case in (result or {}).get("cases", []):
            key = (tuple(case["triple"]), case["task"])
            if case["setting"] == spec["setting"]:
                asked.setdefault(key, case)
                answers[key, column] = (
                    f"{shorten(case['answer'], _ANSWER) or '(nothing)'} {'✓' if case['correct'] else '✗'}"
                )
    rows = [
        [
            TASKS.get(case["task"], case["task"]),
            shorten(case["question"], _QUESTION),
            case["expected"],
            *(answers.get((key, column), "") for column in range(len(results))),
        ]
        for key, case in asked.items()
    ]
    missing = [series["label"] for series, result in results if result is None]
    ran = [f"{series['label']}: {result['model']} on {result['dataset']}" for series, result in results if result]
    notes = [f"{'; '.join(ran)}; {spec['setting'].replace('_', '-')}; n = {len(rows)} questions."] if ran else []
    notes += [f"Not run: {', '.join(missing)}."] if missing else []
    return ["Task", "Question", "Expected", *(series["label"] for series in spec["series"])], rows, notes


def entities(spec: dict, inputs: list[Path]) -> Quotation:
    """Header, rows and notes: name and description of the entities that a run's similarity matrix shows."""
    result = run_json(inputs, spec["run"], "similarity.json")
    chosen = result["entities"] if result else []
    rows = [[entity["name"] or entity["id"], shorten(entity["description"], _DESCRIPTION)] for entity in chosen]
    note = f"Dataset: {result['dataset']}; n = {len(rows)} entities." if result else f"Not run: {spec['run']}."
    return ["Entity", "Description"], rows, [note]

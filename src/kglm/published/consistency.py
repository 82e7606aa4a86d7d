"""Whether the numbers of a published run agree with what stands beside them: its log, its answers, each other.

What cannot be made again without the weights can still contradict itself. Each check takes the parsed file and yields
one sentence for each contradiction.
"""

import math
from collections.abc import Callable, Iterator

from kglm.analysis.common import proportion

_TOLERANCE = 1e-9


def log_problems(rows: list[dict], record: dict) -> Iterator[str]:
    """The best validation and the length of the training, by the rows of the log."""
    training, best = record["spec"].get("training", {}), record["best"]
    last = max((row["epoch"] for row in rows), default=0)
    epochs, steps = training.get("epochs", 0), training.get("maximum_steps", 0)
    if last > epochs or (not steps and math.ceil(last) != epochs):
        yield f"its log ends after {last} epochs, its specification asks for {epochs}"
    highest, rate = max((row.get("learning_rate", 0) for row in rows), default=0), training.get("learning_rate")
    if rate is not None and highest > max(rate, training.get("other_learning_rate", 0)) * (1 + _TOLERANCE):
        yield f"its log has a learning rate of {highest}, its specification one of {rate}"
    if not best:
        return
    (criterion,) = set(best) - {"step", "epoch"}
    measured = [row for row in rows if criterion in row.get("valid", {})]
    if not measured:
        yield f"its best {criterion} is that of no row of the log"
        return
    first = max(measured, key=lambda row: row["valid"][criterion])
    found = {"step": first["step"], "epoch": first["epoch"], criterion: first["valid"][criterion]}
    if found != best:
        yield f"its best validation is {best}, by its log {found}"


def perplexity_problems(result: dict, *_) -> Iterator[str]:
    """One loss stands behind the perplexities by token, word and byte."""
    losses = {unit: math.log(result[f"{unit}_perplexity"]) * result[f"{unit}s"] for unit in ("token", "word", "byte")}
    if not all(_close(loss, losses["token"]) for loss in losses.values()):
        yield "perplexity.json: its perplexities by token, word and byte are not those of one loss"


def anisotropy_problems(result: dict, *_) -> Iterator[str]:
    """The value is the last layer's; the slack of Theorem 2 is the difference of its sides."""
    if result.get("layers") and not _close(result["layers"][-1], result["value"]):
        yield f"anisotropy.json: its value is {result['value']}, its last layer has {result['layers'][-1]}"
    parts = [result, *(result.get(name) or {} for name in ("entities", "text"))]
    for theorem in (part.get("theorem2") for part in parts if isinstance(part, dict)):
        if theorem and not _close(theorem["left"] - theorem["right"], theorem["slack"]):
            yield f"anisotropy.json: the slack of Theorem 2 is {theorem['slack']}, not the difference of its sides"


def mmlu_problems(result: dict, *_) -> Iterator[str]:
    """Accuracies and intervals by the letters chosen and the right ones, where the file holds them."""
    subjects = result["subjects"]
    for name, subject in subjects.items():
        if "chosen" in subject:
            pairs = list(zip(subject["chosen"], subject["right"], strict=True))
            yield from _unlike(subject, sum(a == b for a, b in pairs), len(pairs), f"mmlu.json {name}")
    asked = sum(subject["questions"] for subject in subjects.values())
    right = sum(round(subject["accuracy"] * subject["questions"]) for subject in subjects.values())
    yield from _unlike(result, right, asked, "mmlu.json")


def kgqa_problems(result: dict, *_) -> Iterator[str]:
    """Accuracies and intervals by the outcome of each question, where the file holds them."""
    floors = {task: {"floor": told} for task, told in result.get("floors", {}).items()}
    for task, settings in [*result["tasks"].items(), *floors.items()]:
        for setting, told in settings.items():
            where = f"kgqa.json {task} {setting}"
            if "outcomes" not in told:
                yield from _unlike(told, round((told["accuracy"] or 0) * told["questions"]), told["questions"], where)
                continue
            outcomes = told["outcomes"]
            yield from _unlike(told, outcomes.count("="), len(outcomes), where)
            true = len(outcomes) - outcomes.count("-")
            if outcomes and not _close(told["accuracy_any_true"], true / len(outcomes)):
                yield f"{where}: {told['accuracy_any_true']} are true at all, by its outcomes {true / len(outcomes)}"


ANALYSES: dict[str, Callable[..., Iterator[str]]] = {
    "perplexity.json": perplexity_problems,
    "anisotropy.json": anisotropy_problems,
    "mmlu.json": mmlu_problems,
    "kgqa.json": kgqa_problems,
}


def is_recounted(name: str, result: dict) -> bool:
    """Whether an analysis' file holds every answer, so that its accuracies are counted again and not only compared."""
    if name == "mmlu.json":
        return all("chosen" in subject for subject in result["subjects"].values())
    if name == "kgqa.json":
        return all("outcomes" in told for settings in result["tasks"].values() for told in settings.values())
    return False


def _unlike(told: dict, successes: int, trials: int, where: str) -> Iterator[str]:
    found = proportion(successes, trials)
    numbers = [found["questions"], found["accuracy"], *found["confidence"]]
    own = [told["questions"], told["accuracy"], *told["confidence"]]
    if len(own) != len(numbers) or not all(a == b or _close(a, b) for a, b in zip(own, numbers, strict=True)):
        yield f"{where} is {own[1]} of {own[0]}, by its own counts {numbers[1]} of {numbers[0]}"


def _close(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)

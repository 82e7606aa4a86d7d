"""MMLU (Hendrycks et al., 2021) on local files, asked and scored as lm-evaluation-harness' own task does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from kglm.analysis.common import choose_options, identity, proportion
from kglm.analysis.loading import check_run, context_length, harness_model, load_pair
from kglm.artefacts import QUESTIONS, read_parquet
from kglm.errors import InputError
from kglm.files import write_json
from kglm.options import Count, Options, Seed, Size

LETTERS = "ABCD"


@dataclass(frozen=True)
class Parameters(Options):
    """The options of the analysis."""

    questions_per_subject: Size | None = None  # drawn by seed; None: all test questions
    shots: Count = 5  # the first so many of the subject's dev questions
    context: Size | None = None  # tokens, the last of a longer prompt; None: the model's
    seed: Seed = 0  # one for all runs, so that they are asked the same questions
    batch_size: Size = 8
    dtype: Literal["float32", "bfloat16"] = "float32"


def mmlu(spec: dict, model: Path, weights: Path, corpus: Path, out: Path) -> None:
    """Write the accuracy over all questions asked, its mean over subjects, each subject's, and the letters chosen.

    `corpus` holds questions.parquet (subject, split, question, choices, answer 0 … 3). An answer is the
    letter of greatest log-likelihood behind the prompt, the first one on a tie.
    """
    options = choose_options(spec, Parameters)
    check_run(spec["run"], weights, model)
    subjects = _read(corpus)
    loaded, tokenizer = load_pair(model, weights, options["dtype"])
    harness = harness_model(loaded, tokenizer, context_length(loaded, options["context"]), options["batch_size"])
    asked = [
        (subject, row, prompt(subject, row, dev.head(options["shots"])))
        for number, (subject, (dev, test)) in enumerate(subjects.items())
        for row in _sample(test, options["questions_per_subject"], [options["seed"], number])
    ]
    chosen = choose_answers(harness, [text for _, _, text in asked])
    answers = pd.DataFrame(
        {
            "subject": [subject for subject, _, _ in asked],
            "right": [LETTERS[row.answer] for _, row, _ in asked],
            "chosen": [LETTERS[number] for number in chosen],
        }
    )
    by_subject = {name: _graded(group) for name, group in answers.groupby("subject")}
    result = _proportion(answers) | {
        "subject_mean": float(np.mean([subject["accuracy"] for subject in by_subject.values()])),
        "chosen": {letter: int((answers["chosen"] == letter).sum()) for letter in LETTERS},
        "subjects": by_subject,
        "corpus": Path(corpus).name,
        "options": options,
    }
    write_json(identity(spec) | result, out)


def _proportion(answers: pd.DataFrame) -> dict:
    return proportion(int((answers["right"] == answers["chosen"]).sum()), len(answers))


def _graded(answers: pd.DataFrame) -> dict:
    """A subject's accuracy, and the right and the chosen letter of each of its questions, in their order."""
    return _proportion(answers) | {"right": "".join(answers["right"]), "chosen": "".join(answers["chosen"])}


def prompt(subject: str, question, examples: pd.DataFrame) -> str:
    """The harness' prompt: a line on the subject, solved questions, then the question up to "Answer:"."""
    opening = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
    solved = [f"{_ask(row)} {LETTERS[row.answer]}\n\n" for row in examples.itertuples()]
    return opening + "".join(solved) + _ask(question)


def choose_answers(harness, prompts: list[str]) -> list[int]:
    """The number of the letter with the greatest log-likelihood behind each prompt."""
    from lm_eval.api.instance import Instance

    requests = [
        Instance("loglikelihood", {}, (text, f" {letter}"), number)
        for number, text in enumerate(prompts)
        for letter in LETTERS
    ]
    scores = [value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)]
    return np.reshape(scores, (len(prompts), len(LETTERS))).argmax(axis=1).tolist()


def _ask(row) -> str:
    choices = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, row.choices, strict=True))
    return f"{row.question.strip()}\n{choices}\nAnswer:"


def _sample(test: pd.DataFrame, limit: int | None, seed: list[int]) -> list:
    rows = np.arange(len(test))
    if limit is not None and limit < len(test):
        rows = np.sort(np.random.default_rng(seed).choice(len(test), limit, replace=False))
    return list(test.iloc[rows].itertuples())


def _read(corpus: Path) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Subject -> its dev and its test questions, by name."""
    path = Path(corpus) / "questions.parquet"
    frame = read_parquet(path, QUESTIONS)
    if (frame["choices"].map(len) != len(LETTERS)).any() or not frame["answer"].between(0, 3).all():
        remedy = "run the stage corpus again"
        raise InputError("a question without four choices and an answer 0 … 3", path, remedy)
    subjects = {
        str(subject): tuple(group[group["split"] == split] for split in ("dev", "test"))
        for subject, group in frame.groupby("subject")
    }
    if not any(len(test) for _, test in subjects.values()):
        raise InputError("holds no test question", path, "check the archive")
    return subjects

import logging

import numpy as np
import pandas as pd
import pytest

from kglm.analysis.common import wilson
from kglm.analysis.loading import harness_model, load_pair
from kglm.analysis.mmlu import choose_answers, mmlu, prompt
from kglm.artefacts import QUESTIONS, write_parquet
from kglm.errors import InputError
from kglm.files import read_json

from .conftest import IDENTITY, SPEC, packaged_task

SUBJECTS = {"anatomy": 9, "high_school_us_history": 4}


def question(subject: str, split: str, number: int, generator: np.random.Generator) -> dict:
    choices = [f"{word} {number}" for word in generator.permutation(["nerve", "None", " bone", "vein\n"])]
    text = f"  Which {'of these ' * int(generator.integers(4))}holds {number}?\nThink. "
    return dict(subject=subject, split=split, question=text, choices=choices, answer=int(generator.integers(4)))


@pytest.fixture(scope="module")
def questions() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = [
        question(subject, split, number, generator)
        for subject, count in SUBJECTS.items()
        for split, amount in (("test", count), ("dev", 5))
        for number in range(amount)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def folder(questions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mmlu")
    write_parquet(questions, folder / "questions.parquet", QUESTIONS)
    return folder


def split(questions: pd.DataFrame, subject: str, name: str) -> pd.DataFrame:
    return questions[(questions["subject"] == subject) & (questions["split"] == name)]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_prompts_and_answers_are_those_of_the_packaged_task(questions, model_folder, subject, caplog):
    from lm_eval.evaluator import evaluate

    splits = {name: split(questions, subject, name).to_dict("records") for name in ("test", "dev")}
    task = packaged_task(f"mmlu/default/mmlu_{subject}.yaml", splits, num_fewshot=5)
    harness = harness_model(*load_pair(model_folder, None), 2048, 4)
    with caplog.at_level(logging.ERROR):
        samples = evaluate(harness, {f"mmlu_{subject}": task}, bootstrap_iters=0)["samples"][f"mmlu_{subject}"]
    dev = split(questions, subject, "dev")
    ours = [prompt(subject, row, dev) for row in split(questions, subject, "test").itertuples()]
    theirs = [sample["arguments"] for sample in samples]
    assert ours == [arguments[0][0] for arguments in theirs]
    assert {tuple(pair[1] for pair in arguments) for arguments in theirs} == {(" A", " B", " C", " D")}
    best = [int(np.argmax([response[0][0] for response in sample["resps"]])) for sample in samples]
    assert choose_answers(harness, ours) == best
    assert [sample["acc"] == 1 for sample in samples] == [
        row.answer == answer for row, answer in zip(split(questions, subject, "test").itertuples(), best, strict=True)
    ]


def test_accuracy_over_all_questions_and_by_subject(questions, folder, model_folder, weights_folder, tmp_path):
    mmlu(SPEC, model_folder, weights_folder, folder, tmp_path / "mmlu.json")
    result = read_json(tmp_path / "mmlu.json")
    harness = harness_model(*load_pair(model_folder, None), 2048, 1)
    right, chosen = {}, []
    for subject in SUBJECTS:
        dev, test = split(questions, subject, "dev"), split(questions, subject, "test")
        answers = choose_answers(harness, [prompt(subject, row, dev) for row in test.itertuples()])
        right[subject] = int((test["answer"].to_numpy() == answers).sum())
        chosen += answers
    assert result.items() >= IDENTITY.items()
    assert {name: round(entry["accuracy"] * SUBJECTS[name]) for name, entry in result["subjects"].items()} == right
    assert result["questions"] == sum(SUBJECTS.values())
    assert result["chosen"] == {letter: chosen.count(number) for number, letter in enumerate("ABCD")}
    assert result["accuracy"] == pytest.approx(sum(right.values()) / 13)
    assert result["confidence"] == wilson(sum(right.values()), 13)
    assert result["subject_mean"] == pytest.approx(np.mean([right[name] / SUBJECTS[name] for name in SUBJECTS]))


def test_a_sample_is_of_the_stated_size_and_the_same_each_time(folder, model_folder, weights_folder, tmp_path):
    spec = SPEC | {"options": {"questions_per_subject": 5, "shots": 0}}
    for name in "ab":
        mmlu(spec, model_folder, weights_folder, folder, tmp_path / name)
    result = read_json(tmp_path / "a")
    assert {name: entry["questions"] for name, entry in result["subjects"].items()} == {
        "anatomy": 5,
        "high_school_us_history": 4,
    }
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_prompt_longer_than_the_context_keeps_its_end(folder, model_folder, weights_folder, tmp_path):
    mmlu(SPEC | {"options": {"context": 60}}, model_folder, weights_folder, folder, tmp_path / "mmlu.json")
    assert read_json(tmp_path / "mmlu.json")["questions"] == 13


def test_unfit_files_are_told(questions, model_folder, weights_folder, tmp_path):
    def complaint(frame: pd.DataFrame) -> str:
        write_parquet(frame, tmp_path / "questions.parquet", QUESTIONS)
        with pytest.raises(InputError) as error:
            mmlu(SPEC, model_folder, weights_folder, tmp_path, tmp_path / "out.json")
        assert not (tmp_path / "out.json").exists()
        return str(error.value)

    assert "without four choices" in complaint(questions.assign(answer=4))
    assert "no test question" in complaint(questions[questions["split"] == "dev"])

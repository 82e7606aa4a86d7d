"""Records from anybody: what was changed is told, what was crafted ends in one line and in bounded time."""

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kglm import cli
from kglm.analysis.common import proportion
from kglm.artefacts import RANKS, write_parquet
from kglm.published.sums import write_sums
from kglm.published.verify import examine, problems

from .conftest import AGAIN, RUN

LOSS = 7000.0
COUNTS = {"token": 2000, "word": 1500, "byte": 9000}
PERPLEXITY = {f"{unit}_perplexity": float(np.exp(LOSS / count)) for unit, count in COUNTS.items()}
ANALYSES = {
    "perplexity.json": {**PERPLEXITY, "tokens": 2000, "words": 1500, "bytes": 9000},
    "anisotropy.json": {
        "layers": [0.2, 0.8],
        "value": 0.8,
        "theorem2": {"left": 3.0, "right": 2.0, "slack": 1.0},
        "entities": {"theorem2": {"left": 5.0, "right": 1.0, "slack": 4.0}},
    },
    "mmlu.json": {
        **proportion(3, 5),
        "subjects": {
            "law": {**proportion(1, 2), "right": "AB", "chosen": "AC"},
            "virology": {**proportion(2, 3), "right": "DDD", "chosen": "DAD"},
        },
    },
    "kgqa.json": {"tasks": {"head": {"few_shot": {**proportion(2, 4), "accuracy_any_true": 0.75, "outcomes": "=+-="}}}},
}


@pytest.fixture
def folder(made):
    """A published run with every analysis; the second one is left as it is."""
    for name, result in ANALYSES.items():
        made.write(f"runs/{RUN}/{name}", {"run": RUN, **result})
    made.publish()
    return made.published / RUN


def edit(path: Path, *keys: str | int, value: object) -> None:
    whole = part = json.loads(path.read_text())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    path.write_text(json.dumps(whole))


def test_how_each_file_was_checked_is_told(folder):
    verdict = examine(folder, RUN)
    assert verdict.problems == []
    made_again = {"metrics.json", "classification.json", "mmlu.json", "kgqa.json"}
    assert made_again <= set(verdict.made_again) and verdict.compared == ["perplexity.json", "anisotropy.json"]
    assert verdict.summed == ["statistics.json"]


def test_answers_that_are_not_there_are_not_counted_again(folder):
    """As in files of former versions."""
    edit(folder / "mmlu.json", "subjects", value={"law": proportion(1, 2), "virology": proportion(2, 3)})
    edit(folder / "kgqa.json", "tasks", "head", "few_shot", value=proportion(2, 4))
    write_sums(folder)
    verdict = examine(folder, RUN)
    assert verdict.problems == [] and {"mmlu.json", "kgqa.json"} <= set(verdict.compared)


def test_every_file_is_bound_by_its_sum(folder):
    for path in sorted(folder.iterdir()):
        before = path.read_bytes()
        if path.name != "SHA256SUMS":
            path.write_bytes(before + b"\n")
            assert f"{path.name} has another sum than SHA256SUMS says" in problems(folder, RUN)
            path.unlink()
            assert f"{path.name} is in SHA256SUMS, but not there" in problems(folder, RUN)
            path.write_bytes(before)
    (folder / "further.json").write_text("{}")
    assert problems(folder, RUN) == ["further.json is not in SHA256SUMS"]


def test_the_sums_are_those_of_coreutils(folder):
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


@pytest.mark.parametrize(
    ("file", "keys", "value", "told"),
    [
        ("perplexity.json", ("token_perplexity",), 1.5, "are not those of one loss"),
        ("anisotropy.json", ("value",), 0.1, "its last layer has 0.8"),
        ("anisotropy.json", ("theorem2", "slack"), 9.0, "not the difference of its sides"),
        ("anisotropy.json", ("entities", "theorem2", "slack"), 9.0, "not the difference of its sides"),
        ("mmlu.json", ("accuracy",), 0.8, "mmlu.json is 0.8 of 5, by its own counts 0.6 of 5"),
        ("mmlu.json", ("confidence", 0), 0.5, "mmlu.json is 0.6"),
        ("mmlu.json", ("subjects", "law", "chosen"), "AB", "mmlu.json law is 0.5 of 2, by its own counts 1.0 of 2"),
        ("kgqa.json", ("tasks", "head", "few_shot", "accuracy"), 1.0, "kgqa.json head few_shot is 1.0 of 4"),
        ("kgqa.json", ("tasks", "head", "few_shot", "accuracy_any_true"), 1.0, "are true at all"),
        ("kgqa.json", ("run",), "other", "kgqa.json is of the run other"),
        ("run.json", ("best",), {"step": 2, "epoch": 1.0, "MRR": 0.9}, "by its log"),
        ("run.json", ("spec", "training", "epochs"), 999, "its log ends after 1.0 epochs"),
        ("run.json", ("sums",), {"log.jsonl": "0" * 64}, "is not the one that the training wrote"),
    ],
)
def test_what_contradicts_itself_is_told_though_its_sum_was_made_anew(folder, file, keys, value, told):
    edit(folder / file, *keys, value=value)
    write_sums(folder)
    assert any(told in problem for problem in problems(folder, RUN))


def test_perplexities_that_were_all_scaled_are_not_those_of_one_loss(folder):
    for unit in ("token", "word", "byte"):
        edit(folder / "perplexity.json", f"{unit}_perplexity", value=PERPLEXITY[f"{unit}_perplexity"] * 0.01)
    write_sums(folder)
    assert "are not those of one loss" in problems(folder, RUN)[0]


CRAFTED = {
    "no mapping": "[]",
    "a number": "5",
    "nested too deep": "[" * 200_000 + "]" * 200_000,
    "spec": {"spec": "text"},
    "commit": {"commit": ["0" * 40]},
    "resamples text": {"evaluation": {"resamples": "x", "confidence": 0.95, "seed": 0, "protocol": "filtered"}},
    "resamples huge": {"evaluation": {"resamples": 10**11, "confidence": 0.95, "seed": 0, "protocol": "filtered"}},
    "dataset climbs": {"dataset": "../../etc"},
    "hardware": {"hardware": "x" * 10**6},
    "training": {"spec": {"name": RUN, "training": {"epochs": "many"}}},
    "best": {"best": {"step": 2, "epoch": 1.0, "MRR": 1.0, "MR": 2.0}},
}


@pytest.mark.parametrize("case", CRAFTED)
def test_a_crafted_record_is_one_line_and_hides_no_other_verdict(case, folder, capsys):
    crafted = CRAFTED[case]
    path = folder / "run.json"
    path.write_text(crafted if isinstance(crafted, str) else json.dumps(json.loads(path.read_text()) | crafted))
    write_sums(folder)
    (folder.parent / AGAIN / "metrics.json").unlink()
    started = time.monotonic()
    assert cli.main(["verify", "--published", str(folder.parent)]) == 2
    told = capsys.readouterr().err
    assert time.monotonic() - started < 20
    assert told.count("\n") == 1 and len(told) < 2000
    assert f"{RUN}: " in told and f"{AGAIN}: metrics.json is in SHA256SUMS, but not there" in told


@pytest.mark.parametrize("file", ["metrics.json", "classification.json", "statistics.json", "kgqa.json", "log.jsonl"])
@pytest.mark.parametrize("content", ["[]", "5", '{"metrics": 5, "run": "x"}', "[" * 200_000, "\x00", '{"tasks": [1]}'])
def test_other_files_of_another_form_end_in_a_verdict(file, content, folder, made):
    (folder / file).write_text(content)
    write_sums(folder)
    found = problems(folder, RUN, made.data)
    assert found and all("\n" not in problem and len(problem) < 1000 for problem in found)


def test_sums_of_another_form_end_in_a_verdict(folder):
    (folder / "SHA256SUMS").write_text("0000 ../../run.json\n")
    assert "is no line of a sum" in problems(folder, RUN)[0]


def test_more_rows_than_any_benchmark_has_are_not_read(folder):
    """Equal rows take hardly any room in a file."""
    row = {"split": "test", "direction": "tail", "head": 0, "relation": 0, "tail": 0}
    row |= {"optimistic": 1, "realistic": 1.0, "pessimistic": 1, "candidates": 2}
    many = pd.DataFrame({name: np.broadcast_to(np.array(value), 1_000_001) for name, value in row.items()})
    write_parquet(many.assign(split="test", direction="tail"), folder / "ranks.parquet", RANKS)
    write_sums(folder)
    assert "ranks.parquet: has 1,000,001 rows, at most 1,000,000 are read" in problems(folder, RUN)

"""A file that was cut short, overwritten or lost between two stages is told by each stage that reads it."""

import random
import re

import pytest

from kglm.cli import STAGES, main

from .pipeline import STEPS, command

pytestmark = pytest.mark.slow
READ = [(step, file) for step, (*_, files) in STEPS.items() for file in files]
# What a table or a figure is made of may be missing: it is told below it that the run was not run.
MAY_BE_MISSING = ("table", "figure")
# A part of a text is a text; without a training part a corpus trains nothing; a training of no epoch logs nothing;
# vectors without an interaction meet in the inner product.
UNNOTICED = {
    ("truncate", "train.txt"),
    ("truncate", "test.txt"),
    ("empty", "train.txt"),
    ("lose", "train.txt"),
    ("empty", "log.jsonl"),
    ("lose", "interaction.safetensors"),
}
# The paper, its summary and the report put together what tables and figures have written; what is published has tests
# of its own (tests/published), and so have predictions (tests/inference) and the doctor, who reads sources.
WITHOUT_ARTEFACTS = {"check", "plan", "paper", "summary", "report", "publish", "verify", "rebuild", "predict", "doctor"}


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garble(content: bytes) -> bytes:
    """Noise in place of the first bytes, and in the middle."""
    generator, length = random.Random(0), len(content)
    noise = generator.randbytes(length)
    start, end = length // 3, length // 3 + max(length // 8, 1)
    return b"\xff" + noise[1:16] + content[16:start] + noise[start:end] + content[end:]


def empty(content: bytes) -> bytes:
    return b""


def lose(content: bytes) -> None:
    return None


def files_of(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("step", "file"), READ)
def test_each_stage_tells_a_damaged_artefact_in_one_line(copy, capsys, step, file):
    """With status 2; the line names the file and says what to do; nothing is changed, nothing is half-written."""
    path, arguments = copy / file, command(step, copy)
    whole = path.read_bytes()
    for damage in (truncate, garble, empty, lose):
        name, content = damage.__name__, damage(whole)
        if (name, path.name) in UNNOTICED or (content is None and step.startswith(MAY_BE_MISSING)):
            continue
        path.unlink() if content is None else path.write_bytes(content)
        before = files_of(copy)
        capsys.readouterr()
        assert main(arguments) == 2, name
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"kglm {arguments[0]}: ")]
        where = path.parent.name if (name, path.name) == ("lose", "tokenizer.json") else path.name
        assert len(told) == 1 and where in told[0] and "; " in told[0], (name, told)
        assert files_of(copy) == before, name


@pytest.mark.parametrize("step", [step for step, (_, spec, *_) in STEPS.items() if spec is not None])
def test_a_damaged_spec_is_told(copy, capsys, step):
    arguments = command(step, copy)
    spec = copy / "specs" / f"{step}.json"
    spec.write_bytes(truncate(spec.read_bytes()))
    assert main(arguments) == 2
    assert re.fullmatch(rf"kglm {arguments[0]}: .*{step}\.json: .*\n", capsys.readouterr().err)


def test_all_stages_are_here():
    assert {stage for stage, *_ in STEPS.values()} | WITHOUT_ARTEFACTS == set(STAGES)

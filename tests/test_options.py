"""Every option is closed in type, choices and range, in the configuration, in a stage's --spec and in Python."""

import dataclasses
import importlib
import math

import numpy as np
import pytest

from kglm import config as configuration
from kglm.cli import STAGES
from kglm.errors import InputError
from kglm.lm.entries import SOURCES
from kglm.options import LARGEST, Options, options_of, problems
from kglm.training.options import Training

METHODS = {name: importlib.import_module(f"kglm.methods.{name}").Parameters for name in configuration.methods()}
ANALYSES = {name: importlib.import_module(STAGES[name].split(":")[0]).Parameters for name in configuration.ANALYSES}
ALL = {"training": Training, **METHODS, **ANALYSES, **SOURCES}
NUMBERS = [
    (name, key)
    for name, cls in ALL.items()
    for key, option in options_of(cls).items()
    if option.kind in ("int", "float") and not option.many
]


def told(cls: type[Options], **values: object) -> str:
    """What is wrong with the values, which the configuration's check and the dataclass say alike."""
    found = [str(problem) for problem in problems(values, options_of(cls), "here")]
    assert found and "\n" not in found[0]
    with pytest.raises(InputError) as caught:
        cls.of(values, "here")
    assert str(caught.value) == found[0]
    return found[0]


def test_every_dataclass_of_options_is_read_by_the_one_reader():
    assert all(issubclass(cls, Options) for cls in ALL.values())


@pytest.mark.parametrize(("name", "key"), NUMBERS)
def test_no_number_is_taken_unseen(name, key):
    cls = ALL[name]
    for value in (math.nan, math.inf, -math.inf, 10 * LARGEST, "1", True, [1], {}):
        assert told(cls, **{key: value}).startswith(f"here.{key}: ")
    option = options_of(cls)[key]
    if option.kind == "int":
        assert told(cls, **{key: 2.0}).endswith("expected int; write 2")
    if option.limits.least == 0 or option.limits.above == 0:
        assert "is out of range; it must be" in told(cls, **{key: -1})


@pytest.mark.parametrize(
    ("name", "values", "line"),
    [
        ("training", {"precision": "bfloat16"}, "here.precision: 'bfloat16' is not known; choose one of bf16, fp32"),
        ("training", {"precision": "fp16"}, "here.precision: 'fp16' is not known; choose one of bf16, fp32"),
        ("training", {"scheduler": "cosin"}, "choose one of constant, constant_with_warmup, cosine, linear"),
        ("training", {"epochs": -1}, "here.epochs: -1 is out of range; it must be at least 0"),
        ("training", {"batch_size": 0}, "here.batch_size: 0 is out of range; it must be at least 1"),
        ("training", {"learning_rate": -1.0}, "here.learning_rate: -1.0 is out of range; it must be at least 0"),
        ("training", {"learning_rate": "1e-4"}, "YAML reads 1e-4 and quoted numbers as text: write 1.0e-4"),
        ("training", {"warmup_ratio": 5.0}, "it must be at least 0 and at most 1"),
        ("training", {"beta1": 2.0}, "it must be at least 0 and below 1"),
        ("training", {"log_every_steps": 0}, "it must be at least 1"),
        ("training", {"epoch": 3}, "here: unknown option 'epoch'; did you mean 'epochs'?"),
        ("kalm", {"maximum_description_length": -1}, "it must be at least 1"),
        ("kalm", {"lora_rank": 0}, "it must be at least 1"),
        ("kalm", {"lora_dropout": 2.0}, "it must be at least 0 and below 1"),
        ("kalm", {"lora_modules": "mlp"}, "'mlp' is not known; choose one of ffn, att, att-ffn"),
        ("kg_bilm", {"mask_ratio": 0.0}, "it must be above 0 and below 1"),
        ("structural", {"dimension": 0}, "it must be at least 1"),
        ("structural", {"norm": 3}, "3 is not known; choose one of 1, 2"),
        ("kgqa", {"tasks": ["heads"]}, "'heads' is not known; choose one of head, tail, relation, classification"),
        ("kgqa", {"settings": {"few_shot": -1}}, "here.settings.few_shot: -1 is out of range"),
        ("kgqa", {"settings": {True: 1}}, "YAML reads on, off, yes and no as true or false"),
        ("kgqa", {"settings": []}, "[] is a list, expected mapping to int"),
        ("cost", {"triples": [0, 2]}, "here.triples: 0 is out of range"),
        ("mmlu", {"dtype": "int8"}, "choose one of float32, bfloat16"),
        ("scratch", {"vocabulary_size": 261}, "it must be at least 262"),
    ],
)
def test_the_line_names_the_key_the_value_and_what_is_allowed(name, values, line):
    assert line in told(ALL[name], **values)


def test_whoever_constructs_options_in_python_is_told():
    with pytest.raises(InputError, match=r"kglm\.training\.options\.Training\.epochs: -1 is out of range"):
        Training(epochs=-1)
    with pytest.raises(InputError, match=r"Training\.warmup_ratio: nan is no finite number"):
        dataclasses.replace(Training(), warmup_ratio=math.nan)
    assert Training(epochs=np.int64(2)).epochs == 2


def test_a_section_that_is_no_mapping_is_told():
    for section in (None, [], 3, "epochs: 1"):
        with pytest.raises(InputError, match=r"here: .* expected a mapping"):
            Training.of(section, "here")


def test_what_may_be_empty_may_be_nothing_else():
    assert ANALYSES["mmlu"].of({"context": None}).context is None
    assert "expected int" in told(ANALYSES["mmlu"], context="none")
    assert "None is empty" in told(ANALYSES["mmlu"], shots=None)


@pytest.mark.parametrize("cases", ["all", -1, True, [{"head": "a"}], [{"head": 1, "relation": "b", "tail": "c"}]])
def test_cases_of_kgqa_are_a_number_or_triples(cases):
    with pytest.raises(InputError, match=r"are no cases; give a number, or a list of"):
        ANALYSES["kgqa"](cases=cases)


@pytest.mark.parametrize("entity", [3, None, {"names": "a"}, {"name": 3}, {"description": "x"}])
def test_entities_of_similarity_are_ids_or_names(entity):
    with pytest.raises(InputError, match=r"names no entity; give ids, or \{name, description\}"):
        ANALYSES["similarity"](entities=[entity])

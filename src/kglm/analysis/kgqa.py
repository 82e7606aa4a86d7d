"""Knowledge-graph question answering by generation: KaLM's Figure 3 (accuracies) and Figure 5 (cases)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from kglm.analysis.common import choose_options, find_entity, find_relation, identity, is_reference, proportion
from kglm.analysis.loading import check_run, context_length, cut_texts, load_pair
from kglm.analysis.questions import (
    TASKS,
    Question,
    Wording,
    build_questions,
    compose,
    floor_answers,
    named,
    normalise,
    sample_triples,
    worked_examples,
)
from kglm.errors import InputError
from kglm.files import write_json
from kglm.kg.graph import Graph
from kglm.options import Count, Options, Seed, Size

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Parameters(Options):
    """The options of the analysis."""

    tasks: tuple[Literal["head", "tail", "relation", "classification"], ...] = TASKS
    questions: Size | None = 500  # test triples asked about in each task; None: all
    # Name -> number of worked examples.
    settings: dict[str, Count] = field(default_factory=lambda: {"zero_shot": 0, "few_shot": 3})
    examples: tuple[Count, ...] = (0, 17, 130)  # rows of the training split, those of the released code
    cases: int | list = 2  # triples shown as Figure 5 does: so many of the sample, or a list of {head, relation, tail}
    entity_text: Literal["name", "description", "name_and_description"] = "name_and_description"
    maximum_words: Size | None = 50  # of an entity's text in head and tail prediction; None: all
    maximum_tokens: Size | None = None  # the same in the run's own tokens, as the paper counts; None: all
    prefix_inverse: bool = True  # "inverse" and the relation (the paper), or the graph's own inverse text
    new_tokens: Size = 10
    context: Size | None = None  # tokens of prompt and answer; None: the model's
    seed: Seed = 0  # one for all runs, so that they are asked the same questions
    batch_size: Size = 16
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        super().__post_init__()
        cases = self.cases if isinstance(self.cases, list) else []
        number = isinstance(self.cases, int) and not isinstance(self.cases, bool) and self.cases >= 0
        if not (number or isinstance(self.cases, list)) or not all(map(_is_case, cases)):
            remedy = "give a number, or a list of {head, relation, tail} by id"
            raise InputError(f"{self.cases!r} are no cases", "kgqa.cases", remedy)


def _is_case(case: object) -> bool:
    named = isinstance(case, dict) and set(case) == {"head", "relation", "tail"}
    return named and is_reference(case["head"]) and isinstance(case["relation"], str) and is_reference(case["tail"])


def kgqa(spec: dict, graph: Path, model: Path, weights: Path, out: Path) -> None:
    """Ask head, tail and relation prediction and triple classification; write accuracies and cases.

    `floors` holds what counting in train alone gets right of the same questions (`floor_answers`).
    An answer is right when its first line begins with the name of the expected entity (the relation's text,
    yes or no) and with no longer one; `accuracy_any_true` counts answers that are true in any split.
    """
    options = choose_options(spec, Parameters)
    knowledge = Graph.read(graph)
    check_run(spec["run"], weights, model, knowledge)
    triples = sample_triples(knowledge, options["questions"], options["seed"])
    shown = _shown_triples(knowledge, triples, options["cases"])
    loaded, tokenizer = load_pair(model, weights, options["dtype"])
    wording = Wording(knowledge, _entity_texts(knowledge, options, tokenizer), options["prefix_inverse"])
    tasks, floors, cases = {}, {}, []
    for task in options["tasks"]:
        candidates = wording.candidates(task)
        questions = build_questions(wording, task, triples, options["seed"])
        extra = [wording.ask(task, triple) for triple in shown]
        tasks[task], floors[task] = {}, grade(questions, floor_answers(wording, task, questions), candidates)
        for setting in options["settings"]:
            prompts, left_out = _compose_all(wording, task, questions + extra, setting, loaded, tokenizer, options)
            answers = answer(loaded, tokenizer, prompts, options["new_tokens"], options["batch_size"])
            asked = len(questions)
            tasks[task][setting] = grade(questions, answers[:asked], candidates) | {"examples_left_out": left_out}
            for row, question in enumerate(extra, start=asked):
                cases.append(_case(wording, question, setting, prompts[row], answers[row], candidates))
    write_json(identity(spec) | {"tasks": tasks, "floors": floors, "cases": cases, "options": options}, out)


def answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    new_tokens: int,
    batch_size: int,
) -> list[str]:
    """Greedy continuations of at most `new_tokens` tokens, one a prompt; equal prompts are asked once."""
    import torch

    lengths = {text: len(tokenizer(text)["input_ids"]) for text in prompts}
    order = sorted(lengths, key=lengths.get, reverse=True)
    answers: dict[str, str] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        inputs = tokenizer(
            batch, padding=True, padding_side="left", return_tensors="pt", return_token_type_ids=False
        ).to(model.device)
        with torch.inference_mode():
            # A checkpoint's own sampling settings must not reach a greedy decoding.
            output = model.generate(
                **inputs,
                max_new_tokens=new_tokens,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=tokenizer.pad_token_id,
            )
        new = output[:, inputs["input_ids"].shape[1] :]
        answers |= zip(batch, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True)
    return [answers[text] for text in prompts]


def grade(questions: list[Question], answers: list[str], candidates: frozenset[str]) -> dict:
    """Accuracy against the expected answer, with interval, and the share of answers that are true at all.

    "outcomes" has a letter for each question: "=" the expected answer, "+" another true one, "-" a false one.
    """
    outcomes = "".join(
        _outcome(question, named(text, candidates)) for question, text in zip(questions, answers, strict=True)
    )
    true = len(outcomes) - outcomes.count("-")
    return proportion(outcomes.count("="), len(outcomes)) | {
        "accuracy_any_true": true / len(outcomes) if outcomes else None,
        "outcomes": outcomes,
    }


def _outcome(question: Question, given: str | None) -> str:
    if given == _wanted(question):
        return "="
    return "+" if given in question.accepted else "-"


def _wanted(question: Question) -> str:
    if question.task == "classification":
        (word,) = question.accepted
        return word
    return normalise(question.expected)


def _compose_all(
    wording: Wording,
    task: str,
    questions: list[Question],
    setting: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    options: dict,
) -> tuple[list[str], int]:
    """The prompts of a setting, and how many worked examples had to be left out of them all together."""
    rows = options["examples"][: options["settings"][setting]]
    examples = worked_examples(wording, task, rows, options["seed"])
    limit = context_length(model, options["context"]) - options["new_tokens"]

    def length(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    composed = [compose(question, examples, length, limit) for question in questions]
    return [text for text, _ in composed], sum(count for _, count in composed)


def _case(
    wording: Wording, question: Question, setting: str, prompt: str, answer: str, candidates: frozenset[str]
) -> dict:
    head, relation, tail = question.triple
    return {
        "triple": [wording.names[head], wording.relations[relation], wording.names[tail]],
        "task": question.task,
        "setting": setting,
        "question": question.text,
        "prompt": prompt,
        "answer": answer.strip(),
        "expected": question.expected,
        "correct": named(answer, candidates) == _wanted(question),
    }


def _entity_texts(graph: Graph, options: dict, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    words, tokens = options["maximum_words"], options["maximum_tokens"]
    texts = [" ".join(text.split()[:words]) for text in graph.entity_texts(options["entity_text"])]
    return texts if tokens is None else cut_texts(texts, tokenizer, tokens)


def _shown_triples(graph: Graph, sample: np.ndarray, cases: int | list[dict]) -> list[tuple[int, int, int]]:
    if isinstance(cases, int):
        return [tuple(triple) for triple in sample[:cases].tolist()]
    return [
        (
            find_entity(graph, case["head"]),
            find_relation(graph, case["relation"]),
            find_entity(graph, case["tail"]),
        )
        for case in cases
    ]

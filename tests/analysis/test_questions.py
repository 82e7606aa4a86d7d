from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.analysis.questions import (
    NO,
    PROMPTS,
    TASKS,
    YES,
    Wording,
    build_questions,
    compose,
    corrupt_tails,
    floor_answers,
    named,
    normalise,
    sample_triples,
    worked_examples,
)
from kglm.errors import InputError
from kglm.kg.graph import Graph

COMPLETION = """\
Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.

### Instruction:
Given the head entity and relation, write a tail entity that completes the triple

### Input:
{}

### Response:
"""
PLAIN = """\
Below is an instruction that describes a task. Write a response that appropriately completes the request.

### Instruction:
{}

### Response:
"""


@pytest.fixture(scope="module")
def wording(graph):
    return Wording(graph, graph.entity_texts())


def test_tail_prediction_asks_with_the_head_and_the_relation(wording):
    question = wording.ask("tail", (1, 1, 0))
    assert question.prompt == COMPLETION.format("Bonn, city upstream of Cologne, near")
    assert question.answer == "Cologne, city on the Rhine"
    assert question.expected == "Cologne"


def test_head_prediction_asks_with_the_tail_and_the_inverse_relation(wording, graph):
    question = wording.ask("head", (3, 0, 2))
    assert question.prompt == COMPLETION.format("Rhine, river; it rises in the Alps, inverse lies on")
    assert question.expected == "Basel"
    assert question.accepted == {"basel", "cologne", "bonn"}
    own = Wording(graph, graph.entity_texts("name"), prefix_inverse=False).ask("head", (3, 0, 2))
    assert own.prompt == COMPLETION.format("Rhine, flows through")


def test_relation_prediction_lists_all_relations(wording):
    question = wording.ask("relation", (0, 2, 2))
    asked = "What is the relation between Cologne and Rhine?"
    listed = f"{asked} Please choose your answer from: lies on|near|part of."
    assert question.prompt == PLAIN.format(listed)
    assert (question.expected, question.accepted) == ("part of", {"lies on", "part of"})
    without = wording.ask("relation", (0, 2, 2), choices=False)
    assert without.prompt == PLAIN.format(asked)


def test_classification_offers_both_answers(wording):
    asked = (
        'Is this true: Basel near Hamburg? Please choose your answer from: "Yes, this is true" or '
        '"No, this is not true".'
    )
    assert wording.ask("classification", (3, 1, 6)).prompt == PLAIN.format(asked)
    assert wording.ask("classification", (3, 1, 6)).expected == "Yes, this is true"
    assert wording.ask("classification", (3, 1, 6), true=False).expected == "No, this is not true"


def test_three_worked_examples_stand_before_the_question(wording):
    examples = worked_examples(wording, "tail", [0, 2, 3], seed=0)
    text, left_out = compose(wording.ask("tail", (1, 1, 0)), examples, len, 10_000)
    expected = [
        COMPLETION.format("Cologne, city on the Rhine, lies on") + "Rhine, river; it rises in the Alps",
        COMPLETION.format("Cologne, city on the Rhine, near") + "Bonn, city upstream of Cologne",
        COMPLETION.format("Hamburg, port, lies on") + "Elbe, river to Hamburg",
        COMPLETION.format("Bonn, city upstream of Cologne, near"),
    ]
    assert (text, left_out) == ("\n\n".join(expected), 0)


def test_worked_examples_come_from_training_and_repeat_no_list(wording, graph):
    train = set(map(tuple, graph.split("train").tolist()))
    for task in ("head", "tail", "relation"):
        examples = worked_examples(wording, task, [0, 17, 130], seed=0)
        assert len(examples) == 3
        assert {example.triple for example in examples} <= train
    assert "|" not in "".join(example.prompt for example in worked_examples(wording, "relation", [0, 1], seed=0))
    answers = [example.answer for example in worked_examples(wording, "classification", [0, 1, 2], seed=0)]
    assert answers == ["Yes, this is true", "No, this is not true", "Yes, this is true"]


@pytest.mark.parametrize("task", TASKS)
def test_a_long_prompt_loses_worked_examples_and_never_a_part_of_the_question(wording, task):
    question = wording.ask(task, (0, 2, 2))
    examples = worked_examples(wording, task, [0, 1, 2], seed=0)
    whole = len(compose(question, examples, len, 10**6)[0])
    for limit in range(len(question.prompt), whole + 1):
        text, left_out = compose(question, examples, len, limit)
        assert len(text) <= limit
        assert text.endswith(question.prompt)
        assert text.count("### Instruction:") == 4 - left_out
    assert left_out == 0
    with pytest.raises(InputError, match=f"task {task}.*longer context"):
        compose(question, examples, len, len(question.prompt) - 1)


def random_graph(seed: int, entities: int, relations: int, count: int) -> Graph:
    generator = np.random.default_rng(seed)
    names = [f"e{number}" for number in range(entities)]
    frame = pd.DataFrame({"id": names, "name": names, "description": "", "in_train": True})
    labels = [f"r{number}" for number in range(relations)]
    triples = pd.DataFrame(
        {
            "split": generator.choice(["train", "valid", "test"], count),
            "head": generator.integers(entities, size=count),
            "relation": generator.integers(relations, size=count),
            "tail": generator.integers(entities, size=count),
            "label": 1,
        }
    )
    return Graph(frame, pd.DataFrame({"id": labels, "text": labels, "inverse": labels}), triples)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.integers(1, 80), st.integers(0, 5))
def test_corrupted_tails_make_no_true_triple(graph_seed, entities, relations, count, seed):
    graph = random_graph(graph_seed, entities, relations, count)
    true = set(zip(graph.triples["head"], graph.triples["relation"], graph.triples["tail"], strict=True))
    for name in ("train", "valid", "test"):
        triples = graph.split(name)
        corrupted = corrupt_tails(graph, triples, seed)
        assert (corrupted[:, :2] == triples[:, :2]).all()
        for head, relation, tail in corrupted.tolist():
            complete = all((head, relation, entity) in true for entity in range(entities))
            assert complete if tail == -1 else (head, relation, tail) not in true
        assert (corrupt_tails(graph, triples, seed) == corrupted).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_classification_is_balanced_and_says_what_is_true(graph_seed, count):
    graph = random_graph(graph_seed, 12, 2, 60)
    triples = graph.split("test")[:count]
    questions = build_questions(Wording(graph, graph.entity_texts()), "classification", triples, 0)
    true = set(zip(graph.triples["head"], graph.triples["relation"], graph.triples["tail"], strict=True))
    assert all((question.triple in true) == (question.expected[:3] == "Yes") for question in questions)
    assert sum(question.triple in true for question in questions) * 2 == len(questions)


def test_triples_are_drawn_from_test_and_the_same_for_the_same_seed(graph):
    test = set(map(tuple, graph.split("test").tolist()))
    drawn = [tuple(map(tuple, sample_triples(graph, 3, seed).tolist())) for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert all(len(set(triples)) == 3 and set(triples) <= test for triples in drawn)
    assert set(map(tuple, sample_triples(graph, None, 0).tolist())) == test


def test_an_answer_names_the_longest_candidate_it_begins_with():
    names = frozenset(map(normalise, ["Elbe", "Elbe Canal", "St. Louis", "lies on", "Åland", "yes", "C"]))
    assert named(" Elbe, river to Hamburg", names) == "elbe"
    assert named("Elbe Canal, a canal", names) == "elbe canal"
    assert named("The Elbe", names) is None
    assert named("Elbeland", names) is None
    assert named('"ELBE  canal".\n### Instruction: Elbe', names) == "elbe canal"
    assert named("\n\nElbe\nElbe Canal", names) == "elbe"
    assert named("St. Louis, city", names) == "st. louis"
    assert named("A\u030aland is an archipelago", names) == "åland"
    assert named("Yes, this is true", names) == "yes"
    assert named("yesterday", names) is None
    assert named("", names) is None
    assert named(" .,\n", names) is None


def test_an_answer_names_what_is_written_without_spaces_or_with_punctuation():
    names = frozenset(map(normalise, ["北京", "北京大学", "서울", "Yahoo!", "(500) Days"]))
    assert named("北京是首都", names) == "北京"
    assert named("北京大学在北京", names) == "北京大学"
    assert named("서울은 크다", names) == "서울"
    assert named("Yahoo! is a company", names) == "yahoo"
    assert named("(500) Days, a film", names) == normalise("(500) Days")


@given(st.text("abcäß 7.-", min_size=1), st.sampled_from(["", ",", ", and more", "\nmore", '".']))
def test_every_name_names_itself_whatever_follows(text, rest):
    name = normalise(text)
    assert named(text + rest, frozenset({name, ""})) == (name or None)


def test_the_prompts_shown_are_those_asked(ring_graph):
    """Placeholders stand where a triple's names do, in each task."""
    wording = Wording(ring_graph, ring_graph.entity_texts("name"))
    triple = tuple(ring_graph.split("test")[0].tolist())
    head, relation, tail = wording.names[triple[0]], wording.relations[triple[1]], wording.names[triple[2]]
    filled = {
        "[inverse relation]": f"inverse {relation}",
        "[relation list]": "|".join(wording.relations[: ring_graph.relation_count]),
        "[head entity]": head,
        "[relation]": relation,
        "[tail entity]": tail,
    }
    assert set(PROMPTS) == set(TASKS)
    for task, prompt in PROMPTS.items():
        for placeholder, text in filled.items():
            prompt = prompt.replace(placeholder, text)
        assert wording.ask(task, triple).text == prompt


def test_floors_count_in_train(graph):
    wording = Wording(graph, graph.entity_texts("name"))
    questions = {task: [wording.ask(task, (6, 0, 5)), wording.ask(task, (1, 1, 0))] for task in TASKS}
    asked = {task: floor_answers(wording, task, of) for task, of in questions.items()}
    assert asked["tail"] == ["Rhine", "Bonn"]  # two of three train triples with "lies on"; the only one with "near"
    assert asked["head"] == ["Cologne", "Cologne"]  # of three heads that stand equally often, the first
    assert asked["relation"] == ["lies on", "lies on"]
    claims = [wording.ask("classification", triple) for triple in ((3, 0, 2), (3, 0, 5), (3, 1, 2))]
    assert floor_answers(wording, "classification", claims) == [YES, NO, NO]
    (unseen,) = floor_answers(without_near(wording), "tail", [wording.ask("tail", (1, 1, 0))])
    assert unseen == "Rhine"  # the tail most often found in all of train


def without_near(wording: Wording) -> Wording:
    triples = wording.graph.triples
    kept = triples[(triples["relation"] != 1) | (triples["split"] != "train")].reset_index(drop=True)
    return Wording(replace(wording.graph, triples=kept), wording.texts)

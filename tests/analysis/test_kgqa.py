import pytest
import torch

from kglm.analysis import kgqa as module
from kglm.analysis.common import wilson
from kglm.analysis.kgqa import answer, grade, kgqa
from kglm.analysis.loading import load_pair
from kglm.analysis.questions import TASKS, Wording
from kglm.errors import InputError
from kglm.files import read_json
from kglm.published.consistency import kgqa_problems

from .conftest import IDENTITY, SPEC


def ask_all(graph_folder, model_folder, weights_folder, path, **options) -> dict:
    kgqa(SPEC | {"options": options}, graph_folder, model_folder, weights_folder, path)
    return read_json(path)


def test_batched_answers_are_greedy_continuations_of_each_prompt(model_folder):
    model, tokenizer = load_pair(model_folder, None)
    prompts = ["Rhine", "a much longer prompt about the Rhine", "Elbe,", "Rhine", "x"]
    answers = answer(model, tokenizer, prompts, new_tokens=6, batch_size=3)
    for prompt, got in zip(prompts, answers, strict=True):
        ids = tokenizer(prompt)["input_ids"]
        start = len(ids)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        assert got == tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_grading_counts_the_expected_answer_and_every_true_one(graph):
    wording = Wording(graph, graph.entity_texts())
    tail = wording.ask("tail", (6, 0, 5))  # Hamburg lies on: Elbe Canal (asked for) and Elbe (true too)
    graded = grade([tail] * 4, ["Elbe Canal, a canal", "elbe", "Rhine", "The Elbe Canal"], wording.candidates("tail"))
    assert graded == {
        "accuracy": 0.25,
        "confidence": wilson(1, 4),
        "questions": 4,
        "accuracy_any_true": 0.5,
        "outcomes": "=+--",
    }
    no = wording.ask("classification", (3, 1, 2), true=False)
    graded = grade([no, no], ["No, this is not true", "Yes, this is true"], wording.candidates("classification"))
    assert graded["accuracy"] == graded["accuracy_any_true"] == 0.5


def test_all_tasks_are_asked_in_both_settings(graph_folder, model_folder, weights_folder, tmp_path):
    result = ask_all(graph_folder, model_folder, weights_folder, tmp_path / "kgqa.json", questions=3)
    assert result.items() >= IDENTITY.items()
    assert list(result["tasks"]) == list(TASKS)
    for task, settings in result["tasks"].items():
        assert list(settings) == ["zero_shot", "few_shot"]
        for setting in settings.values():
            assert setting["questions"] == (4 if task == "classification" else 3)
            assert setting["confidence"] == wilson(
                round(setting["accuracy"] * setting["questions"]), setting["questions"]
            )
            assert setting["examples_left_out"] == 0
    again = ask_all(graph_folder, model_folder, weights_folder, tmp_path / "again.json", questions=3)
    assert again == result


def test_cases_are_those_named_with_prompt_answer_and_verdict(graph_folder, model_folder, weights_folder, tmp_path):
    case = {"head": {"name": "Hamburg", "description": "port"}, "relation": "lies on", "tail": "elbe-canal"}
    result = ask_all(graph_folder, model_folder, weights_folder, tmp_path / "kgqa.json", cases=[case], questions=1)
    assert [(case["task"], case["setting"]) for case in result["cases"]] == [
        (task, setting) for task in TASKS for setting in ("zero_shot", "few_shot")
    ]
    for case in result["cases"]:
        relation = "lies on"
        assert case["triple"] == ["Hamburg", relation, "Elbe Canal"]
        assert case["prompt"].count("### Instruction:") == (4 if case["setting"] == "few_shot" else 1)
        assert case["question"].split(": ")[-1] in case["prompt"]
        assert case["correct"] is False
    triple_completion = "Given the head entity and relation, write a tail entity that completes the triple"
    assert result["cases"][2]["question"] == f"{triple_completion}: Hamburg, port, lies on"
    expected = [case["expected"] for case in result["cases"]][::2]
    assert expected == ["Hamburg", "Elbe Canal", "lies on", "Yes, this is true"]


def test_a_model_that_knows_everything_is_always_right(
    graph, graph_folder, model_folder, weights_folder, tmp_path, monkeypatch
):
    wording = Wording(graph, graph.entity_texts())
    known = {}
    for triple in map(tuple, graph.split("test").tolist()):
        for task in ("head", "tail", "relation"):
            question = wording.ask(task, triple)
            known[question.prompt] = question.answer

    def oracle(model, tokenizer, prompts, new_tokens, batch_size):
        return [next(text for prompt, text in known.items() if asked.endswith(prompt)) for asked in prompts]

    monkeypatch.setattr(module, "answer", oracle)
    path = tmp_path / "kgqa.json"
    result = ask_all(graph_folder, model_folder, weights_folder, path, tasks=["head", "tail", "relation"])
    for settings in result["tasks"].values():
        assert {setting["accuracy"] for setting in settings.values()} == {1.0}
        assert {setting["accuracy_any_true"] for setting in settings.values()} == {1.0}
    assert all(case["correct"] for case in result["cases"])
    assert len(result["cases"]) == 2 * 3 * 2


def test_floors_are_graded_on_the_questions_asked(graph_folder, model_folder, weights_folder, tmp_path):
    """Of the four test triples, tails are counted right for none, heads for none, "lies on" is right once."""
    result = ask_all(graph_folder, model_folder, weights_folder, tmp_path / "kgqa.json")
    floors = result["floors"]
    assert {task: told["questions"] for task, told in floors.items()} == {
        task: settings["zero_shot"]["questions"] for task, settings in result["tasks"].items()
    }
    assert {task: told["accuracy"] for task, told in floors.items()}["relation"] == 0.25
    assert list(kgqa_problems(result)) == []
    floors["relation"]["accuracy"] = 0.5
    assert [problem.split(" is ")[0] for problem in kgqa_problems(result)] == ["kgqa.json relation floor"]


def test_texts_are_cut_to_tokens(graph, graph_folder, model_folder, weights_folder, tmp_path):
    case = {"head": "hamburg", "relation": "lies on", "tail": "elbe-canal"}
    options = {"cases": [case], "questions": 1, "tasks": ["tail"], "maximum_words": None, "maximum_tokens": 9}
    shown = ask_all(graph_folder, model_folder, weights_folder, tmp_path / "kgqa.json", **options)["cases"][0]
    tokenizer = load_pair(model_folder, None)[1]
    text = shown["question"].split(": ")[1].removesuffix(", lies on")
    whole = graph.entity_texts("name_and_description")[6]
    assert whole.startswith(text) and len(whole) > len(text) > 0
    assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) <= 9
    options["maximum_tokens"] = 500
    shown = ask_all(graph_folder, model_folder, weights_folder, tmp_path / "long.json", **options)["cases"][0]
    assert shown["question"].endswith(f": {whole}, lies on")


def test_what_does_not_fit_is_left_out_and_counted(graph_folder, model_folder, weights_folder, tmp_path):
    options = {"tasks": ["tail"], "questions": 2, "cases": 0, "context": 700}
    result = ask_all(graph_folder, model_folder, weights_folder, tmp_path / "kgqa.json", **options)
    assert result["tasks"]["tail"]["zero_shot"]["examples_left_out"] == 0
    assert 2 <= result["tasks"]["tail"]["few_shot"]["examples_left_out"] <= 6
    with pytest.raises(InputError, match="longer context"):
        ask_all(graph_folder, model_folder, weights_folder, tmp_path / "none.json", **options | {"context": 100})
    assert not (tmp_path / "none.json").exists()


def test_unknown_tasks_and_cases_are_told(graph_folder, model_folder, weights_folder, tmp_path):
    with pytest.raises(InputError, match="tasks: 'middle' is not known; choose one of head"):
        ask_all(graph_folder, model_folder, weights_folder, tmp_path / "x", tasks=["middle"])
    with pytest.raises(InputError, match="no entity"):
        ask_all(
            graph_folder,
            model_folder,
            weights_folder,
            tmp_path / "x",
            cases=[{"head": "Oz", "relation": "near", "tail": "bonn"}],
        )

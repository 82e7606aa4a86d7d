"""Tables of counts, parameters, costs and texts."""

import json

import pytest

from kglm.analysis.questions import PROMPTS
from kglm.errors import InputError
from kglm.paper.quotations import TASKS

from .conftest import make


def test_statistics(results):
    results.write("data/WN18RR/statistics.json", {"n": {"entities": 40943}, "train": 86834})
    spec = {
        "name": "statistics",
        "kind": "statistics",
        "paper": "KaLM",
        "table": "Table 2",
        "caption": "Counts.",
        "metrics": ["entities", "train"],
        "fields": {"entities": "n.entities", "train": "train"},
        "rows": [{"dataset": "WN18RR", "measured": True}, {"dataset": "FB15k-237", "measured": False}],
    }
    tex, cells, text = make(spec, results)
    assert list(cells["difference"].dropna()) == [0, -1]
    assert "WN18RR & reported & 40,943 & 86,835" in tex
    assert "difference & 0 & $-$1" in tex
    assert "Not counted at this scale: FB15k-237." in text
    with pytest.raises(InputError, match=r"n\.nothing is no whole number"):
        make(spec | {"fields": {"entities": "n.nothing", "train": "train"}}, results)


def test_hyper_parameters(results):
    results.write(
        "specs/run/mine.json",
        {
            "parameters": {"lora_modules": "ffn", "lora_alpha": 16},
            "training": {"learning_rate": 0.001, "precision": "bf16"},
        },
    )
    spec = {
        "name": "parameters",
        "kind": "hyper_parameters",
        "paper": "KaLM",
        "table": "Table 3",
        "caption": "Parameters.",
        "rows": [
            {"metric": "lora-module", "field": "parameters.lora_modules"},
            {"metric": "lora-alpha", "field": "parameters.lora_alpha"},
            {"metric": "learning-rate", "field": "training.learning_rate"},
            {"metric": "bf16", "field": "training.precision", "equals": "bf16"},
            {"metric": "optimizer"},
        ],
        "blocks": [{"dataset": "WN18RR", "run": "mine"}, {"dataset": "FB15k-237"}],
    }
    tex, cells, text = make(spec, results)
    assert "learning-rate & 1e-4 & 0.001 & 1e-4" in tex
    assert "bf16 & True & True & True" in tex
    assert cells.set_index(["dataset", "row"]).loc[("WN18RR", "learning-rate"), "difference"] == pytest.approx(0.0009)
    assert "WN18RR, not as in the paper: learning-rate." in text
    assert "Not run at this scale: FB15k-237." in text
    assert "fixed in the code: optimizer." in text
    _, _, long = make(spec | {"layout": "long"}, results)
    assert "| learning-rate | 1e-4 | 0.001 |" in long and "| **FB15k-237** |" in long
    rows = [*spec["rows"][:-1], {"metric": "optimizer", "fixed": "AdamW"}]
    tex, _, text = make(spec | {"rows": rows}, results)
    assert "optimizer & AdamW & AdamW & AdamW" in tex and "fixed in the code" not in text


def test_cases_and_entities(results):
    results.run("ten")
    series = [{"label": "first", "run": "ten"}, {"label": "second", "run": "twenty"}]
    spec = {"name": "cases", "kind": "cases", "caption": "Cases.", "setting": "zero_shot", "series": series}
    tex, cells, text = make(spec, results)
    triple = "⟨a_b, r, c & d⟩"
    assert list(cells.columns) == ["Task", "Prompt", f"{triple}: first", f"{triple}: second"]
    assert list(cells["Task"]) == [f"{TASKS[task]}" for task in ("head", "relation", "tail", "classification")]
    assert list(cells["Prompt"]) == list(PROMPTS.values())
    assert cells[f"{triple}: first"].str.endswith("✓").sum() == 3
    assert "Not run: second." in text and "zero-shot; n = 4 questions." in text
    assert r"\textcolor[rgb]{0,0.42,0.24}{c \textbackslash{}\& d $\surd$}" in tex
    assert r"\multicolumn{2}{>{\raggedright\arraybackslash}p{0.56\linewidth}}{$\langle$a\_b, r, c \& d$\rangle$}" in tex
    tex, cells, _ = make({"name": "who", "kind": "entities", "caption": "Who.", "run": "ten"}, results)
    assert list(cells["Entity"]) == ["e0", "e1", "e2"]
    assert r"100 \% of \$x\_\{1\}\$ \# \textbackslash{}end\{table\}" in tex
    path = results.root / "runs/ten/similarity.json"
    labels = json.loads(path.read_text("utf-8"))
    labels["entities"] = [entity | {"text": f"e, {'long ' * 200}"} for entity in labels["entities"]]
    results.write("runs/ten/similarity.json", labels)
    _, cells, _ = make({"name": "who", "kind": "entities", "caption": "Who.", "run": "ten"}, results)
    assert cells["Description"][0].count("long") == 200  # as the encoder read it


def test_statistics_of_the_other_papers(results):
    results.write("data/umls_long/statistics.json", {"words": 161.5, "texts": {"descriptions": 135}, "train": 5216})
    results.write("data/umls/statistics.json", {"words": None, "texts": {"descriptions": 0}, "train": 5216})
    spec = {
        "name": "statistics",
        "kind": "statistics",
        "paper": "LMKE",
        "table": "Table 3",
        "caption": "Counts.",
        "metrics": ["train", "description-words", "text"],
        "fields": {"train": "train", "description-words": "words", "text": "texts.descriptions"},
        "rows": [
            {"dataset": "umls_long", "reported": "UMLS", "label": "UMLS", "measured": True},
            {"dataset": "umls", "measured": True},
        ],
    }
    tex, cells, text = make(spec, results)
    assert "| Dataset |  | train | words a description | descriptions |" in text
    assert "UMLS & reported & 5,216 & 161.7 &  " in tex
    assert "reproduced & 5,216 & 161.5 & Yes" in tex
    assert "difference & 0 & $-$0.2 &" in tex
    assert "umls & reproduced & 5,216 &  & No" in tex
    assert cells["difference"].dropna().tolist() == [0, pytest.approx(-0.2)]
    with pytest.raises(InputError, match="wordz is no whole number"):
        make(spec | {"fields": spec["fields"] | {"description-words": "wordz"}}, results)


COST = {
    "name": "cost",
    "kind": "cost",
    "paper": "LMKE",
    "table": "Table 1",
    "caption": "Costs.",
    "rows": [{"label": "StAR"}, {"label": "C-LMKE", "run": "ten"}],
}


def test_cost(results):
    results.run("ten")
    tex, cells, text = make(COST, results)
    assert r"link prediction: O(\textbar{}E\textbar{} \textbar{}R\textbar{})" in tex
    assert "sequences encoded & 64 & 1,280 & 1.50" in tex
    assert "seconds & 0.50 & 1.25 & 0.88" in tex
    assert "entities & 8 & 16 & " in tex
    assert r"*training: O(N\_train)*" in text
    assert "Measured: C-LMKE: llama-2-7b on WN18RR (cpu)." in text
    assert "Not run: StAR." in text
    values = cells[cells["row"] == "C-LMKE"].set_index("metric")
    assert values.loc["link prediction: exponent of sequences encoded", "reproduced"] == 1.5
    assert values.loc["link-prediction", "reported"] == "O(N_eval + |E|)"
    assert not cells.duplicated(["row", "metric"]).any()


def test_the_formula_stands_with_what_is_published(results):
    """StAR's with all pairs; what is encoded here has a line of its own, without it."""
    results.run("ten")
    path = results.root / "runs/ten/cost.json"
    measured = json.loads(path.read_text("utf-8"))
    pairs = measured["link_prediction"] | {"relations": measured["link_prediction"]["triples"]}
    results.write("runs/ten/cost.json", measured | {"all_pairs": pairs})
    _, cells, text = make(COST | {"rows": [{"label": "StAR", "run": "ten"}]}, results)
    assert r"all pairs encoded as published: O(\|E\| \|R\|)*" in text
    assert "*link prediction here, the asked queries alone encoded*" in text
    assert "over 1 + their number" in text
    assert not cells.duplicated(["row", "metric"]).any()


def test_cost_line_by_line(results):
    results.run("ten")
    _, _, text = make(COST | {"layout": "long"}, results)
    assert "training: exponent of seconds |  | 0.88 |" in text
    assert any(line.startswith("| training |") and line.endswith("|  |") for line in text.split("\n"))


def test_cost_without_any_run(results):
    tex, cells, text = make(COST | {"rows": [{"label": "StAR"}]}, results)
    assert cells["reproduced"].isna().all()
    assert "Not run: StAR." in text
    assert r"\begin{tabular}{lr}" in tex


def test_cost_with_a_size_too_few(results):
    results.run("ten")
    path = results.root / "runs/ten/cost.json"
    path.write_text(path.read_text("utf-8").replace("[32, 64]", "[32]"), "utf-8")
    with pytest.raises(InputError, match="as many sizes as measures of training"):
        make(COST, results)

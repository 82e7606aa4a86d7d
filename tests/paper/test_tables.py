"""Tables: cells, marks, notes, and the three files."""

import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.files import atomic_file
from kglm.paper.inputs import table_inputs
from kglm.paper.layout import Layout, Line, best_marks, number, to_latex, to_markdown
from kglm.paper.tables import table

GOLDEN = Path(__file__).with_name("golden_table.tex")
EPOCHS = {
    "name": "epochs",
    "scale": "tiny",
    "kind": "link_prediction",
    "paper": "KaLM",
    "table": "Table 6",
    "caption": "Epochs & nothing_else.",
    "model": "llama-2-7b",
    "metrics": ["MR", "MRR", "PPL"],
    "rows": [{"label": f"KaLM (epoch={epochs})"} for epochs in (10, 20, 30)],
    "blocks": [
        {"dataset": "WN18RR", "runs": {"KaLM (epoch=10)": "ten", "KaLM (epoch=20)": "twenty"}},
        {
            "dataset": "umls",
            "title": "UMLS",
            "runs": {"KaLM (epoch=10)": "own"},
            "labels": {"KaLM (epoch=10)": "mine_1"},
        },
    ],
}


def make(spec: dict, results) -> tuple[str, pd.DataFrame, str]:
    out = results.root / "tables" / spec["name"]
    table(spec, results.paths(table_inputs(spec)), out)
    return (
        out.with_suffix(".tex").read_text("utf-8"),
        pd.read_csv(out.with_suffix(".csv"), dtype={"run": str, "seeds": str}, keep_default_na=True),
        out.with_suffix(".md").read_text("utf-8"),
    )


@pytest.fixture
def epochs(results):
    results.run("ten", mrr=0.5)
    results.run("twenty", mrr=0.6)
    results.run("own", mrr=0.9, model="small", dataset="umls")
    return make(EPOCHS, results)


def test_golden(epochs):
    """Regenerate with KGLM_REGENERATE=1 and look at the difference."""
    tex, _, _ = epochs
    if os.environ.get("KGLM_REGENERATE"):
        with atomic_file(GOLDEN) as temporary:
            temporary.write_text(tex, "utf-8")
    assert tex == GOLDEN.read_text("utf-8")


def test_csv_has_one_row_a_cell(epochs):
    _, cells, _ = epochs
    assert (
        ",".join(cells.columns)
        == "table,row,dataset,metric,reported,reproduced,difference,low,high,seeds,run,unit,audit"
    )
    assert not cells.duplicated(["row", "dataset", "metric"]).any()
    cell = cells.set_index(["dataset", "row", "metric"]).loc[("WN18RR", "KaLM (epoch=10)", "MRR")]
    assert (cell["reported"], cell["reproduced"], cell["low"], cell["high"]) == (0.517, 0.5, 0.48, 0.53)
    assert cell["difference"] == pytest.approx(0.5 - 0.517)
    assert (cell["seeds"], cell["run"]) == ("0", "ten")


def test_the_difference_is_reproduced_minus_reported(epochs):
    tex, cells, text = epochs
    ranks = cells[(cells["metric"] == "MR") & (cells["dataset"] == "WN18RR")].set_index("row")["difference"]
    assert ranks["KaLM (epoch=10)"] == pytest.approx(20.5 - 20.1)
    assert "+0.4" in tex
    assert "$-$0.017" in tex
    assert "−0.017" in text


def test_other_models_and_datasets_get_no_difference(results):
    results.run("ten", model="small")
    results.run("own", model="small", dataset="umls")
    _, cells, text = make(EPOCHS, results)
    assert cells["difference"].isna().all()
    assert "WN18RR: run with small, the paper with llama-2-7b" in text
    assert "UMLS: run with small; the paper has no such block" in text


def test_a_row_may_have_another_base_model_in_the_paper(results):
    results.run("ten", mrr=0.5, model="llama-3-8b")
    row = {"label": "KaLM (Llama-3-8B)", "paper": "KaLM (COLING 2025)", "table": "link prediction"}
    blocks = [{"dataset": "WN18RR", "runs": {row["label"]: "ten"}}]
    for model, difference in (({"model": "llama-3-8b"}, 0.5 - 0.613), ({}, float("nan"))):
        _, cells, text = make(EPOCHS | {"rows": [row | model], "blocks": blocks}, results)
        found = cells.set_index("metric").loc["MRR", "difference"]
        assert found == pytest.approx(difference, nan_ok=True)
        assert ("no difference" in text) == (not model)


def test_rows_that_were_not_run_are_blank_and_named(epochs):
    _, cells, text = epochs
    missing = cells[(cells["row"] == "KaLM (epoch=30)")]
    assert missing["reproduced"].isna().all()
    assert missing["run"].isna().all()
    assert "WN18RR, not run: KaLM (epoch=30)." in text
    assert "KaLM (epoch=20), " not in text


def test_a_run_without_results_is_not_run(results):
    results.run("twenty")
    _, cells, text = make(EPOCHS, results)
    assert "WN18RR, not run: KaLM (epoch=10), KaLM (epoch=30)." in text
    assert "UMLS: nothing was run on it at this scale." in text
    assert len(cells[cells["dataset"] == "umls"]) == 3


def test_several_seeds_give_mean_and_student_interval(results):
    from scipy import stats

    values = [0.5, 0.6, 0.55]
    for seed, value in enumerate(values):
        results.run(f"s{seed}", mrr=value, seed=seed)
    spec = EPOCHS | {"blocks": [{"dataset": "WN18RR", "runs": {"KaLM (epoch=10)": ["s0", "s1", "s2"]}}]}
    _, cells, text = make(spec, results)
    cell = cells[(cells["metric"] == "MRR") & cells["run"].notna()].iloc[0]
    low, high = stats.t.interval(0.95, 2, loc=0.55, scale=stats.sem(values))
    assert cell["reproduced"] == pytest.approx(0.55)
    assert (cell["low"], cell["high"]) == (pytest.approx(low), pytest.approx(high))
    assert (cell["seeds"], cell["run"]) == ("0 1 2", "s0 s1 s2")
    assert "Means over seeds; intervals: 95 %, Student's." in text


def test_intervals_of_one_run_and_of_several_are_told_apart(results):
    for seed in range(2):
        results.run(f"s{seed}", mrr=0.5 + seed / 10, seed=seed)
    shown = {"KaLM (epoch=10)": ["s0", "s1"], "KaLM (epoch=20)": "s0"}
    *_, text = make(EPOCHS | {"blocks": [{"dataset": "WN18RR", "runs": shown}]}, results)
    assert "Intervals: 95 %, bootstrap over triples; means over seeds with Student's: KaLM (epoch=10)." in text


def test_mixed_evaluation_versions_are_refused(results):
    results.run("ten")
    about = results.run("twenty")
    both = {"MR": 1.0, "MRR": 1.0}
    results.write("runs/twenty/metrics.json", about | {"evaluation_version": 2, "metrics": {"test": {"both": both}}})
    with pytest.raises(InputError, match="mixes the evaluation versions"):
        make(EPOCHS, results)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"blocks": [{"dataset": "umls", "runs": {"KaLM (epoch=10)": "ten"}}]}, "ran on WN18RR, not on umls"),
        ({"blocks": [{"dataset": "WN18RR", "runs": {"KaLM": "ten"}}]}, "runs name the row 'KaLM'"),
        ({"rows": [{"label": "a"}, {"label": "a"}]}, "two rows have the same label"),
        ({"metrics": ["Hits@3", "Hits@7"]}, "the run ten has no Hits@7"),
        ({"group": "degree/9"}, "metrics.json has no group 'degree/9'"),
    ],
)
def test_a_table_that_does_not_fit_its_runs(results, change, complaint):
    results.run("ten")
    with pytest.raises(InputError) as error:
        make(EPOCHS | change, results)
    assert complaint in str(error.value)
    assert not (results.root / "tables").exists()


def test_results_of_another_run_are_refused(results):
    results.run("ten")
    moved = results.root / "runs" / "ten"
    moved.rename(results.root / "runs" / "twenty")
    with pytest.raises(InputError, match="belongs to the run 'ten'"):
        make(EPOCHS, results)


def cells_of(metric: str, values: list[str | None], kind: str = "reported", papers: str = "") -> pd.DataFrame:
    common = {"metric": metric, "unit": "fraction", "reported": None, "reproduced": None}
    rows = [common | {"row": f"r{i}", "paper": papers[i : i + 1] or "p", kind: value} for i, value in enumerate(values)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("metric", "values", "best", "second"),
    [
        ("MRR", ["0.1", "0.3", "0.2"], {"r1"}, {"r2"}),
        ("MR", ["10", "30", "20"], {"r0"}, {"r2"}),
        ("MRR", ["0.3", "0.3", "0.2", None], {"r0", "r1"}, {"r2"}),
        ("MRR", ["0.1", "0.3"], {"r1"}, set()),
        ("MRR", ["0.3", None], set(), set()),
        ("MRR", ["0.3", "0.3", "0.3"], {"r0", "r1", "r2"}, set()),
    ],
)
def test_best_and_second(metric, values, best, second):
    marks = best_marks(cells_of(metric, values))
    assert {place[1] for place, mark in marks.items() if mark == "best"} == best
    assert {place[1] for place, mark in marks.items() if mark == "second"} == second


def test_reported_numbers_compete_within_their_paper_only():
    marks = best_marks(cells_of("MRR", ["0.1", "0.2", "0.8", "0.9"], papers="aabb"))
    assert {place[1] for place in marks} == {"r1", "r3"}


def test_marks_go_by_what_is_printed():
    marks = best_marks(cells_of("MRR", [0.50001, 0.50002, 0.4], kind="reproduced"))
    assert {place[1]: mark for place, mark in marks.items()} == {"r0": "best", "r1": "best", "r2": "second"}


@pytest.mark.parametrize(
    ("value", "unit", "signed", "shown"),
    [
        (0.12345, "fraction", False, "0.123"),
        (-0.0001, "fraction", True, "0.000"),
        (0.25, "fraction", True, "+0.250"),
        (15969.04, "rank", False, "15969.0"),
        (1.987, "rank", False, "1.99"),
        (-4.6, "rank", True, "−4.60"),
        (272115, "count", False, "272,115"),
        (-1200, "count", True, "−1,200"),
        (float("nan"), "fraction", False, ""),
        (None, "rank", True, ""),
        ("att-ffn", "text", False, "att-ffn"),
    ],
)
def test_numbers_as_printed(value, unit, signed, shown):
    assert number(value, unit, signed) == shown


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
def test_any_text_keeps_the_shape_of_the_table(rows):
    layout = Layout(["a | b", "c & d"], "ll", [Line(list(row), ["", "best"]) for row in rows])
    lines = to_latex(layout).rstrip("\n").split("\n")
    assert len(lines) == 6 + len(rows)
    assert all(line.replace(r"\&", "").count("&") == 1 and line.endswith(r" \\") for line in lines[4:-2])
    marked = to_markdown(layout).rstrip("\n").split("\n")
    assert len(marked) == 2 + len(rows)
    assert all(line.replace("\\\\", "").replace("\\|", "").count("|") == 3 for line in marked)


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


def test_cases_and_entities(results):
    results.run("ten")
    series = [{"label": "first", "run": "ten"}, {"label": "second", "run": "twenty"}]
    spec = {"name": "cases", "kind": "cases", "caption": "Cases.", "setting": "zero_shot", "series": series}
    tex, cells, text = make(spec, results)
    assert list(cells.columns) == ["Task", "Question", "Expected", "first", "second"]
    assert len(cells) == 4
    assert cells["first"].str.endswith("✓").sum() == 3
    assert "Not run: second." in text
    assert r"\textbackslash{}\& d $\surd$" in tex
    tex, cells, _ = make({"name": "who", "kind": "entities", "caption": "Who.", "run": "ten"}, results)
    assert list(cells["Entity"]) == ["e0", "e1", "e2"]
    assert r"100 \% of \$x\_\{1\}\$ \# \textbackslash{}end\{table\}" in tex


PERCENT = {
    "name": "percent",
    "kind": "link_prediction",
    "paper": "KG-BiLM",
    "table": "Table 7",
    "caption": "Percent.",
    "model": "gpt2-medium",
    "metrics": ["MR", "MRR"],
    "rows": [
        {"label": "TransE", "model": "none"},
        {"label": "mask", "method": "KG-BiLM (Ours)"},
        {"label": "untrained"},
    ],
    "blocks": [{"dataset": "WN18RR", "runs": {"TransE": "ten", "mask": "twenty", "untrained": "own"}}],
}


def test_percent_and_fractions_meet_in_the_papers_unit(results):
    """24.3 is printed as the paper prints it; what was measured as 0.25 stands beside it as 25.0, 0.7 apart."""
    results.run("ten", mrr=0.25, model="none")
    results.run("twenty", mrr=0.5, model="gpt2-medium")
    results.run("own", mrr=0.0125, model="gpt2-medium")
    tex, cells, text = make(PERCENT, results)
    cell = cells.set_index(["row", "metric"]).loc[("TransE", "MRR")]
    assert (cell["reported"], cell["reproduced"], cell["unit"]) == (24.3, 25.0, "percent")
    assert cell["difference"] == pytest.approx(0.7)
    assert (cell["low"], cell["high"]) == (pytest.approx(23.0), pytest.approx(28.0))
    assert "MRR (%) ↑" in text
    assert "MR ↓" in text
    assert r"TransE & reported & 2300 & 24.3" in tex
    assert r"reproduced & \textbf{20.5} & \underline{25.0}" in tex
    assert "no base model" not in text


def test_a_dataset_may_be_called_otherwise_in_the_paper(results):
    """UMLS with long texts is the paper's UMLS; the reported number is found, and so is the run."""
    results.run("ten", mrr=0.9, model="bert-base-uncased", dataset="umls_long")
    tex, cells, text = make(CLASSIFICATION, results)
    cell = cells.set_index(["row", "dataset"]).loc[("LMKE", "umls_long")]
    assert (cell["reported"], cell["reproduced"]) == (92.4, pytest.approx(90.0))
    assert cell["difference"] == pytest.approx(-2.4)
    assert "| Method |  | FB13 (%) ↑ | UMLS (%) ↑ |" in text
    assert r"LMKE & reported & \textbf{91.7} & \textbf{92.4} \\" in tex
    assert r"reproduced &  & 90.0 \\" in tex
    assert "Accuracy on test with one threshold, chosen on valid." in text
    assert "FB13: nothing was run on it at this scale." in text


CLASSIFICATION = {
    "name": "classes",
    "kind": "classification",
    "paper": "LMKE",
    "table": "Table 4",
    "caption": "Accuracies.",
    "model": "bert-base-uncased",
    "rows": [
        {"label": "KG-BERT"},
        {"label": "exBERT"},
        {"label": "LMKE", "method": "LMKE (BERT-base)"},
    ],
    "blocks": [
        {"dataset": "FB13"},
        {"dataset": "umls_long", "reported": "UMLS", "title": "UMLS", "runs": {"LMKE": "ten"}},
    ],
}


def test_rows_of_a_classification_keep_their_order(results):
    """exBERT has no number on the first dataset and still stands between the other two."""
    _, cells, text = make(CLASSIFICATION, results)
    assert list(dict.fromkeys(cells["row"])) == ["KG-BERT", "exBERT", "LMKE"]
    assert [line.split(" | ")[0] for line in text.split("\n") if " | reported | " in line] == [
        "| KG-BERT",
        "| exBERT",
        "| LMKE",
    ]


def test_a_row_may_have_another_threshold(results):
    results.run("ten", mrr=0.5)
    results.run("twenty", mrr=0.75)
    rows = [{"label": "LMKE"}, {"label": "TransE", "threshold": "relation"}]
    blocks = [{"dataset": "WN18RR", "runs": {"LMKE": "ten", "TransE": "twenty"}}]
    _, cells, text = make(CLASSIFICATION | {"rows": rows, "blocks": blocks}, results)
    found = cells.set_index("row")["reproduced"].dropna()
    assert found["TransE"] - found["LMKE"] == pytest.approx(25 + 1)
    assert "with one threshold, chosen on valid; of TransE with one threshold a relation." in text


def test_a_threshold_for_each_relation(results):
    results.run("ten", mrr=0.9, model="bert-base-uncased", dataset="umls_long")
    _, cells, text = make(CLASSIFICATION | {"threshold": "relation"}, results)
    assert cells["reproduced"].dropna().item() == pytest.approx(91.0)
    assert "one threshold a relation" in text
    with pytest.raises(InputError, match="has no 'test' by the threshold 'entity'"):
        make(TOKENS | {"threshold": "entity", "blocks": [{"dataset": "umls_long", "runs": {"LMKE": "ten"}}]}, results)


TOKENS = PERCENT | {
    "paper": "LMKE",
    "table": "Table 2",
    "metrics": ["MRR", "accuracy"],
    "rows": [{"label": "C-LMKE", "metrics": ["MRR"]}, {"label": "LMKE", "metrics": ["accuracy"]}],
    "blocks": [{"dataset": "WN18RR", "runs": {"C-LMKE": "ten", "LMKE": "twenty"}}],
}


def test_a_row_may_have_some_of_the_metrics(results):
    results.run("ten", mrr=0.5)
    results.run("twenty", mrr=0.75)
    _, cells, _ = make(TOKENS, results)
    known = cells.dropna(subset=["reproduced"]).set_index(["row", "metric"])["reproduced"]
    assert known.to_dict() == {("C-LMKE", "MRR"): 0.5, ("LMKE", "accuracy"): 0.75}


LEAKED = {
    "name": "leaked",
    "kind": "link_prediction",
    "paper": "LMKE (corrected)",
    "table": "Table 2",
    "caption": "Degrees.",
    "model": "bert-base-uncased",
    "metrics": ["MRR"],
    "rows": [
        {"label": "train", "method": "C-LMKE (BERT-base)"},
        {"label": "none"},
        {"label": "answer", "paper": "LMKE", "method": "C-LMKE (BERT-base)", "withdrawn": "leaked"},
    ],
    "blocks": [{"dataset": "WN18RR", "runs": {"train": "ten", "none": "twenty", "answer": "leak"}}],
}


def test_withdrawn_numbers_say_so_everywhere_and_are_never_best(results):
    for name, mrr in (("ten", 0.6), ("twenty", 0.5), ("leak", 0.9)):
        results.run(name, mrr=mrr, model="bert-base-uncased")
    tex, cells, text = make(LEAKED, results)
    for written in (tex, text, "".join(cells["row"])):
        assert "answer (leaked, withdrawn)" in written
        assert "answer" not in written.replace("answer (leaked, withdrawn)", "").replace("answer leaked", "")
    assert "| **0.600** |" in text
    assert "| 0.900 |" in text
    assert "neither best nor second: answer (leaked, withdrawn)." in text
    assert "withdrawn by its authors in June 2023" in text
    assert cells.set_index("row").loc["answer (leaked, withdrawn)", "difference"] == pytest.approx(0.9 - 0.598)


def test_how_a_row_was_ranked_is_told(results):
    for name, protocol in (("ten", "filtered"), ("twenty", "reranked"), ("leak", "candidates")):
        about = results.run(name)
        both = {"MRR": 0.5, "confidence": {}}
        metrics = about | {"evaluation_version": 1, "protocol": protocol, "metrics": {"test": {"both": both}}}
        results.write(f"runs/{name}/metrics.json", metrics)
    _, _, text = make(LEAKED, results)
    assert "* none: candidates near the query's entity in the training graph have a bonus." in text
    assert "withdrawn): orders anew the best candidates of another run" in text
    assert "* train:" not in text


def test_a_row_that_contradicts_itself_is_told(results):
    spec = PERCENT | {"table": "Table 8", "blocks": [{"dataset": "Wikidata5M-transductive", "reported": "Wikidata5M"}]}
    tex, cells, text = make(spec, results)
    said = "MRR is 0.403, but at least 0.397 + (0.430 − 0.397) / 3"
    assert f"* †Wikidata5M-transductive, mask: {said}" in text
    assert "* Wikidata5M-transductive, mask: Table 4 has the same numbers on valid." in text
    assert "| mask | reported† |" in text and text.count("reported†") == 1
    assert r"mask & reported$\dagger$" in tex and r"$\dagger$Wikidata5M" in tex
    flagged = cells.dropna(subset=["audit"])
    assert set(flagged["row"]) == {"mask"} and flagged["audit"].str.startswith(said).all()


def test_of_many_rows_those_that_were_run_are_named(results):
    results.run("ten", model="none")
    labels = ["TransE", "TransH", "DistMult", "TransR", "TransD", "ComplEx", "ConvE", "ConvKB", "R-GCN", "KBGAN"]
    spec = PERCENT | {"rows": [{"label": label, "model": "none"} for label in labels]}
    _, _, text = make(spec | {"blocks": [{"dataset": "WN18RR", "runs": {"TransE": "ten"}}]}, results)
    assert "WN18RR, run: TransE; no other." in text


def test_a_long_table_goes_over_pages(results):
    rows = [{"label": f"a row with quite a long name, number {number}"} for number in range(30)]
    results.run("ten")
    runs = {row["label"]: "ten" for row in rows}
    tex, _, _ = make(EPOCHS | {"rows": rows, "blocks": [{"dataset": "WN18RR", "runs": runs}]}, results)
    assert r"\begin{longtable}{llrrr}" in tex
    assert r"\begin{table}" not in tex
    assert tex.count(r"\caption{Epochs \& nothing\_else. Scale: tiny.} \label{tab:epochs}") == 1
    assert r"\caption[]{(continued)}" in tex
    body = tex.split(r"\endlastfoot")[1].split("\n")
    names = [line for line in body if "number" in line]
    assert all(line.endswith(r" \\*") for line in names)
    assert not any(line.endswith("*") for line in body if "interval" in line)


def test_a_long_name_takes_height_only_where_it_must():
    long = "a name of more than two dozen letters"
    lines = [Line([long, "reported"], ["", ""]), Line(["", "reproduced"], ["", ""]), Line([long, "reported"], ["", ""])]
    first, _, last = to_latex(Layout(["a", "b"], "ll", lines)).split("\n")[4:7]
    assert first.startswith(r"\smash{\parbox[t]")
    assert last.startswith(r"\parbox[t]")


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

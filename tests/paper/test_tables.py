"""Tables of results: cells, notes, and the three files."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest

from kglm.errors import InputError
from kglm.files import atomic_file
from kglm.paper.layout import best_marks

from .conftest import make

GOLDEN = Path(__file__).with_name("golden_table.tex")
GOLDEN_PAPER = Path(__file__).with_name("golden_paper_table.tex")


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


def test_golden_paper_form(results):
    """The datasets that the paper has side by side, the others below; regenerate as above."""
    for run, mrr in (("ten", 0.5), ("twenty", 0.6)):
        results.run(run, mrr=mrr)
    results.run("own", mrr=0.9, model="small", dataset="umls")
    blocks = [{"dataset": "WN18RR", "runs": {"KaLM (Ours)": "ten", "ours alone": "twenty"}}]
    blocks += [{"dataset": "FB15k-237"}, {"dataset": "umls", "title": "UMLS", "runs": {"KaLM (Ours)": "own"}}]
    rows = [{"label": "SimKGC", "section": "others"}, {"label": "KaLM (Ours)"}, {"label": "ours alone"}]
    about = {"layout": "paper", "table": "Table 1", "metrics": ["MR", "Hits@1"], "headers": {"Hits@1": "H@1"}}
    tex, cells, text = make(EPOCHS | about | {"rows": rows, "blocks": blocks}, results)
    if os.environ.get("KGLM_REGENERATE"):
        with atomic_file(GOLDEN_PAPER) as temporary:
            temporary.write_text(tex, "utf-8")
    assert tex == GOLDEN_PAPER.read_text("utf-8")
    assert "| Method |  | WN18RR MR | WN18RR H@1 | FB15k-237 MR | FB15k-237 H@1 |" in text
    assert "| SimKGC | paper | – | **0.587** | – | **0.246** |" in text
    assert {"low", "high", "difference"} < set(cells.columns) and cells["low"].notna().any()


@pytest.mark.parametrize("layout", ["paper", "long"])
def test_both_forms_hold_the_same_numbers(epochs, results, layout):
    """What is printed of reported and reproduced numbers, whatever stands where."""
    _, cells, text = make(EPOCHS | {"layout": layout}, results)
    printed = re.findall(r"(?<![-\d.,@])\d+\.\d+(?![\d,\\])", text)
    for column, decimals in (("reproduced", {"MR": 1, "MRR": 3, "PPL": 2}), ("reported", {"MRR": 3})):
        for cell in cells.dropna(subset=[column]).to_dict("records"):
            if cell["metric"] in decimals:
                assert f"{cell[column]:.{decimals[cell['metric']]}f}" in printed
    _, others, _ = make(EPOCHS, results)
    pd.testing.assert_frame_equal(cells, others)


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


def test_a_row_that_the_paper_has_not_takes_no_difference_away(results):
    results.run("ten", mrr=0.5)
    results.run("floor", mrr=0.2, model="none")
    rows = [*EPOCHS["rows"], {"label": "Floor", "floor": True}]
    blocks = [{"dataset": "WN18RR", "runs": {"KaLM (epoch=10)": "ten", "Floor": "floor"}}]
    _, cells, text = make(EPOCHS | {"rows": rows, "blocks": blocks}, results)
    assert cells["difference"].notna().any()
    assert "no difference" not in text


def test_what_authors_corrected_competes_with_what_they_published():
    cell = {"unit": "fraction", "reproduced": None, "metric": "MRR"}
    rows = [("old", "P", "0.5", False), ("first", "P", "0.9", True), ("ours", "P (corrected)", "0.6", False)]
    cells = pd.DataFrame(
        [cell | {"row": row, "paper": paper, "reported": value, "withdrawn": out} for row, paper, value, out in rows]
    )
    assert best_marks(cells) == {("reported", "ours", "P (corrected)", "MRR"): "best"}


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


def test_all_thresholds_are_columns_and_half_is_for_probabilities_alone(results):
    results.run("ten", mrr=0.5)
    results.run("twenty", mrr=0.75)
    rows = [{"label": "LMKE", "logits": True}, {"label": "TransE"}]
    blocks = [{"dataset": "WN18RR", "runs": {"LMKE": "ten", "TransE": "twenty"}}]
    thresholds = {"thresholds": ["global", "relation", "zero"], "table": "own"}
    _, cells, text = make(CLASSIFICATION | thresholds | {"rows": rows, "blocks": blocks}, results)
    found = cells.dropna(subset=["reproduced"]).groupby("row")["reproduced"].apply(list)
    assert found["LMKE"] == pytest.approx([50, 51, 47])
    assert found["TransE"] == pytest.approx([75, 76])
    assert "WN18RR, one threshold a relation" in text
    assert "one half needs no choice" in text


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


def test_a_caveat_of_texts_is_told_where_a_row_has_read_them(results):
    results.run("ten", mrr=0.5)
    results.run("own", mrr=0.9, model="none", dataset="umls")
    caveats = {"WN18RR": "descriptions are first sentences.", "umls": "entities have names alone."}
    tex, *_ = make(EPOCHS | {"caveats": caveats}, results)
    assert "WN18RR: descriptions are first sentences." in tex and "names alone" not in tex


def test_what_is_odd_about_the_graphs_is_told_below_the_table(results):
    results.run("ten", mrr=0.5)
    results.run("own", mrr=0.9, dataset="umls")
    counts = {
        "train": 90,
        "valid": 30,
        "test": 40,
        "linked_in_train": {"test": {"reverse": 8, "reverse_same_relation": 8}},
    }
    results.write("data/umls/statistics.json", counts)
    found = {"duplicates": {"across": {"train and test": {"triples": 4}}}}
    results.write("data/umls/problems.json", found)
    results.write("data/WN18RR/statistics.json", counts)
    results.write("data/WN18RR/problems.json", {"accepted": ["reversed"]})
    spec = EPOCHS | {"datasets": ["umls", "WN18RR", "not_here"]}
    note = (
        "UMLS: 4 of 40 test triples stand in train, too; 8 of 40 test triples stand reversed in train "
        "(all with the same relation)."
    )
    tex, _, text = make(spec, results)
    assert note in tex and f"* {note}\n" in text
    assert "WN18RR: " not in tex and "reversed" not in tex.replace(note, "")


def test_a_row_below_a_floor_is_marked_and_told_and_a_floor_is_never_best(results):
    for run, mrr in (("ten", 0.5), ("twenty", 0.6), ("count", 0.7)):
        results.run(run, mrr=mrr)
    results.run("own", mrr=0.9, model="small", dataset="umls")
    results.run("few", mrr=0.3, dataset="umls")
    floor = {"label": "Floor", "section": "floors", "floor": True, "metrics": ["MRR"]}
    first, second = EPOCHS["blocks"]
    blocks = [
        first | {"runs": {**first["runs"], "Floor": "count"}},
        second | {"runs": {**second["runs"], "Floor": "few"}},
    ]
    for layout in ("long", "paper"):
        spec = EPOCHS | {"rows": [*EPOCHS["rows"], floor], "blocks": blocks, "layout": layout}
        tex, *_ = make(spec, results)
        assert "0.500 $\\downarrow$" in tex and "\\textbf{0.700}" not in tex and "0.900 $\\downarrow$" not in tex
        assert "WN18RR, worse than “Floor”: KaLM (epoch=10) (MRR); KaLM (epoch=20) (MRR)." in tex.replace(
            "``", "“"
        ).replace("''", "”")

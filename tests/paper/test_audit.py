"""The audit: rows of real ranks are never flagged, rows that no ranks have always are; what it finds in our file."""

from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kglm import cli
from kglm.paper import findings as module
from kglm.paper.audit import COLUMNS as AUDIT
from kglm.paper.findings import CHECKS, by_row, findings, footnote
from kglm.paper.reported import COLUMNS, read_csv, reported

TIES = "tied candidates"
KS = (1, 3, 10)


def row(metric: str, value: str, unit: str = "fraction", **others) -> dict:
    about = {"paper": "P", "table": "Table 1", "dataset": "D", "method": "m", "citation": "this paper", "note": ""}
    return about | {"metric": metric, "unit": unit, "value": value} | others


def frame(rows: list[dict]) -> pd.DataFrame:
    """Rows as `reported` gives them."""
    made = pd.DataFrame(rows, columns=COLUMNS)
    return made.assign(number=pd.to_numeric(made["value"], errors="coerce"))


def found(rows: list[dict]) -> list[tuple[str, str]]:
    return [(finding.check, finding.text) for finding in findings(frame(rows))]


def printed(ranks: list[float], decimals: int, percent: bool, size: int | None, ks=KS) -> list[dict]:
    """The metrics of a list of ranks as a paper prints them, and, where it is known, the number of entities."""
    unit, per_one = ("percent", 100) if percent else ("fraction", 1)
    shares = {f"Hits@{k}": sum(rank <= k for rank in ranks) / len(ranks) for k in ks}
    shares["MRR"] = sum(1 / rank for rank in ranks) / len(ranks)
    rows = [row(metric, f"{value * per_one:.{decimals}f}", unit) for metric, value in shares.items()]
    rows.append(row("MR", f"{sum(ranks) / len(ranks):.{decimals}f}", "rank"))
    return rows + ([row("entities", str(size), "count", method="dataset")] if size else [])


RANKS = st.integers(1, 500).flatmap(
    lambda size: st.tuples(st.lists(st.integers(1, size), min_size=1, max_size=40), st.just(size))
)


@given(RANKS, st.integers(0, 4), st.booleans(), st.booleans(), st.sets(st.integers(1, 20), max_size=4))
def test_real_ranks_are_never_flagged(case, decimals, percent, known, ks):
    ranks, size = case
    assert found(printed(ranks, decimals, percent, size if known else None, ks)) == []


@given(RANKS, st.integers(0, 4), st.booleans(), st.sets(st.integers(1, 20), max_size=4))
def test_mean_ranks_of_ties_are_only_flagged_with_that_condition(case, decimals, known, ks):
    ranks, size = [(rank + 1) / 2 for rank in case[0]], case[1]
    assert all(TIES in text for _, text in found(printed(ranks, decimals, False, size if known else None, ks)))


@given(RANKS, st.integers(3, 5), st.booleans(), st.booleans(), st.data())
def test_a_row_moved_outside_its_bounds_is_flagged(case, decimals, percent, up, data):
    """Each metric in turn, by two units of the last digit more than any ranks with these Hits@k allow."""
    ranks, size = case
    rows = {of["metric"]: of for of in printed(ranks, decimals, percent, size)}
    per_one = 100 if percent else 1
    shares = [0.0, *(float(rows[f"Hits@{k}"]["value"]) / per_one for k in KS if k < size), 1.0]
    bins = list(zip([1, *(k + 1 for k in KS if k < size)], [*(k for k in KS if k < size), size], strict=True))
    metric = data.draw(st.sampled_from(["MRR", "MR"]))
    ends = [(last if up else first) if metric == "MR" else 1 / (first if up else last) for first, last in bins]
    bound = sum((high - low) * end for (low, high), end in zip(pairwise(shares), ends, strict=True))
    unit, room = 10**-decimals, sum(abs(one - other) for one, other in pairwise(ends))
    moved = bound * (per_one if metric == "MRR" else 1)
    moved += (1 if up else -1) * unit * (2 + room * (1 if metric == "MRR" else 1 / per_one))
    rows[metric]["value"] = f"{moved:.{decimals}f}"
    assume(metric == "MRR" or moved >= 1)
    checks = {check for check, _ in found(list(rows.values()))}
    assert checks & {metric, "range"}


@given(st.integers(0, 998), st.integers(0, 998), st.booleans())
def test_fewer_hits_at_more_ranks_are_flagged(low, high, percent):
    assume(high > low + 1)
    texts = [f"{value / 10:.1f}" if percent else f"{value / 1000:.3f}" for value in (high, low)]
    unit = "percent" if percent else "fraction"
    checks = [check for check, _ in found([row("Hits@1", texts[0], unit), row("Hits@5", texts[1], unit)])]
    assert checks == ["Hits@k"]


def test_hits_of_all_entities_are_all_ranks():
    rows = [row("Hits@10", "0.99"), row("entities", "10", "count", method="dataset")]
    assert found(rows) == [("Hits@k", "Hits@10 is 0.99, but there is no rank above 10, the number of entities")]
    assert found([rows[0] | {"value": "1.0"}, rows[1]]) == []


@given(st.integers(2, 1000))
def test_an_mrr_below_the_harmonic_mean_is_flagged(mean):
    rows = [row("MR", f"{mean:.2f}", "rank"), row("MRR", f"{0.99 / mean:.8f}")]
    assert [check for check, _ in found(rows)] == ["MRR and MR"]
    assert found([rows[0], row("MRR", f"{1 / mean:.8f}")]) == []


@pytest.mark.parametrize(
    ("metric", "value", "unit", "said"),
    [
        ("MR", "0.9", "rank", "a rank lies between 1 and inf"),
        ("MRR", "24.3", "fraction", "a fraction lies between 0 and 1"),
        ("accuracy", "100.1", "percent", "a percent lies between 0 and 100"),
        ("accuracy", "-1", "percent", "a percent lies"),
        ("train", "-5", "count", "a count lies"),
        ("F1", "1.2", "fraction", "a fraction lies"),
    ],
)
def test_a_value_outside_its_unit_is_told(metric, value, unit, said):
    ((check, text),) = found([row(metric, value, unit)])
    assert check == "range" and said in text


def test_the_arithmetic_is_told():
    values = {"MRR": "40.3", "Hits@1": "39.7", "Hits@3": "43.0", "Hits@10": "45.2"}
    rows = [row(metric, value, "percent") for metric, value in values.items()]
    assert found(rows) == [
        (
            "MRR",
            "MRR is 0.403, but at least 0.397 + (0.430 − 0.397) / 3 + (0.452 − 0.430) / 10, 0.4097 with all roundings",
        )
    ]
    low = 0.3965 * (1 - 1 / 3) + 0.4295 * (1 / 3 - 1 / 10) + 0.4515 / 10  # each share at its lower end
    assert low == pytest.approx(0.4097, abs=5e-5)
    rows[0]["value"] = "41.0"
    assert found(rows) == []
    rows = [row("MR", "6", "rank"), row("Hits@10", "0.50"), row("entities", "20", "count", method="dataset")]
    assert found(rows) == []
    rows[0]["value"] = "16"
    assert found(rows) == [("MR", "MR is 16, but at most 0.50 × 10 + (1 − 0.50) × 20, 15.1 with all roundings")]
    assert found(rows[:2]) == []  # without the number of entities no rank is too great


def test_text_is_skipped():
    assert found([row("text", "Yes", "text"), row("training", "O(n)", "text", paper="Q")]) == []


def test_an_ablation_on_valid_with_the_numbers_of_test():
    numbers = [("MRR", ".403", "fraction", "40.3"), ("Hits@10", ".452", "fraction", "45.2")]
    valid = [row(m, v, u, note="on the dev set", method="full", table="Table 2") for m, v, u, _ in numbers]
    test = [row(m, v, "percent") for m, _, _, v in numbers]
    assert [check for check, _ in found(valid + test)] == ["valid and test"]
    assert found(valid + [of | {"value": "40.5"} if of["metric"] == "MRR" else of for of in test]) == []
    assert found([of | {"note": ""} for of in valid] + test) == []
    assert found(valid[:1] + test) == []  # one number may coincide
    assert found(valid + [of | {"paper": "Q"} for of in test]) == []


def test_rows_of_one_system_are_compared():
    original = [row("MRR", "0.300"), row("Hits@1", "0.200"), row("MR", "117", "rank")]
    copy = [of | {"paper": "Q", "citation": "Name et al. 2020"} for of in original]
    copy[2]["value"] = "1117"
    assert found(original + copy) == [("changed copy", "MR 117 against 1117; the same: MRR, Hits@1")]
    other = [of | {"value": "0.4"} for of in copy[:2]]
    assert [check for check, _ in found(original + other)] == ["other values"]
    assert found(original + [of | {"citation": "this paper"} for of in copy]) == []  # two papers' own "m"
    third = [of | {"paper": "R", "citation": "Other 2020", "value": "0.4"} for of in copy[:2]]
    assert found(copy[:2] + third) == []  # another author's "m"
    assert found(original[:2] + [of | {"paper": "Q", "unit": "percent", "value": v, "citation": "N 2020"}
                                 for of, v in zip(copy, ("30.0", "20"), strict=False)]) == []  # fmt: skip
    assert len(found(original[:2] + [of | {"table": "Table 2", "value": "0.25"} for of in original[:1]])) == 1


def test_a_copy_is_noted_below_both_tables():
    one = [row("MRR", "0.30"), row("Hits@1", "0.20"), row("MR", "117", "rank")]
    other = [of | {"paper": "Q", "table": "Table 7", "citation": "N 2020"} for of in one]
    other[2]["value"] = "1117"
    about = by_row(findings(frame(one + other)))
    (first,), (second,) = about["P", "Table 1", "D", "m"], about["Q", "Table 7", "D", "m"]
    assert footnote(first, ("P", "Table 1", "D", "m")) == "MR is 1117 in Q's Table 7"
    assert footnote(second, ("Q", "Table 7", "D", "m")) == "MR is 117 in P's Table 1"


def test_our_own_file():
    """Each of these was checked by hand against the papers' texts."""
    listed = [(of.check, of.row.dataset, of.row.places[0][2]) for of in findings(reported())]
    assert [of for of in listed if of[0] not in ("changed copy", "other values")] == [
        ("MRR", "Wikidata5M", "KG-BiLM (Ours)"),
        ("MRR", "Wikidata5M-inductive", "SimKGC"),
        ("MRR", "Wikidata5M-inductive", "KG-BiLM (Ours)"),
        ("valid and test", "Wikidata5M", "Full model"),
        ("valid and test", "FB15k-237N", "Full model"),
    ]
    assert {of[1:] for of in listed if of[0] == "changed copy"} == {
        ("FB15k-237", "TransE"),
        ("WN18RR", "DistMult"),
        ("FB15k-237", "DistMult"),
        ("FB15k-237", "KG-BERT"),
        ("FB15k-237", "StAR"),
        ("WN18RR", "KaLM (Ours)"),
        ("FB15k-237", "KaLM (Ours)"),
    }
    assert len(listed) == 33


def test_what_is_contradicted_between_the_versions_of_kalm():
    versions = {"KaLM", "KaLM (COLING 2025)", "KaLM (repository)"}
    told = [of for of in findings(reported()) if of.against]
    pairs = [(of.row.places[0][0], of.against.places[0][0], of.row.dataset) for of in told]
    assert sum("KaLM (repository)" in pair and {*pair[:2]} <= versions for pair in pairs) == 9
    (untrained,) = [of.text for of in told if of.row.system == "Mistral-7B"]
    assert untrained.startswith("accuracy/classification 54.2 % against 49.3 %")


@given(st.booleans())
def test_rows_without_a_citation_are_nobody_elses(same):
    mine = [row("MRR", "0.3", citation="", paper="P"), row("MRR", "0.4", citation="", paper="P" if same else "Q")]
    mine[1]["table"] = "Table 2"
    assert [check for check, _ in found(mine)] == ["other values"] * same
    assert [check for check, _ in found([mine[0], row("MRR", "0.4", paper="R")])] == ["other values"]


def test_an_empty_citation_is_read(tmp_path, capsys):
    path = tmp_path / "numbers.csv"
    pd.DataFrame([row("MRR", "0.500", citation=""), row("Hits@1", "0.600", citation="")], columns=COLUMNS).to_csv(
        path, index=False
    )
    assert cli.main(["audit", str(path)]) == 0
    assert "Findings: 1, rows: 1." in capsys.readouterr().out


def test_every_alias_names_a_row():
    aliases = read_csv(Path(module.__file__).with_name("aliases.csv"), module.ALIASES)
    numbers = reported()
    for alias in aliases.itertuples():
        rows = numbers[(numbers["paper"] == alias.paper) & (numbers["method"] == alias.method)]
        assert len(rows) and alias.dataset in {"any", *rows["dataset"]}, alias
        assert alias.reason


def test_the_stage_prints_and_writes(tmp_path, capsys):
    path = tmp_path / "numbers.csv"
    rows = [row("MRR", "0.9"), row("Hits@1", "0.1"), row("Hits@10", "0.2"), row("F1", "0.5", note="a|b_c & d")]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(path, index=False)
    assert cli.main(["audit", str(path), "--out", str(tmp_path / "out/audit")]) == 0
    told = capsys.readouterr().out
    assert "Findings: 1, rows: 1. Unknown metrics, of which only the unit was checked: F1." in told
    assert CHECKS["MRR"] in told and max(map(len, told.split("\n"))) < 130
    written = pd.read_csv(tmp_path / "out/audit.csv")
    assert list(written.columns) == AUDIT
    assert list(written["check"]) == ["MRR"]
    assert "MRR is 0.9, but at most 0.1 + (0.2 − 0.1) / 2 + (1 − 0.2) / 11" in (tmp_path / "out/audit.md").read_text(
        "utf-8"
    )
    assert r"\begin{longtable}" in (tmp_path / "out/audit.tex").read_text("utf-8")
    assert cli.main(["audit"]) == 0
    assert "Findings: 45, rows: 294. Sentences that the tables bear out: 43." in capsys.readouterr().out


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", "\xff", ",".join(COLUMNS) + "\nP,T,D,m,c,MRR,share,0.1,\n"])
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, content):
    path = tmp_path / "numbers.csv"
    path.write_text(content, "latin-1")
    assert cli.main(["audit", str(path)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and "numbers.csv" in told.err


def test_nothing_to_find(tmp_path, capsys):
    path = tmp_path / "numbers.csv"
    path.write_text(",".join(COLUMNS) + "\n", "utf-8")
    assert cli.main(["audit", str(path), "--out", str(tmp_path / "audit")]) == 0
    assert "Findings: 0, rows: 0." in capsys.readouterr().out
    assert (tmp_path / "audit.tex").read_text("utf-8") == "Nothing was found.\n"
    assert (tmp_path / "audit.csv").read_text("utf-8") == ",".join(AUDIT) + "\n"

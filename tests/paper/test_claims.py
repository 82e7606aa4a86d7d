"""What texts say of their tables: what numbers show is borne out, what they exclude is contradicted."""

import csv
import os
import re
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kglm import cli
from kglm.errors import InputError
from kglm.paper import claims as module
from kglm.paper.claims import COLUMNS, claims
from kglm.paper.findings import CHECKS, CONTRADICTED, SHOWN, UNDECIDED
from kglm.paper.reported import COLUMNS as CELLS
from kglm.paper.reported import read_csv, reported

PAPERS = {"KaLM": "000_c5e07adf540546d4.txt", "KG-BiLM": "001_f9ab6fbeddd66f35.txt", "LMKE": "002_a4fff44cdbd7ee82.txt"}
THOUSANDTHS = st.integers(0, 1000).map(lambda number: f"{number / 1000:.3f}")


def cells(table: dict[str, dict[str, str]], dataset: str = "D") -> pd.DataFrame:
    """method -> metric -> value, as `reported` gives them; the method "ours" is the paper's own."""
    common = {"paper": "P", "table": "Table 1", "dataset": dataset, "note": ""}
    rows = [
        common
        | {"method": method, "metric": metric, "value": value, "citation": "this paper" if method == "ours" else "N 1"}
        | {"unit": "count" if "," in value or value.isdigit() else "fraction"}
        for method, of in table.items()
        for metric, value in of.items()
    ]
    made = pd.DataFrame(rows, columns=CELLS)
    return made.assign(number=pd.to_numeric(made["value"]))


def outcomes(tmp_path: Path, frame: pd.DataFrame, **claim: str) -> list[tuple[str, str]]:
    given = {"paper": "P", "section": "Section 4", "quote": "so it is", "table": "Table 1", "dataset": "D"}
    given |= {"metric": "MRR", "method": "ours", "others": "", "value": "", "unit": ""} | claim
    path = tmp_path / "claims.csv"
    pd.DataFrame([given], columns=COLUMNS).to_csv(path, index=False)
    return [(found.check, found.text) for found in claims(frame, path)]


def outcome(tmp_path: Path, frame: pd.DataFrame, **claim: str) -> str:
    ((check, _),) = outcomes(tmp_path, frame, **claim)
    return check


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("claims")


@given(one=THOUSANDTHS, other=THOUSANDTHS, claimed=st.integers(-1000, 1000))
def test_a_difference_is_that_of_the_printed_numbers(folder, one, other, claimed):
    """Each number may be half a thousandth off, the claimed difference too: beyond three halves it is wrong."""
    frame = cells({"ours": {"MRR": one}, "b": {"MRR": other}})
    off = abs(Decimal(one) - Decimal(other) - Decimal(claimed) / 1000)
    wanted = SHOWN if off == 0 else UNDECIDED if off <= Decimal("0.0015") else CONTRADICTED
    found = outcome(folder, frame, kind="difference", others="b", value=f"{claimed / 1000:.3f}", unit="fraction")
    assert found == wanted


@given(st.dictionaries(st.sampled_from("abcd"), THOUSANDTHS, min_size=1), THOUSANDTHS, st.booleans())
def test_superlatives_go_by_all_others(folder, others, own, lower):
    metric = "PPL" if lower else "MRR"
    frame = cells({"ours": {metric: own}} | {name: {metric: value} for name, value in others.items()})
    values = [(1 - 2 * lower) * Decimal(value) for value in others.values()]
    mine = (1 - 2 * lower) * Decimal(own)
    assert (outcome(folder, frame, kind="best", metric=metric) == SHOWN) == (mine >= max(values))
    assert (outcome(folder, frame, kind="worst", metric=metric) == SHOWN) == (mine <= min(values))
    better = outcome(folder, frame, kind="better", metric=metric)
    assert better == (SHOWN if mine > max(values) else UNDECIDED if mine == max(values) else CONTRADICTED)


def test_quoted_rows_are_those_of_others(tmp_path):
    frame = cells({"ours": {"MRR": "0.3"}, "a": {"MRR": "0.2"}, "b": {"MRR": "0.1"}})
    assert outcome(tmp_path, frame, kind="best", method="a") == CONTRADICTED
    assert outcome(tmp_path, frame, kind="best", method="a", others="quoted") == SHOWN
    assert outcome(tmp_path, frame, kind="rows", value="2") == SHOWN
    assert outcome(tmp_path, frame, kind="rows", value="3") == CONTRADICTED


def test_a_mean_of_differences_and_the_largest_difference(tmp_path):
    frames = [
        cells({"ours": {"MRR": one, "Hits@10": "0.500"}, "b": {"MRR": "0.300", "Hits@10": "0.450"}}, dataset)
        for dataset, one in (("D", "0.310"), ("E", "0.325"))
    ]
    both = pd.concat(frames)
    about = {"others": "b", "unit": "percent", "dataset": "D; E"}
    assert outcome(tmp_path, both, kind="difference", value="1.8", **about) == SHOWN  # 1.75, rounded up
    assert outcome(tmp_path, both, kind="difference", value="2.0", **about) == CONTRADICTED
    assert outcome(tmp_path, both, kind="most", metric="Hits@10; MRR", others="b") == SHOWN
    assert outcome(tmp_path, both, kind="most", metric="MRR; Hits@10", others="b") == CONTRADICTED


def test_most_comparisons(tmp_path):
    frame = cells({"ours": {"MRR": "0.200", "Hits@1": "0.100"}, "b": {"MRR": "0.300", "Hits@1": "0.050"}})
    assert outcome(tmp_path, frame, kind="mostly worse", metric="MRR; Hits@1") == CONTRADICTED  # one of two
    frame = pd.concat([frame, cells({"c": {"MRR": "0.400", "Hits@1": "0.200"}})])
    assert outcome(tmp_path, frame, kind="mostly worse", metric="MRR; Hits@1") == SHOWN


def test_counts(tmp_path):
    graphs = [("D", "300", "40"), ("E", "50", "20")]
    frame = pd.concat([cells({"dataset": {"train": train, "entities": size}}, of) for of, train, size in graphs])
    about = {"method": "dataset", "metric": "train; entities"}
    assert outcome(tmp_path, frame, kind="degree", value="15.0", unit="real", **about) == SHOWN
    assert outcome(tmp_path, frame, kind="degree", value="3.0", unit="real", dataset="D; E", **about) == SHOWN
    assert outcome(tmp_path, frame, kind="degree", value="3.1", unit="real", dataset="D; E", **about) == CONTRADICTED
    assert outcome(tmp_path, frame, kind="product", value="12000", unit="count", **about) == SHOWN
    assert outcome(tmp_path, frame, kind="product", value="12001", unit="count", **about) == CONTRADICTED
    about["metric"] = "train"
    assert outcome(tmp_path, frame, kind="ratio", value="5", unit="real", dataset="D; E", **about) == SHOWN
    assert outcome(tmp_path, frame, kind="ratio", value="6", unit="real", dataset="D; E", **about) == CONTRADICTED
    assert outcome(tmp_path, frame, kind="is", value="300", unit="count", **about) == SHOWN
    assert outcome(tmp_path, frame, kind="is", value="301", unit="count", **about) == CONTRADICTED


def test_a_claim_about_no_cell_is_told(tmp_path):
    frame = cells({"ours": {"MRR": "0.3"}})
    with pytest.raises(InputError, match=r"row 2: .* P / Table 1 / D / b / MRR"):
        outcome(tmp_path, frame, kind="better", others="b")
    with pytest.raises(InputError, match="unknown kind 'larger'"):
        outcome(tmp_path, frame, kind="larger")


def test_what_the_three_papers_say():
    """Each of these was worked out by hand."""
    found = claims(reported())
    contradicted = [(of.row.places[0][0], of.row.places[0][1]) for of in found if of.check == CONTRADICTED]
    assert contradicted == [
        ("KaLM", "Section 1"),
        *[("KaLM", "Appendix D.3")] * 2,
        *[("LMKE", "Section 4.2")] * 4,
        ("KG-BiLM", "Section 4.2"),
        *[("KG-BiLM", "Section 4.3")] * 3,
    ]
    texts = " ".join(of.text for of in found if of.check == CONTRADICTED)
    for arithmetic in (
        "Hits@1: 39.7 % − 37.3 %, 2.4 points",
        "Hits@10: .546 − .538, 0.8 points",
        "Hits@10 .538 against .525 of w/o BKA, .531 of w/o KMP",
        "37.427 / 4.242 = 8.824",
        "Hits@1 32.1 % against 32.7 % of KICGPT",
        "the others are better in 7 of 15 numbers",
    ):
        assert arithmetic in texts
    withdrawn = [of for of in found if "put in the place of withdrawn ones" in of.text]
    assert [of.check for of in withdrawn] == [CONTRADICTED] * 3 + [SHOWN]
    assert "Hits@10 is 0.789 (with" in withdrawn[1].text and "by those: Hits@10 is 0.806" in withdrawn[1].text
    (cut,) = [of for of in found if "254 million" in of.text]
    assert cut.check == SHOWN and "254,976,435" in cut.text
    (open_one,) = [of for of in found if of.check == UNDECIDED]
    assert "Hits@10 0.008, MRR 0.008" in open_one.text and open_one.row.dataset == "FB15k-237N"
    assert len(found) == len(read_csv(Path(module.__file__).with_name("claims.csv"), COLUMNS))


@pytest.mark.parametrize("paper", PAPERS)
def test_the_quotes_stand_in_the_text(paper):
    """Word for word, but for what the texts' extraction adds: hyphens at line ends, line numbers, markup."""
    folder = os.environ.get("KGLM_PAPERS")
    if not folder or not Path(folder, PAPERS[paper]).exists():
        pytest.skip("KGLM_PAPERS does not name a folder with the papers' texts")
    text = _letters(Path(folder, PAPERS[paper]).read_text("utf-8"))
    for claim in read_csv(Path(module.__file__).with_name("claims.csv"), COLUMNS).itertuples():
        if claim.paper == paper:
            for part in claim.quote.split("…"):
                assert _letters(part) in text, claim.quote


def _letters(text: str) -> str:
    """What is left of a text without line numbers, markup, and all but letters and digits."""
    spelt = text.replace(r"\lambda", "λ")
    without = re.sub(r"\*\*\d{2,4}\*\*|(?<=\s)\d{3,4}(?=\s)|\\\w+", "", spelt)
    return re.sub(r"[^a-zλ0-9]", "", without.lower())


def test_the_stage_tells_them_for_the_packages_own_file_alone(tmp_path, capsys):
    assert cli.main(["audit", "--out", str(tmp_path / "audit")]) == 0
    told = capsys.readouterr().out
    assert all(CHECKS[outcome] in told for outcome in (CONTRADICTED, UNDECIDED, SHOWN))
    with (tmp_path / "audit.csv").open(encoding="utf-8", newline="") as file:
        assert {CONTRADICTED, UNDECIDED, SHOWN} < {row["check"] for row in csv.DictReader(file)}
    assert "5.4 points higher" in (tmp_path / "audit.tex").read_text("utf-8")
    path = tmp_path / "numbers.csv"
    reported()[CELLS].to_csv(path, index=False)
    assert cli.main(["audit", str(path)]) == 0
    assert CHECKS[CONTRADICTED] not in capsys.readouterr().out

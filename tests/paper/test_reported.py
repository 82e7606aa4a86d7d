"""reported.csv against itself, and KaLM's tables against the paper's text where it can be found."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest

from kglm.errors import InputError
from kglm.paper.reported import COLUMNS, reported

HEADER = ",".join(COLUMNS)
GOOD = "KaLM,Table 1,WN18RR,TransE,Bordes,MRR,fraction,0.243,"


def test_every_row_is_valid_and_said_once():
    frame = reported()
    assert len(frame) > 200
    assert frame.loc[frame["unit"] != "text", "number"].notna().all()
    assert not (frame["value"].str.strip() == "").any()


def test_rows_do_not_contradict_themselves():
    """Hits@k are ordered, and bound the mean reciprocal rank from both sides, within rounding."""
    wide = reported().pivot_table(index=["paper", "table", "dataset", "method"], columns="metric", values="number")
    rows = wide.dropna(subset=["MRR", "Hits@1", "Hits@3", "Hits@10"])
    assert len(rows) > 25
    one, three, ten = rows["Hits@1"], rows["Hits@3"], rows["Hits@10"]
    assert ((one <= three) & (three <= ten)).all()
    assert (rows["MRR"] >= one + (three - one) / 3 + (ten - three) / 10 - 0.001).all()
    assert (rows["MRR"] <= one + (three - one) / 2 + (ten - three) / 4 + (1 - ten) / 11 + 0.001).all()


def test_the_same_run_has_the_same_numbers_in_three_tables():
    """λ = 0.1, LoRA on ffn and 10 epochs are one run of the paper."""
    frame = reported().set_index(["table", "method", "metric"])["value"]
    rows = [("Table 4", "KaLM (λ = 0.1)"), ("Table 5", "KaLM (ffn)"), ("Table 6", "KaLM (epoch=10)")]
    for metric in ("MR", "MRR", "Hits@1", "Hits@3", "Hits@10"):
        assert len({frame[(*row, metric)] for row in rows}) == 1


def test_a_misprint_is_kept_in_the_note():
    frame = reported()
    misprint = frame[(frame["method"] == "KaLM (att)") & (frame["metric"] == "MRR")].iloc[0]
    assert misprint["number"] == 0.475
    assert "0.47.5" in misprint["note"]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([GOOD.replace("MRR", "MMR")], "unknown metric 'MMR'"),
        ([GOOD.replace("fraction", "share")], "unknown unit 'share'"),
        ([GOOD.replace("0.243", "0.47.5")], "'0.47.5' is no number"),
        ([GOOD.replace("0.243", "24.3")], "24.3 is no fraction"),
        ([GOOD.replace("0.243", "nan")], "nan is no fraction"),
        ([GOOD.replace("0.243", "")], "value is empty"),
        ([GOOD.replace("Bordes", " ")], "citation is empty"),
        (
            [GOOD, GOOD.replace("0.243", "0.294")],
            "row 3: KaLM / Table 1 / WN18RR / TransE / MRR stands there twice",
        ),
    ],
)
def test_a_bad_row_is_told_in_one_line(tmp_path, lines, complaint):
    path = tmp_path / "reported.csv"
    path.write_text("\n".join([HEADER, *lines]) + "\n", "utf-8")
    with pytest.raises(InputError) as error:
        reported(path)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_other_columns_and_no_file(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(InputError, match="has the columns"):
        reported(tmp_path / "other.csv")
    with pytest.raises(InputError, match="no such file"):
        reported(tmp_path / "none.csv")


@pytest.fixture(scope="module")
def text() -> list[str]:
    """The lines of KaLM's text."""
    folder = os.environ.get("KGLM_PAPERS")
    if not folder:
        pytest.skip("KGLM_PAPERS does not name a folder with the papers' texts")
    for path in sorted(Path(folder).glob("*.txt")):
        content = path.read_text("utf-8")
        if content.startswith("KaLM:"):
            return content.split("\n")
    pytest.skip("KaLM's text is not in KGLM_PAPERS")


def _rows(text: list[str], table: str, start: str, end: str) -> list[str]:
    """The lines from the one that begins with `start`, near the table's caption, to the one with `end`."""
    (caption,) = (number for number, line in enumerate(text) if line.startswith(f"{table}:"))
    near = range(max(0, caption - 20), min(len(text), caption + 25))
    first = next(number for number in near if text[number].startswith(start))
    last = next((number for number in range(first, len(text)) if text[number].startswith(end)), first)
    return text[first : last + 1]


def _numbers(line: str) -> list[str]:
    return re.findall(r"(?<![\w.@^-])\d+(?:\.\d+)*(?![\w.]*[a-z(])", re.sub(r"(?<=\d), ?(?=\d{3}\b)", "", line))


def _printed(rows: pd.DataFrame) -> list[str]:
    return [
        re.search(r"\d\.\d+\.\d", note)[0] if "is printed as" in note else value
        for value, note in zip(rows["value"], rows["note"], strict=True)
    ]


@pytest.mark.parametrize(
    "method", ["TransE", "DistMult", "RotatE", "KG-BERT", "StAR", "C-LMKE", "SimKGC", "LLaMA", "KaLM (Ours)"]
)
def test_table_1_is_copied_right(text, method):
    (line,) = [line for line in _rows(text, "Table 1", "TransE\t", "KaLM (Ours)") if line.startswith(f"{method}\t")]
    frame = reported()
    rows = frame[(frame["paper"] == "KaLM") & (frame["table"] == "Table 1") & (frame["method"] == method)]
    assert _numbers(line.removeprefix(method)) == _printed(rows)


def test_table_2_is_copied_right(text):
    frame = reported()
    for dataset in ("WN18RR", "FB15k-237"):
        (line,) = _rows(text, "Table 2", dataset, dataset)
        rows = frame[(frame["table"] == "Table 2") & (frame["dataset"] == dataset)]
        assert _numbers(line.removeprefix(dataset)) == list(rows["value"])


def test_table_3_is_copied_right(text):
    frame = reported()
    table = frame[frame["table"] == "Table 3"].pivot(index="metric", columns="dataset", values="value")
    notes = frame[frame["table"] == "Table 3"].groupby("metric")["note"].first()
    lines = _rows(text, "Table 3", "epochs", "bf16")
    printed = {line.split("\t")[0]: [cell.strip("$") for cell in line.split("\t")[1:]] for line in lines}
    for metric, row in table.iterrows():
        name = notes[metric].removeprefix("printed ") if notes[metric].startswith("printed ") else metric
        assert printed.pop(name) == [row["WN18RR"], row["FB15k-237"]], metric
    assert not printed


@pytest.mark.parametrize(("table", "count"), [("Table 4", 4), ("Table 5", 3), ("Table 6", 3)])
def test_tables_4_to_6_are_copied_right(text, table, count):
    (caption,) = (number for number, line in enumerate(text) if line.startswith(f"{table}:"))
    after = [line for line in text[caption : caption + 10] if re.match(r"\$?KaLM\$? \(", line)]
    frame = reported()
    methods = frame[(frame["paper"] == "KaLM") & (frame["table"] == table)]
    assert len(after) == methods["method"].nunique() == count
    for line, (_, rows) in zip(after, methods.groupby("method", sort=False), strict=True):
        assert _numbers(line.partition(")")[2]) == _printed(rows)


def test_the_anisotropies_stand_in_the_text(text):
    words = " ".join(" ".join(text).split())
    assert "value significantly decreased from 0.83 to 0.21" in words
    assert re.search(r"from \*\*987\*\* 0\.5 to 0\.2 at the output layer", words)
    frame = reported()
    assert list(frame[frame["table"] == "Figure 8"]["value"]) == ["0.83", "0.21", "0.5", "0.2"]

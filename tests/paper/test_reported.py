"""reported.csv against itself, and the papers' tables against the papers' texts where they can be found."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest

from kglm.errors import InputError
from kglm.paper.reported import COLUMNS, DEGREES, METRICS, UNITS, converted, reported

HEADER = ",".join(COLUMNS)
GOOD = "KaLM,Table 1,WN18RR,TransE,Bordes,MRR,fraction,0.243,"


def test_every_row_is_valid_and_said_once():
    frame = reported()
    assert len(frame) > 200
    assert frame.loc[frame["unit"] != "text", "number"].notna().all()
    assert not (frame["value"].str.strip() == "").any()
    assert set(frame["metric"]) <= METRICS
    assert set(frame["unit"]) == set(UNITS)


def test_percent_and_fractions_meet():
    assert converted(24.3, "percent", "fraction") == pytest.approx(0.243)
    assert converted(0.243, "fraction", "percent") == pytest.approx(24.3)
    assert converted(2300, "rank", "rank") == 2300


def test_a_summary_repeats_the_full_table():
    """KG-BiLM's Tables 2 and 3 are parts of its Tables 7 and 8."""
    frame = reported()
    tables = frame[frame["paper"] == "KG-BiLM"].set_index(["table", "dataset", "method", "metric"])["value"]
    for part, whole in (("Table 2", "Table 7"), ("Table 3", "Table 8")):
        assert 80 < len(tables[part]) < len(tables[whole])
        assert tables[part].equals(tables[whole].loc[tables[part].index])


def test_the_leaked_numbers_say_so():
    frame = reported()
    c_lmke = frame[frame["method"].str.startswith("C-LMKE") & frame["table"].isin(["Table 1", "Table 2"])]
    c_lmke = c_lmke[c_lmke["unit"] != "text"]
    leaked = c_lmke[c_lmke["paper"].isin(["KaLM", "LMKE"])]
    assert leaked["note"].str.contains("withdr.*June 2023").all()
    right = c_lmke[c_lmke["paper"] == "LMKE (corrected)"]
    assert len(leaked) == 30
    assert list(right["value"]) == ["141", "0.306", "0.218", "0.331", "0.484", "79", "0.619", "0.523", "0.671", "0.789"]
    quoted = frame[(frame["paper"] == "KG-BiLM") & (frame["method"] == "LMKE")].set_index(["dataset", "metric"])
    for row in right.itertuples():  # KG-BiLM quotes the corrected ones, in percent
        other = quoted.loc[(row.dataset, row.metric)]
        assert converted(other["number"], other["unit"], row.unit) == pytest.approx(row.number)


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
        ([GOOD.replace("fraction", "share")], "unknown unit 'share'"),
        ([GOOD.replace("0.243", "0.47.5")], "'0.47.5' is no number"),
        ([GOOD.replace("0.243", "nan")], "'nan' is no number"),
        ([GOOD.replace("0.243", "inf")], "'inf' is no number"),
        ([GOOD.replace("0.243", "")], "value is empty"),
        ([GOOD.replace("TransE", " ")], "method is empty"),
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


def paper_text(is_it) -> list[str]:
    """The lines of the paper whose text `is_it` says it is; the test is skipped where it is not there."""
    folder = os.environ.get("KGLM_PAPERS")
    if not folder:
        pytest.skip("KGLM_PAPERS does not name a folder with the papers' texts")
    for path in sorted(Path(folder).glob("*.txt")):
        content = path.read_text("utf-8")
        if is_it(content):
            return content.split("\n")
    pytest.skip("the paper's text is not in KGLM_PAPERS")


@pytest.fixture(scope="module")
def text() -> list[str]:
    """The lines of KaLM's text."""
    return paper_text(lambda content: content.startswith("KaLM:"))


@pytest.fixture(scope="module")
def lmke() -> list[str]:
    """The lines of LMKE's text."""
    return paper_text(lambda content: "github.com/Neph0s/LMKE" in content)


@pytest.fixture(scope="module")
def kg_bilm() -> list[str]:
    """The lines of KG-BiLM's text."""
    return paper_text(lambda content: content.startswith("KG-BiLM:"))


def _reported(paper: str, table: str) -> pd.DataFrame:
    frame = reported()
    return frame[(frame["paper"] == paper) & (frame["table"] == table)]


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
    frame = _reported("KaLM", "Table 2")
    for dataset in ("WN18RR", "FB15k-237"):
        (line,) = _rows(text, "Table 2", dataset, dataset)
        rows = frame[frame["dataset"] == dataset]
        assert _numbers(line.removeprefix(dataset)) == list(rows["value"])


def test_table_3_is_copied_right(text):
    frame = _reported("KaLM", "Table 3")
    table = frame.pivot(index="metric", columns="dataset", values="value")
    notes = frame.groupby("metric")["note"].first()
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


def test_lmkes_shares_of_degrees_stand_in_the_text(lmke):
    one, few = reported().set_index("metric").loc[sorted(DEGREES), "value"]
    assert f"{one}% entities are with degree 1, and {few}%" in " ".join(" ".join(lmke).split())


def _plain(name: str) -> str:
    """A method's name without what texts set otherwise: spaces, brackets, subscripts, marks, citations."""
    return re.sub(r"[\s(),♣♠]|\[.*?\]", "", name)


def _printed_rows(lines: list[str], cell: str) -> dict[str, list[str]]:
    """Plain method name -> its cells, of the lines that end in at least one cell."""
    found = (re.fullmatch(rf"(.+?)[♣♠]?((?: (?:{cell}))+)", line) for line in lines)
    return {_plain(match[1]): match[2].split() for match in found if match}


def _between(text: list[str], start: str, end: str) -> list[str]:
    first = next(number for number, line in enumerate(text) if line.startswith(start))
    return text[first + 1 : next(n for n in range(first + 1, len(text)) if text[n].startswith(end))]


def test_lmkes_formulas_are_copied_right(lmke):
    rows = {line.split(" O(")[0]: line for line in lmke if " O(" in line and line.endswith(")")}
    table = _reported("LMKE", "Table 1").pivot(index="method", columns="metric", values="value")
    assert set(table.index) == {"KG-BERT", "StAR", "LMKE", "C-LMKE"}
    for method, row in table.iterrows():
        formulas = f"{row['training']}{row['link-prediction']}".replace("_", "").replace(" ", "")
        assert rows[method].removeprefix(method).replace("∣", "|").replace(" ", "") == formulas


def test_lmkes_table_2_is_copied_right(lmke):
    """FB15k-237 stands before WN18RR there; a dash is a missing number."""
    printed = _printed_rows(_between(lmke, "Metric MR MRR", "Table 2: Results"), r"[\d.]+|-")
    table = _reported("LMKE", "Table 2")
    metrics = ["MR", "MRR", "Hits@1", "Hits@3", "Hits@10"]
    assert table["method"].nunique() == len(printed) == 14
    for method, rows in table.groupby("method"):
        known = rows.set_index(["dataset", "metric"])["value"]
        cells = [known.get((dataset, metric), "-") for dataset in ("FB15k-237", "WN18RR") for metric in metrics]
        assert printed[_plain(method)] == cells, method


def test_the_sources_of_lmkes_numbers_are_noted(lmke):
    marks = {"♣": "Wang et al. 2020", "♠": "Sun et al. 2019"}
    table = _reported("LMKE", "Table 2").groupby("method")["note"].first()
    for line in _between(lmke, "Metric MR MRR", "Table 2: Results"):
        for mark, source in marks.items():
            if mark in line:
                assert table[line.split(" [")[0]] == f"taken from {source}"
    assert table.str.contains("taken from").sum() == 5


def test_lmkes_tables_3_and_4_are_copied_right(lmke):
    printed = _printed_rows(_between(lmke, "Dataset #Entity", "Table 3:"), r"[\d,.]+")
    for dataset, rows in _reported("LMKE", "Table 3").groupby("dataset"):
        assert [cell.replace(",", "") for cell in printed.pop(dataset)] == list(rows["value"])
    assert not printed
    printed = _printed_rows(_between(lmke, "Dataset FB13 UMLS", "Table 4:"), r"[\d.]+|-")
    for method, rows in _reported("LMKE", "Table 4").groupby("method"):
        known = rows.set_index("dataset")["value"]
        assert printed.pop(_plain(method)) == [known.get(dataset, "-") for dataset in ("FB13", "UMLS")]
    assert not printed


@pytest.mark.parametrize(
    ("table", "datasets", "metrics", "methods"),
    [
        ("Table 2", ["WN18RR", "FB15k-237"], ["MR", "MRR", "Hits@1", "Hits@3", "Hits@10"], 19),
        ("Table 3", ["Wikidata5M", "FB15k-237N"], ["MRR", "Hits@1", "Hits@3", "Hits@10"], 15),
        ("Table 4", ["Wikidata5M", "FB15k-237N"], ["MRR", "Hits@10"], 4),
        ("Table 5", ["Wikidata5M-inductive"], ["MRR", "Hits@1", "Hits@3", "Hits@10"], 5),
        ("Table 7", ["WN18RR", "FB15k-237"], ["MR", "MRR", "Hits@1", "Hits@3", "Hits@10"], 38),
        ("Table 8", ["Wikidata5M", "FB15k-237N"], ["MRR", "Hits@1", "Hits@3", "Hits@10"], 20),
    ],
)
def test_kg_bilms_results_are_copied_right(kg_bilm, table, datasets, metrics, methods):
    """Empty cells leave no trace in the text: the numbers of a row are compared in their order."""
    (caption,) = (number for number, line in enumerate(kg_bilm) if line.startswith(f"{table}:"))
    end = next(n for n in range(caption + 1, len(kg_bilm)) if not kg_bilm[n] or kg_bilm[n].startswith("Table"))
    printed = _printed_rows(kg_bilm[caption + 3 : end], r"[\d.]+")
    frame = _reported("KG-BiLM", table)
    assert frame["method"].nunique() == len(printed) == methods
    order = {place: number for number, place in enumerate((d, m) for d in datasets for m in metrics)}
    for method, rows in frame.groupby("method"):
        known = rows.set_index(["dataset", "metric"])["value"]
        cells = [known[place] for place in sorted(known.index, key=order.get)]
        if "read the other way round" in " ".join(rows["note"]):
            cells[-2:] = cells[:-3:-1]
        assert printed[re.sub("[()]", "", _plain(method))] == cells, method


def test_kg_bilms_statistics_are_copied_right(kg_bilm):
    lines = _between(kg_bilm, "Dataset #Ent. #Rel.", "Datasets.")
    printed = {line.split()[0].lower(): line.split()[1:] for line in lines if line}
    frame = _reported("KG-BiLM", "Table 1")
    for dataset, rows in frame.groupby("dataset"):
        assert [cell.replace(",", "") for cell in printed.pop(dataset.lower())] == list(rows["value"])
    assert not printed


def test_kg_bilms_citations_are_those_of_its_numbers(kg_bilm):
    """A row says [14]; the fourteenth entry of the list of references is Bordes et al. [2013a]."""
    entries = [re.match(r"\s*• (.+?) \[(\d{4}\w?)\] ", line) for line in kg_bilm]
    references = [f"{entry[1]} {entry[2]}" for entry in entries if entry]
    cited = _reported("KG-BiLM", "Table 7").groupby("method")["citation"].first()
    lines = [re.match(r"(\S.*?)\[(\d+)\] [\d.]+ ", line) for line in kg_bilm]
    rows = {match[1]: references[int(match[2]) - 1] for match in lines if match}
    assert len(rows) > 40
    assert {method: rows[method] for method in cited.index if method in rows} == {
        method: citation for method, citation in cited.items() if method in rows
    }
    assert set(cited.index) - set(rows) == {"GPT-3.5", "KG-BiLM (Ours)"}


# Table -> the column of the CSV that tells its printed rows apart. Not in the texts, and so not counted here: bars and
# curves of figures (they are images; of KaLM's Figure 8 the text tells four values), KaLM's published version and
# LMKE's corrected rows (other documents; see the last test).
PRINTED = {
    "KaLM": {f"Table {number}": "method" for number in (1, 4, 5, 6)} | {"Table 2": "dataset", "Table 3": "metric"},
    "LMKE": {"Table 1": "method", "Table 2": "method", "Table 3": "dataset", "Table 4": "method"},
    "KG-BiLM": {"Table 1": "dataset"} | {f"Table {number}": "method" for number in (2, 3, 4, 5, 7, 8)},
}


def _cells_of(paper: str, table: str, text: list[str]) -> list[list[str]]:
    """The numbers (formulas, words) of each row of a table, as far as its text goes; missing ones left out."""
    (caption,) = (number for number, line in enumerate(text) if line.startswith(f"{table}:"))
    if paper == "KaLM" and table == "Table 3":
        return [line.split("\t")[1:] for line in _rows(text, table, "epochs", "bf16")]
    if paper == "KaLM":
        methods = r"\$?KaLM\$? \(.*?\)|(WN18RR|FB15k-237)\b" if table != "Table 1" else r"[\w-]+( \(Ours\))?\t"
        near = text[caption - 20 : caption + 10] if table in ("Table 1", "Table 2") else text[caption : caption + 10]
        rows = [_numbers(line[match.end() :]) for line in near if (match := re.match(methods, line))]
        return [row for row in rows if len(row) > 1]
    if paper == "LMKE":
        start = {"Table 2": "Metric MR MRR", "Table 3": "Dataset #Entity", "Table 4": "Dataset FB13 UMLS"}.get(table)
        if not start:
            return [re.findall(r"O\([^)]*\)", line) for line in text[caption - 10 : caption] if " O(" in line]
        found = _printed_rows(_between(text, start, f"{table}:"), r"[\d.,]+|-")
        return [[cell for cell in row if cell != "-"] for row in found.values()]
    end = next(n for n in range(caption + 1, len(text)) if not text[n] or text[n].startswith("Table"))
    return list(_printed_rows(text[caption + 2 : end], r"[\d.,]+|Yes|No").values())


@pytest.mark.parametrize(("paper", "table"), [(paper, table) for paper, tables in PRINTED.items() for table in tables])
def test_rows_and_cells_are_as_many_as_printed(request, paper, table):
    text = request.getfixturevalue({"KaLM": "text", "LMKE": "lmke", "KG-BiLM": "kg_bilm"}[paper])
    printed, frame = _cells_of(paper, table, text), _reported(paper, table)
    assert len(printed) == frame[PRINTED[paper][table]].nunique()
    assert sum(map(len, printed)) == len(frame)


def test_every_table_is_counted():
    frame = reported()
    named = {(paper, table) for paper, tables in PRINTED.items() for table in tables}
    others = {(paper, table) for paper, table in zip(frame["paper"], frame["table"], strict=True)} - named
    assert others == {
        ("KaLM", "Figure 8"),
        ("KaLM (COLING 2025)", "link prediction"),
        ("KaLM (COLING 2025)", "KGQA"),
        ("KaLM (repository)", "link prediction"),
        ("KaLM (repository)", "KGQA"),
        ("LMKE", "Section 1"),
        ("LMKE (corrected)", "Table 2"),
        ("LibKGE", "results"),
        ("TuckER", "results"),
    }


def test_rows_of_other_documents_are_copied_right():
    """The published KaLM and LMKE's correction, as the page beside the papers' texts gives them."""
    folder = os.environ.get("KGLM_PAPERS")
    page = Path(folder or "", "README.md")
    if not folder or not page.exists():
        pytest.skip("KGLM_PAPERS does not name a folder with a page about the papers")
    words = " ".join(page.read_text("utf-8").split())
    frame = reported()
    for paper in ("KaLM (COLING 2025)", "LMKE (corrected)"):
        table = frame[(frame["paper"] == paper) & (frame["table"] != "KGQA")]
        for _, rows in table.groupby(["method", "dataset"]):
            assert "/".join(rows["value"].str.lstrip("0")) in words
    questions = frame[(frame["table"] == "KGQA") & (frame["paper"] == "KaLM (COLING 2025)")].pivot(
        index="metric", columns="method", values="value"
    )
    names = {"head": "head", "tail": "tail", "relation": "relation", "classification": "triple classification"}
    for metric, row in questions.iterrows():
        shown = f"{names[metric.split('/')[1]]} {row['Llama-2-7B']} → {row['KaLM (Llama-2-7B)']}"
        assert shown in words

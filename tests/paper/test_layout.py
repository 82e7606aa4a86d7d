"""Marks and shapes: what a table looks like."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kglm.paper.layout import Layout, Line, best_marks, number, to_latex, to_markdown


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


def test_a_long_name_takes_height_only_where_it_must():
    long = "a name of more than two dozen letters"
    lines = [Line([long, "reported"], ["", ""]), Line(["", "reproduced"], ["", ""]), Line([long, "reported"], ["", ""])]
    first, _, last = to_latex(Layout(["a", "b"], "ll", lines)).split("\n")[4:7]
    assert first.startswith(r"\smash{\parbox[t]")
    assert last.startswith(r"\parbox[t]")

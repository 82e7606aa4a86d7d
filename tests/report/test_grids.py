"""What stands in the cells of a table, and by what they sort."""

import math

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.report.grids import Cell, Column, Grid, table_grid, text_grid

from .conftest import COLUMNS, SCRIPT


def written(folder, *lines):
    (folder / "t.csv").write_text("\n".join([COLUMNS, *lines, ""]), "utf-8")
    (folder / "t.md").write_text("**Told**\n", "utf-8")
    return table_grid(folder / "t.csv")


def test_a_row_has_all_its_metrics_beside_each_other(results):
    grid = table_grid(results.root / "tables/kalm_table_1.csv")
    assert [column.title for column in grid.columns] == ["Row", "Dataset", "Reported", "Reproduced", "Run"]
    assert grid.groups() == [("", 1), ("", 1), ("MR ↓", 2), ("", 1)]
    rows = {(line[0].text, line[1].text): line for line in grid.lines}
    assert rows["TransE", "WN18RR"][2:] == [Cell("2300", 2300.0), Cell("", ""), Cell("")]
    assert rows["TransE", "toy"][3:] == [Cell("10.5", 10.5, "[9.25, 12.0]"), Cell("", runs=("good_toy",))]
    assert SCRIPT in {name for name, _ in rows}
    assert grid.ran == [False, True, True, True]
    assert grid.choices() == [(1, "Dataset", ["WN18RR", "toy"])]
    assert (grid.caption, grid.notes) == ("Ranks _of_ <all>", ["Not run: TransE."])


def test_many_metrics_have_a_line_each(tmp_path):
    lines = [f"t,a,any,metric {i},O(n),,,,,,,text" for i in range(9)]
    grid = written(tmp_path, *lines)
    assert [column.title for column in grid.columns] == ["Row", "Quantity", "Reported"]
    assert len(grid.lines) == 9
    assert grid.ran is None  # nothing ran: there is nothing to tell apart


def test_repeated_rows_are_all_kept(tmp_path):
    grid = written(tmp_path, "t,a,d,MRR,0.5,,,,,,,fraction", "t,a,d,MRR,0.6,,,,,,,fraction")
    assert [line[-1].text for line in grid.lines] == ["0.5", "0.6"]


def test_what_the_audit_found_stands_with_its_row(tmp_path):
    lines = ["t,a,d,MRR,0.5,,,,,,,fraction,too <small>", "t,a,d,Hits@1,0.6,,,,,,,fraction,too <small>"]
    (tmp_path / "t.csv").write_text("\n".join([f"{COLUMNS},audit", *lines, "t,b,d,MRR,0.5,,,,,,,fraction,"]), "utf-8")
    (tmp_path / "t.md").write_text("**Told**\n", "utf-8")
    assert [line[0].audit for line in table_grid(tmp_path / "t.csv").lines] == ["too <small>", ""]


def test_what_is_no_number_sorts_as_none(tmp_path):
    cells = [
        line[2] for line in written(tmp_path, "t,a,d,MRR,0.47.5,,,,,,,fraction", "t,b,d,MRR,0.5,,,,,,,fraction").lines
    ]
    assert cells == [Cell("0.47.5", ""), Cell("0.5", 0.5)]


@given(st.lists(st.tuples(st.text(), st.integers(-999, 999)), max_size=5))
@example([("INFINITY", 0)])
@example([("-inf", 0), ("1", 2)])
def test_texts_stand_as_they_are(rows):
    frame = pd.DataFrame([(text, str(number)) for text, number in rows], columns=["a", "b"], dtype=str)
    grid = text_grid(frame, "t")
    assert [line[1].order for line in grid.lines] == [float(number) for _, number in rows]
    kinds = [column.kind for column in grid.columns]
    assert kinds[1] == ("number" if rows else "text")
    assert all(not isinstance(line[0].order, float) or math.isfinite(line[0].order) for line in grid.lines)


def test_groups_are_neighbours_of_one_title():
    columns = [Column("a"), Column("b", group="x"), Column("c", group="x"), Column("d", group="y"), Column("e")]
    assert Grid("t", "", [], columns, []).groups() == [("", 1), ("x", 2), ("y", 1), ("", 1)]
    assert Grid("t", "", [], columns[:1], []).groups() == []


def test_a_table_without_its_text_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text(f"{COLUMNS}\n", "utf-8")
    with pytest.raises(InputError, match=r"t\.md: no such file"):
        table_grid(tmp_path / "t.csv")

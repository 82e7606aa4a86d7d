"""Letters beyond Latin: drawn and typeset by a font that has them, and told of where none has."""

import shutil
import subprocess

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from kglm.paper import fonts
from kglm.paper.document import paper
from kglm.paper.figures import figure
from kglm.paper.letters import ENGINE, letters_in, preamble, with_letters
from kglm.paper.text import latex

from .conftest import make

HAN = "中文"


@pytest.fixture
def none_installed():
    """No font but matplotlib's own, whatever this machine has."""
    listed = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.ttflist[:] = [entry for entry in listed if "mpl-data" in entry.fname]
    fonts._installed.cache_clear()
    yield
    font_manager.fontManager.ttflist[:] = listed
    fonts._installed.cache_clear()


@pytest.fixture
def han_font(none_installed, tmp_path):
    """A font whose only letters are two of Han's, beside matplotlib's own."""
    pen = TTGlyphPen(None)
    for point in ((100, 0), (100, 700), (800, 700), (800, 0)):
        (pen.moveTo if point == (100, 0) else pen.lineTo)(point)
    pen.closePath()
    box, names = pen.glyph(), [".notdef", *(f"u{ord(letter):04X}" for letter in HAN)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"u{ord(letter):04X}" for letter in HAN})
    builder.setupGlyf(dict.fromkeys(names, box))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable(
        {"familyName": "Two Letters", "styleName": "Regular", "fullName": "Two Letters", "psName": "TwoLetters"}
    )
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    path = tmp_path / "two.ttf"
    builder.save(path)
    font_manager.fontManager.addfont(path)
    fonts._installed.cache_clear()
    return path


def test_the_fewest_fonts_with_most_letters(han_font):
    chosen, nowhere = fonts.fonts_for({*map(ord, HAN), ord("ж"), ord("م"), 0x10FFFD})
    assert {font.family for font in chosen} >= {"Two Letters"} and len(chosen) == 2
    assert nowhere == [0x10FFFD]


def test_letters_that_no_font_has_are_told_with_a_package(none_installed):
    _, nowhere = fonts.fonts_for(map(ord, HAN + "가あ"))
    line = fonts.missing_line("chart", nowhere)
    assert "chart: no installed font has 4 letters (HIRAGANA, CJK, HANGUL: あ 中 文 가)" in line
    assert "fonts-noto-cjk" in line


def drawn(results, tmp_path, capfd, label):
    results.run("ten")
    spec = {
        "name": "chart",
        "kind": "lines",
        "caption": "Lines.",
        "over": "layers",
        "series": [{"label": label, "run": "ten"}],
        "reported": [],
    }
    figure(spec, [results.root / "runs/ten/anisotropy.json"], tmp_path / "chart")
    return (tmp_path / "chart.png").read_bytes(), (tmp_path / "chart.pdf").read_bytes(), capfd.readouterr().err


def test_a_figure_takes_a_font_that_has_its_letters(results, tmp_path, capfd, none_installed, request):
    boxes, _, told = drawn(results, tmp_path, capfd, HAN)
    assert told.count("\n") == 1 and "no installed font has 2 letters (CJK: 中 文)" in told
    request.getfixturevalue("han_font")
    letters, document, told = drawn(results, tmp_path, capfd, HAN)
    assert told == "" and letters != boxes and b"TwoLetters" in document
    assert drawn(results, tmp_path, capfd, HAN)[:2] == (letters, document)


def test_a_figure_of_usual_letters_asks_no_other_font(results, tmp_path, capfd, han_font, monkeypatch):
    monkeypatch.setattr("kglm.paper.figures.fonts_for", None)
    assert drawn(results, tmp_path, capfd, "Größe, Ж, مرحبا")[2] == ""


def test_a_float_alone_shows_code_points():
    assert with_letters("plain") == "plain"
    float_ = with_letters(latex(f"a {HAN}"))
    assert float_.startswith(r"\providecommand\kglmletters") and letters_in([float_]) == set(map(ord, HAN))


def test_a_document_without_such_letters_names_no_engine(tmp_path, capfd):
    assert preamble(set(), "paper") == ("", "")
    paper({}, [], [], tmp_path / "paper.tex")
    assert "lualatex" not in (tmp_path / "paper.tex").read_text()


def test_letters_without_a_font_are_told_and_shown_as_code_points(none_installed, capfd):
    engine, definitions = preamble(set(map(ord, HAN)), "paper")
    assert engine == "" and r"\texttt{U+#1}" in definitions
    assert "fonts-noto-cjk" in capfd.readouterr().err


@pytest.mark.skipif(shutil.which("latexmk") is None, reason="no LaTeX is installed")
@pytest.mark.parametrize("engine", ["-pdf", "-pdflua", "-pdfxe"])
def test_the_document_is_typeset_with_and_without_a_unicode_engine(results, tmp_path, han_font, engine):
    program, package = {
        "-pdf": ("pdflatex", "iftex.sty"),
        "-pdflua": ("lualatex", "luaotfload.sty"),
        "-pdfxe": ("xelatex", "fontspec.sty"),
    }[engine]
    if not shutil.which(program) or subprocess.run(["kpsewhich", package], capture_output=True).returncode:
        pytest.skip("no such engine is installed")
    name = f"{HAN} and Жж, مرحبا بكم, 中\ue000"
    results.run("ten")
    spec = {
        **{"name": "t", "kind": "link_prediction", "paper": "KaLM", "table": "own", "caption": f"Of {name}."},
        **{"model": "llama-2-7b", "metrics": ["MRR"], "rows": [{"label": name}]},
        "blocks": [{"dataset": "WN18RR", "title": name, "runs": {name: "ten"}}],
    }
    make(spec, results)
    table = next(results.root.rglob("t.tex"))
    paper({"scale": name}, [table], [], table.parent / "paper.tex")
    assert (table.parent / "paper.tex").read_text().startswith(ENGINE)
    command = ["latexmk", engine, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=table.parent, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]
    log = (table.parent / "paper.log").read_text("utf-8", errors="replace")
    assert "Missing character" not in log
    assert ("two.ttf" in log) == (engine != "-pdf")

r"""LaTeX for letters that pdfLaTeX's fonts have not: their code points, or, where engine and fonts allow, themselves.

`latex` writes them as commands on lists of code points, \kglmwide{6CD5,56FD}, so that every .tex file is plain ASCII.
Whoever includes a table alone sees the code points; the document defines the commands anew by fonts that are installed.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

# Letters as they come; those that a line may break between; those that are written from right to left.
COMMANDS = ("kglmletters", "kglmwide", "kglmleftwards")
_USED = re.compile(r"\\(?:kglmletters|kglmwide|kglmleftwards)\{([0-9A-F,]+)\}")
_PLAIN = "".join(rf"\providecommand\{command}[1]{{\texttt{{U+#1}}}}" + "\n" for command in COMMANDS)
ENGINE = "% !TeX program = lualatex\n"  # what the rule that typesets looks for, and editors, too
# #1 stands between two letters, #2 are the code points; the first font that has the first letter sets them all.
_PREAMBLE = r"""\usepackage{iftex}
\ifPDFTeX
%(plain)s\else
\usepackage{fontspec}
%(fonts)s\makeatletter
\def\kglm@first#1,#2\@nil{#1}
\def\kglm@letter#1{\iffontchar\font"#1\relax\char"#1\relax\else{\normalfont\texttt{U+#1}}\fi}
\def\kglm@all#1#2{\@for\kglm@one:=#2\do{#1\expandafter\kglm@letter\expandafter{\kglm@one}}}
\def\kglm@set#1#2{\edef\kglm@code{\kglm@first#2,\@nil}%(choice)s\kglm@shape\kglm@all{#1}{#2}}
\let\kglm@shape\relax
\protected\def\kglmletters#1{{\kglm@set{}{#1}}}
\protected\def\kglmwide#1{{\kglm@set{\hskip0pt plus 0.05em\relax}{#1}}}
\def\kglm@joined{\addfontfeature{Script=Arabic}}
\protected\def\kglmleftwards#1{{\let\kglm@shape\kglm@joined
  \ifLuaTeX\textdir TRT\else\beginR\fi\kglm@set{}{#1}\ifLuaTeX\else\endR\fi}}
\ifXeTeX\TeXXeTstate=1\fi
\makeatother
\fi
"""


def letters_in(texts: Iterable[str]) -> set[int]:
    """The letters (code points) that pieces of LaTeX set by these commands."""
    return {int(code, 16) for text in texts for codes in _USED.findall(text) for code in codes.split(",")}


def with_letters(tex: str) -> str:
    """A float with the commands that it needs, for documents that do not define them."""
    return _PLAIN + tex if _USED.search(tex) else tex


def preamble(letters: set[int], where: str) -> tuple[str, str]:
    """The engine's line and the preamble of a document with these letters; nothing where there are none.

    Letters that no installed font has are told on standard error.
    """
    if not letters:
        return "", ""
    from kglm.paper.fonts import fonts_for, missing_line  # matplotlib: no table should wait for it

    fonts, nowhere = fonts_for(letters)
    if nowhere:
        print(missing_line(where, nowhere), file=sys.stderr)
    if not fonts:
        return "", _PLAIN
    names = [f"kglmfont{chr(ord('a') + number)}" for number in range(len(fonts))]
    loaded = "".join(_loaded(name, font.path) for name, font in zip(names, fonts, strict=True))
    choice = ""
    for name in reversed(names):
        choice = rf"\{name}" + (rf'\iffontchar\font"\kglm@code\relax\else{choice}\fi' if choice else "")
    return ENGINE, _PREAMBLE % {"plain": _PLAIN, "fonts": loaded, "choice": choice}


def _loaded(name: str, path: Path) -> str:
    place = f"Path={path.parent.as_posix()}/"
    plain, shaped = (
        rf"\newfontface\{name}{{{path.name}}}[{options}]" for options in (place, f"{place},Renderer=HarfBuzz")
    )
    return rf"\ifLuaTeX{shaped}\else{plain}\fi" + "\n"

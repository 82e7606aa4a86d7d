"""Names and texts as LaTeX and as Markdown: whatever stands in them, they are printed and never obeyed."""

import re
import unicodedata
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import pandas as pd

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # `\\` at the end of a table row would take these two as its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    # Quotation marks join with their neighbours; a word joiner is what keeps two hyphens apart (see `latex`).
    "'": "{'}",
    "`": "{`}",
    "\u2060": "{}",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "…": r"\ldots{}",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "✓": r"$\surd$",
    "✗": r"$\times$",
    "∞": r"$\infty$",
    "⟨": r"$\langle$",
    "⟩": r"$\rangle$",
    "†": r"$\dagger$",
    "⁻": r"$^{-}$",
    "¹": r"$^{1}$",
    "²": r"$^{2}$",
    "³": r"$^{3}$",
    "°": r"$^{\circ}$",
    "≈": r"$\approx$",
    "√": r"$\surd$",
    "⊙": r"$\odot$",
    "∈": r"$\in$",
    "∪": r"$\cup$",
    "∩": r"$\cap$",
    "•": r"\textbullet{}",
    "§": r"\S{}",
    "£": r"\pounds{}",
    "©": r"\copyright{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "\u00a0": "~",
}


def _greek(letter: str) -> str:
    name = unicodedata.name(letter).split()[-1].replace("LAMDA", "LAMBDA")
    return rf"$\{name.lower() if letter.islower() else name.title()}$"


_LATEX |= {letter: _greek(letter) for letter in "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ"}
# Combining mark -> the command that sets it over (or under) a letter in any LaTeX font.
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


_LEFT = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]"  # Hebrew, Syriac, Arabic and their like
_LEFTWARDS = re.compile(rf"({_LEFT}+(?: {_LEFT}+)*)")


def _character(character: str) -> str | None:
    """A character in what pdfLaTeX's fonts have; None for those that they have not."""
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character
    base, *marks = unicodedata.normalize("NFD", character)
    if len(marks) == 1 and marks[0] in _ACCENTS and base.isascii() and base.isalpha():
        dotless = {"i": r"\i", "j": r"\j"}.get(base, base)
        return rf"\{_ACCENTS[marks[0]]}{{{dotless}}}"
    return None


def one_line(text: str) -> str:
    """The text without control characters, and with single spaces for all white space."""
    replaced = {"Cc": " ", "Cs": "\ufffd"}  # control characters; halves of characters, which no file can hold
    shown = (replaced.get(unicodedata.category(character), character) for character in text)
    return re.sub(r"[ \u2028\u2029]+", " ", "".join(shown)).strip()


def latex(text: object) -> str:
    """Plain text as LaTeX, in ASCII only, safe anywhere in a paragraph, a caption or a table cell.

    Letters that pdfLaTeX's fonts have not are the argument of a command (see `kglm.paper.letters`), as code points.
    """
    shown = re.sub(r"-(?=-)", "-\u2060", unicodedata.normalize("NFC", one_line(str(text))))
    # Words from right to left are one run with the spaces between them: each for itself would stand where it is first.
    parts = enumerate(_LEFTWARDS.split(shown))
    return "".join(_set("kglmleftwards", part) if odd % 2 else _leftwards_apart(part) for odd, part in parts)


def _leftwards_apart(text: str) -> str:
    """As `latex`, of a text without letters that are written from right to left."""
    runs = groupby(text, key=_command)
    return "".join(_set(command, run) if command else "".join(map(_character, run)) for command, run in runs)


def _command(character: str) -> str:
    """Which of `kglm.paper.letters.COMMANDS` a letter is set by; "" for what pdfLaTeX's fonts have."""
    if _character(character) is not None:
        return ""
    return "kglmwide" if unicodedata.east_asian_width(character) in ("W", "F") else "kglmletters"


def _set(command: str, letters: Iterable[str]) -> str:
    return rf"\{command}{{{','.join(f'{ord(letter):04X}' for letter in letters)}}}"


def markdown(text: object) -> str:
    """Plain text as Markdown (also inside a table), with neither markup nor HTML of its own."""
    shown = "".join(f"U+{ord(one):04X}" if _turns(one) else one for one in one_line(str(text)))
    safe = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", safe)


def _turns(character: str) -> bool:
    """Whether a mark turns the direction of all that follows it, cells of others included."""
    return unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def spreadsheet(frame: pd.DataFrame, separator: str = ",") -> str:
    """A frame as CSV, or TSV, for people, whose programs take text like a formula for one: see `defused`."""
    safe = frame.map(defused).rename(columns=defused)
    return safe.to_csv(index=False, sep=separator, lineterminator="\n")


def defused(cell: object) -> object:
    """A cell with an apostrophe before what a spreadsheet would run; numbers, and all that is no text, as they are."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def read_spreadsheet(path: Path) -> pd.DataFrame:
    """What `spreadsheet` wrote, as texts and as it was before."""
    return pd.read_csv(path, dtype=str, keep_default_na=False).map(_as_written).rename(columns=_as_written)


def _as_written(cell: object) -> object:
    """The cell that `defused` was given."""
    return cell[1:] if isinstance(cell, str) and cell[:1] == "'" and defused(cell[1:]) == cell else cell


def shorten(text: str, length: int) -> str:
    """At most `length` characters of a text; what is left out of its middle is marked by […]."""
    text = one_line(text)
    if len(text) <= length:
        return text
    keep = length - len(" […] ")
    return f"{text[: keep // 2].rstrip()} […] {text[len(text) - (keep - keep // 2) :].lstrip()}"

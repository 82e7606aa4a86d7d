"""Fonts for letters that the usual ones have not: which of those installed has them, and what to install if none."""

import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from matplotlib import font_manager

# Fonts of boxes, of mathematics, and those that are asked first anyway.
_NO_TEXT = ("Last Resort", "STIX", "cm", "DejaVu Math", "DejaVu Sans Display", "DejaVu Serif Display")
_PACKAGES = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "FULLWIDTH"), "fonts-noto-cjk")
_SHOWN = 8


class Font(NamedTuple):
    """An installed font: the name of its family, its file, and the letters (code points) that it has."""

    family: str
    path: Path
    letters: frozenset[int]


@cache
def _installed() -> list[Font]:
    """The upright fonts of ordinary weight that matplotlib finds, by name; of each family one."""
    found: dict[str, Font] = {}
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: (entry.name, _oddity(entry), entry.fname)):
        if entry.name not in found and not entry.name.startswith(_NO_TEXT):
            try:
                letters = frozenset(font_manager.get_font(entry.fname).get_charmap())
            except (OSError, RuntimeError):  # removed since matplotlib listed it, or damaged
                continue
            found[entry.name] = Font(entry.name, Path(entry.fname), letters)
    return list(found.values())


def _oddity(entry: font_manager.FontEntry) -> tuple:
    weight = entry.weight if isinstance(entry.weight, int) else 400
    return entry.style != "normal", abs(weight - 400), entry.stretch != "normal"


def fonts_for(letters: Iterable[int]) -> tuple[list[Font], list[int]]:
    """The fewest fonts that have these letters (code points), the one with most of them first, and those none has."""
    left, chosen = set(letters), []
    while left:
        best = max(_installed(), key=lambda font: len(left & font.letters), default=None)
        if best is None or not left & best.letters:
            break
        chosen.append(best)
        left -= best.letters
    return chosen, sorted(left)


def missing_line(where: str, letters: list[int]) -> str:
    """One line on letters that no font has: which they are, and the package that has them."""
    scripts: dict[str, str] = {}
    for letter in letters:
        script = unicodedata.name(chr(letter), "UNKNOWN").split()[0].split("-")[0]
        scripts.setdefault(script, _PACKAGES.get(script, "fonts-noto-core"))
    shown = " ".join(map(chr, letters[:_SHOWN])) + (" …" if len(letters) > _SHOWN else "")
    packages = ", ".join(dict.fromkeys(scripts.values()))
    return (
        f"warning: {where}: no installed font has {len(letters)} letters ({', '.join(scripts)}: {shown}); "
        f"install one, as Debian's {packages}, and make it again"
    )

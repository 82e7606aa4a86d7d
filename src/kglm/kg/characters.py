"""What text in all scripts asks for: characters that are written as two halves, and words without spaces."""

import re
import unicodedata

_HALF = re.compile("[\ud800-\udfff]")
# Scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Kana, Han; Hangul adds endings to words.
_UNSPACED = (
    "\u0e00-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc\U00020000-\U0003ffff"
)
_LETTER = rf"[^\W{_UNSPACED}]"  # of a word that ends where its letters do
_IS_LETTER = re.compile(_LETTER)


def whole(text: str) -> str:
    """A text whose surrogate pairs are the characters that they stand for; a half alone is U+FFFD.

    No half can be written to a file as UTF-8, and Unicode holds it to be no character.
    """
    if not _HALF.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def as_a_word(name: str) -> str:
    """A regular expression for a name where it is not a part of a longer word.

    A name that ends in punctuation, or in a script without spaces, may be followed by anything.
    """
    before, after = (bool(_IS_LETTER.match(name[place])) for place in (0, -1))
    return rf"(?<!{_LETTER})" * before + re.escape(name) + rf"(?!{_LETTER})" * after


def inside_a_word(text: str, place: int) -> bool:
    """Whether a word goes on across the place between two characters of a text; never at its ends."""
    if not 0 < place < len(text):
        return False
    if unicodedata.category(text[place]).startswith("M"):  # a mark on the letter before it
        return True
    return all(character.isalnum() and _IS_LETTER.match(character) for character in text[place - 1 : place + 1])

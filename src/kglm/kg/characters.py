"""Characters that JSON, N-Triples and backslash escapes write as two halves, `\ud83d\ude00`."""

import re

_HALF = re.compile("[\ud800-\udfff]")


def whole(text: str) -> str:
    """A text whose surrogate pairs are the characters that they stand for; a half alone is U+FFFD.

    No half can be written to a file as UTF-8, and Unicode holds it to be no character.
    """
    if not _HALF.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

"""Entities and relations as people name them: by id, by name, by name in another case."""

import difflib
from collections.abc import Sequence

import pandas as pd

from kglm.errors import InputError

_SEARCHED = 300_000  # of more names than these, none is compared for its likeness
_SHOWN = 3


class Names:
    """Finds the numbers of entities or relations.

    what: "entity" or "relation", for messages; ids and names: of number i; an id comes before a name.
    """

    def __init__(self, what: str, ids: Sequence[str], names: Sequence[str]):
        self.what, self.ids, self.names = what, list(ids), list(names)
        self._by_id = {own: number for number, own in enumerate(self.ids)}
        self._by_name = pd.Series(range(len(self.names)), index=self.names).groupby(level=0, sort=False).agg(list)

    def number(self, text: str) -> int:
        """The number of an id or a name; InputError where nothing, or more than one thing, is called so."""
        if text in self._by_id:
            return self._by_id[text]
        found = self._by_name.get(text)
        if found is None:
            folded = text.casefold()
            found = [number for number, name in enumerate(self.names) if name.casefold() == folded]
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(self.ids[number] for number in found[:_SHOWN]) + ", …" * (len(found) > _SHOWN)
            raise InputError(f"{len(found)} things are called so", f"{self.what} {text!r}", f"give an id: {several}")
        raise InputError("is not in the graph", f"{self.what} {text!r}", self._nearest(text))

    def _nearest(self, text: str) -> str:
        if len(self.names) > _SEARCHED:
            return "give an id or a name of the graph"
        known = dict.fromkeys([*self.names, *self.ids])
        close = difflib.get_close_matches(text, known, _SHOWN) or difflib.get_close_matches(text, known, _SHOWN, 0.3)
        return f"the nearest are {', '.join(map(repr, close))}" if close else "give an id or a name of the graph"

"""One row of what methods make for many at once."""

from collections.abc import Callable

import numpy as np

from kglm.lm.tokens import Ragged


def one(rows_of: Callable[..., Ragged], *numbers: int) -> list[int]:
    """The tokens of a single query, entity or triple."""
    return rows_of(*(np.array([number]) for number in numbers)).row(0)

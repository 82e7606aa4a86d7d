"""The oldest transformers that this package was seen to work with."""

import importlib.metadata

from kglm.errors import InputError

TRANSFORMERS = (5, 17)


def check_transformers() -> None:
    """InputError where the one that is installed is older; its metadata say the same (requirements.txt)."""
    found = importlib.metadata.version("transformers")
    if tuple(map(int, found.split(".")[:2])) < TRANSFORMERS:
        oldest = ".".join(map(str, TRANSFORMERS))
        raise InputError(f"transformers {found} is too old", "packages", f"pip install 'transformers>={oldest}'")

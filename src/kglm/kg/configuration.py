"""The closed, typed schemas of dataset and corpus entries, and the one line that says what is wrong."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError

from kglm.errors import InputError

# Keys of a dataset's `splits` that do not go together, and why.
_APART = {
    "drawn_negatives": (("labelled", "negatives"), "the files hold false triples already"),
    "inductive": (
        ("labelled", "negatives", "drawn_negatives"),
        "an inductive split is made of true triples alone",
    ),
}


@cache
def _validator(kind: str) -> Draft202012Validator:
    path = Path(__file__).parent / "schemas" / f"{kind}.schema.yaml"
    return Draft202012Validator(yaml.safe_load(path.read_text("utf-8")))


def check(spec: Mapping, kind: str) -> None:
    """InputError naming the first key of a `dataset` or `corpus` entry that its schema or its other keys forbid."""
    errors = list(_validator(kind).iter_errors(spec))
    if errors:
        error = _closest(min(errors, key=lambda error: (len(error.path), str(error.path))))
        where = ".".join([kind, str(spec.get("name", "")), *(str(key) for key in error.absolute_path)])
        raise InputError(*_told(error, where.replace("..", ".").rstrip(".")))
    for key, (others, reason) in _APART.items():
        for other in others:
            if key in spec.get("splits", {}) and spec["splits"].get(other):
                what = f"{key} and {other} do not go together: {reason}"
                raise InputError(what, f"{kind}.{spec.get('name', '')}.splits".replace("..", "."), f"take out {key}")


def _closest(error: ValidationError) -> ValidationError:
    """Of an entry that fits none of several forms, what is wrong with the form that it comes closest to."""
    while error.context:
        forms: dict[int, list[ValidationError]] = {}
        for one in error.context:
            forms.setdefault(one.schema_path[0], []).append(one)
        error = min(forms.values(), key=lambda one: (any(e.validator == "type" and not e.path for e in one), len(one)))[
            0
        ]
    return error


def _told(error: ValidationError, where: str) -> tuple[str, str, str]:
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(str(key) for key in error.instance if key not in known)
        return f"unknown key {', '.join(unknown)}", where, f"the keys here are {', '.join(known)}"
    wanted = error.validator_value
    if error.validator == "type" and isinstance(error.instance, str) and wanted in ("integer", "number"):
        return f"the text {error.instance!r} where a number belongs", where, "write it bare, as 42 or 1.0e-4"
    if error.validator == "pattern" and "A-Z" in wanted:
        return f"{error.instance!r} is no plain name", where, "use letters, digits, '.', '_' and '-'"
    if error.validator == "pattern":
        return f"{error.instance!r} does not have the form {wanted}", where, "mend it"
    return error.message[:200], where, "see the schema of this entry"

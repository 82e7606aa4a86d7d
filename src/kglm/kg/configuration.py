"""The closed, typed schemas of dataset and corpus entries, and the one line that says what is wrong."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from kglm.errors import InputError
from kglm.options import check_keys, is_number, mistyped

# Keys of a dataset's `splits` that do not go together, and why.
_APART = {
    "drawn_negatives": (("labelled", "negatives"), "the files hold false triples already"),
    "inductive": (
        ("labelled", "negatives", "drawn_negatives"),
        "an inductive split is made of true triples alone",
    ),
}


# Names of a query's parts that hold what nobody else may know, and how long a word is no longer one.
_SECRET = re.compile("token|key|secret|sig|auth|pass|credential|session", re.IGNORECASE)
_LONG = 24


def addresses(entry: object) -> Iterator[str]:
    """All addresses of a dataset or corpus entry."""
    if isinstance(entry, Mapping):
        for key, value in entry.items():
            if key in ("url", "base_url") and isinstance(value, str):
                yield value
            else:
                yield from addresses(value)
    elif isinstance(entry, str) and entry.startswith(("http://", "https://")):
        yield entry
    elif isinstance(entry, list):
        for value in entry:
            yield from addresses(value)


def check_addresses(entry: Mapping, where: str) -> None:
    """InputError for an address with a secret in it: it would stand in specifications, logs and process lists."""
    for address in addresses(entry):
        for name, value in parse_qsl(urlsplit(address).query):
            if "${" not in value and (_SECRET.search(name) or len(value) > _LONG):
                remedy = f"write {name}=${{NAME}} and set the environment variable NAME when you fetch"
                raise InputError(f"an address has a secret in it (the part {name!r} of its query)", where, remedy)


# 2.0 is no whole number, for who computes with it would get 2.0; neither infinity nor NaN is a number.
_NUMBERS = {
    "integer": lambda checker, value: isinstance(value, int) and is_number(value),
    "number": lambda checker, value: is_number(value),
}
Validator = validators.extend(
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(_NUMBERS)
)


@cache
def _validator(kind: str) -> Validator:
    path = Path(__file__).parent / "schemas" / f"{kind}.schema.yaml"
    return Validator(yaml.safe_load(path.read_text("utf-8")))


def check(spec: Mapping, kind: str) -> None:
    """InputError naming the first key of a `dataset` or `corpus` entry that its schema or its other keys forbid."""
    place = ".".join(filter(None, [kind, str(spec.get("name", ""))]))
    check_addresses(spec, place)
    check_keys(spec, place)
    errors = list(_validator(kind).iter_errors(spec))
    if errors:
        error = _closest(min(errors, key=lambda error: (len(error.path), str(error.path))))
        where = ".".join([kind, str(spec.get("name", "")), *(str(key) for key in error.absolute_path)])
        where = where.replace("..", ".").rstrip(".")
        if error.validator == "type":
            raise mistyped(error.instance, str(error.validator_value), where)
        raise InputError(*_told(error, where))
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
    if error.validator == "pattern" and "A-Z" in wanted:
        return f"{error.instance!r} is no plain name", where, "use letters, digits, '.', '_' and '-'"
    if error.validator == "pattern" and "@" in wanted and "@" in str(error.instance):
        remedy = "take user and password out of it; a ${NAME} in an address is read from the environment"
        return "an address with a user or a password", where, remedy
    if error.validator == "pattern":
        return f"{error.instance!r} does not have the form {wanted}", where, "mend it"
    return error.message[:200], where, "see the schema of this entry"

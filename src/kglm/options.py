"""Options as fields of frozen dataclasses: types, choices and limits, and the one reader that holds values to them.

A field's annotation says all: bool, int, float or str, `| None`, Literal[…], tuple[…, ...] or dict[str, …] of these,
Annotated with a Range, or a name below. No torch: the workflow reads the annotations from the source (`kglm.config`).
"""

import ast
import difflib
import math
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from numbers import Integral, Real
from typing import Annotated, Any, Literal, NamedTuple, Self, Union, get_args, get_origin, get_type_hints

from kglm.errors import InputError

LARGEST = 2**31 - 1  # of whole numbers: what counts steps, tokens and rows takes no larger one everywhere


class Range(NamedTuple):
    """What a number may be."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def holds(self, number: float) -> bool:
        """Whether the number lies within."""
        return not (
            (self.least is not None and number < self.least)
            or (self.above is not None and number <= self.above)
            or (self.most is not None and number > self.most)
            or (self.below is not None and number >= self.below)
        )

    def __str__(self) -> str:
        words = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
        limits = self._asdict().items()
        return " and ".join(f"{words[key]} {limit:g}" for key, limit in limits if limit is not None)


Count = Annotated[int, Range(least=0)]
Size = Annotated[int, Range(least=1)]
Seed = Annotated[int, Range(least=0)]
Weight = Annotated[float, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
Share = Annotated[float, Range(least=0, most=1)]
Rate = Annotated[float, Range(least=0, below=1)]  # of dropout, of decay

Sizes = tuple[Size, ...]

Automatic = Literal["auto", True, False]

_NAMES = {name: value for name, value in globals().items() if get_origin(value) in (Annotated, tuple, Literal)}
_KINDS: dict[type, type] = {bool: bool, int: Integral, float: Real, str: str}


class Option(NamedTuple):
    """A field: its kind ("bool", "int", "float", "str", or "" for what the code itself checks), limits and default."""

    kind: str
    choices: tuple = ()
    default: Any = None
    limits: Range = Range()
    empty: bool = False  # may it be None
    many: type | None = None  # list or dict: a list of such values, or such values by name

    @property
    def wanted(self) -> str:
        """What it may be, in words."""
        one = ", ".join(map(str, self.choices)) or " ".join(filter(None, [self.kind, str(self.limits)]))
        several = {list: "list of ", dict: "mapping to "}.get(self.many, "")
        return several + one + (" or null" if self.empty else "")


def option_of(annotation: Any, default: Any = None) -> Option:
    """The option that an annotation describes."""
    if annotation in _KINDS:
        return Option(annotation.__name__, default=default)
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation in (list, dict):
        return Option("", default=default, many=annotation)
    if origin is Literal:
        kinds = {type(choice).__name__ for choice in inside}
        return Option(kinds.pop() if len(kinds) == 1 else "", inside, default)
    if origin is Annotated:
        return option_of(inside[0], default)._replace(limits=inside[1])
    if origin in (Union, types.UnionType) and type(None) in inside and len(inside) == 2:
        return option_of(next(part for part in inside if part is not type(None)), default)._replace(empty=True)
    if origin is tuple and inside[1:] == (...,):
        return option_of(inside[0], default)._replace(many=list)
    if origin is dict:
        return option_of(inside[1], default)._replace(many=dict)
    return Option("", default=default)


def options_of(cls: type) -> dict[str, Option]:
    """The options of a dataclass."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: option_of(hints[field.name], _default(field)) for field in fields(cls)}


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def options_in(tree: ast.ClassDef) -> dict[str, Option]:
    """The options of a dataclass as they stand in its source; a default that is no plain value is None."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign):
            found[node.target.id] = option_of(_annotation(node.annotation), _literal(node.value))
    return found


def _literal(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node)
    except (TypeError, ValueError):
        return None


def _annotation(node: ast.expr) -> Any:
    """An annotation of this module's grammar; `object` stands for any other."""
    if isinstance(node, ast.Name):
        return _NAMES.get(node.id) or {kind.__name__: kind for kind in (*_KINDS, list, dict)}.get(node.id, object)
    if isinstance(node, ast.BinOp) and ast.unparse(node.right) == "None":
        return _annotation(node.left) | None
    if isinstance(node, ast.Subscript):
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        match ast.unparse(node.value):
            case "Literal":
                return Literal[tuple(map(ast.literal_eval, inside))]
            case "Annotated":
                limits = {key.arg: ast.literal_eval(key.value) for key in inside[1].keywords}
                return Annotated[_annotation(inside[0]), Range(**limits)]
            case "tuple":
                return tuple[_annotation(inside[0]), ...]
            case "dict":
                return dict[str, _annotation(inside[1])]
    return object


def problems(given: Mapping, options: Mapping[str, Option], where: str) -> Iterator[InputError]:
    """What is wrong with values by key: unknown keys, other types, choices and ranges; each names its key."""
    for key, value in given.items():
        place = f"{where}.{key}"
        if key not in options:
            yield unknown(key, options, where, "option")
        elif not (value is None and options[key].empty):
            yield from _problems(value, options[key], place)


def _problems(value: Any, option: Option, where: str) -> Iterator[InputError]:
    """Of one value, or of each in a list or a mapping."""
    if option.many is list and isinstance(value, list | tuple):
        for one in value:
            yield from _problem(one, option, where)
    elif option.many is dict and isinstance(value, Mapping):
        for key, one in value.items():
            yield from _problem(key, Option("str"), where)
            yield from _problem(one, option, f"{where}.{key}")
    elif option.many:
        yield mistyped(value, option.wanted, where)
    else:
        yield from _problem(value, option, where)


def _problem(value: Any, option: Option, where: str) -> Iterator[InputError]:
    """Of a single value."""
    if not option.kind:
        if option.choices and not any(
            value is choice or (value, type(value)) == (choice, type(choice)) for choice in option.choices
        ):
            told = ", ".join(str(choice).lower() for choice in option.choices)
            yield InputError(f"{value!r} is not known", where, f"choose one of {told}")
        return
    kind = next(kind for name, kind in _KINDS.items() if name.__name__ == option.kind)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield mistyped(value, option.kind, where)
    elif option.choices and value not in option.choices:
        yield InputError(f"{value!r} is not known", where, f"choose one of {listed(option.choices)}")
    elif option.kind in ("int", "float") and not is_number(value):
        yield mistyped(value, option.kind, where)
    elif option.kind in ("int", "float") and not option.limits.holds(value):
        yield InputError(f"{value} is out of range", where, f"it must be {option.limits}")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no larger than what counts rows and steps if it is a whole one."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return abs(value) <= LARGEST if isinstance(value, Integral) else math.isfinite(value)


@dataclass(frozen=True)
class Options:
    """The base of all dataclasses of options; whoever constructs one gets InputError for a wrong value."""

    def __post_init__(self):
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for problem in problems(values, options_of(type(self)), f"{type(self).__module__}.{type(self).__qualname__}"):
            raise problem

    @classmethod
    def of(cls, given: Any, where: str = "") -> Self:
        """From a mapping and where it stands; InputError names the key that is wrong, its value and what it may be."""
        where = where or cls.__name__.lower()
        if not isinstance(given, Mapping):
            raise mistyped(given, "a mapping", where)
        options = options_of(cls)
        for problem in problems(given, options, where):
            raise problem
        needed = [field.name for field in fields(cls) if field.default is field.default_factory is MISSING]
        if missing := [name for name in needed if name not in given]:
            raise InputError(f"key {missing[0]!r} is missing", where, "add it")
        return cls(**{key: _converted(value, options[key]) for key, value in given.items()})


def _converted(value: Any, option: Option) -> Any:
    """A list as a tuple, 1 as 1.0 where the field is a float."""
    if option.many is list:
        return tuple(value) if option.kind else list(value)
    return float(value) if option.kind == "float" and not option.many and value is not None else value


# The lines that all checks of a configuration use.


def unknown(name: object, known: Iterable, where: str, what: str = "key") -> InputError:
    """An error that names the known word that is closest."""
    known = [str(key) for key in known]
    close = difflib.get_close_matches(str(name), known, 1)
    remedy = f"did you mean {close[0]!r}?" if close else f"choose one of {listed(known)}"
    return InputError(f"unknown {what} {name!r}", where, remedy)


def mistyped(value: object, wanted: str, where: str) -> InputError:
    """An error that says what a value is, and what it should have been."""
    remedy = "change its value"
    if wanted.split(maxsplit=1)[0] in ("number", "float", "integer", "int"):
        if isinstance(value, str):
            numeric = "YAML reads 1e-4 and quoted numbers as text: write 1.0e-4"
            remedy = numeric if _is_number(value) else "write a number"
        elif isinstance(value, float) and value.is_integer():
            remedy = f"write {value:.0f}"
    elif wanted.startswith("str") and isinstance(value, bool):
        remedy = "YAML reads on, off, yes and no as true or false: write it in quotes"
    return InputError(f"{value!r} is {_type_name(value)}, expected {wanted}", where, remedy)


def check_keys(entry: object, where: str) -> None:
    """InputError for a key that is no text, however deep in mappings and lists it stands."""
    if isinstance(entry, Mapping):
        for key, value in entry.items():
            if not isinstance(key, str):
                remedy = "write it in quotes: YAML reads on, off, yes and no as true or false"
                raise InputError(f"the key {key!r} is {_type_name(key)}, expected text", where, remedy)
            check_keys(value, f"{where}.{key}")
    elif isinstance(entry, list):
        for number, value in enumerate(entry):
            check_keys(value, f"{where}.{number}")


def listed(values: Iterable) -> str:
    """Values beside each other."""
    return ", ".join(map(str, values)) or "(there is none)"


def _type_name(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "no finite number"
    names = {str: "text", bool: "true or false", dict: "a mapping", list: "a list", type(None): "empty"}
    return names.get(type(value), "a number")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

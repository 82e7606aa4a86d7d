"""What code a stage can reach, as one hash that comments, docstrings and unrelated code do not change.

The closure starts at the stage's function and follows names: functions called, constants read, imports at any
depth. It goes definition by definition, not file by file, so that an edit of `embed` trains nothing again
although `train` stands in the same file. `kglm.cli` only hands paths over and belongs to no closure.

What is looked up by name at run time is followed in three cases: a string "kglm.<package>." (as in
`import_module(f"kglm.methods.{name}")`) stands for the chosen module of that package; a top-level dictionary
{"name": function} with the choice among its keys for the chosen function; a string that ends with the name of
one of the package's data files (`with_name("reported.csv")`) for its content. Nothing is imported.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kglm.cli import STAGES
from kglm.errors import InputError
from kglm.files import sha256

PACKAGE = Path(__file__).parent
_CHOICE = re.compile(r"kglm(\.\w+)+\.")

# A module and a top-level name in it; the name None is the whole module, "" is what runs at its import.
Place = tuple[str, str | None]


class Statement(NamedTuple):
    """A statement in normal form, the places it names, its strings, and the functions it offers by key."""

    source: str
    references: list[Place]
    strings: list[str]
    offers: dict[str, Place]


@dataclass
class Module:
    """The top level of one file: what each name means, and the statements that run whenever it is imported.

    `imports` holds the names that come from kglm; an import of another library counts as a definition.
    """

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Place] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)


@cache
def code_hash(stage: str, choice: str | None = None, package: Path = PACKAGE) -> str:
    """The first 16 digits of the SHA-256 of all code a stage reaches.

    `choice` is the method of a run or the kind of a figure: of what is picked from by that name only the
    chosen part counts; without it all of it. InputError for an unknown module or function.
    """
    module, function = STAGES[stage].split(":")
    reached = closure((module, function), choice, package)
    return hashlib.sha256(repr(sorted(reached.items())).encode()).hexdigest()[:16]


def closure(start: Place, choice: str | None = None, package: Path = PACKAGE) -> dict[str, str]:
    """All that is reached from `start`: "module:name" -> source in normal form, data file -> digest."""
    if not _module(start[0], package).definitions.get(start[1]):
        raise InputError(f"no {start[1]} in {start[0]}", "stages in kglm/cli.py", "name an existing function")
    reached: dict[str, str] = {}
    waiting: list[Place] = [start]
    seen: set[Place] = set()
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        module, name = place
        waiting += [(parent, "") for parent in (module, *_parents(module))]
        if name is None:
            waiting += [(module, defined) for defined in _module(module, package).definitions]
            continue
        for number, statement in enumerate(_statements(place, package)):
            chosen = statement.offers.get(choice)
            reached[f"{module}:{name}:{number}"] = str(chosen) if chosen else statement.source
            waiting += [chosen] if chosen else statement.references
            for text in statement.strings:
                waiting += _chosen(text, choice, package)
                reached |= _data_files(text, package)
    return reached


@cache
def _statements(place: Place, package: Path) -> list[Statement]:
    """The statements of one name of a module, or, for the name "", of its import."""
    module = _module(place[0], package)
    nodes = module.effects if place[1] == "" else module.definitions.get(place[1], [])
    return [
        Statement(
            ast.unparse(node),  # a normal form without comments, steadier across Python versions than a dump
            _references(node, place[0], package),
            _strings(node),
            _offers(node, place[0], package),
        )
        for node in nodes
    ]


def _offers(node: ast.stmt, module: str, package: Path) -> dict[str, Place]:
    """The functions of a dictionary {"name": function}, from which one is picked by name."""
    table = node.value if isinstance(node, ast.Assign) else None
    if not isinstance(table, ast.Dict) or not all(isinstance(v, ast.Name | ast.Attribute) for v in table.values):
        return {}
    offered = {}
    for key, value in zip(table.keys, table.values, strict=True):
        places = _references(value, module, package)
        if isinstance(key, ast.Constant) and isinstance(key.value, str) and len(places) == 1:
            offered[key.value] = places[0]
    return offered


def _references(node: ast.AST, module: str, package: Path) -> list[Place]:
    """The places in kglm that a statement or an expression names."""
    here = _module(module, package)
    local = dict(here.imports)
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            bound = _bindings(inner, module, package)
            local |= {name: place for name, place in bound if isinstance(place, tuple)}
    places = []
    for first, *rest in _dotted_names(node):
        if first in local:
            places.append(_resolve(local[first], rest, package))
        elif first in here.definitions:
            places.append((module, first))
    return list(dict.fromkeys(places))


def _resolve(place: Place, attributes: list[str], package: Path) -> Place:
    """Follow `attributes` from a module, through packages and re-exports, to the definition they name."""
    module, name = place
    if name is not None and _path(f"{module}.{name}", package):
        module, name = f"{module}.{name}", None
    if name is None:
        return _resolve((module, attributes[0]), attributes[1:], package) if attributes else (module, None)
    found = _module(module, package)
    if name not in found.definitions and name in found.imports:
        return _resolve(found.imports[name], attributes, package)
    return module, name


def _dotted_names(node: ast.AST) -> Iterator[list[str]]:
    """Every longest chain a.b.c that begins with a name."""
    chain, inner = [], node
    while isinstance(inner, ast.Attribute):
        chain.insert(0, inner.attr)
        inner = inner.value
    if isinstance(inner, ast.Name):
        yield [inner.id, *chain]
        return
    for child in ast.iter_child_nodes(node):
        yield from _dotted_names(child)


@cache
def _module(name: str, package: Path) -> Module:
    path = _path(name, package)
    if path is None:
        raise InputError(f"no module {name}", "stages in kglm/cli.py", "name an existing module")
    module = Module()
    for node in _without_docstrings(ast.parse(path.read_text("utf-8"), path.name)).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for bound, target in _bindings(node, name, package):
                if isinstance(target, tuple):
                    module.imports[bound] = target
                else:
                    module.definitions.setdefault(bound, []).append(target)
        elif names := _defined(node):
            for defined in names:
                module.definitions.setdefault(defined, []).append(node)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"):
            module.effects.append(node)
    return module


def _bindings(node: ast.Import | ast.ImportFrom, module: str, package: Path) -> Iterator[tuple]:
    """(name, place) for each name imported from kglm, (name, import of that one name) for each other."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            first = alias.name.split(".")[0]
            place = (alias.name if alias.asname else first, None)
            yield alias.asname or first, place if first == "kglm" else ast.Import([alias])
        return
    base = node.module
    if node.level:
        here = module.split(".") + ([""] if _path(module, package).name == "__init__.py" else [])
        base = ".".join(filter(None, [*here[: -node.level], node.module]))
    own = base.split(".")[0] == "kglm"
    for alias in node.names:
        if own and alias.name == "*":
            raise InputError(f"imports * from {base}", module, "name what is imported, so that it can be followed")
        single = ast.ImportFrom(node.module, [alias], node.level)
        yield alias.asname or alias.name, (base, alias.name) if own else single


def _defined(node: ast.stmt) -> list[str]:
    """The names that a top-level statement defines; none for one that does something else."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    parts = [part for target in targets for part in getattr(target, "elts", [target])]
    names = [part.id for part in parts if isinstance(part, ast.Name)]
    return names if len(names) == len(parts) else []


def _without_docstrings(tree: ast.Module) -> ast.Module:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
    return tree


def _strings(node: ast.AST) -> list[str]:
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def _chosen(text: str, choice: str | None, package: Path) -> list[Place]:
    if not _CHOICE.fullmatch(text):
        return []
    folder = package.joinpath(*text.split(".")[1:-1])
    names = [choice] if choice else [path.stem for path in sorted(folder.glob("[!_]*.py"))]
    return [(text + name, None) for name in names]


def _data_files(text: str, package: Path) -> dict[str, str]:
    return {path: digest for name, path, digest in _digests(package) if text.endswith(name)}


@cache
def _digests(package: Path) -> list[tuple[str, str, str]]:
    files = [path for path in package.rglob("*.*") if path.is_file() and not path.suffix.startswith(".py")]
    return [(path.name, str(path.relative_to(package)), sha256(path)) for path in files]


@cache
def _path(module: str, package: Path) -> Path | None:
    """The file of a module of kglm, or None where there is none."""
    base = package.joinpath(*module.split(".")[1:])
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]

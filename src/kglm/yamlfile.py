"""YAML and JSON as they are read everywhere here: nothing in a file is dropped or turned into another value."""

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from kglm.errors import InputError

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where it is built
# YAML 1.1 reads 010 as eight and 1:30 as ninety.
_OTHER_NUMBER = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-9_.]+)+)")


class Loader(_PARSER):
    """PyYAML's safe loader; a key that stands twice and a number in another notation are errors."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """See PyYAML, which takes the last of equal keys."""
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise InputError(f"line {line}: a key is a list or a mapping", remedy="write a text")
            if key in lines:
                what = f"the key {key} stands twice (lines {lines[key]} and {line})"
                raise InputError(what, remedy="merge the two, or take one out")
            lines[key] = line
        return super().construct_mapping(node, deep)


def _number(loader: Loader, node: yaml.ScalarNode) -> int | float:
    text = node.value
    if _OTHER_NUMBER.fullmatch(text):
        what = f"line {node.start_mark.line + 1}: YAML reads {text} as another number"
        raise InputError(what, remedy="write it in quotes if it is a text, else as a decimal number")
    kind = "int" if node.tag.endswith("int") else "float"
    return getattr(_PARSER, f"construct_yaml_{kind}")(loader, node)


for _kind in ("int", "float"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _number)


def read_yaml(path: Path) -> dict:
    """A YAML file, or with the ending .json a JSON file, that holds a mapping; InputError where it does not."""
    try:
        text = Path(path).read_text("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_pairs) if Path(path).suffix == ".json" else yaml.load(text, Loader)
    except FileNotFoundError:
        raise InputError("no such file", path) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path) from None
    except InputError as error:
        raise InputError(str(error), path) from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "JSON" if Path(path).suffix == ".json" else "YAML"
        raise InputError(f"no {kind} ({error})", path) from None
    if not isinstance(value, dict):
        raise InputError("holds no mapping", path, "write key: value")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise InputError(f"the key {twice} stands twice", remedy="take one out")
    return found

"""Write docs/configuration.md and README's list of deviations from what the program itself reads.

python docs/generate.py           writes both
python docs/generate.py --check   exits with 1 where one is out of date
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

from kglm import config

TOP = Path(__file__).parent.parent
SCHEMAS = TOP / "workflow" / "schemas"
SOURCE = TOP / "src" / "kglm"
BEGIN, END = "<!-- deviations: begin -->\n", "<!-- deviations: end -->\n"


def options(schema: dict, definitions: dict, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Each key that a schema allows: its path, what it may hold, what it means."""
    schema = _resolved(schema, definitions)
    for branch in [*schema.get("allOf", []), *schema.get("anyOf", []), *schema.get("oneOf", [])]:
        yield from options(branch.get("then", branch), definitions, path)
    for key, entry in schema.get("properties", {}).items():
        entry = {**_resolved(entry, definitions), **{k: v for k, v in entry.items() if k == "description"}}
        where = f"{path}.{key}" if path else key
        if entry is not True and entry.get("description"):
            yield where, _values(entry), entry["description"]
        yield from options(entry, definitions, where)
        if isinstance(entry.get("items"), dict):
            yield from options(entry["items"], definitions, f"{where}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from options(schema["additionalProperties"], definitions, f"{path}.<id>")


def _resolved(schema: dict, definitions: dict) -> dict:
    reference = schema.get("$ref", "") if isinstance(schema, dict) else ""
    if reference.endswith(".yaml"):
        return {}  # has a section of its own
    return definitions.get(reference.rpartition("/")[2], schema) if reference else schema


def _values(entry: dict) -> str:
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    kind = entry.get("type", "")
    return " or ".join(kind) if isinstance(kind, list) else kind


def schema_section(name: str) -> str:
    """One schema file as a table."""
    schema = yaml.safe_load((SCHEMAS / f"{name}.schema.yaml").read_text("utf-8"))
    rows = dict.fromkeys(options(schema, schema.get("$defs", {})))
    return _table(["key", "value", "meaning"], [(f"`{key}`", values, text) for key, values, text in rows])


def fields_section(file: str, fields: dict) -> str:
    """A dataclass of options as a table; the meaning is the comment behind the field."""
    lines = (SOURCE / file).read_text("utf-8").splitlines()
    rows = []
    for name, option in fields.items():
        line = next(line for line in lines if line.startswith(f"    {name}: "))
        values = ", ".join(f"`{choice}`" for choice in option.choices) or option.kind
        rows.append((f"`{name}`", values, f"`{option.default}`", line.partition("  # ")[2]))
    return _table(["key", "value", "default", "meaning"], rows)


def _table(head: list[str], rows: list[tuple]) -> str:
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ").strip() for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def configuration() -> str:
    """The page of all options."""
    parts = [
        "# Configuration\n\nMade by `docs/generate.py` from the schemas in `workflow/schemas` and the dataclasses in "
        "`src/kglm`. `config.yaml` is the paper scale; a file given with `--configfile` is laid over it: dictionaries "
        "are merged, lists are replaced. Unknown keys and values of another type are refused.\n"
    ]
    titles = {
        "config": "The whole file",
        "dataset": "A dataset (`datasets.<id>`)",
        "corpus": "A corpus (`corpora.<id>`)",
        "model": "A base model (`models.<id>`)",
        "table": "A table (`tables.<id>`)",
        "figure": "A figure (`figures.<id>`)",
    }
    parts += [f"## {title}\n\n{schema_section(name)}" for name, title in titles.items()]
    parts.append(f"## Training\n\n{fields_section('training/options.py', config.training_options())}")
    for method in config.methods():
        section = fields_section(f"methods/{method}.py", config.method_options(method))
        parts.append(f"## Parameters of `{method}`\n\n{section}")
    return "\n".join(parts)


def deviations() -> str:
    """The table of deviations, from the file that paper.pdf prints too."""
    rows = pd.read_csv(SOURCE / "paper" / "deviations.csv", dtype=str, keep_default_na=False)
    return _table(list(rows.columns), list(rows.itertuples(index=False, name=None)))


def pages() -> dict[Path, str]:
    """The text of each page that this file writes."""
    readme = (TOP / "README.md").read_text("utf-8")
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return {
        TOP / "docs" / "configuration.md": configuration(),
        TOP / "README.md": f"{before}{BEGIN}{deviations()}{END}{after}",
    }


def main() -> int:
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(TOP)} is out of date; run python docs/generate.py", file=sys.stderr)
        return 1 if stale else 0
    for path, text in pages().items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

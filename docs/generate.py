"""Write docs/configuration.md and README's tables of deviations and of reproduced rows from what the program reads.

python docs/generate.py           writes both
python docs/generate.py --check   exits with 1 where one is out of date
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

from kglm import config
from kglm.errors import InputError
from kglm.files import read_json
from kglm.paper.cells import OWN_UNITS
from kglm.paper.inputs import result_file
from kglm.paper.quotations import TASKS
from kglm.paper.reported import KEY, converted, reported
from kglm.paper.results import measure, models, over_seeds
from kglm.published.verify import RECORD

TOP = Path(__file__).parent.parent
SCHEMAS = TOP / "workflow" / "schemas"
SOURCE = TOP / "src" / "kglm"
PUBLISHED = TOP / "results" / "published"
ENDS = ("value", "low", "high")
METRICS = {"PPL": "perplexity per token"} | {f"accuracy/{task}": name for task, name in TASKS.items()}
ROWS = Path(__file__).with_name("reproduced.csv")


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
        values = ", ".join(f"`{choice}`" for choice in option.choices) or option.wanted
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
        "are merged, lists are replaced. Unknown keys, and values of another type or out of their range, are refused.\n"
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
    for analysis in config.ANALYSES:
        section = fields_section(f"analysis/{analysis}.py", config.analysis_options(analysis))
        parts.append(f"## Options of the analysis `{analysis}`\n\n{section}")
    return "\n".join(parts)


def deviations() -> str:
    """The table of deviations, from the file that paper.pdf prints too."""
    rows = pd.read_csv(SOURCE / "paper" / "deviations.csv", dtype=str, keep_default_na=False)
    return _table(list(rows.columns), list(rows.itertuples(index=False, name=None)))


def reproduced() -> str:
    """The rows of reproduced.csv: those that a paper has, those that none has, and those of which nothing came.

    runs: one, or several that differ in their seed; none: nothing came of the row, and `why` says why. threshold: of an
    accuracy, `global` or `relation`. A difference is told where dataset, metric and base
    model (none, of structure-based methods) are the paper's.
    """
    numbers = reported()
    of_papers, others, not_run = [], [], []
    for row in pd.read_csv(ROWS, dtype=str, keep_default_na=False).to_dict("records"):
        about = _reported(row, numbers)
        unit = about["unit"] if about else _unit(row["metric"])
        metric = METRICS.get(row["metric"], row["metric"]) + " (%)" * (unit == "percent")
        name = f"{row['label'] or row['method']}, {row['dataset']}, {metric}"
        name = f"{row['paper']}, {row['table']}: {name}" if row["table"] else name
        if not row["runs"]:
            in_paper = f" ({about['value']} in the paper)" if about else ""
            not_run.append(f"* {name}{in_paper}: {row['why']}\n")
            continue
        ours, model, time, value = _ours(row, unit)
        floor = _floor(row, unit)
        if floor is not None and value < floor:
            ours += f", below the floor ({floor:.{_decimals(unit)}f})"
        if row["table"]:
            difference = (
                _difference(value - about["number"], unit) if row["paper_model"] in ("", model) else "other model"
            )
            of_papers.append((name, about["value"], row["paper_model"], ours, model, time, difference, row["why"]))
        else:
            others.append((name, ours, model, time, row["why"]))
    head = ["row", "paper", "its base model", "here", "base model here", "training", "difference", "why they differ"]
    return (
        _table(head, of_papers)
        + "\nNo paper has these:\n\n"
        + _table(["row", "here", "base model", "training", "about it"], others)
        + "\nNot run, or not to the end:\n\n"
        + "".join(not_run)
    )


def _reported(row: dict[str, str], numbers: pd.DataFrame) -> dict:
    """The paper's number; empty where the row is in no paper."""
    if not row["table"]:
        return {}
    place = [row[key] for key in ("paper", "table", "dataset", "method", "metric")]
    found = numbers[(numbers[KEY] == place).all(axis=1)]
    if found.empty:
        raise InputError(f"no reported number is at {', '.join(place)}", ROWS, "see src/kglm/paper/reported.csv")
    return found.iloc[0].to_dict()


def _ours(row: dict[str, str], unit: str) -> tuple[str, str, str, float]:
    """The mean of a row's runs with its interval, their base model, the mean time of their training; the mean alone."""
    spec = {"threshold": row["threshold"]} if row["threshold"] else {}
    names = row["runs"].split()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "runs").symlink_to(PUBLISHED)
        files = [Path(folder, "runs", name, result_file(row["metric"])) for name in names]
        found = [measure([file for file in files if file.is_file()], name, row["metric"], spec) for name in names]
    if missing := [name for name, value in zip(names, found, strict=True) if value is None]:
        raise InputError(f"{missing[0]} is not published or has no {row['metric']}", ROWS, "publish it")
    one = over_seeds(found)
    value, low, high = (converted(one[key], "fraction", unit) if unit == "percent" else one[key] for key in ENDS)
    decimals = _decimals(unit)
    ours = f"{value:.{decimals}f}" + ("" if low is None else f" [{low:.{decimals}f}, {high:.{decimals}f}]")
    ours += f", {len(names)} seeds" if len(names) > 1 else ""
    return ours, models({found_one["model"] for found_one in found}), _training(names), value


def _floor(row: dict[str, str], unit: str) -> float | None:
    """What counting how often candidates answer the relation in train reaches; None where that is not published."""
    spec = read_json(PUBLISHED / row["runs"].split()[0] / RECORD)["spec"]
    floor = f"popularity_{spec['dataset']}"
    measured = row["metric"] in ("MRR", "accuracy") and (PUBLISHED / floor).is_dir()
    if spec["method"] == "popularity" or not measured:
        return None
    return _ours(row | {"runs": floor}, unit)[-1]


def _training(names: list[str]) -> str:
    """The mean time of the runs' trainings; none where they rank what others trained or nothing is trained."""
    records = [read_json(PUBLISHED / name / RECORD) for name in names]
    if not all(record["spec"]["training"]["epochs"] and record["weights"] == record["run"] for record in records):
        return "none"
    seconds = sum(record["wall_seconds"] for record in records) / len(records)
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _difference(value: float, unit: str) -> str:
    return f"{value:+.{_decimals(unit)}f}".replace("-", "−")


def _unit(metric: str) -> str:
    """Of a row that no paper has."""
    if metric == "MMLU" or metric.startswith("accuracy"):
        return "percent"
    return OWN_UNITS.get(metric, "fraction")


def _decimals(unit: str) -> int:
    return {"percent": 1, "rank": 1, "perplexity": 1}.get(unit, 3)


SECTIONS = {"deviations": deviations, "reproduced": reproduced}


def readme() -> str:
    """README.md with the tables between <!-- name: begin --> and <!-- name: end --> made anew."""
    text = (TOP / "README.md").read_text("utf-8")
    for name, section in SECTIONS.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}{section()}{end}{after}"
    return text


def pages() -> dict[Path, str]:
    """The text of each page that this file writes."""
    return {TOP / "docs" / "configuration.md": configuration(), TOP / "README.md": readme()}


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

"""`kglm <stage>`: paths in, paths out. Each stage is a plain function; its options are its parameters, and its
positional-only parameters are positional here too.

A stage takes `spec` (its own resolved configuration, read from --spec FILE) if it needs one, and paths. Stages run
alone, without Snakemake, wherever the package is installed.
"""

import argparse
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from kglm.errors import InputError
from kglm.files import disk_trouble, refuse_place
from kglm.options import check_keys, mistyped
from kglm.yamlfile import read_yaml

# stage -> "module:function"; the module is imported when the stage is called, so that no stage pays for another's.
STAGES = {
    "fetch": "kglm.kg.sources:fetch",
    "graph": "kglm.kg.build:graph",
    "augment": "kglm.kg.build:augment",
    "instructions": "kglm.kg.instructions:instructions",
    "corpus": "kglm.kg.corpora:corpus",
    "model": "kglm.lm.build:model",
    "train": "kglm.training.stages:train",
    "embed": "kglm.training.stages:embed",
    "score": "kglm.training.stages:score",
    "rank_by_model": "kglm.training.stages:rank_by_model",
    "join": "kglm.ranking.shards:join",
    "rank": "kglm.ranking.stages:rank",
    "evaluate": "kglm.ranking.stages:evaluate",
    "classify": "kglm.ranking.classification:classify",
    "anisotropy": "kglm.analysis.anisotropy:anisotropy",
    "similarity": "kglm.analysis.similarity:similarity",
    "perplexity": "kglm.analysis.perplexity:perplexity",
    "mmlu": "kglm.analysis.mmlu:mmlu",
    "kgqa": "kglm.analysis.kgqa:kgqa",
    "clusters": "kglm.analysis.clusters:clusters",
    "attention": "kglm.analysis.attention:attention",
    "cost": "kglm.analysis.cost:cost",
    "doctor": "kglm.doctor:doctor",
    "predict": "kglm.inference.predict:predict",
    "plan": "kglm.planning:plan",
    "check": "kglm.planning:check",
    "audit": "kglm.paper.audit:audit",
    "table": "kglm.paper.tables:table",
    "figure": "kglm.paper.figures:figure",
    "paper": "kglm.paper.document:paper",
    "summary": "kglm.paper.summary:summary",
    "report": "kglm.report.page:report",
    "publish": "kglm.published.publish:publish",
    "verify": "kglm.published.verify:verify",
    "rebuild": "kglm.rebuild:rebuild",
}


def load_stage(name: str):
    """The function of a stage."""
    module, function = STAGES[name].split(":")
    return getattr(importlib.import_module(module), function)


def read_spec(path: Path) -> dict:
    """A stage's configuration from a JSON or YAML file; InputError where it is missing or no mapping."""
    spec = read_yaml(path)
    check_keys(spec, path)
    if not isinstance(name := spec.get("name", ""), str):
        raise mistyped(name, "text", f"{path}: name")
    return _closed(spec)


class _Spec(dict):
    """A specification, or a mapping in it: a key that a stage asks for and that is missing is told in one line."""

    def __missing__(self, key: str):
        raise InputError(f"key {key!r} is missing", "option spec", "give a specification of this stage's kind")


def _closed(value: object) -> object:
    if isinstance(value, dict):
        return _Spec({key: _closed(inner) for key, inner in value.items()})
    return [_closed(inner) for inner in value] if isinstance(value, list) else value


def _parser(stage: str, function) -> argparse.ArgumentParser:
    """The options of a stage: its parameters; what its docstring says of each ("name: …") is the help."""
    document = inspect.getdoc(function) or ""
    parser = argparse.ArgumentParser(prog=f"kglm {stage}", description=document.split("\n")[0])
    told = dict(re.findall(r"^(\w+): (.+)$", document, re.MULTILINE))
    hints = get_type_hints(function)
    for parameter in inspect.signature(function).parameters.values():
        kind, many, empty = _kind(hints[parameter.name])
        given = None if parameter.default is inspect.Parameter.empty else parameter.default
        required, text = given is None and not empty, told.get(parameter.name)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            nargs, name = (None if required else "?"), parameter.name
            parser.add_argument(name, type=kind, default=given, nargs=nargs, metavar=name.upper(), help=text)
            continue
        option = f"--{parameter.name.replace('_', '-')}"
        if kind is bool:
            parser.add_argument(option, action="store_true", help=text)
            continue
        choices = list(get_args(kind)) or None
        metavar = {"spec": "FILE", "shard": "K/N"}.get(parameter.name) or _METAVARS.get(kind)
        parser.add_argument(
            option,
            type=str if choices else kind,
            choices=choices,
            required=required,
            default=given,
            nargs="*" if many else None,
            metavar=metavar,
            help=text,
        )
    return parser


_METAVARS = {Path: "PATH", int: "N", str: "TEXT"}


def _kind(annotation: object) -> tuple[type, bool, bool]:
    """The type of an option's value, whether there are many, and whether there may be none."""
    inside = get_args(annotation)
    if type(None) in inside:
        kind, many, _ = _kind(next(part for part in inside if part is not type(None)))
        return kind, many, True
    if get_origin(annotation) is list:
        return inside[0], True, False
    known = annotation in (Path, str, int, bool) or get_origin(annotation) is Literal
    return (annotation if known else Path), False, False


def main(arguments: list[str] | None = None) -> int:
    """Run one stage; the exit status is 0, or 2 with one line on standard error for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in STAGES:
        print(f"usage: kglm <stage> [options]\nstages: {', '.join(STAGES)}", file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    stage, *rest = arguments
    try:
        function = load_stage(stage)
        options = vars(_parser(stage, function).parse_args(rest))
        for place in filter(None, (options.get("out"), options.get("answers"))):
            refuse_place(place)  # before hours of work
        if "spec" in options:
            options["spec"] = read_spec(options["spec"])
        parameters = inspect.signature(function).parameters.values()
        positional = [options.pop(each.name) for each in parameters if each.kind is each.POSITIONAL_ONLY]
        function(*positional, **options)
    except Exception as error:
        told = error if isinstance(error, InputError) else disk_trouble(error)
        if told is None:
            raise
        print(f"kglm {stage}: {told}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

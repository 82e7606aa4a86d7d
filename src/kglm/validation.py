"""The configuration against its closed, typed schemas and against itself: the first problem, in one line."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from kglm import config as configuration
from kglm.config import ANALYSES, DEFAULT_VARIANT
from kglm.errors import InputError
from kglm.files import write_json
from kglm.kg.configuration import Validator, check_addresses
from kglm.options import check_keys, listed, mistyped, problems, unknown
from kglm.yamlfile import read_yaml


def check(config: dict, schemas: Path) -> None:
    """InputError with the key that is wrong and what to do about it, or nothing.

    `schemas` is the folder of config.schema.yaml and of the schemas that it refers to.
    """
    check_keys(config, "config")
    errors = list(validator(schemas).iter_errors(config))
    if errors:
        raise _explained(best_match(errors))
    for problem in _problems(config):
        raise problem


def check_folder_or_exit(workflow) -> None:
    """One line, and the exit status 1, where snakemake was started in another folder than that of the Snakefile."""
    folder = os.path.realpath(workflow.basedir)
    if os.path.realpath(os.getcwd()) != folder:
        what = f"{os.getcwd()} is not the folder of the Snakefile"
        raise SystemExit(f"kglm: {what}; start snakemake there (cd {folder}): paths are relative to it")


def check_or_exit(workflow, config: dict) -> None:
    """As `check`, for the Snakefile: the line goes to standard error and the exit status is 1.

    `workflow` is Snakemake's own. Its files of configuration are read once more: it drops keys that stand twice.
    """
    try:
        for path in workflow.configfiles:
            read_yaml(path)
        check(configuration.without_files_left_out(configuration.expand_home(config)), schemas_of(workflow))
    except InputError as error:
        raise SystemExit(f"kglm: {error}") from None


def schemas_of(workflow) -> Path:
    """The folder of the schemas beside a Snakefile."""
    return Path(workflow.basedir) / "workflow/schemas"


def check_needs_or_exit(workflow, config: dict) -> None:
    """Before the first job: access to gated models, room on GPUs and disk (`kglm check`); else the exit status is 1.

    In a process of its own, for it counts parameters with torch. The resolved configuration stands in
    <results>/<scale>/config.json. Nothing is asked where no job of `workflow`, Snakemake's own, is that of a run or
    of a model.
    """
    jobs = workflow.dag.needrun_jobs(exclude_finished=False)
    if not any({"run", "model"} & set(job.wildcards.keys()) for job in jobs):
        return
    resolved = Path(config["results"]) / config["scale"] / "config.json"
    try:
        write_json(config, resolved)
    except InputError as error:  # of a folder that may not be written, or a full disk
        raise SystemExit(f"kglm: {error}") from None
    command = [sys.executable, "-m", "kglm.cli", "check", "--configfile", str(resolved)]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(1)


def validator(schemas: Path) -> Validator:
    """The schema config.schema.yaml; it may refer to others in its folder."""
    contents = {path.name: read_yaml(path) for path in Path(schemas).glob("*.schema.yaml")}
    resources = [(name, Resource.from_contents(schema, DRAFT202012)) for name, schema in contents.items()]
    return Validator(contents["config.schema.yaml"], registry=Registry().with_resources(resources))


def _explained(error: ValidationError) -> InputError:
    where = _key(*error.absolute_path)
    value, rule, wanted = error.instance, error.validator, error.validator_value
    if rule == "additionalProperties" and isinstance(value, dict):
        known = list(error.schema.get("properties", {}))
        return unknown(next(key for key in value if key not in known), known, where)
    if rule == "required":
        return InputError(f"key {next(key for key in wanted if key not in value)!r} is missing", where, "add it")
    if rule == "type":
        wanted = " or ".join([wanted] if isinstance(wanted, str) else wanted)
        return mistyped(value, wanted, where)
    if rule == "enum":
        return InputError(f"{value!r} is not known", where, f"choose one of {listed(wanted)}")
    if "propertyNames" in error.absolute_schema_path:
        return InputError(f"{value!r} is no valid id", where, "ids hold letters, digits and . _ - only")
    return InputError(error.message, where, "see workflow/schemas/config.schema.yaml")


def _problems(config: dict) -> Iterator[InputError]:
    for section in ("datasets", "corpora"):
        for name, entry in config[section].items():
            check_addresses(entry, _key(section, name))
            for path in configuration.local_files(entry):
                if {"{", "}"} & set(path):
                    remedy = "Snakemake takes braces for wildcards: rename the file or its folder"
                    yield InputError(f"the path {path} has braces", _key(section, name, "files"), remedy)
    yield from _method_problems(config)
    for name, run in config["runs"].items():
        for section, key in (("methods", "method"), ("datasets", "dataset"), ("models", "model"), ("runs", "weights")):
            if key in run and run[key] not in config[section]:
                yield unknown(run[key], config[section], _key("runs", name, key), f"{key}")
                return
        yield from _ranking_problems(config, name)
        asked = configuration.training_resources(config, name)
        if asked.get("gpu", 0) % asked["nodes"]:
            what = f"{asked['gpu']} GPUs cannot be shared out evenly among {asked['nodes']} nodes"
            yield InputError(what, _key("runs", name), "let `gpu` be a multiple of `nodes`")
        variants = config["methods"][run["method"]].get("variants", {})
        if (variant := run.get("variant", DEFAULT_VARIANT)) not in {*variants, DEFAULT_VARIANT}:
            yield unknown(variant, variants, _key("runs", name, "variant"), "variant")
        yield from _model_problems(config, name)
        yield from _option_problems(run, run["method"], _key("runs", name))
        yield from _weights_problems(config, name)
    yield from _analysis_problems(config)
    yield from _build_problems(config)


def _model_problems(config: dict, name: str) -> Iterator[InputError]:
    """A run has a base model of the kind that its method takes, or none where the method takes none."""
    run, where = config["runs"][name], _key("runs", name)
    asked, method = configuration.base_model(run["method"]), run["method"]
    if asked == "none" and "model" in run:
        yield InputError(f"the method {method} takes no base model", _key(where, "model"), "leave it out")
    if asked != "none" and "model" not in run:
        what = f"key 'model' is missing; the method {method} needs a base model"
        yield InputError(what, where, "write `model` and the id of one of `models`")
    if asked == "causal" and config["models"].get(run.get("model"), {}).get("architecture") == "bert":
        what = f"{run['model']} reads both ways; the method {method} needs a decoder"
        yield InputError(what, _key(where, "model"), "choose a LLaMA or a GPT-2")


def _weights_problems(config: dict, name: str) -> Iterator[InputError]:
    """A run that ranks another's weights needs the same method and model, and weights of its own making there."""
    run, where = config["runs"][name], _key("runs", name, "weights")
    other = config["runs"][run["weights"]] if "weights" in run else run
    for key in ("method", "model", "dataset"):
        if run.get(key) != other.get(key):
            yield InputError(f"the run {run['weights']} has another {key}", where, f"give both the same {key}")
    if other["method"] == run["method"]:
        own, made = (configuration.run_spec(config, each)["parameters"] for each in (name, run.get("weights", name)))
        for key in configuration.of_weights(run["method"]):
            if own[key] != made[key]:
                what = f"the run {run['weights']} trains with {key} {made[key]}, this one has {own[key]}"
                yield InputError(what, where, "give both the same")
    if "weights" in run and "weights" in other:
        yield InputError(f"the run {run['weights']} trains nothing itself", where, f"name {other['weights']}")


def _ranking_problems(config: dict, name: str) -> Iterator[InputError]:
    """Graph re-ranking adds to the scores of embeddings; only a model that scores candidates orders another's anew."""
    run, by_model = config["runs"][name], configuration.scores_candidates(config["runs"][name]["method"])
    if "reranking" in run and by_model:
        yield InputError("its method ranks without embeddings", _key("runs", name, "reranking"), "leave it out")
    if "candidates" not in run:
        return
    where, other = _key("runs", name, "candidates"), run["candidates"]["run"]
    if not by_model:
        yield InputError("its method ranks all entities by embeddings", where, "leave it out")
    elif other not in config["runs"]:
        yield unknown(other, config["runs"], where, "run")
    elif configuration.scores_candidates(config["runs"][other]["method"]):
        yield InputError(f"the run {other} has no embeddings", where, "name a run whose method has them")
    elif config["runs"][other]["dataset"] != run["dataset"]:
        yield InputError(f"the run {other} has another dataset", where, "name a run on the same one")


def _method_problems(config: dict) -> Iterator[InputError]:
    for name, method in config["methods"].items():
        if name not in configuration.methods():
            yield unknown(name, configuration.methods(), _key("methods"), "method")
            return
        yield from _option_problems(method, name, _key("methods", name))
        for group in ("variants", "datasets"):
            for part, layer in method.get(group, {}).items():
                yield from _option_problems(layer, name, _key("methods", name, group, part))


def _option_problems(layer: dict, method: str, where: str) -> Iterator[InputError]:
    """The hyper-parameters of one layer against the dataclasses that define them."""
    known = {"parameters": configuration.method_options(method), "training": configuration.training_options()}
    for section, options in known.items():
        yield from problems(layer.get(section, {}), options, _key(where, section))


def _analysis_problems(config: dict) -> Iterator[InputError]:
    for analysis in ANALYSES:
        entry, where = config["analyses"].get(analysis, {}), _key("analyses", analysis)
        if "corpus" in entry and entry["corpus"] not in config["corpora"]:
            yield unknown(entry["corpus"], config["corpora"], _key(where, "corpus"), "corpus")
        known, of = configuration.analysis_options(analysis), entry.get("datasets", {})
        yield from problems(entry.get("options", {}), known, _key(where, "options"))
        for dataset, layer in of.items():
            yield from problems(layer, known, _key(where, "datasets", dataset))


def _build_problems(config: dict) -> Iterator[InputError]:
    known = [*config["tables"], *config["figures"]]
    for name in config["build"]:
        if name not in known:
            yield unknown(name, known, _key("build"), "table or figure")
            return
    for kind, section in (("table", "tables"), ("figure", "figures")):
        for name in configuration.built(config, section):
            for path in configuration.inputs(config, kind, name):
                yield from _path_problems(config, path, _key(section, name))


def _path_problems(config: dict, path: str, where: str) -> Iterator[InputError]:
    """What a table reads must belong to a run or a dataset of the configuration."""
    parts = path.split("/")
    section, name = {"runs": ("runs", parts[1]), "data": ("datasets", parts[1])}.get(
        parts[0], ("runs", Path(path).stem)
    )
    if name not in config[section]:
        yield unknown(name, config[section], where, section[:-1])


def _key(*parts: object) -> str:
    return "config: " + ".".join(str(part).removeprefix("config: ") for part in parts) if parts else "config"

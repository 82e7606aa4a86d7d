"""The configuration of the workflow, resolved into one spec a thing. No torch: Snakefiles are read often.

A configuration is config.yaml with overlays merged in: dictionaries deeply, lists whole, as Snakemake does.
A spec holds all that its thing depends on and nothing else: a change plans again only what it touches.
"""

import ast
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from kglm.cli import STAGES
from kglm.errors import InputError
from kglm.options import Option, options_in
from kglm.paper.inputs import figure_inputs, result_file, run_ids, table_inputs
from kglm.paper.results import NO_MODEL
from kglm.yamlfile import read_yaml

PACKAGE = Path(__file__).parent
DEFAULT_VARIANT = "as_described"
ANALYSES = ("anisotropy", "similarity", "perplexity", "mmlu", "kgqa", "clusters", "attention", "cost")


def merge(*layers: dict) -> dict:
    """Later layers win; dictionaries are merged deeply, everything else is replaced."""
    merged: dict = {}
    for layer in layers:
        for key, value in layer.items():
            deep = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = merge(merged[key], value) if deep else value
    return merged


def read(*paths: Path) -> dict:
    """config.yaml and its overlays as one configuration; InputError where one is missing or no mapping."""
    return completed(without_files_left_out(expand_home(merge(*map(read_yaml, paths)))))


def expand_home(config: dict) -> dict:
    """`~` stands for the home folder in all paths of the configuration: results, mirror, files, models; in place.

    Once and here: the shell of a job and Python would each make another folder of it, and Snakemake takes none.
    """
    for key in ("results", "mirror"):
        _expand(config, key)
    entries = [entry for section in ("datasets", "corpora", "models") for entry in _values(config.get(section))]
    for entry in entries:
        _expand(entry, "path")
        if isinstance(entry, dict) and isinstance(files := entry.get("files"), dict):
            for name in files:
                _expand(files, name)
                _expand(files[name], "path")
    return config


def _values(section: object) -> list:
    return list(section.values()) if isinstance(section, dict) else []


def _expand(entry: object, key: str) -> None:
    if isinstance(entry, dict) and isinstance(entry.get(key), str):
        entry[key] = os.path.expanduser(entry[key])


def without_files_left_out(config: dict) -> dict:
    """A file of a dataset that an overlay sets to null is none of its files; in place."""
    for entry in config.get("datasets", {}).values():
        if isinstance(entry, dict) and isinstance(entry.get("files"), dict):
            entry["files"] = {name: file for name, file in entry["files"].items() if file is not None}
    return config


# What counting in train gives (kglm.methods.popularity), below the rows of each table that shows a run.
_FLOORS = {
    "link_prediction": {
        "Floor: answers of the relation": "popularity_{}",
        "Floor: answers of anything": "popularity_{}_anything",
    },
    "classification": {"Floor: both ends seen with the relation": "popularity_{}"},
}


def completed(config: dict) -> dict:
    """A configuration with a run for each seed, and with the floors of each dataset; in place."""
    for dataset in config.get("datasets", {}):
        of = {"method": "popularity", "dataset": dataset}
        config["runs"].setdefault(f"popularity_{dataset}", dict(of))
        config["runs"].setdefault(f"popularity_{dataset}_anything", of | {"parameters": {"answers_to": "anything"}})
    return with_seeds(config)


def _with_floors(config: dict, entry: dict) -> dict:
    """A table's entry with the rows of its kind's floors, in the blocks that show a run."""
    floors = _FLOORS.get(entry["kind"], {})
    ranks = [metric for metric in entry.get("metrics", []) if result_file(metric) == "metrics.json"]
    known = {
        name for name in config["datasets"] if {run.format(name) for run in floors.values()} <= config["runs"].keys()
    }
    shown = [block for block in entry.get("blocks", []) if block.get("runs") and block["dataset"] in known]
    if not shown or not (ranks or entry["kind"] == "classification"):
        return entry
    rows = [{"label": label, "section": "floors: counting in train, no model", "floor": True} for label in floors]
    if ranks:
        rows = [row | {"metrics": ranks} for row in rows]
    blocks = []
    for block in entry["blocks"]:
        own = {label: run.format(block["dataset"]) for label, run in floors.items()} if block in shown else {}
        blocks.append(block | {"runs": {**block["runs"], **own}} if own else block)
    return entry | {"rows": [*entry["rows"], *rows], "blocks": blocks}


def with_seeds(config: dict) -> dict:
    """Each run that names `seeds` becomes one run for each of them, and so does it in the rows of tables; in place.

    The first keeps the name, the others are <run>_seed-<seed>. The weights or candidates of another such run are those
    of the same seed.
    """
    runs = config.get("runs", {})
    names = {
        run: {seed: run if number == 0 else f"{run}_seed-{seed}" for number, seed in enumerate(entry["seeds"])}
        for run, entry in runs.items()
        if "seeds" in entry
    }
    # Entries are made anew: an anchor of YAML lets two of them be one and the same dictionary.
    for run, of in names.items():
        runs[run] = {key: value for key, value in runs[run].items() if key != "seeds"}
        for seed, name in of.items():
            if name in runs and name != run:
                raise InputError(f"is also the name of seed {seed} of {run}", f"runs {name}", "rename one of them")
            runs[name] = {**runs[run], "seed": seed}
            if "weights" in runs[run]:
                runs[name]["weights"] = names.get(runs[run]["weights"], {}).get(seed, runs[run]["weights"])
            if "candidates" in runs[run]:
                asked = runs[run]["candidates"]
                runs[name]["candidates"] = {**asked, "run": names.get(asked["run"], {}).get(seed, asked["run"])}
    for name, table in config.get("tables", {}).items():
        if "blocks" in table:
            config["tables"][name] = table | {"blocks": [_with_runs_by_seed(block, names) for block in table["blocks"]]}
    return config


def _with_runs_by_seed(block: dict, names: dict[str, dict[int, str]]) -> dict:
    rows = {}
    for row, asked in block.get("runs", {}).items():
        shown = [name for run in run_ids(asked) for name in names.get(run, {0: run}).values()]
        rows[row] = shown if len(shown) > 1 else asked
    return block | ({"runs": rows} if rows else {})


def methods() -> list[str]:
    """The methods there are: files of methods/ whose name does not begin with _."""
    return sorted(path.stem for path in (PACKAGE / "methods").glob("[!_]*.py"))


def method_options(method: str) -> dict[str, Option]:
    """A method's hyper-parameters."""
    return _dataclass_fields(f"methods/{method}.py", "Parameters")


def training_options() -> dict[str, Option]:
    """The options of the training loop."""
    return _dataclass_fields("training/options.py", "Training")


@cache
def of_weights(method: str) -> tuple[str, ...]:
    """The parameters without which a method's weights mean something else (read from its source)."""
    return _class_value(method, "of_weights", ())


@cache
def base_model(method: str) -> str:
    """Which base model a method takes: any, causal or none (read from its source)."""
    return _class_value(method, "base_model", "any")


def _class_value(method: str, name: str, default: object) -> object:
    tree = ast.parse((PACKAGE / "methods" / f"{method}.py").read_text("utf-8"))
    bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Method"]
    for node in (node for body in bodies for node in body if isinstance(node, ast.Assign)):
        if ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    return default


@cache
def scores_candidates(method: str) -> bool:
    """Whether a method's model itself scores the candidates, or its embeddings do (read from its source)."""
    tree = ast.parse((PACKAGE / "methods" / f"{method}.py").read_text("utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Method"]
    return any(ast.unparse(base).endswith("CandidateScorer") for node in classes for base in node.bases)


@cache
def _dataclass_fields(file: str, name: str) -> dict[str, Option]:
    """The fields of a dataclass, read from its source: importing it would import torch."""
    tree = ast.parse((PACKAGE / file).read_text("utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    if not classes:
        raise InputError(f"defines no dataclass {name}", PACKAGE / file, "add one")
    return options_in(classes[0])


def analysis_options(analysis: str) -> dict[str, Option]:
    """The options of an analysis."""
    module = STAGES[analysis].split(":")[0].split(".")[1:]
    return _dataclass_fields(f"{'/'.join(module)}.py", "Parameters")


def run_spec(config: dict, name: str) -> dict:
    """The resolved run: method defaults, then its variant, the dataset's settings, and the run's own."""
    run, layers = config["runs"][name], _layers(config, name)
    parameters = {key: option.default for key, option in method_options(run["method"]).items()}
    training = {key: option.default for key, option in training_options().items()}
    return {
        "name": name,
        "method": run["method"],
        "dataset": run["dataset"],
        "model": run.get("model", NO_MODEL),
        "seed": run.get("seed", config["seed"]),
        "parameters": merge(parameters, *(layer.get("parameters", {}) for layer in layers)),
        "training": merge(training, *(layer.get("training", {}) for layer in layers)),
    }


def _layers(config: dict, name: str) -> list[dict]:
    """What a run's values are made of, the strongest last."""
    run = config["runs"][name]
    method = config["methods"][run["method"]]
    return [
        method,
        method.get("variants", {}).get(run.get("variant", DEFAULT_VARIANT), {}),
        method.get("datasets", {}).get(run["dataset"], {}),
        run,
    ]


def protocol(config: dict, name: str) -> str:
    """How a run is ranked: filtered, unless its keys or its method say otherwise."""
    merged = merge(*_layers(config, name))
    keys = {"reranking": "reranked", "candidates": "candidates"}
    return merged.get("protocol") or next((value for key, value in keys.items() if key in merged), "filtered")


def ranking_spec(config: dict, name: str) -> dict:
    """How a run's queries are ranked; with the resolved run, where its model is needed for it."""
    own = {key: config["runs"][name][key] for key in ("reranking", "candidates") if key in config["runs"][name]}
    of = {"run": run_spec(config, name)} if scores_candidates(config["runs"][name]["method"]) else {}
    return {"name": name, "protocol": protocol(config, name), "answers": config["answers"], **of, **own}


def shards(config: dict, name: str) -> int:
    """In how many jobs a run's embeddings are made."""
    return merge(*_layers(config, name)).get("shards", 1)


def training_resources(config: dict, name: str) -> dict:
    """What a run's training asks for at its first attempt: as all do, but for what its method or dataset needs."""
    return merge({"nodes": 1}, config["resources"]["train"], merge(*_layers(config, name)).get("resources", {}))


def weights_of(config: dict, name: str) -> str:
    """The run whose weights a run ranks: itself, unless it names another."""
    return config["runs"][name].get("weights", name)


def analysis_spec(config: dict, analysis: str, run: str) -> dict:
    """What one analysis of one run depends on."""
    entry, resolved = config["analyses"].get(analysis, {}), run_spec(config, run)
    own = entry.get("datasets", {}).get(resolved["dataset"], {})
    return {"name": run, "run": resolved, "options": merge(entry.get("options", {}), own)}


def plan_spec(config: dict) -> dict:
    """What the plan of all runs depends on beside their own specs.

    runs: of each, whether it trains weights of its own, whether it is ranked, in how many jobs it is encoded, what its
    training asks for, and how many candidates it scores (0: all).
    """
    runs, told = config["runs"], ("expect", "descriptions")
    shown = {
        path
        for kind in ("table", "figure")
        for name in built(config, f"{kind}s")
        for path in inputs(config, kind, name)
    }
    datasets = {name: config["datasets"][name] for name in built_datasets(config)}
    return {
        "folder": f"{config['results']}/{config['scale']}",
        "card": config["card"],
        "resources": config["resources"],
        "models": {name: config["models"][name] for name in built_models(config)},
        "datasets": {name: {key: entry[key] for key in told if key in entry} for name, entry in datasets.items()},
        "runs": {
            name: {
                "trains": weights_of(config, name) == name,
                "ranked": f"runs/{name}/metrics.json" in shown,
                "shards": shards(config, name),
                "resources": training_resources(config, name),
                "top": runs[name].get("candidates", {}).get("top", 0),
            }
            for name in built_runs(config)
        },
    }


def spec(config: dict, kind: str, name: str) -> dict:
    """The spec results/<scale>/specs/<kind>/<name>.json."""
    if kind == "run":
        return run_spec(config, name)
    if kind in ANALYSES:
        return analysis_spec(config, kind, name)
    if kind == "ranking":
        return ranking_spec(config, name)
    if kind == "evaluation":
        return {**run_spec(config, name), "evaluation": {**config["evaluation"], "protocol": protocol(config, name)}}
    if kind == "instructions":
        return {"name": name, **config["instructions"]}
    if kind == "paper":
        return {"name": name, "scale": config["scale"], "build": config["build"]}
    if kind in ("table", "figure"):
        entry = config[f"{kind}s"][name]
        entry = _with_floors(config, entry) if kind == "table" else entry
        about = {**_caveats(config, entry), **(_graphs(config, entry) if kind == "table" else {})}
        return {"name": name, "scale": config["scale"], **entry, **about}
    section, _, files = kind.partition("_")
    entry = {"name": name, **config[SECTIONS[section]][name]}
    left_out = ("note", "caveat", *(_NOT_OF_FILES if files else ()))
    return {key: value for key, value in entry.items() if key not in left_out}


def _caveats(config: dict, entry: dict) -> dict:
    """What a table has to tell of the texts of its datasets."""
    shown = [block["dataset"] for block in entry.get("blocks", []) if block["dataset"] in config["datasets"]]
    told = {name: config["datasets"][name]["caveat"] for name in shown if "caveat" in config["datasets"][name]}
    return {"caveats": told} if told else {}


def _graphs(config: dict, entry: dict) -> dict:
    """The datasets whose graphs a table has to tell of: those that it counts, and those of the runs that it shows."""
    if entry["kind"] == "hyper_parameters":
        return {}
    parts = [path.split("/") for path in table_inputs(entry)]
    runs = [config["runs"][part[1]]["dataset"] for part in parts if part[0] == "runs" and part[1] in config["runs"]]
    shown = _distinct([*(part[1] for part in parts if part[0] == "data"), *runs])
    return {"datasets": shown} if shown else {}


SECTIONS = {"dataset": "datasets", "corpus": "corpora", "model": "models"}
# What becomes of a dataset's files once they are here: a changed text is no reason to fetch them again.
_NOT_OF_FILES = (
    "names",
    "descriptions",
    "relation_texts",
    "inverse_texts",
    "accepted",
    "expect",
    "entities_from",
    "entities",
)


def spec_text(config: dict, kind: str, name: str) -> str:
    """A spec as one line of JSON with sorted keys."""
    return json.dumps(spec(config, kind, name), sort_keys=True, ensure_ascii=False)


def built(config: dict, section: str) -> list[str]:
    """The tables, or the figures, that `build` asks for, in its order."""
    return [name for name in config["build"] if name in config[section]]


def inputs(config: dict, kind: str, name: str) -> list[str]:
    """The files that a table or figure is made of, relative to results/<scale>/."""
    of = table_inputs if kind == "table" else figure_inputs
    return of(spec(config, kind, name))


def built_runs(config: dict) -> list[str]:
    """The runs that the tables and figures of `build` show."""
    paths = [path for name in built(config, "tables") for path in inputs(config, "table", name)]
    paths += [path for name in built(config, "figures") for path in inputs(config, "figure", name)]
    parts = [path.split("/") for path in paths]
    return _distinct(part[1] for part in parts if part[0] == "runs")


def built_models(config: dict) -> list[str]:
    """The base models of these runs."""
    runs = [config["runs"][run] for run in built_runs(config)]
    return _distinct(run["model"] for run in runs if "model" in run)


def built_datasets(config: dict) -> list[str]:
    """The datasets of these runs."""
    return _distinct(config["runs"][run]["dataset"] for run in built_runs(config))


def reported_files(config: dict) -> dict[str, list[str]]:
    """Of each run that is shown: how it was trained and what it measured, relative to results/<scale>/."""
    items = [("table", name) for name in built(config, "tables")] + [("figure", n) for n in built(config, "figures")]
    shown = {path for item in items for path in inputs(config, *item)}
    files = {}
    for run in built_runs(config):
        names = ["run.json", "log.jsonl"] if weights_of(config, run) == run else []
        for measured in (["metrics.json", "ranks.parquet", "answers.parquet"], ["classification.json"]):
            if f"runs/{run}/{measured[0]}" in shown:
                names += measured
        files[run] = [f"runs/{run}/{name}" for name in names]
    return files


def local_files(entry: dict) -> list[str]:
    """The files of this machine that a dataset or corpus entry names."""
    files = [{"path": file} if isinstance(file, str) else file for file in entry["files"].values()]
    return [file["path"] for file in files if "path" in file]


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))

"""Configurations, specifications and graphs that nobody would write: a clear line and status 2, or what is written.

KGLM_FUZZ_SECONDS: for how long each of the tests here draws (20 unless set, from a fixed seed; else from a new one).
"""

import copy
import importlib
import json
import math
import os
import tempfile
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kglm import config as configuration
from kglm import planning
from kglm.cli import STAGES, main
from kglm.errors import InputError
from kglm.files import read_json
from kglm.options import Option, options_of
from kglm.training.options import Training
from kglm.validation import check

ROOT = Path(__file__).parents[1]
SCHEMAS = ROOT / "workflow/schemas"
SECONDS = float(os.environ.get("KGLM_FUZZ_SECONDS", "20"))
FUZZ = settings(
    max_examples=max(100, int(200 * SECONDS)),
    deadline=None,
    database=None,
    derandomize="KGLM_FUZZ_SECONDS" not in os.environ,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
METHODS = {name: importlib.import_module(f"kglm.methods.{name}").Parameters for name in configuration.methods()}
CAUSAL = ("base", "kalm", "kg_bilm")  # the others read a BERT, or nothing
WITHOUT = ("structural", "popularity")


class Clock:
    """Ends a test that has drawn for SECONDS; what comes after its explicit examples is passed over from then on."""

    def __init__(self):
        self.began: dict[str, float] = {}

    def over(self, test: str) -> bool:
        return time.monotonic() - self.began.setdefault(test, time.monotonic()) > SECONDS


CLOCK = Clock()


# Configurations

SCRATCH = {
    "source": "scratch",
    "architecture": "llama",
    "dataset": "own",
    **{"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 16, "vocabulary_size": 300},
    **{"positions": 64, "steps": 2, "batch_size": 2, "sequence_length": 32, "learning_rate": 1.0e-3},
}
DATASET = {"files": {"t.tsv": {"path": "t.tsv"}}, "splits": {"file": "t.tsv", "ratio": [0.8, 0.1, 0.1], "seed": 0}}
KEPT = ("scale", "results", "seed", "answers", "evaluation", "instructions", "analyses", "card", "resources")


def _base() -> dict:
    whole = configuration.read(ROOT / "config.yaml", ROOT / "examples/own_graph/config.yaml")
    kept = {key: whole[key] for key in KEPT} | {"figures": {}, "corpora": whole["corpora"]}
    own = next(entry for name, entry in whole["datasets"].items() if name == "geography")
    models = {"llama": SCRATCH, "bert": SCRATCH | {"architecture": "bert"}}
    runs = {}
    for name in METHODS:
        model = {} if name in WITHOUT else {"model": "llama" if name in CAUSAL else "bert"}
        runs[name] = {"method": name, "dataset": "own", **model, "training": {}, "parameters": {}}
        runs[name]["training"] = {"structural": {"precision": "fp32"}}.get(name, {})
    untrained = {"training": {"epochs": 0}}
    methods = {name: copy.deepcopy(untrained) if name in ("base", "popularity") else {} for name in METHODS}
    rows = [{"label": name} for name in runs]
    table = {"kind": "link_prediction", "paper": "KaLM", "table": "own", "caption": "Own.", "model": "llama"}
    blocks = [{"dataset": "own", "runs": {name: name for name in runs}}]
    tables = {"t": {**table, "metrics": ["MRR"], "rows": rows, "blocks": blocks}}
    made = {"datasets": {"own": own}, "models": models, "methods": methods, "runs": runs}
    return copy.deepcopy(kept | made | {"tables": tables, "build": ["t"]})


BASE = _base()


def _leaves(value: object, path: tuple = ()) -> list[tuple]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    return found + [leaf for key, part in inner for leaf in _leaves(part, (*path, key))]


PLACES = _leaves(BASE)
for _name, _parameters in METHODS.items():
    PLACES += [("runs", _name, "parameters", key) for key in options_of(_parameters)]
    PLACES += [("runs", _name, "training", key) for key in options_of(Training)]
for _name in configuration.ANALYSES:
    PLACES += [("analyses", _name, "options", key) for key in configuration.analysis_options(_name)]

SCALARS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, 2.0, 1e-4, 1e30, math.nan, math.inf, -math.inf, -1.0, 10**12, 2**31, -(10**400)]),
    st.sampled_from(
        ["", "1e-4", "typo", "bf16", "bfloat16", "~/x", "none", "own", "llama", "é\u2028", "\ud83d", "{x}"]
    ),
    st.booleans(),
    st.none(),
    st.floats(),
    st.text(max_size=5),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.one_of(st.text(max_size=4), st.booleans(), st.integers(0, 9)), SCALARS, max_size=2),
)


def put(config: dict, path: tuple, value: object) -> None:
    """Set a value; a place that an earlier one has taken away is none any more."""
    for key in path[:-1]:
        if isinstance(config, dict) and key in (*config, "options"):
            config = config.setdefault(key, {})
        elif isinstance(config, list) and isinstance(key, int) and key < len(config):
            config = config[key]
        else:
            return
    if isinstance(config, dict) or (isinstance(config, list) and isinstance(path[-1], int) and path[-1] < len(config)):
        config[path[-1]] = value


def said(error: InputError) -> None:
    assert str(error) and "\n" not in str(error)


def whole_check(config: dict) -> None:
    """What the workflow asks before its first job, but for the hub and the disk; InputError or nothing."""
    check(config, SCHEMAS)
    configuration.completed(config)
    planning.check_options(config)
    planning._plan(config).text()
    for kind, section in (("run", "runs"), ("dataset", "datasets"), ("table", "tables"), ("evaluation", "runs")):
        for name in config[section]:
            json.loads(configuration.spec_text(config, kind, name))


def at(path: str, value: object) -> list[tuple[tuple, object]]:
    return [(tuple(int(key) if key.isdecimal() else key for key in path.split(".")), value)]


@FUZZ
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
@example(changes=at("runs.kalm.training.precision", "bfloat16"))
@example(changes=at("runs.kalm.training.scheduler", "cosin"))
@example(changes=at("runs.kalm.training.batch_size", 0))
@example(changes=at("runs.kalm.training.warmup_ratio", math.nan))
@example(changes=at("runs.kalm.parameters.lora_dropout", 2.0))
@example(changes=at("runs.kalm.parameters.maximum_description_length", -1))
@example(changes=at("runs.structural.parameters.dimension", 0))
@example(changes=at("runs.structural.training.epochs", -1))
@example(changes=at("runs.structural.seed", 1.0))
@example(changes=at("runs.kalm.shards", 2.0))
@example(changes=at("runs.kalm.model", "bert"))
@example(changes=at("runs.structural.model", "llama"))
@example(changes=at("datasets.own.inverse_texts", {True: "off"}))
@example(changes=at("analyses.kgqa.options.questions", 0))
@example(changes=at("evaluation.resamples", 10**12))
@example(changes=at("models.llama.heads", 3))
def test_configurations(changes):
    if CLOCK.over("configurations"):
        return
    config = copy.deepcopy(BASE)
    for path, value in changes:
        put(config, path, value)
    try:
        whole_check(config)
    except InputError as error:
        said(error)


def test_the_unchanged_configuration_is_sound():
    whole_check(copy.deepcopy(BASE))


# Runs


def within(option: Option) -> st.SearchStrategy:
    """Values that an option may have, small ones."""
    if option.choices:
        return st.sampled_from(option.choices)
    if option.kind == "bool":
        return st.booleans()
    least, most = option.limits.least or 0, option.limits.most
    if option.kind == "int":
        return st.integers(int(least), 6)
    above = option.limits.above
    numbers = [least, 0.5, 0.05, *([most] if most is not None else [3.0, 1e-30] if option.limits.below is None else [])]
    return st.sampled_from([number for number in numbers if above is None or number > above])


SMALL = {"dimension": 6, "negatives": 2, "batch_size": 6, "height": 2, "channels": 2}
LARGE = {"sampled_entities", "maximum_exact_entities", "dimension", "negatives"}


def some_of(options: dict[str, Option]) -> st.SearchStrategy:
    """A few options with values that they may have."""
    names = st.lists(st.sampled_from(sorted(options)), max_size=4, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: within(options[name]) for name in chosen}))


IDS = st.one_of(
    st.sampled_from(["a", "A", "a ", "b", "on", "None", "nan", "007", "[SEP]", "<s>", "{x}", "x y", "北京", "e\u0301"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\t\r\n\0"), min_size=1, max_size=6),
)
TRIPLES = st.lists(st.tuples(IDS, st.sampled_from(["r", "s", "is a", "_"]), IDS), min_size=2, max_size=25)


@st.composite
def specifications(draw) -> dict:
    method = draw(st.sampled_from(sorted(METHODS)))
    parameters = draw(some_of(options_of(METHODS[method])))
    known = options_of(METHODS[method])
    parameters = {key: value for key, value in SMALL.items() if key in known} | parameters
    training = {"epochs": 1, "maximum_steps": 2, "batch_size": 6} | draw(some_of(options_of(Training)))
    if method in WITHOUT:
        training |= {"precision": "fp32"}
    training["epochs"] = min(training["epochs"], 1)
    return {
        **{"name": "run", "method": method, "dataset": "own", "model": "none", "seed": draw(st.integers(0, 3))},
        **{"parameters": parameters, "training": training},
    }


def of(method: str, training: dict | None = None, **parameters) -> dict:
    training = {"epochs": 1, "maximum_steps": 2, "batch_size": 6, "precision": "fp32"} | (training or {})
    same = {"name": "run", "dataset": "own", "model": "none", "seed": 0}
    return {**same, "method": method, "parameters": parameters, "training": training}


PLAIN = [("a", "r", "b"), ("b", "r", "c"), ("c", "s", "a"), ("c", "r", "d"), ("d", "s", "a"), ("a", "s", "d")]


@pytest.fixture(scope="module")
def models(model_folder, encoder_folder):
    return {"llama": model_folder, "bert": encoder_folder}


def stage(name: str, folder: Path, spec: dict | None = None, **options: object) -> int:
    """A stage's status, 0 or 2; with 2 it has said one line, and never a traceback."""
    arguments = [name]
    if spec is not None:
        path = folder / f"{name}.spec.json"
        path.write_text(json.dumps(spec), "utf-8")
        arguments += ["--spec", str(path)]
    for key, value in options.items():
        arguments += [f"--{key}", str(value)]
    with redirect_stderr(StringIO()) as told:
        status = main(arguments)
    lines = [line for line in told.getvalue().splitlines() if line.startswith(f"kglm {name}: ")]
    assert status in (0, 2) and len(lines) == (status == 2), told.getvalue()
    return status


def made_graph(folder: Path, triples: list, **dataset) -> bool:
    """Whether the stages fetch and graph made a graph of the triples, under `folder`."""
    (folder / "t.tsv").write_text("".join("\t".join(triple) + "\n" for triple in triples), "utf-8")
    spec = {"name": "own", "files": {"t.tsv": str(folder / "t.tsv")}, **{"splits": {"all": "t.tsv"}}, **dataset}
    if stage("fetch", folder, spec, out=folder / "raw"):
        return False
    return stage("graph", folder, spec, raw=folder / "raw", out=folder / "graph") == 0


@FUZZ
@given(spec=specifications(), triples=TRIPLES)
@example(spec=of("structural", {"epochs": 0, "keep_epochs": True}, dimension=2, negatives=1), triples=PLAIN)
@example(spec=of("structural", {"scheduler": "constant_with_warmup"}, dimension=2, negatives=1), triples=PLAIN)
@example(spec=of("kalm", {"epochs": 0, "keep_epochs": True}), triples=PLAIN)
@example(spec=of("kalm", maximum_description_length=1, lora_rank=1), triples=PLAIN)
def test_runs(models, spec, triples):
    if CLOCK.over("runs"):
        return
    splits = {"file": "t.tsv", "ratio": [0.6, 0.2, 0.2], "seed": 0, "drawn_negatives": {"seed": 0}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if made_graph(folder, triples, splits=splits):
            run_through(folder, spec, models)


def run_through(folder: Path, spec: dict, models: dict) -> None:
    """Train, rank and classify; each stage that follows another one that was done."""
    method, graph = spec["method"], folder / "graph"
    base = {} if method in WITHOUT else {"model": models["llama" if method in CAUSAL else "bert"]}
    run = {"graph": graph, **base}
    if stage("train", folder, spec, **run, checkpoints=folder / "scratch", out=folder / "run"):
        return
    record = read_json(folder / "run/run.json")
    assert record["spec"]["parameters"].items() >= spec["parameters"].items()
    assert record["spec"]["training"].items() >= spec["training"].items()
    run |= {"weights": folder / "run/weights"}
    out = {"out": folder / "ranks.parquet", "answers": folder / "answers.parquet"}
    if configuration.scores_candidates(method):
        ranked = stage("rank_by_model", folder, {"name": "run", "run": spec, "answers": 2}, **run, **out) == 0
    else:
        ranked = stage("embed", folder, spec, **run, out=folder / "e") == 0
        asked = {"name": "run", "answers": 2}
        ranked = ranked and stage("rank", folder, asked, graph=graph, embeddings=folder / "e", **out) == 0
    if ranked:
        assert stage("evaluate", folder, spec, graph=graph, ranks=out["out"], out=folder / "metrics.json") == 0
    if stage("score", folder, spec, **run, out=folder / "scores.parquet") == 0:
        stage("classify", folder, spec, scores=folder / "scores.parquet", out=folder / "classes.json")


# Graphs

LINES = st.lists(st.one_of(IDS, st.text(max_size=8)), max_size=5).map("\t".join)
FORMATS = st.sampled_from(["t.tsv", "t.csv", "t.nt", "t.ttl", "t.txt", "t.CSV", "t.tsv.gz", "{x}.tsv", "a b.tsv"])
ASKED = {
    "splits": st.sampled_from(
        [
            {"file": "t.tsv", "ratio": [8, 1, 1], "seed": 0},
            {"file": "t.tsv", "ratio": [0.5, 0.25, 0.25], "seed": 1, "inductive": True},
            {"file": "t.tsv", "ratio": [1.0, 0.0, 0.0], "seed": 0},
            {"train": "t.tsv", "valid": "t.tsv", "test": "t.tsv"},
        ]
    )
}


@FUZZ
@given(
    lines=st.lists(LINES, max_size=12), asked=st.fixed_dictionaries(ASKED), key=st.sampled_from(PLACES), value=VALUES
)
def test_graphs(lines, asked, key, value):
    if CLOCK.over("graphs"):
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "t.tsv").write_text("\n".join(lines), "utf-8", errors="surrogateescape", newline="")
        spec = {"name": "own", "files": {"t.tsv": str(folder / "t.tsv")}, **asked}
        if key[0] == "datasets":
            put({"datasets": {"own": spec}}, key, value)
        if stage("fetch", folder, spec, out=folder / "raw"):
            return
        if stage("graph", folder, spec, raw=folder / "raw", out=folder / "graph") == 0:
            assert stage("augment", folder, graph=folder / "graph", out=folder / "inverse.parquet") == 0
            assert stage("instructions", folder, {"name": "own"}, graph=folder / "graph", out=folder / "i") == 0


# Specifications of stages, in which a key is missing, or has a value of any kind


SPECS = {
    "train": of("structural", dimension=2, negatives=1),
    "evaluate": of("structural")
    | {"evaluation": {"resamples": 10, "confidence": 0.9, "seed": 0, "protocol": "filtered"}},
    "rank": {"name": "run", "protocol": "filtered", "answers": 2},
    "instructions": {"name": "own", "entity_text": "name", "inverse": True, "maximum_words": 5},
    "model": {"name": "llama", **SCRATCH},
    "clusters": {"name": "run", "run": of("structural"), "options": {"largest": 2, "entities": 5}},
}
DOORS = [(name, path) for name, spec in SPECS.items() for path in _leaves(spec)]


@pytest.fixture(scope="module")
def plain_graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    splits = {"file": "t.tsv", "ratio": [0.6, 0.2, 0.2], "seed": 0}
    assert made_graph(folder, PLAIN * 2, splits=splits)
    return folder / "graph"


@FUZZ
@given(door=st.sampled_from(DOORS), value=VALUES, missing=st.booleans())
@example(door=("train", ("training",)), value=None, missing=True)
@example(door=("evaluate", ("evaluation", "resamples")), value=10**12, missing=False)
@example(door=("instructions", ("maximum_words",)), value=-1, missing=False)
@example(door=("model", ("name",)), value=math.nan, missing=False)
@example(door=("rank", ("answers",)), value=2.0, missing=False)
def test_specifications(plain_graph, door, value, missing):
    if CLOCK.over("specifications"):
        return
    (name, path), spec = door, copy.deepcopy(SPECS[door[0]])
    inner = spec
    for key in path[:-1]:
        inner = inner[key]
    if missing:
        inner.pop(path[-1])
    else:
        inner[path[-1]] = value
    try:
        json.dumps(spec, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        return
    with tempfile.TemporaryDirectory() as tmp:
        folder = Path(tmp)
        options = {"out": folder / "out", "graph": plain_graph}
        options |= {"checkpoints": folder / "c"} if name == "train" else {}
        options |= {"ranks": folder / "none.parquet"} if name == "evaluate" else {}
        options |= {"embeddings": folder / "none"} if name in ("rank", "clusters") else {}
        options |= {"answers": folder / "a"} if name == "rank" else {}
        stage(name, folder, spec, **options)


def test_every_stage_has_a_door():
    assert {*SPECS} <= STAGES.keys()

"""Checkpoints, weights and embeddings serve the run, graph and base model that they were made of, and no other."""

import copy
import json
import shutil

import pytest
from safetensors import safe_open

from kglm.binding import MADE_OF, graph_digest, model_digests
from kglm.cli import main
from kglm.files import read_json, write_json
from kglm.kg.graph import Graph
from kglm.methods._interface import build_method

from .runs import kalm_ring

TRANSE = {
    "name": "transe_ring",
    "method": "structural",
    "dataset": "ring",
    "model": "none",
    "seed": 0,
    "parameters": {"interaction": "transe", "dimension": 4, "negatives": 2, "margin": 2.0},
    "training": {"epochs": 2, "batch_size": 8, "precision": "fp32", "learning_rate": 0.1, "save_every_steps": 1},
}


def changed(spec: dict, **changes) -> dict:
    """A copy with other values, their sections named as training__epochs."""
    spec = copy.deepcopy(spec)
    for path, value in changes.items():
        *sections, key = path.split("__")
        inner = spec
        for section in sections:
            inner = inner[section]
        inner[key] = value
    return spec


class Folder:
    """Calls stages with specifications that it writes beside their results."""

    def __init__(self, path, graph, model=None):
        self.path, self.graph, self.model = path, graph, model

    def stage(self, name: str, spec: dict, *options, graph=None) -> int:
        write_json(spec, self.path / "spec.json")
        model = ["--model", str(self.model)] if self.model else []
        of_graph = ["--graph", str(graph or self.graph)]
        return main([name, "--spec", str(self.path / "spec.json"), *of_graph, *model, *map(str, options)])

    def train(self, spec: dict, out: str, checkpoints: str = "scratch") -> int:
        return self.stage("train", spec, "--checkpoints", self.path / checkpoints, "--out", self.path / out)

    def rank(self, spec: dict, **options) -> int:
        name = "rank_by_model" if spec["method"] == "structural" else "embed"
        out = ["--out", self.path / "ranks.parquet", "--answers", self.path / "answers.parquet"]
        if name == "embed":
            return self.stage(
                "embed", spec, "--weights", self.path / "run/weights", "--out", self.path / "e", **options
            )
        asked = {"name": spec["name"], "run": spec}
        return self.stage(name, asked, "--weights", self.path / "run/weights", *out, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, ring_folder):
    folder = Folder(tmp_path_factory.mktemp("transe"), ring_folder)
    assert folder.train(TRANSE, "run") == 0
    return folder


@pytest.fixture(scope="module")
def kalm(tmp_path_factory, ring_folder, model_folder):
    folder = Folder(tmp_path_factory.mktemp("kalm"), ring_folder, model_folder)
    spec = changed(kalm_ring(0.0), training__epochs=1, training__maximum_steps=1)
    assert folder.train(spec, "run") == 0
    folder.spec = spec
    return folder


@pytest.fixture(scope="module")
def other_graph(ring_graph, tmp_path_factory):
    """Another graph of equal size."""
    folder = tmp_path_factory.mktemp("other")
    entities = ring_graph.entities.iloc[::-1].reset_index(drop=True)
    Graph(entities, ring_graph.relations, ring_graph.triples).write(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 7}, "seed 0, here 7"),
        ({"training__learning_rate": 0.2}, "training.learning_rate 0.1, here 0.2"),
        ({"training__epochs": 1}, "training.epochs 2, here 1"),
        ({"parameters__margin": 3.0}, "parameters.margin 2.0, here 3.0"),
    ],
)
def test_checkpoints_of_another_training_are_refused(trained, capsys, change, told):
    assert trained.train(changed(TRANSE, **change), "second") == 2
    error = capsys.readouterr().err
    assert f"scratch: holds the checkpoints of another training ({told}); name another folder" in error
    assert error.count("\n") == 1 and not (trained.path / "second").exists()


def test_checkpoints_of_another_graph_are_refused(trained, other_graph, capsys):
    options = ["--checkpoints", trained.path / "scratch", "--out", trained.path / "second"]
    assert trained.stage("train", TRANSE, *options, graph=other_graph) == 2
    assert "holds the checkpoints of another training (graph " in capsys.readouterr().err


def test_checkpoints_of_the_same_training_give_its_weights(trained):
    """Under whatever name, and with the batches of encoding that memory allows."""
    assert trained.train(changed(TRANSE, name="other_name", training__encoding_batch_size=3), "again") == 0
    first, again = ((trained.path / run / "weights/method.safetensors").read_bytes() for run in ("run", "again"))
    assert first == again


def test_checkpoints_that_say_not_what_they_are_of_are_refused(trained, capsys):
    scratch = trained.path / "old"
    shutil.copytree(trained.path / "scratch", scratch)
    (scratch / MADE_OF).unlink()
    assert trained.train(TRANSE, "second", "old") == 2
    assert "old: holds checkpoints that do not say what they are of" in capsys.readouterr().err


def test_a_record_says_what_was_trained(trained):
    record = read_json(trained.path / "run/run.json")
    made = read_json(trained.path / "run/weights" / MADE_OF)
    assert record["made_of"] == made
    assert (made["seed"], made["training"]["epochs"], made["parameters"]["dimension"]) == (0, 2, 4)
    assert made["graph"] == graph_digest(Graph.read(trained.graph)) and made["model"] is None


def test_the_record_of_a_training_serves_as_its_specification(trained):
    record = read_json(trained.path / "run/run.json")
    assert trained.train(record, "from_record") == 0
    weights = [(trained.path / run / "weights/method.safetensors").read_bytes() for run in ("run", "from_record")]
    assert weights[0] == weights[1]


def test_a_specification_in_the_runs_own_folder_is_kept(trained, capsys):
    out = trained.path / "own"
    write_json(TRANSE, out / "run.json")
    arguments = ["--spec", out / "run.json", "--graph", trained.graph, "--checkpoints", out / "c", "--out", out]
    for _ in range(2):
        assert main(["train", *map(str, arguments)]) == 2
        assert "own: holds run.json, which no stage wrote; nothing was touched" in capsys.readouterr().err
    assert read_json(out / "run.json") == TRANSE


@pytest.mark.parametrize("key", TRANSE)
def test_a_missing_key_is_told(trained, key, capsys):
    spec = {name: value for name, value in TRANSE.items() if name != key}
    assert trained.train(spec, "second") == 2
    assert capsys.readouterr().err == f"kglm train: spec: key {key!r} is missing; add it\n"


def test_a_specification_of_another_kind_is_told(trained, capsys):
    for stage in ("rank", "evaluate", "classify", "table", "graph"):
        (trained.path / "none.json").write_text("{}", "utf-8")
        paths = {"rank": "graph embeddings answers", "evaluate": "graph ranks", "classify": "scores", "table": "inputs"}
        options = [f"--{name}={trained.graph}" for name in paths.get(stage, "raw").split()]
        assert main([stage, f"--spec={trained.path / 'none.json'}", f"--out={trained.path / 'x'}", *options]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["transe_ring", "other_run"])
@pytest.mark.parametrize("interaction", ["distmult", "transe"])
def test_weights_of_another_model_are_refused_though_their_shapes_fit(trained, name, interaction, capsys):
    parameters = {"interaction": interaction, "dimension": 4, "negatives": 2, "margin": 2.0}
    spec = changed(TRANSE, name=name, parameters=parameters)
    assert trained.rank(spec) == (2 if interaction == "distmult" else 0)
    if interaction == "distmult":
        assert "another run (parameters.interaction transe, here distmult)" in capsys.readouterr().err


def test_weights_of_another_seed_or_training_are_refused_under_their_own_name(trained, capsys):
    for change, told in (({"seed": 7}, "seed 0, here 7"), ({"training__epochs": 9}, "training.epochs 2, here 9")):
        assert trained.rank(changed(TRANSE, **change)) == 2
        assert f"holds weights of another run ({told})" in capsys.readouterr().err


def test_weights_of_another_graph_of_equal_size_are_refused(trained, other_graph, capsys):
    assert trained.rank(TRANSE, graph=other_graph) == 2
    assert "holds weights that were trained on another graph" in capsys.readouterr().err
    graph = Graph.read(other_graph)
    method = build_method("structural", TRANSE["parameters"], graph, None)
    with pytest.raises(Exception, match="another graph"):
        method.load(trained.path / "run/weights")


@pytest.mark.parametrize("name", ["kalm_ring", "kalm_other"])
@pytest.mark.parametrize(
    ("key", "value"), [("lora_modules", "att"), ("lora_modules", "att-ffn"), ("lora_rank", 4), ("lora_alpha", 64.0)]
)
def test_an_adapter_of_other_modules_rank_or_alpha_is_refused(kalm, name, key, value, capsys):
    spec = changed(kalm.spec, name=name, **{f"parameters__{key}": value})
    assert kalm.rank(spec) == 2
    assert f"holds weights of another run (parameters.{key} " in capsys.readouterr().err
    # Neither is one of an older version, which says nothing of its run.
    bare = kalm.path / "bare"
    shutil.copytree(kalm.path / "run/weights", bare, dirs_exist_ok=True)
    (bare / MADE_OF).unlink()
    method = build_method("kalm", spec["parameters"], Graph.read(kalm.graph), kalm.model)
    with pytest.raises(Exception, match=r"train this run again|trained with lora_alpha 16"):
        method.load(bare)


def test_another_base_model_is_refused(kalm, tmp_path, capsys):
    other = tmp_path / "model"
    shutil.copytree(kalm.model, other)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    folder = Folder(kalm.path, kalm.graph, other)
    assert folder.rank(kalm.spec) == 2
    assert "holds weights that were trained on another base model" in capsys.readouterr().err


def test_embeddings_of_another_graph_or_run_are_refused(kalm, other_graph, capsys):
    assert kalm.rank(kalm.spec) == 0
    with safe_open(kalm.path / "e/entities.safetensors", "numpy") as file:
        told = {"run": "kalm_ring", "graph": graph_digest(Graph.read(kalm.graph))}
        assert {key: json.loads(text) for key, text in file.metadata().items()} == {"made_of": told}
    write_json({"name": "kalm_ring"}, kalm.path / "ranking.json")

    def rank(name: str, graph) -> int:
        write_json({"name": name}, kalm.path / "ranking.json")
        out = {"embeddings": kalm.path / "e", "out": kalm.path / "r.parquet", "answers": kalm.path / "a.parquet"}
        options = {"spec": kalm.path / "ranking.json", "graph": graph, **out}
        return main(["rank", *(f"--{key}={value}" for key, value in options.items())])

    assert rank("kalm_ring", kalm.graph) == 0
    capsys.readouterr()
    assert rank("kalm_ring", other_graph) == 2
    assert "holds the embeddings of another graph" in capsys.readouterr().err
    assert rank("kalm_seven", kalm.graph) == 2
    assert "holds the embeddings of the run kalm_ring" in capsys.readouterr().err


def test_parts_of_several_runs_are_not_joined(kalm, capsys):
    shards = []
    for name in ("kalm_ring", "other"):
        assert kalm.rank(changed(kalm.spec, name=name)) == 0
        shutil.copy(kalm.path / "e/entities.safetensors", kalm.path / f"{name}.safetensors")
        shards.append(kalm.path / f"{name}.safetensors")
    capsys.readouterr()
    assert main(["join", "--shards", *map(str, shards), "--out", str(kalm.path / "joined.safetensors")]) == 2
    assert "is of another run or graph than" in capsys.readouterr().err


def test_without_epochs_nothing_is_kept(trained):
    spec = changed(TRANSE, training__epochs=0, training__keep_epochs=True)
    assert trained.train(spec, "untrained", "none") == 0
    assert [path.name for path in (trained.path / "untrained/epochs").iterdir()] == [".kglm"]
    assert not (trained.path / "none").exists()


def test_a_rank_in_the_environment_of_one_process_means_nothing(trained, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert trained.train(TRANSE, "ranked", "scratch") == 0
    assert (trained.path / "ranked/run.json").is_file()


def test_kalm_takes_no_model_that_reads_both_ways(ring_folder, encoder_folder, tmp_path, capsys):
    folder = Folder(tmp_path, ring_folder, encoder_folder)
    assert folder.train(kalm_ring(0.0), "run") == 2
    assert "is a BERT, which reads both ways" in capsys.readouterr().err


def test_a_digest_sees_every_text_triple_and_weight(ring_graph, model_folder, tmp_path):
    digests = {graph_digest(ring_graph)}
    for frame, column, row in (("entities", "description", 3), ("relations", "inverse", 0), ("triples", "tail", 5)):
        frames = {name: getattr(ring_graph, name).copy() for name in ("entities", "relations", "triples")}
        value = frames[frame].loc[row, column]
        frames[frame].loc[row, column] = value + "x" if isinstance(value, str) else (value + 1) % 12
        digests.add(graph_digest(Graph(**frames)))
    assert len(digests) == 4
    shutil.copytree(model_folder, tmp_path / "model")
    before = model_digests(tmp_path / "model")
    assert before == model_digests(model_folder)
    config = json.loads((tmp_path / "model/config.json").read_text("utf-8"))
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"rms_norm_eps": 1.0}), "utf-8")
    assert model_digests(tmp_path / "model") != before

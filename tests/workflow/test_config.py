"""Every entry of every scale is sound; a wrong one is told in one line."""

import copy
import dataclasses
import importlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from kglm import config as configuration
from kglm.analysis.common import choose_options
from kglm.cli import STAGES
from kglm.errors import InputError
from kglm.options import options_of
from kglm.training.options import Training
from kglm.validation import check, check_folder_or_exit, check_or_exit

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "workflow/schemas"
OVERLAYS = {
    "paper": (),
    "demo": ("workflow/scales/demo.yaml",),
    "small": ("workflow/scales/small.yaml",),
    "medium": ("workflow/scales/medium.yaml",),
    "own_graph": ("examples/own_graph/config.yaml",),
}


def read(scale: str) -> dict:
    return configuration.read(*(ROOT / path for path in ("config.yaml", *OVERLAYS[scale])))


@pytest.fixture(scope="module", params=OVERLAYS)
def config(request):
    return read(request.param)


@pytest.fixture
def paper():
    return copy.deepcopy(read("paper"))


def test_each_scale_fits_the_schema(config):
    check(config, SCHEMAS)
    assert configuration.built_runs(config)


def test_each_overlay_names_its_scale():
    assert {scale: read(scale)["scale"] for scale in OVERLAYS} == {scale: scale for scale in OVERLAYS}


def test_scales_of_one_machine_need_no_gated_model():
    for scale in ("demo", "small", "medium", "own_graph"):
        config = read(scale)
        assert not [m for m in configuration.built_models(config) if config["models"][m].get("gated")]


def test_the_demo_needs_no_download():
    config = read("demo")
    assert {config["models"][model]["source"] for model in configuration.built_models(config)} == {"scratch"}
    entries = [config["datasets"][name] for name in configuration.built_datasets(config)]
    entries += [config["corpora"][config["analyses"]["perplexity"]["corpus"]]]
    assert all("package" in file for entry in entries for file in entry["files"].values())


def test_every_run_builds_its_options(config):
    for name in config["runs"]:
        spec = configuration.run_spec(config, name)
        module = importlib.import_module(f"kglm.methods.{spec['method']}")
        parameters = module.Parameters(**spec["parameters"])
        assert dataclasses.asdict(parameters) == spec["parameters"]
        assert dataclasses.asdict(Training.of(spec["training"])) == spec["training"]


@pytest.mark.parametrize("method", configuration.methods())
def test_options_read_from_the_source_are_those_of_the_dataclass(method):
    parameters = importlib.import_module(f"kglm.methods.{method}").Parameters
    assert options_of(parameters) == configuration.method_options(method)
    assert options_of(Training) == configuration.training_options()


def test_every_analysis_takes_its_options(config):
    for analysis in configuration.ANALYSES:
        parameters = importlib.import_module(STAGES[analysis].split(":")[0]).Parameters
        assert options_of(parameters).keys() == configuration.analysis_options(analysis).keys()
        for run in configuration.built_runs(config):
            choose_options(configuration.analysis_spec(config, analysis, run), parameters)


def test_kalm_table_3(paper):
    """The hyper-parameters of KaLM's Table 3, typed from the paper."""
    for run, epochs, batch, language_model_batch in (
        ("kalm_WN18RR", 20, 24, 4),
        ("kalm_FB15k-237", 10, 40, 6),
    ):
        spec = configuration.run_spec(paper, run)
        parameters, training = spec["parameters"], spec["training"]
        assert (training["epochs"], training["batch_size"]) == (epochs, batch)
        assert parameters["language_model_batch_size"] == language_model_batch
        assert parameters["maximum_description_length"] == 50
        assert parameters["maximum_language_model_length"] == 256
        assert parameters["lora_modules"] == "ffn"
        assert [parameters[f"lora_{key}"] for key in ("alpha", "dropout", "rank")] == [16.0, 0.05, 8]
        assert (training["learning_rate"], training["weight_decay"]) == (1e-4, 0.001)
        assert (training["scheduler"], training["precision"]) == ("cosine", "bf16")
        assert (training["beta1"], training["beta2"]) == (0.9, 0.999)
        assert parameters["gradient_checkpointing"]


def test_ablations_differ_in_one_thing(paper):
    """Tables 4 to 6 compare 10 epochs and change one option each."""
    reference = configuration.run_spec(paper, "kalm_WN18RR_epochs-10")
    for run, section, key, value in (
        ("kalm_WN18RR_lambda-0", "parameters", "language_model_weight", 0.0),
        ("kalm_WN18RR_lambda-0.01", "parameters", "language_model_weight", 0.01),
        ("kalm_WN18RR_lambda-1", "parameters", "language_model_weight", 1.0),
        ("kalm_WN18RR_att", "parameters", "lora_modules", "att"),
        ("kalm_WN18RR_att-ffn", "parameters", "lora_modules", "att-ffn"),
        ("kalm_WN18RR_epochs-30", "training", "epochs", 30),
    ):
        expected = configuration.merge(reference, {"name": run, section: {key: value}})
        assert configuration.run_spec(paper, run) == expected


def test_variants_are_layers(paper):
    described = configuration.run_spec(paper, "kalm_WN18RR")["parameters"]
    released = configuration.run_spec(paper, "kalm_WN18RR_as-released")["parameters"]
    changed = {key for key in described if described[key] != released[key]}
    assert {"train_temperature", "mask_known_tails", "gather_negatives", "language_model_weight"} < changed


def test_one_runs_option_changes_one_spec(paper):
    changed = configuration.merge(paper, {"runs": {"kalm_WN18RR": {"training": {"learning_rate": 2e-4}}}})
    kinds = {"run": "runs", "dataset": "datasets", "model": "models", "table": "tables", "figure": "figures"}
    different = [
        (kind, name)
        for kind, section in kinds.items()
        for name in paper[section]
        if configuration.spec_text(paper, kind, name) != configuration.spec_text(changed, kind, name)
    ]
    assert different == [("run", "kalm_WN18RR")]


def test_a_text_is_no_reason_to_fetch_again(paper):
    change = {"datasets": {"WN18RR": {"inverse_texts": {"_hypernym": "kind"}, "note": "other"}}}
    changed = configuration.merge(paper, change)
    texts = [
        [configuration.spec_text(config, kind, "WN18RR") for config in (paper, changed)]
        for kind in ("dataset_files", "dataset")
    ]
    assert texts[0][0] == texts[0][1] and texts[1][0] != texts[1][1]


def test_specs_are_sorted_json_and_fit_a_command_line(config):
    kinds = {
        "run": "runs",
        "dataset": "datasets",
        "corpus": "corpora",
        "table": "tables",
        "figure": "figures",
    }
    for kind, section in kinds.items():
        for name in config[section]:
            text = configuration.spec_text(config, kind, name)
            assert json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False) == text
            assert json.loads(text)["name"] == name
            assert len(text.encode()) < 60_000  # Linux takes 128 KiB for one argument, quotes included


def set_at(config: dict, path: str, value: object) -> dict:
    *parents, last = path.split("/")
    inner = config
    for key in parents:
        inner = inner[int(key)] if isinstance(inner, list) else inner.setdefault(key, {})
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("scal", "x", r"unknown key 'scal'; did you mean 'scale'\?"),
        ("seed", None, r"config: key 'seed' is missing"),
        ("seed", "7", r"config: seed: '7' is text, expected integer; YAML reads .* write 1\.0e-4"),
        ("scale", "../up", r"config: scale: .*'\.\./up'"),
        ("results", "a b", r"config: results: 'a b'"),
        (
            "runs/kalm WN",
            {"method": "kalm", "dataset": "WN18RR", "model": "llama-2-7b"},
            r"'kalm WN' is no valid id",
        ),
        ("runs/kalm_WN18RR/lr", 0.1, r"config: runs\.kalm_WN18RR: unknown key 'lr'"),
        (
            "runs/kalm_WN18RR/training/learning_rate",
            "1e-4",
            r"learning_rate: '1e-4' is text, expected float; YAML",
        ),
        ("runs/kalm_WN18RR/training/epochs", 1.5, r"training\.epochs: 1\.5 is a number, expected int"),
        ("runs/kalm_WN18RR/training/epoch", 3, r"unknown option 'epoch'; did you mean 'epochs'\?"),
        (
            "runs/kalm_WN18RR/parameters",
            {"lambda": 1.0},
            r"parameters: unknown option 'lambda'; choose one of",
        ),
        ("methods/kalm/parameters/margin", "big", r"margin: 'big' is text, expected float; write a number"),
        ("methods/kalm/parameters/train_temperature", 1, r"train_temperature: 1 is a number, expected bool"),
        ("methods/kalm/variants/as_released/parameters/lora_rank", True, r"lora_rank: True is true or false"),
        ("methods/kalmm", {}, r"config: methods: unknown method 'kalmm'; did you mean 'kalm'\?"),
        ("runs/kalm_WN18RR/dataset", "WN18R", r"kalm_WN18RR\.dataset: unknown dataset 'WN18R'; did you mean"),
        ("runs/kalm_WN18RR/model", "llama", r"kalm_WN18RR\.model: unknown model 'llama'"),
        ("runs/kalm_WN18RR/method", "kalmm", r"kalm_WN18RR\.method: unknown method 'kalmm'"),
        (
            "runs/kalm_WN18RR/variant",
            "as_relased",
            r"unknown variant 'as_relased'; did you mean 'as_released'\?",
        ),
        ("runs/kalm_WN18RR/weights", "kalm_X", r"kalm_WN18RR\.weights: unknown weights 'kalm_X'"),
        ("runs/kalm_WN18RR/weights", "base_WN18RR", r"weights: the run base_WN18RR has another method"),
        ("runs/kalm_WN18RR/weights", "kalm_WN18RR_llama-3-8b", r"the run kalm_WN18RR_llama-3-8b has another model"),
        ("runs/kalm_WN18RR/shards", 0, r"runs\.kalm_WN18RR\.shards: "),
        ("build", ["kalm_table_9"], r"config: build: unknown table or figure 'kalm_table_9'; did you mean"),
        ("build", [], r"config: build: "),
        ("figures/kalm_figure_9/series/0/run", "kalm_X", r"figures\.kalm_figure_9: unknown run 'kalm_X'"),
        ("tables/kalm_table_2/rows/0/dataset", "WN", r"tables\.kalm_table_2: unknown dataset 'WN'"),
        ("tables/kalm_table_3/blocks/0/run", "kalm", r"tables\.kalm_table_3: unknown run 'kalm'"),
        ("tables/kalm_table_1/colour", "red", r"config: tables\.kalm_table_1: unknown key 'colour'"),
        (
            "analyses/mmlu/corpus",
            "mmmlu",
            r"analyses\.mmlu\.corpus: unknown corpus 'mmmlu'; did you mean 'mmlu'",
        ),
        ("analyses/mmlu/options/shot", 3, r"analyses\.mmlu\.options: unknown option 'shot'; did you mean 'shots'"),
        (
            "datasets/WN18RR/split",
            {},
            r"config: datasets\.WN18RR: unknown key 'split'; did you mean 'splits'",
        ),
        ("datasets/WN18RR/expect/entities", "40943", r"expect\.entities: '40943' is text, expected integer"),
        (
            "models/llama-2-7b/revison",
            "main",
            r"models\.llama-2-7b: unknown key 'revison'; did you mean 'revision'",
        ),
        ("resources/train/threads", "8", r"resources\.train\.threads: '8' is text"),
        ("evaluation/resamples", 0, r"config: evaluation\.resamples: "),
    ],
)
def test_a_wrong_entry_is_told_in_one_line(paper, path, value, told):
    with pytest.raises(InputError, match=told) as caught:
        check(set_at(paper, path, value), SCHEMAS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"runs": {"kalm_WN18RR": {"model": None}}},
            r"kalm_WN18RR: key 'model' is missing; the method kalm needs",
        ),
        ({"runs": {"transe_WN18RR": {"model": "llama-2-7b"}}}, "the method structural takes no base model; leave it"),
        ({"runs": {"kalm_WN18RR": {"model": "bert"}}}, "bert reads both ways; the method kalm needs a decoder"),
        ({"datasets": {"WN18RR": {"inverse_texts": {True: "off"}}}}, "the key True is true or false, expected text"),
        ({"runs": {"kalm_WN18RR": {"shards": 2.0}}}, "shards: 2.0 is a number, expected integer; write 2"),
        ({"seed": float("nan")}, "seed: nan is no finite number, expected integer"),
        ({"datasets": {"WN18RR": {"files": {"train.tsv": "/v{1}/t"}}}}, r"the path /v\{1\}/t has braces"),
        (
            {"runs": {"att": {"weights": "kalm_WN18RR"}}},
            "kalm_WN18RR trains with lora_modules ffn, this one has att",
        ),
        ({"runs": {"other": {"weights": "kalm_WN18RR"}}}, "the run kalm_WN18RR has another dataset"),
    ],
)
def test_what_does_not_go_together_is_told_before_the_first_job(paper, change, told):
    paper["models"]["bert"] = {**paper["models"]["llama-scratch"], "architecture": "bert"}
    kalm = paper["runs"]["kalm_WN18RR"]
    paper["runs"] |= {"att": {**kalm, "parameters": {"lora_modules": "att"}}, "other": {**kalm, "dataset": "FB15k-237"}}
    changed = configuration.merge(paper, change)
    if changed["runs"]["kalm_WN18RR"]["model"] is None:
        del changed["runs"]["kalm_WN18RR"]["model"]
    with pytest.raises(InputError, match=told):
        check(changed, SCHEMAS)


def test_home_is_meant_in_every_path(paper, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    paper["datasets"]["own"] = {"files": {"a": "~/a.tsv", "b": {"path": "~/b.tsv"}}}
    paper["models"]["own"] = {"source": "local", "path": "~/model"}
    paper |= {"results": "~/results", "mirror": "~/mirror"}
    home = configuration.expand_home(paper)
    assert configuration.local_files(home["datasets"]["own"]) == ["/home/me/a.tsv", "/home/me/b.tsv"]
    assert home["models"]["own"]["path"] == "/home/me/model"
    assert (home["results"], home["mirror"]) == ("/home/me/results", "/home/me/mirror")


@pytest.mark.parametrize("there", [True, False])
def test_snakemake_is_started_where_the_snakefile_is(tmp_path, monkeypatch, there):
    monkeypatch.chdir(ROOT if there else tmp_path)
    workflow = SimpleNamespace(basedir=str(ROOT))
    if there:
        check_folder_or_exit(workflow)
        return
    with pytest.raises(SystemExit, match=r"is not the folder of the Snakefile; start snakemake there \(cd "):
        check_folder_or_exit(workflow)


def test_a_key_that_snakemake_drops_is_told(tmp_path, paper):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("runs: {}\nruns: {}\n", "utf-8")
    workflow = SimpleNamespace(basedir=str(ROOT), configfiles=[overlay])
    with pytest.raises(SystemExit, match="the key runs stands twice"):
        check_or_exit(workflow, paper)


def test_weights_come_from_the_run_that_made_them(paper):
    paper["runs"]["one"] = {**paper["runs"]["kalm_WN18RR"], "weights": "kalm_WN18RR"}
    paper["runs"]["two"] = {**paper["runs"]["kalm_WN18RR"], "weights": "one"}
    assert configuration.weights_of(paper, "one") == "kalm_WN18RR" == configuration.weights_of(paper, "kalm_WN18RR")
    with pytest.raises(InputError, match=r"two\.weights: the run one trains nothing itself; name kalm_WN18RR"):
        check(paper, SCHEMAS)


def test_reading_a_file_that_is_none(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        configuration.read(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(InputError, match="holds no mapping"):
        configuration.read(tmp_path / "list.yaml")


def test_merging_goes_deep_in_mappings_and_replaces_the_rest():
    merged = configuration.merge({"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"c": [3]}, "d": {"e": 1}})
    assert merged == {"a": {"b": 1, "c": [3]}, "d": {"e": 1}}


def test_every_key_of_the_schema_is_described_or_a_reference():
    """The option table is made of these descriptions."""
    schema = yaml.safe_load((SCHEMAS / "config.schema.yaml").read_text("utf-8"))
    for key, entry in schema["properties"].items():
        assert "description" in entry, key


def pins(path: Path) -> dict[str, str]:
    lines = [line.strip(" -") for line in path.read_text("utf-8").splitlines()]
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines]
    return {re.sub(r"[-_.]+", "-", m[1]).lower(): m[2] for m in found if m}


def test_the_conda_environment_is_the_requirements_at_their_pins():
    names = (ROOT / "requirements.txt").read_text("utf-8").split()
    wanted = {re.sub(r"[-_.]+", "-", re.split(r"[<>=]", name)[0]).lower() for name in names}
    versions = pins(ROOT / "constraints.txt")
    assert pins(ROOT / "envs/kglm.yaml") == {name: versions[name] for name in wanted}


def test_torch_is_pinned():
    assert pins(ROOT / "constraints.txt")["torch"] == "2.13.0"


def test_gpus_are_shared_out_evenly_among_nodes(paper):
    paper["runs"]["kalm_WN18RR"]["resources"] = {"gpu": 4, "nodes": 2}
    check(paper, SCHEMAS)
    paper["runs"]["kalm_WN18RR"]["resources"] = {"gpu": 3, "nodes": 2}
    with pytest.raises(InputError, match=r"runs\.kalm_WN18RR: 3 GPUs cannot be shared out evenly among 2 nodes"):
        check(paper, SCHEMAS)


def seeded() -> dict:
    runs = {"a": {"method": "m", "seeds": [3, 5]}, "b": {"method": "m", "weights": "a", "seeds": [3, 5]}}
    runs["c"] = {"method": "n", "candidates": {"run": "a", "top": 2}, "seeds": [5, 3]}
    blocks = [{"runs": {"one": "a", "two": ["b", "d"], "three": "d"}}]
    return {"runs": runs | {"d": {"method": "m"}}, "tables": {"t": {"blocks": blocks}}}


def test_a_run_with_seeds_becomes_one_for_each():
    config = configuration.with_seeds(seeded())
    runs = config["runs"]
    assert {name: run.get("seed") for name, run in runs.items()} == {
        **{"a": 3, "a_seed-5": 5, "b": 3, "b_seed-5": 5, "c": 5, "c_seed-3": 3, "d": None},
    }
    assert runs["b_seed-5"]["weights"] == "a_seed-5"
    assert runs["c"]["candidates"] == {"run": "a_seed-5", "top": 2}
    shown = config["tables"]["t"]["blocks"][0]["runs"]
    assert shown == {"one": ["a", "a_seed-5"], "two": ["b", "b_seed-5", "d"], "three": "d"}
    assert configuration.with_seeds(copy.deepcopy(config)) == config


def test_an_anchor_is_not_expanded_twice():
    """YAML's anchors make one dictionary of two entries."""
    config = seeded()
    config["tables"]["same"] = config["tables"]["t"]
    config["tables"]["other"] = {"blocks": [{"runs": config["tables"]["t"]["blocks"][0]["runs"]}]}
    config["runs"]["like_a"] = config["runs"]["a"]
    config = configuration.with_seeds(config)
    for table in ("t", "same", "other"):
        assert config["tables"][table]["blocks"][0]["runs"]["one"] == ["a", "a_seed-5"]
    assert config["runs"]["like_a_seed-5"]["seed"] == 5


def test_a_seeds_run_takes_no_others_name():
    config = seeded()
    config["runs"]["a_seed-5"] = {"method": "m"}
    with pytest.raises(InputError, match="also the name of seed 5 of a"):
        configuration.with_seeds(config)


def test_a_file_that_an_overlay_leaves_out_is_none(tmp_path):
    """The whole texts of FB15k-237 at the paper scale, first sentences and a word on them at the others."""
    whole, small = read("paper"), read("small")
    file = "FB15k_mid2description.txt"
    for dataset in ("FB15k-237", "FB15k-237N"):
        assert whole["datasets"][dataset]["descriptions"][0]["file"] == file
        assert file in configuration.spec(whole, "dataset_files", dataset)["files"]
        assert file not in configuration.spec(small, "dataset_files", dataset)["files"]
        assert "caveat" not in whole["datasets"][dataset] and "caveat" in small["datasets"][dataset]
        assert "caveat" not in configuration.spec(small, "dataset", dataset)  # no reason to build the graph again
    caveats = configuration.spec(small, "table", "kalm_table_1")["caveats"]
    assert caveats == {"FB15k-237": small["datasets"]["FB15k-237"]["caveat"]}
    assert "caveats" not in configuration.spec(whole, "table", "lmke_table_4")
    assert "FB13" in configuration.spec(small, "table", "lmke_table_4")["caveats"]


@pytest.mark.parametrize("scale", OVERLAYS)
def test_every_table_is_told_the_graphs_of_the_runs_that_it_shows(scale):
    config, seen = read(scale), 0
    for name in configuration.built(config, "tables"):
        paths = [path.split("/") for path in configuration.inputs(config, "table", name)]
        runs = {config["runs"][part[1]]["dataset"] for part in paths if part[0] == "runs"}
        told = {part[1] for part in paths if part[0] == "data" and part[2] == "problems.json"}
        assert runs <= told, name
        seen += len(runs)
    assert seen


@pytest.mark.parametrize("scale", OVERLAYS)
def test_every_table_that_shows_ranks_or_accuracies_has_its_floors(scale):
    config, seen = read(scale), 0
    for name in configuration.built(config, "tables"):
        table = configuration.spec(config, "table", name)
        measured = [block for block in table.get("blocks", []) if block.get("runs")]
        if table["kind"] not in ("link_prediction", "classification") or not measured:
            continue
        floors = {row["label"] for row in table["rows"] if row.get("floor")}
        if not floors and not {"MR", "MRR"} & set(table["metrics"]):
            continue  # of accuracies alone, in a table of ranks
        for block in measured:
            assert floors and floors <= set(block["runs"]), name
            runs = [block["runs"][label] for label in floors]
            assert all(config["runs"][run]["dataset"] == block["dataset"] for run in runs)
            assert {f"runs/{run}/" for run in runs} <= {
                f"{path.rpartition('/')[0]}/" for path in configuration.inputs(config, "table", name)
            }
        seen += 1
    assert seen

"""`kglm plan` as a whole: the table, what it says does not fit, time and disk."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from kglm import cli, planning, validation
from kglm import config as configuration
from kglm.plan import cost, models, work

ROOT = Path(__file__).parents[2]
# Of finished runs of the demo: bytes of the folders, TensorBoard left out; seconds of the training on one thread, and
# the process's memory at its peak in MiB (run.json).
SIZES = {"kalm_umls": 7_262_653, "c_lmke_umls": 5_485_100, "lmke_umls": 2_760_261, "kg_bilm_umls": 3_200_469}
SECONDS = {"kalm_umls": 78.4, "kalm_umls_att": 15.3, "c_lmke_umls": 18.4, "lmke_umls": 33.4, "kg_bilm_umls": 37.2}
PEAKS = {"kalm_umls": 635, "kalm_umls_att-ffn": 650, "c_lmke_umls": 686, "lmke_umls": 626, "kg_bilm_umls": 623}


def plan_of(config: dict) -> planning.Plan:
    runs = [configuration.run_spec(config, name) for name in configuration.built_runs(config)]
    return planning.Plan(configuration.plan_spec(config), runs)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    config = configuration.read(ROOT / "config.yaml", ROOT / "workflow/scales/demo.yaml")
    return plan_of({**config, "results": str(tmp_path_factory.mktemp("results"))})


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    config = configuration.read(ROOT / "config.yaml")
    return plan_of({**config, "results": str(tmp_path_factory.mktemp("results"))})


def row(plan: planning.Plan, name: str) -> planning.Row:
    return next(row for row in plan.rows if row.spec["name"] == name)


def test_the_demo_fits_and_every_run_has_a_row(demo):
    assert demo.problems() == [] and demo.unknown == []
    assert {row.spec["name"] for row in demo.rows} == set(demo.spec["runs"])
    text = demo.text()
    assert all(name in text for name in demo.spec["runs"])
    assert len({len(line) for line in text.split("\n")[2:][: len(demo.rows) + 4]}) == 1


@pytest.mark.parametrize("run", SIZES)
def test_the_disk_of_the_demos_runs(demo, run):
    assert 0.8 < row(demo, run).disk.kept / SIZES[run] < 1.2


@pytest.mark.parametrize("run", PEAKS)
def test_the_memory_of_the_demos_runs(demo, run):
    assert 0.8 < row(demo, run).memory.total / 2**20 / PEAKS[run] < 1.25


@pytest.mark.parametrize("run", SECONDS)
def test_the_time_of_the_demos_runs(demo, run):
    assert 0.6 < row(demo, run).hours.training * 3600 / SECONDS[run] < 1.6


def test_every_run_fits_the_gpu_that_is_configured(paper):
    assert not [row.spec["name"] for row in paper.rows if row.memory.total > paper.limit]


def test_what_does_not_fit_is_told_with_what_would(paper):
    """On the cards of KaLM's paper, where KaLM fits."""
    card = {"name": "GeForce RTX 3090", "memory_gib": 24, "tflops": 71.0}
    plan = planning.Plan({**paper.spec, "card": card}, [row.spec for row in paper.rows])
    told = {line.split(":")[0]: line for line in plan.problems()}
    assert "kalm_WN18RR" not in told and "kalm_FB15k-237" not in told
    wikidata = told["kg_bilm_Wikidata5M-transductive"]
    assert "vectors of entities" in wikidata and "needs a GPU (card) of" in wikidata and "\n" not in wikidata
    assert "resources.train.gpu: 2" in told["kg_bilm_FB15k-237N"]


def test_the_changes_that_are_proposed_make_a_run_fit(paper):
    small = planning.Plan({**paper.spec, "card": {**paper.card, "memory_gib": 12}}, [])
    for run in ("kalm_WN18RR", "c_lmke_WN18RR", "kg_bilm_FB15k-237N", "simkgc_WN18RR"):
        found = row(paper, run)
        told = small.explained(found)
        if "; set " not in told:
            continue
        changes = yaml.safe_load("{" + told.partition("; set ")[2].rpartition(" (")[0] + "}")
        gpus, spec = changes.pop("resources.train.gpu", 1), dict(found.spec)
        for key, value in changes.items():
            section = "training" if key in spec["training"] else "parameters"
            spec[section] = {**spec[section], key: value}
        assert small.needed(spec, gpus).total <= small.limit < found.memory.total or found.memory.total <= small.limit


def test_a_gpu_with_more_memory_takes_all(paper):
    large = {**paper.spec, "card": {"name": "B300", "memory_gib": 288, "tflops": 2500.0}}
    plan = planning.Plan(large, [row.spec for row in paper.rows if row.spec["training"]["epochs"]])
    assert not [line for line in plan.problems() if "GPU" in line]


def test_steps_are_those_of_the_schedule():
    import numpy as np

    from kglm.training.options import Training
    from kglm.training.schedule import Schedule

    texts = work.Texts(1, 1)
    graph = work.Dataset(
        entities=9, relations=2, train=101, valid=1, test=1, names=texts, descriptions=texts, relation=1
    )
    for batch, epochs, most in ((24, 3, 0), (7, 10, 25), (500, 2, 0)):
        options = {"epochs": epochs, "batch_size": batch, "maximum_steps": most}
        schedule = Schedule(None, np.zeros((202, 3), np.int64), Training(**options), 0)
        assert cost.steps({"method": "kalm", "training": options}, graph)[0] == schedule.steps


def test_unknown_graphs_and_models_are_left_out_and_told(demo):
    spec = {**demo.spec, "datasets": {**demo.spec["datasets"], "umls": {}}}
    plan = planning.Plan(spec, [row.spec for row in demo.rows])
    assert plan.rows and {row.spec["dataset"] for row in plan.rows} == {"umls_inductive"}
    assert all("umls" in line for line in plan.unknown) and len(plan.warnings()) >= len(plan.unknown)


def test_a_method_that_the_plan_does_not_know_is_told_and_stops_nothing(demo):
    """A method of one's own is one file: that the formulas lack it is a note."""
    own = row(demo, "star_umls").spec | {"name": "lmke_umls", "method": "own"}
    plan = planning.Plan(demo.spec, [own])
    assert not plan.rows and "method own" in plan.unknown[0]
    assert not [line for line in plan.problems() if "own" in line]


def test_a_small_disk_is_one_line(demo, monkeypatch):
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10**6}))
    (line,) = demo.problems()
    assert "GB are free" in line and "\n" not in line


@pytest.fixture
def configured(tmp_path):
    """The demo's configuration, with results of its own, as the workflow hands it on."""
    config = configuration.read(ROOT / "config.yaml", ROOT / "workflow/scales/demo.yaml")
    config["results"] = str(tmp_path / "results")
    return config


def checked(config: dict, tmp_path: Path) -> int:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return cli.main(["check", "--configfile", str(tmp_path / "config.json")])


def test_the_check_leaves_the_table_and_fails_where_something_does_not_fit(configured, tmp_path, capsys):
    assert checked(configured, tmp_path) == 0
    assert "kalm_umls" in (tmp_path / "results/demo/plan.txt").read_text("utf-8")
    configured["resources"]["train"]["mem_mb"] = 600
    capsys.readouterr()
    assert checked(configured, tmp_path) == 2
    assert "kalm_umls: needs" in capsys.readouterr().err


def test_the_check_asks_for_gated_models(configured, tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(planning, "check_access", lambda models, built: asked.append((set(models), built)))
    assert checked(configured, tmp_path) == 0
    assert asked == [(set(configuration.built_models(configured)), tmp_path / "results/demo/models")]


def test_the_check_asks_for_the_package_of_8_bit_weights(configured, tmp_path, monkeypatch, capsys):
    """Else the run fails on its node, again and again, and every table waits for it."""
    configured["runs"]["kalm_umls"]["parameters"] = {"base_weights": "int8"}
    monkeypatch.setattr(planning.importlib.util, "find_spec", lambda name: None)
    assert checked(configured, tmp_path) == 2
    assert "kalm_umls: 8-bit base weights need the package bitsandbytes; install it" in capsys.readouterr().err
    monkeypatch.setattr(planning.importlib.util, "find_spec", lambda name: name)
    assert planning.missing_packages(configured) == []


def test_a_tracker_that_is_not_installed_is_told(configured):
    told = planning.missing_packages(configured | {"report_to": ["tensorboard", "wandb"], "build": []})
    assert told == ["report_to: the tracker wandb is not installed; pip install wandb, or leave it out"]


def test_the_workflow_asks_before_its_first_job(configured, tmp_path, monkeypatch, capfd):
    """Where all is fetched already, too; and no dry run waits for it."""
    monkeypatch.chdir(tmp_path)
    jobs = [SimpleNamespace(wildcards={"dataset": "umls"})]
    workflow = SimpleNamespace(dag=SimpleNamespace(needrun_jobs=lambda exclude_finished: jobs))
    monkeypatch.setattr(validation.subprocess, "run", lambda *_, **__: pytest.fail("asked for a graph alone"))
    validation.check_needs_or_exit(workflow, configured)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    jobs.append(SimpleNamespace(wildcards={"run": "kalm_umls"}))
    validation.check_needs_or_exit(workflow, configured)
    configured["resources"]["train"]["mem_mb"] = 600
    with pytest.raises(SystemExit) as stopped:
        validation.check_needs_or_exit(workflow, configured)
    assert stopped.value.code == 1 and "kalm_umls: needs" in capfd.readouterr().err
    text = (ROOT / "workflow/rules/common.smk").read_text("utf-8")
    assert re.search(r"\nonstart:\n    if workflow.is_main_process:.*\n        validation.check_needs_or_exit", text)
    rules = "".join(path.read_text("utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert "ancient(" not in rules


def test_planning_costs_seconds():
    code = (
        "import resource, kglm.cli as cli; cli.main(['plan', '--configfile', 'config.yaml'])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert float(done.stdout.strip().rpartition("\n")[2]) < 20, done.stderr


def test_every_published_architecture_names_its_source():
    entries = json.loads(models.PUBLISHED.read_text("utf-8"))
    assert all(entry["source"] for entry in entries.values())

"""The workflow as it is planned: of every scale, without torch and without the network."""

import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from kglm import config as configuration

ROOT = Path(__file__).parents[2]
# Put before everything else, this makes each import of torch and each use of the network an error.
GUARD = """
import socket
import sys

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "huggingface_hub"):
            raise ImportError(f"{name} was imported while the workflow was planned")

def refuse(*arguments, **options):
    raise OSError("the network was used while the workflow was planned")

sys.meta_path.insert(0, Guard())
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
"""


def snakemake(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def jobs(done: subprocess.CompletedProcess) -> dict[str, int]:
    """The table of jobs of a dry run."""
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("Job stats:")[2].partition("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


@pytest.fixture(scope="module")
def paper_plan(tmp_path_factory, root):
    """`snakemake --profile slurm all -n` as it stands at the top of the repository, and what it cost."""
    guard = tmp_path_factory.mktemp("guard")
    (guard / "sitecustomize.py").write_text(GUARD, "utf-8")
    results = tmp_path_factory.mktemp("nothing") / "results"
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    # Results of an earlier run must not shorten the list.
    extra = ("--config", f"results={results}")
    done = snakemake("--profile", "slurm", "all", "-n", *extra, PYTHONPATH=str(guard))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done, processor, time.monotonic() - start


def test_the_paper_scale_is_planned_within_ten_seconds(paper_plan):
    done, processor, wall = paper_plan
    assert done.returncode == 0, done.stdout + done.stderr
    # Processor time: the wall clock of a machine that is busy otherwise says nothing.
    assert processor <= 10, (processor, wall)


def test_every_table_and_figure_of_the_paper_is_planned(paper_plan):
    done, _, _ = paper_plan
    for number in range(1, 7):
        assert f"tables/kalm_table_{number}.tex" in done.stdout
    for number in (1, 3, 4, 5, 6, 7, 8, 9):
        assert f"figures/kalm_figure_{number}.pdf" in done.stdout


def test_every_run_of_the_paper_is_trained_embedded_and_ranked(paper_plan):
    config = configuration.read(ROOT / "config.yaml")
    runs = configuration.built_runs(config)
    counts = jobs(paper_plan[0])
    floors = {name for name, run in config["runs"].items() if run["method"] == "popularity"}  # of all datasets
    assert set(runs) | floors == set(config["runs"]) and set(runs) & floors
    assert counts["train_run"] == len({configuration.weights_of(config, run) for run in runs}) < len(runs)
    shown = {file: {path.split("/")[1] for path in shown_files(config) if path.endswith(file)} for file in RESULTS}
    assert counts["evaluate_ranks"] == len(shown["/metrics.json"])
    by_model = [run for run in shown["/metrics.json"] if configuration.scores_candidates(config["runs"][run]["method"])]
    assert counts["rank_by_model"] == len(by_model) > 0
    assert counts["rank_queries"] + counts["rank_by_model"] == counts["evaluate_ranks"]
    sharded = [run for run in runs if configuration.shards(config, run) > 1]
    assert sharded and counts["join_shards"] == len(sharded)
    assert counts["embed_run"] == len(shown["/metrics.json"]) - len(by_model) - len(sharded)
    assert counts["embed_shard"] == sum(configuration.shards(config, run) for run in sharded)
    assert counts["score_triples"] == counts["classify_triples"] == len(shown["/classification.json"])


RESULTS = ("/metrics.json", "/classification.json")


def shown_files(config: dict) -> list[str]:
    """What the tables and figures are made of."""
    named = [(kind, name) for kind in ("table", "figure") for name in configuration.built(config, f"{kind}s")]
    return [path for kind, name in named for path in configuration.inputs(config, kind, name)]


def test_jobs_ask_for_gpus(paper_plan):
    text = paper_plan[0].stdout
    of_rules = {m[1]: m[0] for m in re.finditer(r"^rule (\w+):\n(?:    .+\n)+", text, re.MULTILINE)}
    one_run = re.findall(r"^rule (\w+):\n((?:    .+\n)*    wildcards: run=(\S+)\n(?:    .+\n)+)", text, re.MULTILINE)
    blocks = of_rules | {(rule, run): block for rule, block, run in one_run}
    for rule in ("train_run", "embed_run", "measure_perplexity"):
        assert "gpu=1" in blocks[rule, "kalm_WN18RR"] and "slurm_partition=gpu" in blocks[rule, "kalm_WN18RR"]
    assert "gpu=8" in blocks["train_run", "kg_bilm_Wikidata5M-transductive"]
    assert "gpu=0" in blocks["train_run", "popularity_WN18RR"]
    assert "gpu=" not in blocks["build_graph"] and "slurm_partition=cpu" in blocks["build_graph"]


def rules() -> dict[str, str]:
    """The text of each rule."""
    text = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    return dict(re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", text, re.MULTILINE))


def test_nothing_is_fetched_on_a_node():
    """What asks the network runs where the workflow was started; what is submitted has the hub switched off."""
    local = {name for name, body in rules().items() if "localrule: True" in body}
    assert {"fetch_dataset", "fetch_corpus", "fetch_model"} <= local
    with_model = {name: body for name, body in rules().items() if re.search(r"{(input|params).model(:q)?}", body)}
    on_nodes = {name: body for name, body in with_model.items() if name not in local}
    assert {"train_run", "embed_run", "score_triples", "ask_questions", "measure_cost"} < set(on_nodes)
    assert all("HF_HUB_OFFLINE=1" in body for body in (*on_nodes.values(), rules()["train_base_model"]))


@pytest.mark.parametrize(
    ("overlay", "model_rule"),
    [
        ("workflow/scales/demo.yaml", "train_base_model"),
        ("workflow/scales/small.yaml", "fetch_model"),
        ("workflow/scales/medium.yaml", "fetch_model"),
        ("examples/own_graph/config.yaml", "train_base_model"),
    ],
)
def test_an_overlay_plans_its_own_runs_only(overlay, model_rule, tmp_path):
    config = configuration.read(ROOT / "config.yaml", ROOT / overlay)
    done = snakemake("--cores", "2", "-n", "--configfile", overlay, "--config", f"results={tmp_path}/results")
    counts = jobs(done)
    trained = {configuration.weights_of(config, run) for run in configuration.built_runs(config)}
    assert counts["train_run"] == len(trained)
    assert counts[model_rule] == len(configuration.built_models(config))
    assert counts["build_graph"] == len(configuration.built_datasets(config))
    assert "fetch_model" not in counts or model_rule == "fetch_model"


def test_a_wrong_key_stops_with_one_line(tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("runs: {kalm_WN18RR: {training: {learning_rate: 1e-4}}}\n", "utf-8")
    done = snakemake("-n", "--configfile", str(overlay))
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("kglm: ")]
    assert len(told) == 1 and "runs.kalm_WN18RR.training.learning_rate: '1e-4' is text" in told[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_the_profile_is_found_by_the_words_as_they_stand():
    assert (ROOT / "slurm").is_symlink() and (ROOT / "slurm").resolve() == ROOT / "workflow/profiles/slurm"
    profile = yaml.safe_load((ROOT / "slurm/config.yaml").read_text("utf-8"))
    assert profile["executor"] == "slurm" and profile["slurm-status-command"] == "squeue"
    # A default profile would replace parts of this one, key by key.
    for folder in ("default", "profiles/default", "workflow/profiles/default"):
        assert not (ROOT / folder).exists()


def test_the_profile_names_rules_that_exist_and_all_that_use_a_gpu():
    profile = yaml.safe_load((ROOT / "slurm/config.yaml").read_text("utf-8"))
    with_gpu = {name for name, body in rules().items() if "gpu=" in body}
    assert set(profile["set-resources"]) == with_gpu | {"embed_shard"}  # which is embed_run by another name
    # Retries in a rule would multiply with those of the profile.
    assert "retries:" not in "".join(rules().values()) and profile["retries"] == 2


def test_the_snakefile_is_a_contents_page():
    lines = (ROOT / "Snakefile").read_text("utf-8").splitlines()
    assert len(lines) < 40 and not [line for line in lines if line.startswith(("def ", "rule ")) and "all" not in line]

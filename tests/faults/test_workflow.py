"""Snakemake's part in what goes wrong: locks, torn outputs, clocks, moved results, sources edited in the middle."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from workflow.conftest import Workflow

pytestmark = pytest.mark.slow
OVERLAY = "examples/own_graph/config.yaml"
RESULTS = "results/own_graph"
YEAR = 365 * 24 * 3600


@pytest.fixture
def workflow(tmp_path):
    (tmp_path / "copy").mkdir()
    return Workflow(tmp_path / "copy", OVERLAY)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    finished = Workflow(tmp_path_factory.mktemp("finished"), OVERLAY)
    finished.pretend_finished()
    return finished


@pytest.fixture
def copy(finished, tmp_path):
    """A finished workflow in a folder of its own, as `mv` would take it there."""
    return finished.copied_to(tmp_path / "copy")


def instead_of_kglm(workflow: Workflow, script: str) -> dict[str, str]:
    """An environment in which jobs call this script in place of the program; "$REAL" calls the program."""
    path = workflow.folder / "bin/kglm"
    path.parent.mkdir()
    path.write_text(f'#!/bin/bash\nREAL="{sys.executable} -m kglm.cli"\n{script}\n', "utf-8")
    path.chmod(0o755)
    return {"PATH": f"{path.parent}:{os.environ['PATH']}"}


def start(workflow: Workflow, *arguments: str, **environment: str) -> subprocess.Popen:
    """Snakemake in a session of its own, not waited for."""
    variables = {"PYTHONPATH": str(workflow.folder / "src"), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments, "--configfile", *workflow.overlays]
    return subprocess.Popen(
        command,
        cwd=workflow.folder,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_second_snakemake_is_refused_and_a_stale_lock_is_taken_away(workflow):
    target, folder = f"{RESULTS}/audit.csv", workflow.folder
    first = start(workflow, target, **instead_of_kglm(workflow, "touch started; sleep 600"))
    try:
        until((folder / "started").exists)
        second = workflow.snakemake("--cores", "1", target)
        assert second.returncode != 0
        assert "LockException" in second.stderr + second.stdout
        assert "--unlock" in second.stderr + second.stdout
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    stale = workflow.snakemake("--cores", "1", target)
    assert stale.returncode != 0
    assert "LockException" in stale.stderr + stale.stdout
    assert workflow.snakemake("--unlock").returncode == 0
    done = workflow.snakemake("--cores", "1", "--rerun-incomplete", target)
    assert done.returncode == 0, done.stderr
    assert (folder / target).stat().st_size


def test_a_torn_output_of_a_killed_job_is_not_taken_for_a_finished_one(workflow):
    target, folder = f"{RESULTS}/audit.csv", workflow.folder
    torn = f"for end in csv md tex; do echo half > {RESULTS}/audit.$end; done; touch started; sleep 600"
    first = start(workflow, target, **instead_of_kglm(workflow, torn))
    until((folder / "started").exists)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert (folder / target).read_text() == "half\n"
    assert workflow.snakemake("--unlock").returncode == 0
    refused = workflow.snakemake("--cores", "1", target)
    assert refused.returncode != 0
    assert "IncompleteFilesException" in refused.stderr + refused.stdout
    done = workflow.snakemake("--cores", "1", "--rerun-incomplete", target)
    assert done.returncode == 0, done.stderr
    assert (folder / target).stat().st_size > 1000


def test_what_is_edited_while_a_job_waits_reaches_no_job_and_is_noticed_next_time(workflow):
    """The first job edits the configuration and a stage that comes later; the run goes on with what it began with."""
    target, folder = f"{RESULTS}/data/geography/statistics.json", workflow.folder
    overlay = folder / OVERLAY
    edit = f"sed -i 's/has capital/has the capital/' {overlay}"
    environment = instead_of_kglm(workflow, f'[ "$1" = fetch ] && {edit}\nexec $REAL "$@"')
    done = workflow.snakemake("--cores", "1", target, **environment)
    assert done.returncode == 0, done.stderr
    assert "has the capital" in overlay.read_text("utf-8")
    assert '"has capital"' in (folder / RESULTS / "specs/dataset/geography.json").read_text("utf-8")
    assert {"specs/dataset/geography.json", "data/geography/statistics.json"} <= workflow.planned()


def test_moved_results_are_not_made_again(copy):
    shutil.move(copy.folder / "results", copy.folder / "elsewhere")
    with open(copy.folder / "here.yaml", "w", encoding="utf-8") as file:
        file.write("results: elsewhere\n")
    copy.overlays = (*copy.overlays, "here.yaml")
    assert copy.planned() == set()


def test_a_moved_working_folder_is_not_made_again(copy):
    assert copy.planned() == set()


@pytest.mark.parametrize("seconds", [-20 * YEAR, 20 * YEAR], ids=["past", "future"])
def test_a_wrong_clock_on_all_files_redoes_nothing(copy, seconds):
    for path in sorted((copy.folder / "results").rglob("*"), reverse=True):
        times = path.stat()
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + seconds * 10**9))
    assert copy.planned() == set()


def test_files_with_times_in_any_order_are_known_by_their_content(copy):
    """Folders are not, nor are files of more than a million bytes: what is older than its folder is made again."""
    generator = random.Random(0)
    for path in sorted((copy.folder / "results").rglob("*")):
        if path.is_file() and path.name != ".snakemake_timestamp":
            moment = time.time() + generator.uniform(0, YEAR)
            os.utime(path, (moment, moment))
    assert copy.planned() == set()


@pytest.mark.parametrize("seconds", [-20 * YEAR, 20 * YEAR], ids=["past", "future"])
def test_an_own_file_is_known_by_its_content_whatever_its_time(copy, seconds):
    path = copy.folder / "examples/own_graph/descriptions.tsv"
    path.write_text(path.read_text("utf-8").replace("a country", "a large country", 1), "utf-8")
    os.utime(path, (time.time() + seconds,) * 2)
    assert "data/geography/raw" in copy.planned()


def test_a_run_that_fails_keeps_no_result_of_the_others_back(workflow):
    """Its tables, paper and report are made without it and say so; once all is there, they go."""
    folder = workflow.folder
    workflow.overlays = (OVERLAY, "tests.yaml")
    (folder / "tests.yaml").write_text("build: [own_table, own_statistics]\n", "utf-8")
    fails = 'case "$*" in train*kalm_geography*) echo boom; echo "kglm train: its end"; exit 1;; esac\nexec $REAL "$@"'
    done = workflow.snakemake("--cores", "2", "--keep-going", **instead_of_kglm(workflow, fails))
    assert done.returncode != 0
    shown = folder / RESULTS / "partial"
    sentence = "kalm_geography: train_run failed (kglm train: its end)"
    assert sentence in done.stdout
    assert sentence in (shown / "report.html").read_text("utf-8")
    assert r"\section{What failed}" in (shown / "paper.tex").read_text("utf-8")
    assert (shown / "paper.pdf").is_file() == (shutil.which("latexmk") is not None)
    cells = pd.read_csv(shown / "tables/own_table.csv").groupby("row")["reproduced"].count()
    assert cells["base model"] > 0
    assert cells["KaLM"] == 0
    assert (shown / "tables/own_statistics.tex").is_file()
    assert not (folder / RESULTS / "report.html").exists()
    shutil.rmtree(folder / "bin")
    done = workflow.snakemake("--cores", "2")
    assert done.returncode == 0, done.stderr
    assert "What failed" not in (folder / RESULTS / "report.html").read_text("utf-8")
    assert not shown.exists()

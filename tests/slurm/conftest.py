"""A real SLURM for the tests, and a workflow whose first stages are done."""

import os
import shutil

import pytest

from workflow.conftest import ROOT, Workflow

from .cluster import PROGRAMS, Cluster
from .scenario import Scenario

OVERLAYS = ("examples/own_graph/config.yaml", "overlay.yaml")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        pytest.skip(f"no {missing[0]}: apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("the daemons of SLURM and munge are started by root")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def undisturbed(cluster, tmp_path_factory):
    """The data, the base model and one run, made here without SLURM and without a fault."""
    folder = tmp_path_factory.mktemp("undisturbed")
    workflow = Workflow(folder, *OVERLAYS)
    shutil.copy(ROOT / "tests/slurm/overlay.yaml", folder)
    done = workflow.snakemake("results/faults/runs/undisturbed/metrics.json", "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return workflow


@pytest.fixture
def scenario(cluster, undisturbed, tmp_path):
    """The undisturbed workflow in a folder of its own, from where jobs are submitted."""
    scenario = Scenario(cluster, undisturbed, tmp_path / "copy")
    yield scenario
    scenario.stop()

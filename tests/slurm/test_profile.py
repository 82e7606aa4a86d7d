"""The profile as it ships."""

import os
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "workflow/profiles/slurm"
# What the executor plugin and the profile call.
COMMANDS = ("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun", "sshare")


@pytest.fixture(scope="module")
def profile():
    return yaml.safe_load((PROFILE / "config.yaml").read_text("utf-8"))


def test_no_option_that_loses_jobs_or_results(profile):
    assert profile["slurm-status-command"] == "squeue"
    assert not [key for key in profile if "array" in key]
    assert profile["retries"] == 2 and profile["rerun-incomplete"]
    assert "--no-requeue" in profile["default-resources"]["slurm_extra"]


def test_jobs_with_a_gpu_differ_in_one_line():
    text = (PROFILE / "config.yaml").read_text("utf-8")
    lines = re.findall(r"^  (\w+): ([*&]gpu_job)", text, re.MULTILINE)
    assert [anchor for _, anchor in lines].count("&gpu_job") == 1 and len(lines) > 10


def test_jobs_that_are_grouped_need_no_gpu(profile):
    # In a group the GPUs of its members are added up.
    assert not set(profile["groups"]) & set(profile["set-resources"])


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_goes_by_the_profile(command):
    path = PROFILE / "bin" / command
    assert os.readlink(path) == "slurm-command" and os.access(path, os.X_OK)

"""The profile's commands in front of SLURM's, here with scripts in the place of SLURM's own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

COMMANDS = Path(__file__).parents[2] / "workflow/profiles/slurm/bin"


@pytest.fixture
def slurm(tmp_path):
    """A function that gives a command of SLURM's a body and calls it by way of the profile's folder."""
    own, quick = tmp_path / "own", tmp_path / "quick"
    own.mkdir(), quick.mkdir()

    def write(path: Path, body: str) -> None:
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    write(quick / "sleep", "exit 0")
    for tool in ("sed", "wc", "false"):
        (quick / tool).symlink_to(shutil.which(tool))

    def call(*arguments: str, bodies: dict[str, str], **environment: str) -> subprocess.CompletedProcess:
        for name, body in bodies.items():
            write(own / name, body)
        path = os.pathsep.join(map(str, (COMMANDS, quick, own)))
        variables = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "KGLM_"))}
        return subprocess.run(
            arguments, env=variables | {"PATH": path, "COUNT": f"{tmp_path}/count"} | environment,
            capture_output=True, text=True, timeout=20,
        )  # fmt: skip

    return call


FAILS_TWICE = 'echo x >>"$COUNT"; [ "$(wc -l <"$COUNT")" -gt 2 ] || { echo "connect failure" >&2; exit 1; }\n'


@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_states_are_told_in_words_that_the_plugin_knows(slurm, command):
    body = "printf '1|PREEMPTED\\n2|CANCELLED by 1000\\n3|COMPLETED\\n'"
    done = slurm(command, "--name", "kglm_1", bodies={command: body})
    assert done.stdout == "1|CANCELLED\n2|CANCELLED\n3|COMPLETED\n"


def test_the_controller_is_waited_for(slurm):
    done = slurm("squeue", "--name", "kglm_1", bodies={"squeue": FAILS_TWICE + "echo '1|RUNNING'"})
    assert (done.returncode, done.stdout) == (0, "1|RUNNING\n")


def test_a_controller_that_stays_away_is_an_error_in_the_end(slurm):
    assert slurm("squeue", "--name", "kglm_1", bodies={"squeue": "exit 1"}).returncode != 0


def test_without_accounting_squeue_answers_for_sacct(slurm):
    bodies = {"sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1", "squeue": 'echo "$@"'}
    done = slurm("sacct", "-X", "--name", "kglm_1", bodies=bodies)
    assert done.stdout == "--noheader --states=all --format=%i|%T --name kglm_1\n"


def test_other_questions_go_through(slurm):
    done = slurm("squeue", "--user", "me", bodies={"squeue": 'echo PREEMPTED "$@"; exit 3'})
    assert (done.returncode, done.stdout) == (3, "PREEMPTED --user me\n")


def test_a_submission_waits_for_the_controller_and_is_made_once(slurm):
    refused = FAILS_TWICE.replace("connect failure", "Unable to contact slurm controller (connect failure)")
    done = slurm("sbatch", "--wrap", "a 'b' \"c\"", bodies={"sbatch": refused + "echo 7; echo warning >&2"})
    assert (done.returncode, done.stdout) == (0, "7\n")


LOST = "sbatch: error: Batch job submission failed: Unexpected message received"
ASKED = ("sbatch", "--parsable", "--job-name", "kglm_1", "--comment", "rule_train_run_wildcards_a b")


def test_a_submission_whose_answer_was_lost_is_made_again(slurm):
    """Snakemake's executor plugin, issue 313: one such answer ended a workflow of 1,800 jobs."""
    refused = FAILS_TWICE.replace("connect failure", LOST)
    other = "printf '3\\trule_train_run_wildcards_b\\n'"
    done = slurm(*ASKED, bodies={"sbatch": refused + "echo 7", "squeue": other})
    assert (done.returncode, done.stdout) == (0, "7\n")


def test_a_submission_that_was_taken_before_its_answer_was_lost_is_made_once(slurm, tmp_path):
    bodies = {
        "sbatch": f'echo x >>"$COUNT"; echo "{LOST}" >&2; exit 1',
        "squeue": "printf '3\\trule_train_run_wildcards_b\\n5\\trule_train_run_wildcards_a b\\n'",
    }
    done = slurm(*ASKED, bodies=bodies)
    assert (done.returncode, done.stdout) == (0, "5\n")
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_submission_whose_answers_stay_away_is_an_error_in_the_end(slurm):
    bodies = {"sbatch": f'echo "{LOST}" >&2; exit 1', "squeue": "exit 1"}
    done = slurm(*ASKED, bodies=bodies)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    "refusal",
    [
        "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection: Connection refused",
        "sacct: error: Problem talking to the database: Connection timed out",
    ],
)
def test_a_database_that_is_away_is_not_waited_for(slurm, refusal):
    """Snakemake's executor plugin, issues 331 and 207: it ended, or hung for hours, when the accounting was away."""
    bodies = {"sacct": f"echo '{refusal}' >&2; exit 1", "squeue": "echo '4|RUNNING'"}
    done = slurm("sacct", "-X", "--name", "kglm_1", bodies=bodies)
    assert (done.returncode, done.stdout) == (0, "4|RUNNING\n")


def test_another_refusal_is_told_at_once(slurm):
    done = slurm("sbatch", "x", bodies={"sbatch": "echo 'invalid partition' >&2; exit 4"})
    assert (done.returncode, done.stdout, done.stderr) == (4, "", "invalid partition\n")


def test_the_configuration_is_found_where_the_variable_was_dropped(slurm):
    done = slurm("srun", bodies={"srun": 'echo "$SLURM_CONF"'}, KGLM_SLURM_CONF="/a/slurm.conf")
    assert done.stdout == "/a/slurm.conf\n"


def test_a_missing_slurm_is_told(slurm):
    done = slurm("scancel", "1", bodies={})
    assert done.returncode != 0 and "SLURM's own command is not on PATH" in done.stderr


@pytest.mark.parametrize(
    ("given", "called"),
    [
        ("sbatch -p gpu --gpus=4 --nodes=1 --wrap=x", "-p gpu --gpus=4 --nodes=1 --wrap=x"),
        ("sbatch -p gpu --gpus=4 --nodes=2 --wrap=x", "-p gpu --gpus-per-node=2 --nodes=2 --wrap=x"),
        ("sbatch --nodes=4 --gpus=a100:32 --wrap=x", "--nodes=4 --gpus-per-node=a100:8 --wrap=x"),
        ("srun -n1 --gpus=4 --nodes=2 job --gpus=4 --nodes=2", "-n1 --gres=none --nodes=1 job --gpus=4 --nodes=2"),
        ("srun -n1 --gpus=4 --nodes=1 job --nodes=2", "-n1 --gpus=4 --nodes=1 job --nodes=2"),
        ("squeue --nodes=vm", "--nodes=vm"),
        ("srun --overlap --nodes=2 --ntasks=2 job", "--overlap --nodes=2 --ntasks=2 job"),
    ],
)
def test_the_gpus_of_several_nodes_are_shared_out_evenly(slurm, given, called):
    command = given.split()
    done = slurm(*command, bodies={command[0]: 'echo "$@"'})
    assert (done.stdout, done.stderr) == (f"{called}\n", "")

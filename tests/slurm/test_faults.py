"""Whatever happens to a job on a real SLURM: it ends with the bytes of a run that nothing happened to."""

import json
import signal

import pytest

from .scenario import PROFILE

pytestmark = pytest.mark.slow


def test_jobs_that_are_killed_cancelled_too_long_too_large_or_requeued(scenario):
    cluster = scenario.cluster
    scenario.workflow.replace(
        PROFILE,
        "train_run: &gpu_job {slurm_partition: gpu}",
        "train_run: &gpu_job {slurm_partition: gpu, "
        "slurm_extra: \"'--requeue' if wildcards.run == 'requeued' else '--no-requeue'\", "
        "mem_mb: \"attempt * (500 if wildcards.run == 'memory' else 1500)\"}",
    )
    runs = ("timeout", "killed", "cancelled", "requeued", "memory")
    scenario.hold(*runs[:4])
    scenario.start(*(f"results/faults/runs/{run}/weights" for run in runs))

    scenario.at_checkpoint("timeout")
    cluster.output("scontrol", "update", f"JobId={scenario.job('timeout')}", "TimeLimit=1")
    at = scenario.at_checkpoint("killed")
    scenario.hold("killed", after=at)
    scenario.signal("killed", signal.SIGKILL)
    scenario.at_checkpoint("cancelled")
    cluster.output("scancel", scenario.job("cancelled"))
    scenario.at_checkpoint("requeued")
    requeued = scenario.job("requeued")
    cluster.output("scontrol", "requeue", requeued)
    scenario.job("requeued", "PENDING")
    cluster.output("scontrol", "update", f"JobId={requeued}", "StartTime=now")
    scenario.at_checkpoint("killed")
    scenario.signal("killed", signal.SIGUSR1)
    scenario.signal("killed", signal.SIGCONT)

    told = scenario.finish()
    assert "gres:gpu:1" in cluster.output("scontrol", "show", "job", requeued)
    for run in runs:
        assert scenario.equals_undisturbed(run), run
    states = {run: sorted(cluster.jobs(name=f"train_run_wildcards_{run}").values()) for run in runs}
    assert states["killed"] == ["COMPLETED", "FAILED", "FAILED"]
    assert states["cancelled"] == ["CANCELLED", "COMPLETED"]
    assert states["timeout"] == ["COMPLETED", "TIMEOUT"]
    assert states["memory"] == ["COMPLETED", "FAILED"]
    assert states["requeued"] == ["COMPLETED"]
    assert "mem_mb=1000" in told  # what the second attempt of `memory` asks for


def test_a_node_that_is_lost_a_controller_that_restarts_and_preemption(scenario):
    cluster = scenario.cluster
    scenario.hold("node")
    scenario.start("results/faults/runs/node/weights")
    scenario.at_checkpoint("node")
    cluster.lose_node()
    lost = scenario.job("node", "NODE_FAIL")
    preempted = scenario.job("node", "RUNNING", other=lost)
    scenario.hold("node", after=max(scenario.checkpoints["node"]))
    scenario.hold("node", after=scenario.at_checkpoint("node"))
    cluster.stop_controller()  # while the job runs and snakemake asks for it
    scenario.signal("node", signal.SIGCONT)
    scenario.at_checkpoint("node")
    cluster.start_controller()
    urgent = cluster.output(
        "sbatch", "--parsable", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap", "sleep 3"
    )
    scenario.job("node", "PREEMPTED")
    told = scenario.finish()
    assert scenario.equals_undisturbed("node")
    assert cluster.jobs()[lost] == "NODE_FAIL" and cluster.jobs()[preempted] == "PREEMPTED"
    assert cluster.jobs()[urgent] == "COMPLETED"
    assert "SLURM status is: 'CANCELLED'" in told  # what the plugin is told instead


def test_what_is_submitted_is_what_is_trained(scenario):
    """Configuration, overlay, code and rules are edited while a job waits in the queue."""
    cluster, workflow = scenario.cluster, scenario.workflow
    # The other way to ask for a GPU, too.
    one_gpu = "train_run: &gpu_job {slurm_partition: gpu}"
    workflow.replace(PROFILE, one_gpu, one_gpu.replace("}", ', gpu: 0, gres: "gpu:fake:1"}'))
    cluster.output("scontrol", "update", "PartitionName=gpu", "State=DOWN")
    scenario.start("results/faults/runs/waiting/weights")
    job = scenario.job("waiting", "PENDING")
    assert "gres:gpu:fake:1" in cluster.output("scontrol", "show", "job", job)
    spec = (scenario.results / "specs/run/waiting.json").read_bytes()
    with open(scenario.folder / "overlay.yaml", "a") as overlay:
        overlay.write("runs: {waiting: {training: {learning_rate: 0.5}}\n  torn: [")
    (scenario.folder / "config.yaml").write_text("")
    (scenario.folder / "workflow/rules/train.smk").write_text("rule train_run: shell: 'false'\n")
    workflow.insert_statement("methods/kalm.py", "Method", "forward")
    (scenario.folder / "src/kglm/training/stages.py").write_text("raise SystemExit('another code was run')\n")
    cluster.output("scontrol", "update", "PartitionName=gpu", "State=UP")
    scenario.finish()
    assert scenario.equals_undisturbed("waiting")
    assert (scenario.results / "specs/run/waiting.json").read_bytes() == spec


def test_snakemake_is_killed_and_its_jobs_go_on(scenario):
    """`recover` ends what still runs, keeps what has finished meanwhile, and goes on without a second copy."""
    cluster, snakemake = scenario.cluster, "results/faults/runs/{}/metrics.json".format
    recover = (str(scenario.folder / "slurm/recover"),)
    scenario.hold("orphan")
    scenario.start(snakemake("orphan"), "results/faults/runs/finished/weights")
    at = scenario.at_checkpoint("orphan")
    scenario.process.send_signal(signal.SIGKILL)
    scenario.process.wait()
    finished, orphan = scenario.job("finished", "COMPLETED"), scenario.job("orphan", "RUNNING")
    assert list((scenario.folder / ".snakemake/locks").iterdir())
    weights = scenario.results / "runs/finished/weights"
    before = weights.stat().st_mtime_ns
    scenario.start(snakemake("orphan"), "results/faults/runs/finished/weights", command=recover)
    told = scenario.finish()
    assert f"cancelling jobs {orphan} " in told and cluster.jobs()[orphan] == "CANCELLED"
    assert weights.stat().st_mtime_ns == before and cluster.jobs()[finished] == "COMPLETED"
    assert max(scenario.checkpoints["orphan"]) > at
    assert scenario.equals_undisturbed("orphan") and scenario.equals_undisturbed("finished")
    metrics = [
        json.loads((folder / f"runs/{run}/metrics.json").read_text()) | {"run": ""}
        for folder, run in ((scenario.results, "orphan"), (scenario.finished.folder / "results/faults", "undisturbed"))
    ]
    assert metrics[0] == metrics[1]
    assert not list(scenario.folder.glob(".snakemake/locks/*"))


def test_a_training_on_two_nodes_is_that_of_one_process(scenario):
    """By accelerate, inside one job: two processes a node, one set of files; the loss is that of the whole batch."""
    scenario.workflow.replace(PROFILE, "{slurm_partition: gpu}", "{slurm_partition: pairs}")
    scenario.start("results/faults/runs/pair/weights")
    told = scenario.finish()
    job = scenario.job("pair", "COMPLETED")
    assert "NumNodes=2" in scenario.cluster.output("scontrol", "show", "job", job), told
    folder, alone = scenario.results / "runs/pair", scenario.results / "runs/undisturbed"
    assert json.loads((folder / "run.json").read_text())["processes"] == 4
    rows, expected = (
        [json.loads(line) for line in (at / "log.jsonl").read_text().splitlines()] for at in (folder, alone)
    )
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    losses = [[row["contrastive"] for row in of if "contrastive" in row] for of in (rows, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)

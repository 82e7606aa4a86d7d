"""What benchmarks/chaos.py compares and when it kills; the run itself is `make chaos` and `make chaos-small`."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

_SPEC = importlib.util.spec_from_file_location("chaos", Path(__file__).parents[2] / "benchmarks/chaos.py")
chaos = sys.modules["chaos"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(chaos)


@given(st.lists(st.floats(1, 100), min_size=1, max_size=20), st.integers(0, 30), st.integers(0, 5))
def test_moments_lie_in_the_run_and_none_is_before_another(times, kills, seed):
    times = sorted(times)
    plan = chaos.moments(times, 0.5, kills, seed)
    assert len(plan) == kills
    assert plan == chaos.moments(times, 0.5, kills, seed)
    assert [moment.done for moment in plan] == sorted(moment.done for moment in plan)
    ends = [0.5, *times]
    for done in {moment.done for moment in plan}:
        waits = [moment.seconds for moment in plan if moment.done == done]
        assert min(waits) >= 0
        # All kills in one job lie between the end of the job before and its own end.
        assert sum(waits) <= ends[min(done + 1, len(times))] - ends[done] + 1e-9


@pytest.fixture
def results(tmp_path):
    """Two results folders that differ in what tells the time alone."""
    for name, seconds in (("one", 1.5), ("other", 2.5)):
        run = tmp_path / name / "demo/runs/kalm"
        (run / "tensorboard").mkdir(parents=True)
        (run / "tensorboard" / f"events.{seconds}").write_text(str(seconds))
        (run / ".snakemake_timestamp").write_text(str(seconds))
        (run / "weights.safetensors").write_bytes(bytes(100))
        (run / "run.json").write_text(json.dumps({"run": "kalm", "best": 3, "wall_seconds": seconds}))
        for folder in ("logs", "benchmarks"):
            (tmp_path / name / "demo" / folder).mkdir()
            (tmp_path / name / "demo" / folder / "kalm.log").write_text(str(seconds))
        (tmp_path / name / "demo/report.html").write_text(str(seconds))
    return tmp_path / "one", tmp_path / "other"


def test_costs_and_times_are_no_difference(results):
    assert chaos.differences(*results) == (3, [])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("runs/kalm/weights.safetensors", bytes(99) + b"\1"),
        ("runs/kalm/run.json", b'{"run": "kalm", "best": 4, "wall_seconds": 1.5}'),
        ("runs/kalm/run.json", b'{"run": "kalm", "best": 3}'),
        ("runs/kalm/weights.safetensors", None),
        ("report.html", None),
        ("tables/more.csv", b""),
    ],
)
def test_everything_else_is(results, file, content):
    path = results[1] / "demo" / file
    path.parent.mkdir(exist_ok=True)
    path.unlink() if content is None else path.write_bytes(content)
    assert chaos.differences(*results)[1] == [f"demo/{file}"]


def test_a_training_that_begins_anew_is_seen(tmp_path):
    folder = tmp_path / "demo/scratch/kalm/content"

    def save(step: int, moment: int) -> None:
        path = folder / f"checkpoint-{step}/history.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(moment))

    checkpoints = chaos.Checkpoints(tmp_path)
    save(20, 0)
    assert checkpoints.new
    assert checkpoints.killed() == 1
    assert not checkpoints.new
    save(40, 1)
    checkpoints.look()
    assert checkpoints.new
    assert not checkpoints.begun_anew
    checkpoints.killed()
    save(10, 2)
    checkpoints.look()
    assert checkpoints.begun_anew == ["kalm: step 10 after 40"]

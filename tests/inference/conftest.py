"""Finished runs on the ring, laid out as the workflow lays them out."""

from pathlib import Path

import pytest

from kglm.methods._interface import CandidateScorer, LinkPredictor, method_class
from kglm.ranking.stages import rank
from kglm.training.stages import embed, rank_by_model, train
from methods.test_contract import CASES


@pytest.fixture(scope="session")
def scale(ring_graph, tmp_path_factory):
    """results/<scale> with the ring's graph."""
    folder = tmp_path_factory.mktemp("results") / "test"
    (folder / "data/ring").mkdir(parents=True)
    ring_graph.write(folder / "data/ring")
    return folder


@pytest.fixture(scope="session")
def finished(scale, request):
    """A function that makes a finished run of a method, ranked where it ranks, once, and gives its folder."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name in made:
            return made[name]
        fixture, parameters, fall = CASES[name]
        model = fixture and request.getfixturevalue(fixture)
        if model and not (scale / "models" / fixture).exists():
            (scale / "models").mkdir(exist_ok=True)
            (scale / "models" / fixture).symlink_to(model)
        training = {"epochs": 2 if fall else 0, "batch_size": 8, "learning_rate": 3e-3, "precision": "fp32"}
        spec = {"name": f"{name}_ring", "method": name, "dataset": "ring", "model": fixture, "seed": 0}
        spec |= {"parameters": parameters, "training": training}
        graph, out = scale / "data/ring", scale / "runs" / spec["name"]
        train(spec, graph, model, scale / "scratch" / name, out)
        method, ranks, best = method_class(name), out / "ranks.parquet", out / "answers.parquet"
        if issubclass(method, CandidateScorer):
            rank_by_model({"name": name, "answers": 1, "run": spec}, graph, model, out / "weights", ranks, best)
        elif issubclass(method, LinkPredictor):
            embed(spec, graph, model, out / "weights", out / "embeddings")
            rank({"name": spec["name"], "answers": 1}, graph, out / "embeddings", ranks, best)
        made[name] = out
        return out

    return make

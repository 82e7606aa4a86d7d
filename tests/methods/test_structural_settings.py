"""No configured structure-based run stands still: each learns in its first steps at its own settings, scaled down."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from kglm import config as configuration
from kglm.kg.graph import Graph
from kglm.methods._interface import build_method
from kglm.training.options import Training

ROOT = Path(__file__).parents[2]
SCALES = {"paper": (), "demo": ("demo",), "small": ("small",), "medium": ("medium",)}
BATCH = 64
GAINS = {20: 0.1, 200: 0.03}  # steps -> what the share of pairs in order must gain; a regulariser may yet undo a little


class Setting(NamedTuple):
    """A run's training on the small graph; two runs of the same are one."""

    parameters: str  # JSON
    learning_rate: float
    betas: tuple[float, float]
    maximum_gradient_norm: float


def scaled(config: dict, run: str) -> Setting:
    """A run's settings, with its negatives in proportion to the entities of UMLS.

    A mean over a batch moves an entity's vector by its share of the batch, which SGD does not even out as the others
    do.
    """
    spec = configuration.run_spec(config, run)
    parameters, training = spec["parameters"], spec["training"]
    entities = config["datasets"][spec["dataset"]]["expect"]["entities"]
    share = min(1, umls().entity_count / entities)
    parameters["negatives"] = max(1, round(parameters["negatives"] * share))
    return Setting(
        json.dumps(parameters, sort_keys=True),
        training["learning_rate"] * (share if parameters["optimizer"] == "sgd" else 1),
        (training["beta1"], training["beta2"]),
        training["maximum_gradient_norm"],
    )


def configured() -> dict[Setting, str]:
    """Each distinct setting of a structure-based run, with the first run that has it."""
    found: dict[Setting, str] = {}
    for scale, overlays in SCALES.items():
        config = configuration.read(ROOT / "config.yaml", *(ROOT / f"workflow/scales/{name}.yaml" for name in overlays))
        for run, entry in config["runs"].items():
            if entry["method"] == "structural":
                found.setdefault(scaled(config, run), f"{scale}-{run}")
    return found


@cache
def umls() -> Graph:
    """The training triples of PyKEEN's UMLS."""
    from pykeen.datasets import UMLS

    data = UMLS().training
    triples = pd.DataFrame(data.mapped_triples.numpy(), columns=["head", "relation", "tail"])
    entities = [f"e{number}" for number in range(data.num_entities)]
    relations = [f"r{number}" for number in range(data.num_relations)]
    return Graph(
        pd.DataFrame({"id": entities, "name": entities, "description": "", "in_train": True}),
        pd.DataFrame({"id": relations, "text": relations, "inverse": relations}),
        triples.assign(split="train", label=1),
    )


def in_order_after(setting: Setting, steps: int, learning_rate: float, folder: Path) -> float:
    """The share of pairs of a true and a false triple that are scored in their order; chance is one half."""
    method = build_method("structural", json.loads(setting.parameters), umls(), None)
    options = Training(
        epochs=steps,
        maximum_steps=steps,
        batch_size=BATCH,
        learning_rate=learning_rate,
        beta1=setting.betas[0],
        beta2=setting.betas[1],
        maximum_gradient_norm=setting.maximum_gradient_norm,
        scheduler="constant",
        weight_decay=0.0,
        precision="fp32",
        validate_every_epochs=0,
        save_every_steps=steps,
    )
    method.fit(options, 0, folder, dict)
    true = umls().split("train")[::5]
    false = true.copy()
    false[:, 2] = np.random.default_rng(0).integers(umls().entity_count, size=len(true))
    above, below = (method.score_triples(triples, 2**12) for triples in (true, false))
    return np.sign(above[:, None] - below).mean() / 2 + 0.5


def learns(setting: Setting, folder: Path) -> bool:
    """Whether true and false triples get apart; the loop draws the first weights, the same at each call."""
    before = in_order_after(setting, 1, 0.0, folder / "before")
    return any(
        in_order_after(setting, steps, setting.learning_rate, folder / str(steps)) > before + gain
        for steps, gain in GAINS.items()
    )


@pytest.mark.parametrize("setting", [pytest.param(setting, id=run) for setting, run in configured().items()])
def test_no_configured_run_stands_still(setting, tmp_path):
    assert learns(setting, tmp_path)


MEAN = {"loss": "marginranking", "optimizer": "sgd", "dimension": 50, "negatives": 1}
STANDING = {  # settings of PyKEEN's files, with their rate, which moved nothing
    "transh_WN18RR": (MEAN | {"margin": 1.0}, 1e-2),
    "transh_FB15k-237": (MEAN | {"margin": 0.25}, 5e-3),
    "transr_WN18RR": (MEAN | {"margin": 4.0}, 1e-3),
    "transr_FB15k-237": (MEAN | {"margin": 1.0}, 1e-3),
    "r_gcn_WN18RR": ({"regulariser": "lp", "regularisation": 0.01}, 1e-2),
}


@pytest.mark.parametrize("run", STANDING)
def test_what_stood_still_is_found(run, tmp_path):
    parameters, learning_rate = STANDING[run]
    changed = {"parameters": parameters, "training": {"learning_rate": learning_rate}}
    config = configuration.merge(configuration.read(ROOT / "config.yaml"), {"runs": {run: changed}})
    assert not learns(scaled(config, run), tmp_path)

"""A graph of towns and their rivers, and a LLaMA of two layers with random weights."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from kglm.kg.graph import Graph

ENTITIES = [
    ("cologne", "Cologne", "city on the Rhine"),
    ("bonn", "Bonn", "city upstream of Cologne"),
    ("rhine", "Rhine", "river; it rises in the Alps"),
    ("basel", "Basel", "city where the Rhine turns north"),
    ("elbe", "Elbe", "river to Hamburg"),
    ("elbe-canal", "Elbe Canal", "a canal"),
    ("hamburg", "Hamburg", "port"),
    ("sound-sea", "sound", "a large ocean inlet"),
    ("sound-firm", "sound", "financially secure"),
    ("nameless", "", "a thing without a name"),
]
RELATIONS = [
    ("_lies_on", "lies on", "flows through"),
    ("_near", "near", "near"),
    ("_part", "part of", "has part"),
]
TRIPLES = [
    ("train", 0, 0, 2),
    ("train", 1, 0, 2),
    ("train", 0, 1, 1),
    ("train", 6, 0, 4),
    ("train", 5, 2, 4),
    ("valid", 3, 0, 2),
    ("test", 1, 1, 0),
    ("test", 6, 0, 5),
    ("test", 0, 2, 2),
    ("test", 3, 1, 6),
]
SPEC = {
    "name": "analysis",
    "run": {
        "name": "kalm_towns",
        "method": "kalm",
        "dataset": "towns",
        "model": "tiny",
        "seed": 7,
        "parameters": {},
        "training": {},
    },
}
IDENTITY = {"run": "kalm_towns", "method": "kalm", "dataset": "towns", "model": "tiny", "seed": 7}


@pytest.fixture(scope="session")
def graph() -> Graph:
    entities = pd.DataFrame(ENTITIES, columns=["id", "name", "description"])
    triples = pd.DataFrame(TRIPLES, columns=["split", "head", "relation", "tail"]).assign(label=1)
    train = triples[triples["split"] == "train"]
    entities["in_train"] = entities.index.isin([*train["head"], *train["tail"]])
    return Graph(entities, pd.DataFrame(RELATIONS, columns=["id", "text", "inverse"]), triples)


@pytest.fixture(scope="session")
def graph_folder(graph, tmp_path_factory):
    folder = tmp_path_factory.mktemp("towns")
    graph.write(folder)
    return folder


@pytest.fixture(scope="session")
def embeddings_folder(graph, tmp_path_factory):
    """Random unit vectors for all entities and for every query of valid and test, in both directions."""
    folder = tmp_path_factory.mktemp("embeddings")
    generator = np.random.default_rng(0)
    triples = np.concatenate([graph.split(name, inverse=True) for name in ("valid", "test")])
    queries = np.unique(triples[:, :2], axis=0)[::-1].copy()
    save_file({"embeddings": unit_rows(generator, graph.entity_count, 8)}, folder / "entities.safetensors")
    save_file(
        {
            "heads": queries[:, 0].copy(),
            "relations": queries[:, 1].copy(),
            "embeddings": unit_rows(generator, len(queries), 8),
        },
        folder / "queries.safetensors",
    )
    return folder


def packaged_task(path: str, splits: dict[str, list[dict]], **changes):
    """A task as lm-evaluation-harness ships it, with rows of ours in place of its hub data set."""
    from pathlib import Path

    import lm_eval
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = load_yaml(Path(lm_eval.__file__).parent / "tasks" / path)
    rows = {name: Dataset.from_list(docs) for name, docs in splits.items()}
    kept = {key: value for key, value in config.items() if key not in ("dataset_path", "dataset_name", "tag")}
    kept |= {f"{name}_split": None for name in ("training", "validation") if f"{name}_split" in kept}
    return ConfigurableTask(config=kept | {"custom_dataset": lambda **_: rows} | changes)


def unit_rows(generator: np.random.Generator, n: int, d: int) -> np.ndarray:
    rows = generator.normal(size=(n, d)) + 0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory):
    """What a run without adapter leaves, with the temperature it learnt."""
    folder = tmp_path_factory.mktemp("weights")
    save_file({"log_temperature": np.array(np.log(0.1), np.float32)}, folder / "method.safetensors")
    return folder


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prose")
    passages = [
        "= The Rhine =",
        "The Rhine rises in the Alps and it meets the sea behind Rotterdam after a long way.",
        "Cologne lies on its left bank , and so does Bonn a few miles to the south of it .",
        "Boats carry coal , grain and people who look at castles on the hills above the water .",
        "The Elbe runs past Dresden and Hamburg to the North Sea , where the tides reach far inland .",
    ]
    (folder / "test.txt").write_text("\n".join(passages) + "\n", "utf-8")
    return folder

"""A graph with a duplicate triple, loops, entities unseen in train and a relation without test triples."""

import numpy as np
import pandas as pd
import pytest

from kglm.kg.graph import Graph

ENTITIES, RELATIONS = 30, 4


@pytest.fixture
def graph():
    random = np.random.default_rng(3)
    frames = []
    for split, count in (("train", 120), ("valid", 25), ("test", 40)):
        ends = ENTITIES - 4 if split == "train" else ENTITIES
        columns = {
            "head": random.integers(ends, size=count),
            "relation": random.integers(RELATIONS, size=count),
        }
        frame = pd.DataFrame(columns | {"tail": random.integers(ends, size=count)})
        frames.append(frame.assign(split=split, label=1))
    frames[2].loc[frames[2]["relation"] == 3, "relation"] = 0
    frames[2].loc[39] = frames[2].loc[0]
    frames[2].loc[5, "tail"] = frames[2].loc[5, "head"]
    frames[1].loc[0, "label"] = -1
    names = [f"e{i}" for i in range(ENTITIES)]
    train = set(frames[0]["head"]) | set(frames[0]["tail"])
    entities = pd.DataFrame({"id": names, "name": names, "description": ""})
    entities["in_train"] = [i in train for i in range(ENTITIES)]
    ids = ["_hypernym", "/film/actor", "plain", "unused"]
    relations = pd.DataFrame({"id": ids, "text": ids, "inverse": ids})
    return Graph(entities, relations, pd.concat(frames, ignore_index=True))

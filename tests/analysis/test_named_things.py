"""What the paper names, found in the real WN18RR."""

import lzma
import os
from pathlib import Path

import pandas as pd
import pytest

from kglm.analysis.common import find_entity, find_relation
from kglm.kg.graph import Graph

# Figure 7, as a run's spec names them: related words stand side by side.
FIGURE_7 = {
    "unseeable": "impossible or nearly impossible to see",
    "unperceivable": "impossible or difficult to perceive by the mind or senses",
    "sound": "financially secure and safe",
    "healthy": "having or indicating good health in body or mind",
    "same": "closely similar or comparable in kind or quality or quantity or degree",
    "equal": "having the same quantity, value, or measure as another",
    "untrusty": "not worthy of trust or belief",
    "unfaithful": "not true to duty or obligation or promises",
    "maintain": "keep in a certain state, position, or activity",
    "sustain": "lengthen or extend in duration or space",
}


@pytest.mark.mirror
@pytest.mark.skipif("KGLM_MIRROR" not in os.environ, reason="KGLM_MIRROR names no folder with WN18RR")
def test_figure_7_and_figure_5_name_one_entity_each():
    folder = Path(os.environ["KGLM_MIRROR"]) / "WN18RR"
    lines = lzma.decompress((folder / "entity2text.txt.xz").read_bytes()).decode().splitlines()
    texts = pd.Series([line.split("\t")[1] for line in lines])
    entities = pd.DataFrame({"id": [line.split("\t")[0] for line in lines], "in_train": True})
    entities[["name", "description"]] = texts.str.split(", ", n=1, expand=True)
    relations = pd.DataFrame({"id": ["_hypernym", "_member_meronym"], "text": ["hypernym", "member meronym"]})
    graph = Graph(entities, relations.assign(inverse=""), pd.DataFrame())
    found = [find_entity(graph, {"name": name, "description": text}) for name, text in FIGURE_7.items()]
    assert len(set(found)) == 10
    assert entities["id"][found[2]] == "02273326"
    triples = {tuple(line.split("\t")) for line in (folder / "test.tsv").read_text("utf-8").splitlines()}
    white_goods = {"name": "white goods", "description": "large electrical home appliances"}
    for case in [("salviniaceae", "member meronym", "salvinia"), ("refrigerator", "hypernym", white_goods)]:
        head, tail = (entities["id"][find_entity(graph, case[end])] for end in (0, 2))
        assert (head, relations["id"][find_relation(graph, case[1])], tail) in triples

"""The table of Theorem 2 shows what was measured, and says what training has made worse."""

import json

import pandas as pd
import pytest

from kglm.paper.inputs import table_inputs
from kglm.paper.tables import table
from kglm.paper.text import read_spreadsheet

SPEC = {"name": "theorem", "kind": "geometry", "scale": "toy", "caption": "Theorem 2."}
SPEC |= {"series": [{"label": "base model", "run": "base"}, {"label": "KaLM", "run": "kalm"}]}


def measured(run: str, alignment: float | None, anisotropy: float, uniformity: float) -> dict:
    theorem = {"temperature": 0.05, "left": 16.9, "right": 15.9, "slack": 1.0, "holds": True, "texts": 300}
    about = {"run": run, "method": "kalm", "dataset": "umls", "model": "llama", "seed": 0, "corpus": "wiki"}
    entities = {"count": 135, "anisotropy": anisotropy, "uniformity": uniformity, "theorem2": {**theorem, "texts": 135}}
    texts = {"value": 0.4, "uniformity": -2.0, "theorem2": theorem}
    return about | texts | {"alignment": alignment, "entities": entities}


@pytest.fixture
def shown(tmp_path):
    def show(*results: dict) -> tuple[pd.DataFrame, str]:
        paths = []
        for result in results:
            path = tmp_path / f"runs/{result['run']}/anisotropy.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result))
            paths.append(path)
        assert {str(path.relative_to(tmp_path)) for path in paths} <= set(table_inputs(SPEC))
        table(SPEC, paths, tmp_path / "out")
        return read_spreadsheet(tmp_path / "out.csv"), (tmp_path / "out.md").read_text()

    return show


def test_both_sides_stand_beside_what_training_made_worse(shown):
    frame, text = shown(measured("base", 0.383, 0.79, -0.78), measured("kalm", 0.682, 0.47, -1.85))
    assert frame["Embeddings of"].tolist() == ["texts (wiki)", "entities (umls)"] * 2
    assert frame["n"].tolist() == ["300", "135"] * 2
    assert frame[["left", "right", "slack"]].iloc[0].tolist() == ["16.90", "15.90", "1.00"]
    assert frame["alignment"].tolist() == ["–", "0.383", "–", "0.682"]
    assert "Worse after training (base model → KaLM): alignment (0.383 → 0.682)." in text
    assert "Equation 6" in text and "is not measured" in text


def test_nothing_is_called_worse_that_is_not(shown):
    _, text = shown(measured("base", 0.7, 0.79, -0.78), measured("kalm", 0.4, 0.47, -1.85))
    assert "Worse" not in text


def test_a_run_without_embeddings_of_entities_and_one_that_was_not_run(shown):
    frame, text = shown(measured("kalm", None, 0.47, -1.85) | {"entities": None})
    assert len(frame) == 1 and "Not run: base model." in text and "Worse" not in text

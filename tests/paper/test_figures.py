"""Figures: written, not empty, the same bytes twice, and captions that tell dataset, model, scale and n."""

import pytest
from PIL import Image

from kglm.errors import InputError
from kglm.paper.figures import figure
from kglm.paper.inputs import figure_inputs

SERIES = [{"label": "base", "run": "ten"}, {"label": "KaLM $x_", "run": "twenty"}]
KGQA = {"paper": "KaLM (COLING 2025)", "table": "KGQA", "dataset": "WN18RR", "method": "Llama-2-7B"}
LAST = {
    "label": "reported",
    "paper": "KaLM",
    "table": "Figure 8",
    "dataset": "Wikitext-103 test",
    "method": "LLaMA",
}
SPECS = {
    "triples": {"kind": "similarity", "matrix": "triples", "axes": ["tail", "query"], "panels": SERIES},
    "entities": {"kind": "similarity", "matrix": "entities", "axes": ["entity", "entity"], "panels": SERIES},
    "bars": {
        "kind": "bars",
        "setting": "zero_shot",
        "series": [SERIES[0] | {"reported": KGQA}, SERIES[1]],
        "panels": [
            {"analysis": "kgqa", "title": "Questions"},
            {"analysis": "perplexity", "title": "Prose"},
            {"analysis": "mmlu", "title": "MMLU"},
        ],
    },
    "layers": {"kind": "lines", "over": "layers", "series": SERIES, "reported": [LAST]},
    "epochs": {"kind": "lines", "over": "epochs", "series": SERIES},
    "cases": {"kind": "cases", "setting": "zero_shot", "series": SERIES},
    "list": {"kind": "entities", "run": "ten"},
}
FACTS = {
    "triples": ["Dataset: WN18RR", "model: llama{-}2".replace("{-}", "-"), "n = 3", "Scale: tiny."],
    "entities": ["Dataset: WN18RR", "model: llama-2-7b", "n = 3"],
    "bars": ["Dataset: WN18RR", "Questions, zero-shot: n = 40 questions", "Prose: prose, n = 1,234 tokens"],
    "layers": ["corpus: prose", "n = 7 sentences"],
    "epochs": ["model: llama-2-7b", "n = 7 sentences"],
    "cases": ["base: llama-2-7b on WN18RR", "n = 4 questions"],
    "list": ["Dataset: WN18RR", "n = 3 entities"],
}


def draw(name: str, results, folder: str = "figures", **changes):
    out = results.root / folder / name
    spec = {"name": name, "scale": "tiny", "caption": "What 50 % see."} | SPECS[name] | changes
    figure(spec, results.paths(figure_inputs(spec)), out)
    return out


@pytest.fixture
def both(results):
    results.run("ten", mrr=0.5)
    results.run("twenty", mrr=0.6)
    return results


@pytest.mark.parametrize("name", SPECS)
def test_drawn_with_its_caption(both, name):
    out = draw(name, both)
    with Image.open(out.with_suffix(".png")) as image:
        assert image.width > 500
        assert image.convert("L").getextrema()[0] < 128 < image.convert("L").getextrema()[1]
    assert out.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    caption = out.with_suffix(".tex").read_text("utf-8")
    assert r"\includegraphics[width=" in caption
    assert f"{{figures/{name}.pdf}}" in caption
    for fact in [r"What 50 \% see.", *FACTS[name]]:
        assert fact in caption


@pytest.mark.parametrize("name", SPECS)
def test_the_same_bytes_twice(both, name):
    first, second = draw(name, both), draw(name, both, "again")
    for ending in (".pdf", ".png"):
        assert first.with_suffix(ending).read_bytes() == second.with_suffix(ending).read_bytes()
    assert b"CreationDate" not in first.with_suffix(".pdf").read_bytes()


def test_another_value_is_another_picture(both):
    first = draw("layers", both).with_suffix(".pdf").read_bytes()
    both.run("twenty", mrr=0.7)
    assert draw("layers", both).with_suffix(".pdf").read_bytes() != first


@pytest.mark.parametrize("name", SPECS)
def test_what_was_not_run_is_left_out(results, name):
    results.run("ten")
    caption = draw(name, results).with_suffix(".tex").read_text("utf-8")
    if name in ("bars", "layers", "epochs", "cases"):
        assert r"Not run: KaLM \$x\_." in caption


@pytest.mark.parametrize("name", SPECS)
def test_nothing_was_run_at_all(results, name):
    assert draw(name, results).with_suffix(".pdf").exists()


def test_a_reported_row_that_does_not_exist(both):
    with pytest.raises(InputError, match="reports nothing on KaLM / Figure 8 / Wikitext-103 test / GPT-2"):
        draw("layers", both, reported=[LAST | {"method": "GPT-2"}])
    assert not (both.root / "figures").exists()


def test_an_unknown_kind(results):
    with pytest.raises(InputError, match="unknown kind of figure 'pie'"):
        figure({"name": "x", "kind": "pie", "caption": ""}, [], results.root / "figures" / "x")

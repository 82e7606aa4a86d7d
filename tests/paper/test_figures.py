"""Figures: written, not empty, the same bytes twice, and captions that tell dataset, model, scale and n."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from kglm.errors import InputError
from kglm.files import read_json
from kglm.paper.charts import bars, lines
from kglm.paper.figures import figure
from kglm.paper.inputs import figure_inputs

SERIES = [{"label": "base", "run": "ten"}, {"label": "KaLM $x_", "run": "twenty"}]
KGQA = {"paper": "KaLM (COLING 2025)", "table": "KGQA", "dataset": "WN18RR", "method": "Llama-2-7B"}
LAST = {
    "label": "reported",
    "series": "KaLM",
    "at": -1,
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
    "epochs": {"kind": "lines", "over": "epochs", "series": SERIES, "reported": [LAST | {"at": 0}]},
    "degrees": {
        "kind": "degrees",
        "dataset": "WN18RR",
        "label": "KaLM $x_",
        "run": "ten",
        "metrics": ["MRR"],
    },
    "groups": {"kind": "groups", "metrics": ["MRR"], "series": SERIES},
    "curves": {"kind": "curves", "metric": "Hits@10", "legend": "negatives", "series": SERIES},
    "clusters": {"kind": "clusters", "panels": SERIES, "attention": {"label": "attention", "run": "ten"}},
    "cases": {"kind": "cases", "setting": "zero_shot", "series": SERIES},
    "list": {"kind": "entities", "run": "ten"},
}
FACTS = {
    "triples": ["Dataset: WN18RR", "model: llama{-}2".replace("{-}", "-"), "n = 3", "Scale: tiny."],
    "entities": ["Dataset: WN18RR", "model: llama-2-7b", "n = 3"],
    "bars": [
        "Dataset: WN18RR",
        "Questions, zero-shot: n = 40 questions",
        "Prose: prose, n = 1,234 tokens, context of 512.",
    ],
    "layers": ["corpus: prose", "n = 7 sentences"],
    "epochs": ["model: llama-2-7b", "n = 7 sentences"],
    "degrees": [
        "n = 5 test triples",
        r"Of the 20 entities of WN18RR, 25.0\% have degree 1 and 90.0\% at most 3 in train; "
        r"20.0\% have degree 1 and 85.0\% at most 3 in train, valid and test together; "
        r"the paper has 14.1\% and 60.7\%.",
    ],
    "groups": ["Dataset: WN18RR", "n = 5 test triples", "counted in train"],
    "curves": ["Dataset: WN18RR; model: llama-2-7b; n = 200 validation triples."],
    "clusters": ["n = 4 entities", "Groups: communities", "layer 1", "(cat, eats)"],
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
    groups = {"0": 3, "1": 5, "2-3": 10, "4-7": 0, "8-15": 0, "16-31": 2}
    counts = {"degree_groups": groups, "degree_groups_of_all_splits": groups | {"0": 2, "1": 4, "2-3": 11, "4-7": 1}}
    results.write("data/WN18RR/statistics.json", counts)
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


def test_reported_numbers_stand_at_their_layer_or_epoch(both):
    """The last of three layers (0, 1, 2) and the one before; the first epoch and the last."""
    for name, places in (("layers", {-1: 2, -2: 1, 0: 0}), ("epochs", {0: 0, -1: 1})):
        reported = [LAST | {"at": at} for at in places]
        spec = {"name": name, "caption": ""} | SPECS[name] | {"reported": reported}
        figure_of = Figure()
        lines(spec, both.paths(figure_inputs(spec)), figure_of)
        (axis,) = figure_of.axes
        drawn = [tuple(points.get_offsets()[0]) for points in axis.collections]
        assert drawn == [(place, 0.83) for place in places.values()]
        assert axis.get_legend_handles_labels()[1].count("reported") == 1


def test_floors_claims_and_shots_are_told(both):
    """Results that hold no floors are drawn as before; one that does has a dash a task."""
    spec = {"name": "bars", "caption": ""} | SPECS["bars"]
    plain = Figure()
    facts = " ".join(bars(spec, both.paths(figure_inputs(spec)), plain))
    assert "drawn uniformly" in facts and "Dashes" not in facts and "worked examples" not in facts
    for run in ("ten", "twenty"):
        result = read_json(both.root / f"runs/{run}/kgqa.json")
        floors = {task: {"accuracy": 0.1 * place} for place, task in enumerate(result["tasks"], start=1)}
        both.write(f"runs/{run}/kgqa.json", result | {"floors": floors})
        both.write(f"runs/{run}/mmlu.json", read_json(both.root / f"runs/{run}/mmlu.json") | {"options": {"shots": 5}})
    marked = Figure()
    facts = " ".join(bars(spec, both.paths(figure_inputs(spec)), marked))
    assert "Dashes" in facts and "5 worked examples before each: n = 40 questions" in facts
    plain, marked = (sum(bool(c.get_linestyles()[0][1]) for c in f.axes[0].collections) for f in (plain, marked))
    assert marked - plain == 4


def test_another_value_is_another_picture(both):
    first = draw("layers", both).with_suffix(".pdf").read_bytes()
    both.run("twenty", mrr=0.7)
    assert draw("layers", both).with_suffix(".pdf").read_bytes() != first


@pytest.mark.parametrize("name", SPECS)
def test_what_was_not_run_is_left_out(results, name):
    results.run("ten")
    caption = draw(name, results).with_suffix(".tex").read_text("utf-8")
    if name in ("bars", "layers", "epochs", "groups", "curves", "clusters", "cases"):
        assert r"Not run: KaLM \$x\_." in caption


@pytest.mark.parametrize("name", SPECS)
def test_nothing_was_run_at_all(results, name):
    assert draw(name, results).with_suffix(".pdf").exists()


@pytest.mark.parametrize(
    ("name", "changes", "file", "complaint"),
    [
        ("groups", {"metrics": ["Hits@7"]}, None, "the run ten has no Hits@7"),
        ("groups", {}, "metrics", "metrics.json has no groups either_degree/"),
        ("curves", {"metric": "Hits@7"}, None, "validation measures no Hits@7"),
    ],
)
def test_results_that_do_not_hold_what_is_drawn(both, name, changes, file, complaint):
    if file:
        path = both.root / f"runs/ten/{file}.json"
        path.write_text(path.read_text("utf-8").replace("either_degree", "degree"), "utf-8")
    with pytest.raises(InputError, match=complaint):
        draw(name, both, **changes)
    assert not (both.root / "figures").exists()


def test_degrees_are_ordered_by_number(both):
    """Not by their names: 16-31 comes after 2-3."""
    axes = drawn_axes("degrees", both)
    for axis in axes:
        assert [text.get_text() for text in axis.get_xticklabels()] == ["0", "1", "2", "4", "8", "16"]
    heights = [[bar.get_height() for bar in axis.patches] for axis in axes[:2]]
    assert heights == [[3, 5, 10, 0, 0, 2], [2, 2, 2, 0, 0, 2]]


def test_hidden_pairs_are_left_blank_and_groups_keep_their_colour(both):
    first, second, heat_map = drawn_axes("clusters", both)[:3]
    weights = heat_map.images[0].get_array()
    assert weights.mask.tolist() == [[column > row for column in range(4)] for row in range(4)]
    assert [text.get_text() for text in heat_map.get_yticklabels()] == ["<e1>", "cat", "<r0>", "<mask>"]
    colours = [axis.collections[0].get_facecolors().tolist() for axis in (first, second)]
    assert colours[0] == colours[1]
    assert len({tuple(colour) for colour in colours[0]}) == 3
    assert "silhouette 0.12, after t-SNE -0.50" in first.get_title()


def drawn_axes(name: str, results) -> list:
    """The axes of a figure before it is saved."""
    from kglm.paper.figures import _KINDS

    canvas = Figure()
    spec = {"name": name} | SPECS[name]
    _KINDS[spec["kind"]](spec, results.paths(figure_inputs(spec)), canvas)
    return canvas.axes


def test_a_reported_row_that_does_not_exist(both):
    with pytest.raises(InputError, match="reports nothing on KaLM / Figure 8 / Wikitext-103 test / GPT-2"):
        draw("layers", both, reported=[LAST | {"method": "GPT-2"}])
    assert not (both.root / "figures").exists()


def test_an_unknown_kind(results):
    with pytest.raises(InputError, match="unknown kind of figure 'pie'"):
        figure({"name": "x", "kind": "pie", "caption": ""}, [], results.root / "figures" / "x")

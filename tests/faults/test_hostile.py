"""Names and texts that want to be obeyed go through the whole pipeline and are printed."""

import shutil
import subprocess
import unicodedata

import pandas as pd
import pytest

from kglm.artefacts import ENTITIES, read_parquet
from kglm.cli import main

from .pipeline import STEPS, command, write_sources

pytestmark = pytest.mark.slow
HOSTILE = [
    "ant",
    "bee",
    r"\input{/etc/passwd}",
    "<script>alert(1)</script>",
    "50 % of $x_{1}^2$ & #1 ~ | \\\\[2pt]",
    "\u202egnitirw sdrawkcab\u202c",
    "bell\x07 escape\x1b[31m nul\x00 delete\x7f",
    "../../outside",
    "=1+1",
    "{{jinja}} %(format)s {0}",
    "'; DROP TABLE entities; --",
    "中文 😀 e\u0301",
]
NEEDED = (
    "fetch",
    "graph",
    "instructions",
    "fetch_corpus",
    "corpus",
    "llama",
    "train_kalm",
    "embed",
    "rank",
    "evaluate",
)
MEGABYTES = 10


@pytest.fixture(scope="module")
def hostile(ring_graph, tmp_path_factory):
    """The pipeline with such names, up to the tables that quote them."""
    folder = tmp_path_factory.mktemp("hostile") / "made"
    entities = pd.DataFrame({"id": HOSTILE, "name": HOSTILE, "description": [f"the {name}" for name in HOSTILE]})
    graph = type(ring_graph)(entities.assign(in_train=True), ring_graph.relations, ring_graph.triples)
    write_sources(graph, folder)
    for step in (*NEEDED, "similarity", "kgqa", "audit"):
        assert main(command(step, folder)) == 0, step
    return folder


def test_the_graph_holds_them_as_they_were_written(hostile):
    entities = read_parquet(hostile / "data/entities.parquet", ENTITIES)
    assert set(entities["id"]) == set(HOSTILE)
    assert not list(hostile.parent.glob("outside*"))


@pytest.fixture(scope="module")
def tables(hostile):
    caption = " ".join(HOSTILE)
    quoted = {
        "cases": ("kgqa", {"setting": "zero_shot", "series": [{"label": HOSTILE[4], "run": "kalm"}]}),
        "entities": ("similarity", {"run": "kalm"}),
    }
    for kind, (source, entry) in quoted.items():
        STEPS[f"hostile_{kind}"] = (
            "table",
            {"name": kind, "kind": kind, "scale": HOSTILE[3], "caption": caption, **entry},
            {"--inputs": f"runs/kalm/{source}.json", "--out": f"tables/{kind}"},
            (),
        )
        assert main(command(f"hostile_{kind}", hostile)) == 0
        del STEPS[f"hostile_{kind}"]
    return hostile / "tables"


@pytest.mark.parametrize("kind", ["cases", "entities"])
def test_tables_show_them_escaped(tables, kind):
    markdown, tex = ((tables / f"{kind}.{end}").read_text("utf-8") for end in ("md", "tex"))
    assert "<script" not in markdown
    assert r"\<script" not in markdown
    assert tex.isascii()
    assert r"\input{" not in tex
    for text in (markdown, tex):
        assert not [one for one in text if unicodedata.category(one) == "Cc" and one != "\n"]
        assert "\u202e" not in text


@pytest.mark.latex
@pytest.mark.skipif(shutil.which("latexmk") is None, reason="no LaTeX is installed")
def test_latex_typesets_them(hostile, tables):
    spec = {"name": "paper", "scale": HOSTILE[4], "build": ["cases", "entities"]}
    written = [str(tables / f"{kind}.tex") for kind in spec["build"]]
    options = {"--tables": written, "--figures": [], "--audit": [str(hostile / "audit.tex")]}
    STEPS["hostile_paper"] = ("paper", spec, {}, ())
    arguments = command("hostile_paper", hostile)
    del STEPS["hostile_paper"]
    for option, paths in options.items():
        arguments += [option, *paths]
    assert main([*arguments, "--out", str(hostile / "paper.tex")]) == 0
    latexmk = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(latexmk, cwd=hostile, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("file", ["own_texts.tsv", "own_train.tsv", "own_prose.txt"])
def test_megabytes_on_one_line(ring_graph, tmp_path, file):
    """A text, an id and a passage of ten million letters are read as they are."""
    folder = tmp_path / "made"
    write_sources(ring_graph, folder)
    path, long = folder / file, "w" * 10**6 * MEGABYTES
    line = {"own_texts.tsv": f"ant\t{long}\n", "own_train.tsv": f"{long}\tnext\tant\n", "own_prose.txt": f"{long}\n"}[
        file
    ]
    path.write_text(line + path.read_text("utf-8"), "utf-8")
    for step in ("fetch", "graph", "augment", "fetch_corpus", "corpus"):
        assert main(command(step, folder)) == 0, step
    if file != "own_prose.txt":
        entities = read_parquet(folder / "data/entities.parquet", ENTITIES)
        column = "description" if file == "own_texts.tsv" else "id"
        assert entities[column].str.len().max() == len(long)

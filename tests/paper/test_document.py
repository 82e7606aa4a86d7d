"""paper.tex and summary.txt, and what a real LaTeX makes of the former."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kglm.errors import InputError
from kglm.paper.audit import audit
from kglm.paper.document import DEVIATIONS, paper
from kglm.paper.figures import figure
from kglm.paper.inputs import figure_inputs, table_inputs
from kglm.paper.reported import reported
from kglm.paper.summary import summary
from kglm.paper.tables import table

from .conftest import Results
from .test_counts_and_quotations import COST
from .test_figures import SPECS
from .test_tables import CLASSIFICATION, EPOCHS, LEAKED, PERCENT
from .test_text import NASTY


def reported_methods(paper: str, table: str) -> list[str]:
    frame = reported()
    return list(dict.fromkeys(frame.loc[(frame["paper"] == paper) & (frame["table"] == table), "method"]))


CASES = {"name": "cases", "kind": "cases", "caption": NASTY, "setting": "zero_shot", "scale": NASTY}
# Longer than a page, with long names, and with every reported number of the paper's longest table.
LONG = PERCENT | {
    "name": "long",
    "caption": NASTY,
    "metrics": ["MR", "MRR", "Hits@1", "Hits@3", "Hits@10"],
    "rows": [
        *({"label": method, "section": "as reported"} for method in reported_methods("KG-BiLM", "Table 7")),
        {"label": "a name that is far too long for one line of a column", "withdrawn": "leaked"},
    ],
    "blocks": [
        {"dataset": "WN18RR", "runs": {"a name that is far too long for one line of a column": "ten"}},
        {"dataset": "FB15k-237"},
    ],
}
CASES["series"] = [{"label": NASTY, "run": "ten"}, {"label": "b", "run": "twenty"}]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Tables and figures of two runs; the figure `cases` is also a table."""
    results = Results(tmp_path_factory.mktemp("results") / "tiny")
    results.run("ten")
    results.run("own", model="small", dataset="umls")
    first = EPOCHS | {"name": "kalm_table_1"}
    entities = {"name": "who", "kind": "entities", "caption": "Who.", "run": "ten"}
    for spec in (first, CASES, entities):
        table(spec, results.paths(table_inputs(spec)), results.root / "tables" / spec["name"])
    results.run("texts", dataset="umls_long")
    blocks = [{"dataset": "FB13"}, {"dataset": "umls_long", "title": "UMLS", "runs": {"LMKE": "texts"}}]
    for spec in (CLASSIFICATION | {"blocks": blocks}, COST, LEAKED, LONG):
        spec = spec | {"name": f"lmke_{spec['name']}"}
        table(spec, results.paths(table_inputs(spec)), results.root / "tables" / spec["name"])
    for name in ("triples", "cases", "bars", "layers", "degrees", "groups", "curves", "clusters"):
        spec = {"name": name, "scale": "tiny", "caption": NASTY} | SPECS[name]
        figure(spec, results.paths(figure_inputs(spec)), results.root / "figures" / name)
    return results.root


@pytest.fixture
def made(drawn, tmp_path):
    """A copy of them: the folder, the floats of the tables and those of the figures."""
    root = Path(shutil.copytree(drawn, tmp_path / "results" / "tiny"))
    tables = [root / "tables" / f"{name}.tex" for name in ("kalm_table_1", "cases", "who")]
    figures = [root / "figures" / f"{name}.tex" for name in ("triples", "cases", "bars", "layers")]
    return root, tables, figures


def test_everything_is_included_once(made):
    root, tables, figures = made
    paper({"name": "paper", "scale": "tiny_1"}, tables, figures, root / "paper.tex")
    text = (root / "paper.tex").read_text("utf-8")
    included = [line[len(r"\input{") : -1] for line in text.split("\n") if line.startswith(r"\input")]
    floats = [
        "tables/kalm_table_1",
        "tables/who",
        "figures/triples",
        "tables/cases",
        "figures/bars",
        "figures/layers",
    ]
    assert included == [f"{name}.tex" for name in floats]
    assert r"tiny\_1" in text
    assert r"Table~\ref{tab:kalm_table_1}. WN18RR: not KaLM (epoch=20), KaLM (epoch=30)." in text
    assert text.count(r"\item \textbf{KaLM, ") >= 10
    assert not re.search(r"@[a-z]+@", text.replace("Hits@", ""))  # a placeholder
    assert text.index(r"\section{Deviations from the papers}") < text.index(r"\section{Audit of the reported numbers}")
    paper({"name": "paper"}, tables, figures, root / "paper.tex", audit=root / "audit.tex")
    assert r"\input{audit.tex}" in (root / "paper.tex").read_text("utf-8")


def test_floats_stand_by_paper(made):
    root, tables, figures = made
    names = ["own", "kg_bilm_table_2", "kalm_variants", "lmke_table_1", "c_lmke_degrees", "kg_bilm_table_1"]
    chosen = [tables[0].with_name(f"{name}.tex") for name in names]
    for path in chosen:
        path.with_suffix(".csv").write_text("row,dataset,reproduced,run\nr,any,,\ns,any,1,x\n", "utf-8")
    paper({"name": "paper"}, chosen, figures, root / "paper.tex")
    text = (root / "paper.tex").read_text("utf-8").split(r"\section{Figures}")[0]
    places = [text.index(f"tables/{name}.tex") for name in (*names[1::4], names[2], names[3], names[4], names[0])]
    sections = [text.index(rf"\subsection{{{name}}}") for name in ("KG-BiLM", "KaLM", "LMKE", "Further comparisons")]
    assert sections == sorted(sections)
    assert sorted(places + sections) == [
        sections[0], *places[:2], sections[1], places[2], sections[2], *places[3:5], sections[3], places[5]
    ]  # fmt: skip
    missing = (root / "paper.tex").read_text("utf-8")
    assert r"Table~\ref{tab:lmke_table_1}. not r." in missing


def test_deviations_from_a_file(made, tmp_path):
    root, tables, figures = made
    path = tmp_path / "deviations.csv"
    path.write_text(",".join(DEVIATIONS) + "\nLMKE,degree & more,a,b,c_d\n", "utf-8")
    paper({"name": "paper"}, tables, figures, root / "paper.tex", deviations=path)
    text = (root / "paper.tex").read_text("utf-8")
    assert r"\item \textbf{LMKE, degree \& more.} Described: a. Here: b. Reason: c\_d." in text
    assert "KaLM, evaluation" not in text
    path.write_text("what\nx\n", "utf-8")
    with pytest.raises(InputError, match="has the columns"):
        paper({"name": "paper"}, tables, figures, root / "other.tex", deviations=path)
    assert not (root / "other.tex").exists()


def test_a_table_without_its_csv(made):
    root, tables, figures = made
    tables[0].with_suffix(".csv").unlink()
    with pytest.raises(InputError, match="no such file"):
        paper({"name": "paper"}, tables, figures, root / "paper.tex")


@pytest.mark.latex
@pytest.mark.skipif(shutil.which("latexmk") is None, reason="no LaTeX is installed")
def test_it_compiles(made):
    root, tables, figures = made
    tables += sorted((root / "tables").glob("lmke_*.tex"))
    figures += [root / "figures" / f"{name}.tex" for name in ("degrees", "groups", "curves", "clusters")]
    audit(out=root / "audit")
    spec = {"name": "paper", "scale": NASTY, "title": NASTY}
    paper(spec, tables, figures, root / "paper.tex", audit=root / "audit.tex")
    command = [
        "latexmk",
        "-cd",
        "-pdf",
        "-interaction=nonstopmode",
        "-halt-on-error",
        str(root / "paper.tex"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    log = (root / "paper.log").read_text("utf-8", "replace")
    assert "Missing character" not in log
    assert "undefined" not in log
    assert "Overfull" not in log
    assert (root / "paper.pdf").stat().st_size > 20_000


def test_summary_prints_the_first_table_and_the_places(made, capsys):
    root, tables, figures = made
    inputs = [path.with_suffix(".md") for path in tables] + [path.with_suffix(".png") for path in figures]
    summary([*inputs, root / "paper.tex"], root / "summary.txt")
    text = (root / "summary.txt").read_text("utf-8")
    assert capsys.readouterr().out == text
    lines = [" ".join(line.split()) for line in text.split("\n")]
    assert "WN18RR KaLM (epoch=10) reported 20.1 0.517" in lines
    assert "WN18RR KaLM (epoch=10) reproduced 20.5 0.500 5.12" in lines
    assert "WN18RR KaLM (epoch=10) difference +0.40 −0.017" in lines
    assert "umls mine_1 reproduced 20.5 0.500 5.12" in lines
    for path in [*inputs, root / "paper.tex"]:
        assert str(path.with_suffix("")) in text
    assert max(map(len, text.split("tables ")[0].split("\n"))) < 100


def test_summary_shows_of_another_paper_what_was_run(made, capsys):
    root, tables, _ = made
    for ending in (".csv", ".tex"):
        (root / "tables" / "lmke_classes").with_suffix(ending).rename(root / f"tables/lmke_table_4{ending}")
    summary([tables[0], root / "tables/lmke_table_4.md"], root / "summary.txt")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.split("\n")]
    first, second = (
        lines.index("WN18RR KaLM (epoch=10) reported 20.1 0.517"),
        lines.index("umls_long LMKE reproduced 50.0"),
    )
    assert first < lines.index("LMKE, Table 4: triple classification, what was run") < second
    assert not any("exBERT" in line for line in lines)


def test_summary_without_that_table(made):
    root, tables, _ = made
    summary([tables[2]], root / "summary.txt")
    assert "Table 1" not in (root / "summary.txt").read_text("utf-8")

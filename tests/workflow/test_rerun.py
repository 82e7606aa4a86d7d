"""What a dry run would make again after a change: of a finished workflow, exactly what the change touches."""

import os
import re
import shutil

import pytest

from .conftest import Workflow

OVERLAYS = ("workflow/scales/demo.yaml", "examples/own_graph/config.yaml", "overlay.yaml")
LAMBDAS = {"kalm_umls_epochs-2", "kalm_umls_lambda-0", "kalm_umls_lambda-0.01", "kalm_umls_lambda-1"}
KALM = {"kalm_umls", "kalm_geography"} | LAMBDAS
ENDS = {"paper.tex", "paper.pdf", "summary.txt", "report.html"}

FLOORS = ("popularity_geography", "popularity_geography_anything")
FLOORS_OF_UMLS = ("popularity_umls", "popularity_umls_anything")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, root):
    """A workflow whose every output is there; built once."""
    folder = tmp_path_factory.mktemp("finished")
    finished = Workflow(folder, *OVERLAYS)
    shutil.copy(root / "tests/workflow/overlay.yaml", folder)
    finished.pretend_finished()
    assert finished.planned() == set()
    return finished


@pytest.fixture
def copy(finished, tmp_path):
    """The finished workflow, in a folder of its own."""
    return finished.copied_to(tmp_path / "copy")


def runs(planned: set[str], file: str) -> set[str]:
    """The runs of which a file is made again."""
    return {m[1] for path in planned if (m := re.fullmatch(rf"runs/([^/]+)/{re.escape(file)}", path))}


def tables(planned: set[str]) -> set[str]:
    return {path.removeprefix("tables/").removesuffix(".csv") for path in planned if path.endswith(".csv")}


def figures(planned: set[str]) -> set[str]:
    return {path.removeprefix("figures/").removesuffix(".png") for path in planned if path.endswith(".png")}


def test_a_comment_a_docstring_and_the_date_of_a_file_redo_nothing(copy):
    for path in (copy.folder / "src/kglm").rglob("*.py"):
        path.write_text("# A comment.\n" + path.read_text("utf-8") + "\n# Another.\n", "utf-8")
    kalm = copy.folder / "src/kglm/methods/kalm.py"
    text = kalm.read_text("utf-8")
    kalm.write_text(re.sub(r'"""KaLM: ', '"""Told otherwise. KaLM: ', text, count=1), "utf-8")
    assert kalm.read_text("utf-8") != text
    for name in ("triples.tsv", "descriptions.tsv"):
        os.utime(copy.folder / "examples/own_graph" / name)
    assert copy.planned() == set()


def test_a_loss_retrains_the_runs_that_use_it(copy):
    copy.insert_statement("methods/kalm.py", "Method", "forward")
    planned = copy.planned()
    for file in ("weights", "run.json", "ranks.parquet", "metrics.json"):
        assert runs(planned, file) == KALM
    assert tables(planned) == {"kalm_table_1", "kalm_table_4", "own_table"}
    assert figures(planned) == {"kalm_figure_1", "kalm_figure_9", "own_anisotropy"}
    assert not [path for path in planned if path.startswith(("data/", "corpora/", "models/", "specs/"))]


def test_a_training_forced_anew_redoes_what_stands_on_it_and_nothing_else(copy):
    """Snakemake issue 3095: consumers of a forced job were left out where its output had the former sum."""
    forced = copy.snakemake("--dry-run", "--forcerun", "results/test/runs/kalm_umls/weights")
    text = forced.stdout
    assert forced.returncode == 0, forced.stderr
    assert {"embed_run", "rank_queries", "evaluate_ranks"} <= set(re.findall(r"^rule (\w+):", text, re.MULTILINE))
    assert set(re.findall(r"wildcards: run=(\S+)", text)) == {"kalm_umls"}


def test_what_encodes_after_training_trains_nothing(copy):
    copy.insert_statement("training/stages.py", "embed")
    planned = copy.planned()
    assert runs(planned, "weights") == set()
    assert runs(planned, "embeddings/entities.safetensors") == {*KALM, "base_umls", "base_geography"}


def test_a_figures_code_redraws_that_figure(copy):
    copy.insert_statement("paper/charts.py", "similarity")
    planned = copy.planned()
    assert figures(planned) == {"kalm_figure_1"}
    assert {path for path in planned if "/" not in path} <= ENDS
    assert {path for path in planned if "/" in path} == {f"figures/kalm_figure_1.{e}" for e in ("png", "pdf", "tex")}


def test_a_metric_ranks_nothing(copy):
    copy.insert_statement("ranking/stages.py", "evaluate")
    planned = copy.planned()
    assert runs(planned, "metrics.json") == {*KALM, "base_umls", "base_geography", *FLOORS, *FLOORS_OF_UMLS}
    assert runs(planned, "ranks.parquet") == set()
    assert figures(planned) == set()


def test_a_reported_number_rewrites_tables_and_trains_nothing(copy):
    reported = copy.folder / "src/kglm/paper/reported.csv"
    reported.write_text(reported.read_text("utf-8").replace(",0.554,", ",0.555,", 1), "utf-8")
    planned = copy.planned()
    assert {"kalm_table_1", "kalm_table_4"} <= tables(planned)
    assert {"audit.csv", "audit.md", "audit.tex"} <= planned
    assert not [path for path in planned if path.startswith(("runs/", "data/", "models/"))]


def test_one_runs_learning_rate_redoes_that_run_and_the_tables_that_show_it(copy):
    with open(copy.folder / "overlay.yaml", "a", encoding="utf-8") as overlay:
        overlay.write("runs: {kalm_umls_lambda-1: {training: {learning_rate: 3.0e-3}}}\n")
    planned = copy.planned()
    assert {path.split("/")[1] for path in planned if path.startswith("runs/")} == {"kalm_umls_lambda-1"}
    assert runs(planned, "weights") == {"kalm_umls_lambda-1"}
    assert tables(planned) == {"kalm_table_4"}
    assert figures(planned) == set()
    assert {path for path in planned if path.startswith("specs/")} == {
        f"specs/{kind}/kalm_umls_lambda-1.json" for kind in ("run", "evaluation")
    }


def test_a_graphs_text_redoes_all_of_that_graph_and_nothing_of_another(copy):
    copy.replace("examples/own_graph/descriptions.tsv", "france\ta country", "france\ta large country")
    planned = copy.planned()
    assert {"data/geography/raw", "data/geography/entities.parquet", "models/geography-scratch"} <= planned
    assert runs(planned, "metrics.json") == {"base_geography", "kalm_geography", *FLOORS}
    assert tables(planned) == {"own_table", "own_statistics"}
    assert figures(planned) == {"own_anisotropy"}
    assert not [path for path in planned if "umls" in path or path.startswith(("corpora/", "specs/"))]


def test_a_text_in_the_configuration_fetches_nothing(copy):
    copy.replace("examples/own_graph/config.yaml", "has capital", "has the capital")
    planned = copy.planned()
    assert "data/geography/entities.parquet" in planned and "data/geography/raw" not in planned
    assert runs(planned, "weights") == {"base_geography", "kalm_geography", *FLOORS}
    assert not [path for path in planned if "umls" in path]


def test_resources_and_captions_of_others_redo_nothing(copy):
    with open(copy.folder / "overlay.yaml", "a", encoding="utf-8") as overlay:
        overlay.write("  kalm_table_6: {caption: Another.}\n")  # of `tables`, which ends the file
        overlay.write("resources: {train: {threads: 2, mem_mb: 3000}}\n")
        overlay.write("runs: {kalm_umls_att: {seed: 5}}\n")
    assert copy.planned() == set()

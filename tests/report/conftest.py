"""A folder of results whose names do their worst, and the page that is made of it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from safetensors.numpy import save_file

from kglm.artefacts import RANKS, read_parquet
from kglm.kg.graph import Graph
from kglm.ranking.stages import evaluate, rank
from kglm.report.page import report

SCRIPT = "</script><script>window.evil = 1</script>"
NAMES = [
    "ant",
    SCRIPT,
    '<img src=x onerror="window.evil = 2">',
    "\u202eegde",
    'a & b\'s "c"',
    "{{ 1 }} ${2}",
    "wasp",
    "x" * 200,
]
RELATIONS = ["<b>eats</b>", "near"]
DATASET, RUNS = "toy", ("good_toy", "bad_toy_variant")
SPECIFIC = {"method": "kalm", "dataset": DATASET, "model": "tiny", "seed": 3}
COLUMNS = "table,row,dataset,metric,reported,reproduced,difference,low,high,seeds,run,unit"


def toy_graph() -> Graph:
    """Eight entities, two relations; (0, 0, 4) and (0, 0, 5) are known beside the test triple (0, 0, 1)."""
    names = [f"e{i}" for i in range(len(NAMES))]
    entities = pd.DataFrame({"id": names, "name": NAMES, "description": "", "in_train": True})
    relations = pd.DataFrame({"id": ["r", "s"], "text": RELATIONS, "inverse": ["eaten by", "near"]})
    rows = [("train", 0, 0, 4), ("train", 2, 0, 3), ("train", 6, 1, 7), ("valid", 0, 0, 5), ("valid", 1, 1, 2)]
    rows += [("test", 0, 0, 1), ("test", 2, 1, 6), ("test", 3, 0, 7)]
    triples = pd.DataFrame([(*row, 1) for row in rows], columns=["split", "head", "relation", "tail", "label"])
    return Graph(entities, relations, triples)


def embed(graph: Graph, folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random embeddings, written as the stage embed does: entities (E, d), queries by (head, relation)."""
    random = np.random.default_rng(seed)
    entities = random.integers(-4, 5, (graph.entity_count, 3)).astype(np.float32)
    table = random.integers(-4, 5, (graph.entity_count, 2 * graph.relation_count, 3)).astype(np.float32)
    heads, relations = np.indices(table.shape[:2]).reshape(2, -1)
    folder.mkdir(parents=True)
    save_file({"embeddings": entities}, folder / "entities.safetensors")
    tensors = {"heads": heads, "relations": relations, "embeddings": table.reshape(-1, 3)}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "queries.safetensors")
    return entities, table


class Results:
    """results/<scale>/ as the stages before leave it; `vectors` are the embeddings of each run."""

    def __init__(self, root: Path):
        self.root, self.graph = root, toy_graph()
        self.graph.write(root / "data" / DATASET)
        self.vectors = {name: self._run(name, seed) for seed, name in enumerate(RUNS)}
        self._table()
        self._figure()
        self.write("audit.csv", f"check,row,finding\norder,{SCRIPT},Hits@1 0.6 > Hits@3 0.5\n")

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
        return target

    def _run(self, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        spec = SPECIFIC | {"name": name, "parameters": {"margin": 0.02, "text": SCRIPT}, "training": {"epochs": 2}}
        self.write(f"specs/run/{name}.json", json.dumps(spec))
        folder, graph = self.root / "runs" / name, self.root / "data" / DATASET
        made = {"run": name, "best": {"step": 8, "epoch": 2.0, "MRR": 0.5}, "trained_parameters": 12345}
        made |= {"commit": "0123456789abcdef+", "packages": {"torch": "9.9"}, "hardware": "abacus", "processes": 1}
        made |= {
            "threads": 2,
            "wall_seconds": 7260.0,
            "tokens_per_second": 1234.4,
            "energy_joules": 7200,
            "peak_memory_mib": 635,
            "peak_gpu_memory_mib": None,
        }
        self.write(f"runs/{name}/run.json", json.dumps(made))
        log = [{"step": 4, "epoch": 1.0, "loss": 2.5}, {"step": 4, "epoch": 1.0, "valid": {"MR": 3.0, "MRR": 0.25}}]
        log += [{"step": 8, "epoch": 2.0, "loss": 1.5}, {"step": 8, "epoch": 2.0, "valid": {"MR": 2.0, "MRR": 0.5}}]
        self.write(f"runs/{name}/log.jsonl", "".join(f"{json.dumps(row)}\n" for row in log))
        vectors = embed(self.graph, folder / "embeddings", seed)
        how = {"protocol": "filtered", "answers": 3}
        rank(how, graph, folder / "embeddings", folder / "ranks.parquet", folder / "answers.parquet")
        evaluate(spec | {"evaluation": {"resamples": 5}}, graph, folder / "ranks.parquet", folder / "metrics.json")
        return vectors

    def _table(self) -> None:
        rows = [
            ("TransE", "2300", "", "", ""),
            ("RotatE", "97", "120.5", "", "good_toy"),
            (SCRIPT, "", "15.25", "", "gone"),
        ]
        lines = [
            f'kalm_table_1,"{row}",WN18RR,MR,{said},{made},{off},,,,{run},rank' for row, said, made, off, run in rows
        ]
        lines += ["kalm_table_1,TransE,toy,MR,,10.5,,9.25,12,0,good_toy,rank"]
        self.write("tables/kalm_table_1.csv", "\n".join([COLUMNS, *lines, ""]))
        self.write("tables/kalm_table_1.md", "**Ranks \\_of\\_ &lt;all&gt;**\n\n| a |\n| --- |\n* Not run: TransE.\n")
        self.write("tables/lmke_cases.csv", f"Question,Answer,Count\nwho?,{SCRIPT},10\nwhere?,here,9\n")
        self.write("tables/lmke_cases.md", "**Cases**\n")

    def _figure(self) -> None:
        path = self.root / "figures" / "kalm_figure_1.png"
        path.parent.mkdir(parents=True)
        Figure(figsize=(2, 1)).savefig(path, metadata={"Description": f"What is seen. {SCRIPT}"})

    def ranks(self, run: str) -> pd.DataFrame:
        return read_parquet(self.root / "runs" / run / "ranks.parquet", RANKS)

    def files(self) -> list[Path]:
        """What the stage is told of the runs."""
        names = ("run.json", "log.jsonl", "metrics.json", "ranks.parquet", "answers.parquet")
        files = [self.root / "runs" / run / name for run in RUNS for name in names]
        return [self.root / f"specs/run/{run}.json" for run in RUNS] + files

    def report(self, out: Path) -> Path:
        tables = [self.root / f"tables/{name}.csv" for name in ("kalm_table_1", "lmke_cases")]
        figures = [self.root / "figures/kalm_figure_1.png"]
        graphs = [self.root / "data" / DATASET]
        report({"scale": "tiny"}, tables, figures, self.files(), graphs, out, audit=self.root / "audit.csv")
        return out


@pytest.fixture(scope="package")
def results(tmp_path_factory) -> Results:
    """All results of a small scale."""
    return Results(tmp_path_factory.mktemp("results") / "tiny")


@pytest.fixture(scope="package")
def page(results, tmp_path_factory) -> Path:
    """The page made of them, alone in its folder."""
    return results.report(tmp_path_factory.mktemp("page") / "report.html")

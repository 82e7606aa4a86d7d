"""A folder of results with two runs of a small graph: one trained, one that ranks the first one's weights."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from kglm import config as configuration
from kglm.artefacts import SCORES, write_parquet
from kglm.published.publish import publish
from kglm.ranking.classification import classify
from kglm.ranking.stages import evaluate, rank

ROOT = Path(__file__).parents[2]
RUN, AGAIN = "transe_ring", "transe_ring_reranked"
OVERLAY = """
scale: toy
results: {results}
datasets: {{ring: {{files: {{triples.tsv: triples.tsv}}, splits: {{file: triples.tsv}}}}}}
runs:
  transe_ring: {{method: structural, dataset: ring, training: {{epochs: 1}}}}
  transe_ring_reranked:
    <<: {{method: structural, dataset: ring, training: {{epochs: 1}}}}
    weights: transe_ring
    reranking: {{hops: 2, bonus: 0.1}}
tables:
  kalm_table_1:
    blocks: [{{dataset: ring, title: Ring, runs: {{TransE: transe_ring, SimKGC: transe_ring_reranked}}}}]
  lmke_table_4: {{blocks: [{{dataset: ring, title: Ring, runs: {{TransE: transe_ring}}}}]}}
  kalm_table_2:
    rows: [{{dataset: ring, measured: true}}]
    metrics: [entities]
  kalm_table_3: {{blocks: [{{dataset: WN18RR}}]}}
figures:
  lmke_figure_5: {{metric: MRR, series: [{{label: one, run: transe_ring}}]}}
build: [kalm_table_1, kalm_table_2, kalm_table_3, lmke_table_4, lmke_figure_5]
"""


def head() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "0" * 40


class Made:
    """<folder>/toy as the workflow leaves it; `published` is empty at first."""

    def __init__(self, folder: Path, graph):
        self.root, self.published, self.graph = folder / "toy", folder / "published", graph
        self.data = self.root / "data"
        graph.write(self.data / "ring")
        self.write("data/ring/statistics.json", {"entities": graph.entity_count})
        overlay = folder / "overlay.yaml"
        overlay.write_text(OVERLAY.format(results=folder))
        self.configs = [ROOT / "config.yaml", overlay]
        config = configuration.read(*self.configs)
        self.write("config.json", config)
        for run in (RUN, AGAIN):
            for kind in ("run", "ranking", "evaluation"):
                self.write(f"specs/{kind}/{run}.json", configuration.spec(config, kind, run))
        self._train(RUN)
        for run in (RUN, AGAIN):
            self._rank(run)
        self._classify()

    def write(self, path: str, value: object) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(value if isinstance(value, str) else json.dumps(value))

    def read(self, path: str) -> dict:
        return json.loads((self.root / path).read_text())

    def _train(self, run: str) -> None:
        spec = self.read(f"specs/run/{run}.json")
        about = {key: spec[key] for key in ("method", "dataset", "model", "seed")}
        record = {"run": run, **about, "spec": spec, "commit": head(), "hardware": "abacus", "wall_seconds": 7.0}
        record["best"] = {"step": 2, "epoch": 1.0, "MRR": 0.7}
        self.write(f"runs/{run}/run.json", record)
        (self.root / f"runs/{run}/weights").mkdir()
        rows = [{"step": 2, "epoch": 1.0, "loss": 2.0}, {"step": 2, "epoch": 1.0, "valid": {"MR": 2.0, "MRR": 0.7}}]
        self.write(f"runs/{run}/log.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
        head_row = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
        self.write(f"benchmarks/train_run/{run}.tsv", f"{head_row}\n7.5\t0:00:07\t555.4\t1\t1\t1\t1\t1\t1\t1\n")

    def _rank(self, run: str) -> None:
        folder, random = self.root / "runs" / run, np.random.default_rng(0)
        heads, relations = np.indices((self.graph.entity_count, 2 * self.graph.relation_count)).reshape(2, -1)
        (folder / "embeddings").mkdir(parents=True)
        tensors = {"heads": heads, "relations": relations, "embeddings": random.normal(size=(len(heads), 4))}
        tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        tensors["embeddings"] = tensors["embeddings"].astype(np.float32)
        save_file(tensors, folder / "embeddings/queries.safetensors")
        entities = random.normal(size=(self.graph.entity_count, 4)).astype(np.float32)
        save_file({"embeddings": entities}, folder / "embeddings/entities.safetensors")
        spec = self.read(f"specs/ranking/{run}.json")
        spec.pop("run", None)
        rank(spec, self.data / "ring", folder / "embeddings", folder / "ranks.parquet", folder / "answers.parquet")
        evaluation = self.read(f"specs/evaluation/{run}.json")
        evaluate(evaluation, self.data / "ring", folder / "ranks.parquet", folder / "metrics.json")

    def _classify(self) -> None:
        frames = []
        for split in ("valid", "test"):
            triples, labels = self.graph.labelled(split)
            columns = dict(zip(("head", "relation", "tail"), triples.T, strict=True))
            frames.append(pd.DataFrame({"split": split, **columns, "label": labels, "score": labels * 0.5}))
        folder = self.root / "runs" / RUN
        write_parquet(pd.concat(frames, ignore_index=True), folder / "scores.parquet", SCORES)
        spec = self.read(f"specs/evaluation/{RUN}.json")
        classify(spec, folder / "scores.parquet", folder / "classification.json")

    def publish(self, *runs: str) -> None:
        publish([self.root / "runs" / run for run in runs or (RUN, AGAIN)], self.published)


@pytest.fixture
def made(tmp_path, ring_graph):
    return Made(tmp_path, ring_graph)

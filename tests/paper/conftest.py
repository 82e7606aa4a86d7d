"""Results of small runs, as the stages before leave them: made up here, read by tables and figures."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from kglm.paper.inputs import table_inputs
from kglm.paper.tables import table


class Results:
    """A folder results/<scale>/ that is filled by hand."""

    def __init__(self, root: Path):
        self.root = root

    def write(self, path: str, value: object) -> Path:
        """A JSON file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(value), "utf-8")
        return target

    def paths(self, relative: list[str]) -> list[Path]:
        """Of the files asked for, those that are there."""
        return [self.root / path for path in relative if (self.root / path).exists()]

    def run(
        self, name: str, mrr: float = 0.5, model: str = "llama-2-7b", dataset: str = "WN18RR", seed: int = 0
    ) -> dict:
        """All results of one run."""
        about = {"run": name, "method": "kalm", "dataset": dataset, "model": model, "seed": seed}
        both = {"MR": 20.5, "MRR": mrr, "Hits@1": mrr / 2, "Hits@3": mrr, "Hits@10": 0.9, "queries": 10}
        both["confidence"] = {"MR": [19.0, 22.25], "MRR": [mrr - 0.02, mrr + 0.03]}
        groups = {f"either_degree/{degree}": both | {"queries": 4} for degree in ("0", "1", "2-3", "16-31")}
        self.write(
            f"runs/{name}/metrics.json",
            about | {"evaluation_version": 1, "metrics": {"test": {"both": both, **groups}}},
        )
        self._classification(name, about, mrr)
        self._cost(name, about)
        self._training(name, about, mrr)
        self._attention(name, about)
        perplexity = {"corpus": "prose", "token_perplexity": 5.125, "word_perplexity": 9.0, "tokens": 1234}
        perplexity["context"] = 512
        self.write(f"runs/{name}/perplexity.json", about | perplexity)
        share = {"accuracy": 0.25, "confidence": [0.2, 0.31], "questions": 40}
        self.write(f"runs/{name}/mmlu.json", about | share)
        tasks = {task: {"zero_shot": share} for task in ("head", "tail", "relation", "classification")}
        case = {"triple": ["a_b", "r", "c & d"], "setting": "zero_shot", "question": "Who? <x> | y" * 60}
        cases = [
            case | {"task": task, "answer": r"c \& d", "expected": "c & d", "correct": task != "tail"} for task in tasks
        ]
        self.write(f"runs/{name}/kgqa.json", about | {"tasks": tasks, "cases": cases})
        curve = {
            "sentences": 7,
            "layers": [0.9, 0.7, mrr],
            "epochs": [{"epoch": 0, "value": 0.8}, {"epoch": 1, "value": 0.3}],
        }
        self.write(f"runs/{name}/anisotropy.json", about | curve | {"corpus": "prose", "value": mrr})
        self._similarity(name, about)
        return about

    def _classification(self, name: str, about: dict, accuracy: float) -> None:
        test = {"accuracy": accuracy, "confidence": [accuracy - 0.02, accuracy + 0.03], "triples": 40}
        valid = {"accuracy": accuracy + 0.1, "triples": 20}
        one = {"valid": valid, "test": test, "threshold": 0.25}
        each = {"valid": valid, "test": test | {"accuracy": accuracy + 0.01}, "threshold": {"0": 0.5}}
        zero = {"valid": valid, "test": test | {"accuracy": accuracy - 0.03}, "threshold": 0.0}
        thresholds = {"global": one, "relation": each, "zero": zero}
        self.write(f"runs/{name}/classification.json", about | {"thresholds": thresholds})

    def _cost(self, name: str, about: dict) -> None:
        measured = {"encoded": [64, 1280], "seconds": [0.5, 1.25], "exponent": {"encoded": 1.5, "seconds": 0.875}}
        sizes = {"training": {"triples": [32, 64]}, "link_prediction": {"entities": [8, 16], "triples": [2, 4]}}
        sizes["negatives"] = {"negatives": [1, 2], "triples": 32}
        tasks = {task: grows | measured for task, grows in sizes.items()}
        self.write(f"runs/{name}/cost.json", about | tasks | {"device": "cpu"})

    def _training(self, name: str, about: dict, best: float) -> None:
        rows = [{"step": 3, "epoch": 0.5, "learning_rate": 0.1, "loss": 2.0}]
        rows += [{"step": 6 * e, "epoch": float(e), "valid": {"MR": 9.0, "Hits@10": best * e}} for e in (1, 2)]
        log = self.write(f"runs/{name}/log.jsonl", {})
        log.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
        self.write(f"specs/run/{name}.json", about | {"name": name, "training": {"validation_triples": 200}})

    def _attention(self, name: str, about: dict) -> None:
        groups = {"labels": [0, 0, 1, 2], "groups": ["beasts", "plants & $x_", "other"]}
        scores = {"entities": 4, "perplexity": 1.0, "silhouette": {"embeddings": 0.125, "tsne": -0.5}}
        self.write(f"runs/{name}/clusters.json", about | groups | scores | {"options": {"groups": "neighbourhood"}})
        points = np.array([[0, 0], [0, 1], [5, 5], [2, 9]], np.float32)
        save_file({"points": points}, self.root / f"runs/{name}/clusters.safetensors")
        tokens = {"tokens": ["<e1>", "Ġcat", "<r0>", "<mask>"], "kinds": ["entity", "word", "relation", "mask"]}
        query = {"query": {"head": "e1", "relation": "r0", "names": ["cat", "eats"]}, "layer": 1}
        self.write(f"runs/{name}/attention.json", about | tokens | query)
        visible = np.tri(4, dtype=bool)
        weights = (visible / visible.sum(1, keepdims=True)).astype(np.float32)
        save_file({"weights": weights, "visible": visible}, self.root / f"runs/{name}/attention.safetensors")

    def _similarity(self, name: str, about: dict) -> None:
        entities = [{"id": str(i), "name": f"e{i}", "description": r"100 % of $x_{1}$ # \end{table}"} for i in range(3)]
        labels = about | {"corpus": "prose", "triples": [{}] * 3, "sentences": [""] * 3, "entities": entities}
        self.write(f"runs/{name}/similarity.json", labels)
        matrix = np.eye(3, dtype=np.float32) / 2 + 0.5
        save_file(
            {kind: matrix for kind in ("triples", "sentences", "entities")},
            self.root / f"runs/{name}/similarity.safetensors",
        )


@pytest.fixture
def results(tmp_path) -> Results:
    """An empty folder of results."""
    return Results(tmp_path / "results" / "tiny")


def make(spec: dict, results) -> tuple[str, pd.DataFrame, str]:
    out = results.root / "tables" / spec["name"]
    table(spec, results.paths(table_inputs(spec)), out)
    return (
        out.with_suffix(".tex").read_text("utf-8"),
        pd.read_csv(out.with_suffix(".csv"), dtype={"run": str, "seeds": str}, keep_default_na=True),
        out.with_suffix(".md").read_text("utf-8"),
    )

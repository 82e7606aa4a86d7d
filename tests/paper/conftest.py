"""Results of two small runs, as the stages before leave them: made up here, read by tables and figures."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file


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
        self.write(
            f"runs/{name}/metrics.json",
            about | {"evaluation_version": 1, "metrics": {"test": {"both": both}}},
        )
        perplexity = {"corpus": "prose", "token_perplexity": 5.125, "word_perplexity": 9.0, "tokens": 1234}
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

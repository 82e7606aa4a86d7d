"""Every stage once, on the ring: what each is called with, and which files it reads."""

import json
from pathlib import Path

from kglm.kg.graph import Graph

PROSE = "The {} walks along the long green bank and then it looks at the water of the river for some time ."
GRAPH = ("data/entities.parquet", "data/relations.parquet", "data/triples.parquet")
# Of these the text of a truncated or garbled file is no JSON, no Parquet or no safetensors any more.
MODEL = ("models/{}/config.json", "models/{}/tokenizer.json", "models/{}/model.safetensors")
CAUSAL, BERT = (tuple(file.format(name) for file in MODEL) for name in ("llama", "bert"))
KALM = tuple(f"runs/kalm/weights/{file}" for file in ("adapter_model.safetensors", "method.safetensors"))
ADAPTER = ("runs/kalm/weights/adapter_config.json", "runs/kalm/weights/adapter_model.safetensors")
ENTITIES, QUERIES, INTERACTION = (
    f"runs/kalm/embeddings/{n}.safetensors" for n in ("entities", "queries", "interaction")
)

_SCRATCH = {
    "source": "scratch",
    "dataset": "ring",
    "hidden_size": 16,
    "layers": 1,
    "heads": 2,
    "intermediate_size": 16,
    "vocabulary_size": 300,
    "positions": 1024,
    "steps": 2,
    "batch_size": 2,
    "sequence_length": 32,
    "learning_rate": 1.0e-3,
}
_TRAINING = {"batch_size": 10, "learning_rate": 1.0e-3, "precision": "fp32", "encoding_batch_size": 8}


def run(method: str, model: str, epochs: int, **parameters) -> dict:
    """A run's spec."""
    training = _TRAINING | {"epochs": epochs, "keep_epochs": epochs > 0}
    identity = {"name": method, "method": method, "dataset": "ring", "model": model, "seed": 0}
    return identity | {"parameters": parameters, "training": training}


RUNS = {
    "kalm": run("kalm", "llama", 1, maximum_language_model_length=64, base_weights="float32"),
    "kg_bilm": run("kg_bilm", "llama", 0, entity_text="name", maximum_length=64),
    "kg_bert": run("kg_bert", "bert", 0),
}
_SHOWN = {"panels": [{"label": "KaLM", "run": "kalm"}], "series": [{"label": "KaLM", "run": "kalm"}]}


def _analysis(name: str = "kalm", **options) -> dict:
    return {"name": name, "run": RUNS[name], "options": options}


def _drawn(name: str, kind: str, **entry) -> dict:
    return {"name": name, "kind": kind, "scale": "ring", "caption": "A caption."} | entry


_OWN_TABLE = {
    "paper": "KaLM",
    "model": "llama",
    "table": "own",
    "rows": [{"label": "KaLM"}],
    "metrics": ["MRR", "PPL"],
    "blocks": [{"dataset": "ring", "title": "Ring", "runs": {"KaLM": "kalm"}}],
}
_COUNTS = {
    "paper": "KaLM",
    "table": "own",
    "metrics": ["entities"],
    "fields": {"entities": "entities"},
    "rows": [{"dataset": "ring", "label": "Ring", "measured": True}],
}
_CLUSTERS = {"panels": _SHOWN["panels"], "attention": {"label": "KG-BiLM", "run": "kg_bilm"}}
_DATA = {"--graph": "data"}
_LLAMA = {"--model": "models/llama", "--weights": "runs/kalm/weights"}
_VECTORS = {"--embeddings": "runs/kalm/embeddings"}
_PROSE = {"--corpus": "corpora/prose"}

# name -> stage, spec, options, and the files that it reads and that show their damage; in the order of the workflow.
STEPS: dict[str, tuple[str, dict | None, dict, tuple[str, ...]]] = {
    "fetch": ("fetch", "dataset", {"--out": "data/raw"}, ()),
    "graph": ("graph", "dataset", {"--raw": "data/raw", "--out": "data"}, ("data/raw/train.tsv", "data/raw/texts.tsv")),
    "augment": ("augment", None, _DATA | {"--out": "data/triples_with_inverse.parquet"}, GRAPH),
    "instructions": ("instructions", {"name": "ring"}, _DATA | {"--out": "data/instructions"}, GRAPH),
    "fetch_corpus": ("fetch", "corpus", {"--out": "corpora/prose/raw"}, ()),
    "corpus": (
        "corpus",
        "corpus",
        {"--raw": "corpora/prose/raw", "--out": "corpora/prose"},
        ("corpora/prose/raw/p.txt",),
    ),
    "llama": (
        "model",
        _SCRATCH | {"name": "llama", "architecture": "llama", "corpora": ["prose"]},
        _DATA | {"--corpora": "corpora/prose", "--out": "models/llama"},
        (*GRAPH, "corpora/prose/train.txt"),
    ),
    "bert": ("model", _SCRATCH | {"name": "bert", "architecture": "bert"}, _DATA | {"--out": "models/bert"}, ()),
    **{
        f"train_{name}": (
            "train",
            spec,
            _DATA | {"--model": f"models/{spec['model']}", "--checkpoints": f"scratch/{name}", "--out": f"runs/{name}"},
            (*GRAPH, *CAUSAL) if name == "kalm" else (),
        )
        for name, spec in RUNS.items()
    },
    "embed": ("embed", RUNS["kalm"], _DATA | _LLAMA | {"--out": "runs/kalm/embeddings"}, (*GRAPH, *CAUSAL, *KALM)),
    "join": ("join", None, {"--shards": ENTITIES, "--out": "runs/kalm/joined.safetensors"}, (ENTITIES,)),
    "score": ("score", RUNS["kalm"], _DATA | _LLAMA | {"--out": "runs/kalm/scores.parquet"}, (*GRAPH, *CAUSAL, *KALM)),
    "rank": (
        "rank",
        {"name": "kalm", "answers": 1},
        _DATA | _VECTORS | {"--out": "runs/kalm/ranks.parquet", "--answers": "runs/kalm/answers.parquet"},
        (*GRAPH, ENTITIES, QUERIES, INTERACTION),
    ),
    "rank_by_model": (
        "rank_by_model",
        {"name": "kg_bert", "answers": 1, "run": RUNS["kg_bert"], "candidates": {"run": "kalm", "top": 3}},
        _DATA
        | {"--model": "models/bert", "--weights": "runs/kg_bert/weights", "--proposed": "runs/kalm"}
        | {"--out": "runs/kg_bert/ranks.parquet", "--answers": "runs/kg_bert/answers.parquet"},
        (
            *GRAPH,
            *BERT,
            "runs/kg_bert/weights/method.safetensors",
            ENTITIES,
            QUERIES,
            INTERACTION,
            "runs/kalm/ranks.parquet",
        ),
    ),
    "evaluate": (
        "evaluate",
        RUNS["kalm"] | {"evaluation": {"resamples": 10}},
        _DATA | {"--ranks": "runs/kalm/ranks.parquet", "--out": "runs/kalm/metrics.json"},
        (*GRAPH, "runs/kalm/ranks.parquet"),
    ),
    "classify": (
        "classify",
        RUNS["kalm"] | {"evaluation": {"resamples": 10}},
        {"--scores": "runs/kalm/scores.parquet", "--out": "runs/kalm/classification.json"},
        ("runs/kalm/scores.parquet",),
    ),
    "anisotropy": (
        "anisotropy",
        _analysis(sentences=5),
        _DATA | _LLAMA | _VECTORS | _PROSE | {"--epochs": "runs/kalm/epochs", "--out": "runs/kalm/anisotropy.json"},
        (
            *GRAPH,
            *CAUSAL,
            *ADAPTER,
            ENTITIES,
            QUERIES,
            "corpora/prose/test.txt",
            *(f"runs/kalm/epochs/1/{Path(file).name}" for file in ADAPTER),
        ),
    ),
    "similarity": (
        "similarity",
        _analysis(triples=2, sentences=2, minimum_words=3, entities=["ant", "bee"]),
        _DATA | _LLAMA | _VECTORS | _PROSE | {"--out": "runs/kalm/similarity.safetensors"},
        (*GRAPH, *CAUSAL, *ADAPTER, ENTITIES, QUERIES, "corpora/prose/test.txt"),
    ),
    "perplexity": (
        "perplexity",
        _analysis(context=64),
        _LLAMA | _PROSE | {"--out": "runs/kalm/perplexity.json"},
        (*CAUSAL, *ADAPTER, "corpora/prose/test.txt"),
    ),
    "mmlu": (
        "mmlu",
        _analysis(shots=0),
        _LLAMA | {"--corpus": "corpora/questions", "--out": "runs/kalm/mmlu.json"},
        (*CAUSAL, *ADAPTER, "corpora/questions/questions.parquet"),
    ),
    "kgqa": (
        "kgqa",
        _analysis(questions=1, settings={"zero_shot": 0}, cases=1, new_tokens=1),
        _DATA | _LLAMA | {"--out": "runs/kalm/kgqa.json"},
        (*GRAPH, *CAUSAL, *ADAPTER),
    ),
    "clusters": (
        "clusters",
        _analysis(perplexity=2.0),
        _DATA | _VECTORS | {"--out": "runs/kalm/clusters.safetensors"},
        (*GRAPH, ENTITIES),
    ),
    "attention": (
        "attention",
        _analysis("kg_bilm"),
        _DATA
        | {
            "--model": "models/llama",
            "--weights": "runs/kg_bilm/weights",
            "--out": "runs/kg_bilm/attention.safetensors",
        },
        (*GRAPH, *CAUSAL, "runs/kg_bilm/weights/method.safetensors"),
    ),
    "cost": (
        "cost",
        _analysis(triples=[2, 4], entities=[2, 4], evaluated=[1, 2], repeats=1),
        _DATA | _LLAMA | {"--out": "runs/kalm/cost.json"},
        (*GRAPH, *CAUSAL, *KALM),
    ),
    "audit": ("audit", None, {"--out": "audit"}, ()),
    "table": (
        "table",
        _drawn("numbers", "link_prediction", **_OWN_TABLE),
        {"--inputs": "runs/kalm/metrics.json runs/kalm/perplexity.json", "--out": "tables/numbers"},
        ("runs/kalm/metrics.json", "runs/kalm/perplexity.json"),
    ),
    "table_counts": (
        "table",
        _drawn("counts", "statistics", **_COUNTS),
        {"--inputs": "data/ring/statistics.json", "--out": "tables/counts"},
        ("data/ring/statistics.json",),
    ),
    "figure_matrix": (
        "figure",
        _drawn("matrix", "similarity", matrix="entities", axes=["entity", "entity"], **_SHOWN),
        {"--inputs": "runs/kalm/similarity.safetensors runs/kalm/similarity.json", "--out": "figures/matrix"},
        ("runs/kalm/similarity.safetensors", "runs/kalm/similarity.json"),
    ),
    "figure_layers": (
        "figure",
        _drawn("layers", "lines", over="layers", reported=[], **_SHOWN),
        {"--inputs": "runs/kalm/anisotropy.json", "--out": "figures/layers"},
        ("runs/kalm/anisotropy.json",),
    ),
    "figure_bars": (
        "figure",
        _drawn(
            "bars", "bars", setting="zero_shot", series=_SHOWN["series"], panels=[{"analysis": "kgqa", "title": "QA"}]
        ),
        {"--inputs": "runs/kalm/kgqa.json", "--out": "figures/bars"},
        ("runs/kalm/kgqa.json",),
    ),
    "figure_curves": (
        "figure",
        _drawn("curves", "curves", metric="MRR", legend="run", series=_SHOWN["series"]),
        {"--inputs": "runs/kalm/log.jsonl specs/run/kalm.json", "--out": "figures/curves"},
        ("runs/kalm/log.jsonl", "specs/run/kalm.json"),
    ),
    "figure_clusters": (
        "figure",
        _drawn("clusters", "clusters", **_CLUSTERS),
        {
            "--inputs": "runs/kalm/clusters.safetensors runs/kalm/clusters.json "
            "runs/kg_bilm/attention.safetensors runs/kg_bilm/attention.json",
            "--out": "figures/clusters",
        },
        tuple(f"runs/{run}.{end}" for run in ("kalm/clusters", "kg_bilm/attention") for end in ("safetensors", "json")),
    ),
}


def write_sources(graph: Graph, folder: Path) -> None:
    """What the first stages fetch: the ring's triples and texts, some prose and questions; and the specs."""
    import pandas as pd

    from kglm.artefacts import QUESTIONS, write_parquet

    folder.mkdir(parents=True, exist_ok=True)
    names, relations = graph.entities["id"], graph.relations["id"]
    for split, rows in graph.triples[graph.triples["label"] == 1].groupby("split"):
        lines = [
            f"{names[h]}\t{relations[r]}\t{names[t]}\n" for h, r, t in rows[["head", "relation", "tail"]].to_numpy()
        ]
        (folder / f"own_{split}.tsv").write_text("".join(lines), "utf-8")
    texts = zip(names, graph.entities["description"], strict=True)
    (folder / "own_texts.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in texts), "utf-8")
    (folder / "own_prose.txt").write_text("".join(PROSE.format(name) + "\n" for name in names), "utf-8")
    rows = [("birds", split, "Which one flies?", ["ant", "bee", "cat", "dog"], 1) for split in ("dev", "test")]
    questions = pd.DataFrame(rows, columns=QUESTIONS.names)
    write_parquet(questions, folder / "corpora/questions/questions.parquet", QUESTIONS)
    specs = folder / "specs/run"
    specs.mkdir(parents=True)
    for name, spec in RUNS.items():
        (specs / f"{name}.json").write_text(json.dumps(spec), "utf-8")


def entries(folder: Path) -> dict[str, dict]:
    """The entries of the dataset and the corpus, whose files lie in the folder."""
    splits = {name: f"{name}.tsv" for name in ("train", "valid", "test")}
    files = {file: str(folder / f"own_{file}") for file in (*splits.values(), "texts.tsv")}
    drawn = {"seed": 0, "splits": ["valid", "test"]}
    dataset = {"name": "ring", "files": files, "splits": splits | {"drawn_negatives": drawn}}
    dataset["descriptions"] = [{"file": "texts.tsv"}]
    corpus = {"name": "prose", "files": {"p.txt": str(folder / "own_prose.txt")}, "format": "lines", "test_every": 2}
    return {"dataset": dataset, "corpus": corpus}


def command(step: str, folder: Path) -> list[str]:
    """The arguments of `kglm` for a step, its spec written beside."""
    stage, spec, options, _ = STEPS[step]
    arguments = [stage]
    if spec is not None:
        path = folder / "specs" / f"{step}.json"
        path.write_text(json.dumps(entries(folder)[spec] if isinstance(spec, str) else spec), "utf-8")
        arguments += ["--spec", str(path)]
    for option, paths in options.items():
        arguments += [option, *(str(folder / path) for path in paths.split())]
    return arguments

"""Are sentence embeddings crowded in a cone? KaLM's Figures 8 and 9, and Theorem 2 on real embeddings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from kglm.analysis.common import (
    choose_options,
    has_tensor,
    identity,
    read_passages,
    read_tensor,
)
from kglm.analysis.geometry import alignment, sentence_anisotropy, theorem2, uniformity
from kglm.analysis.loading import check_run, load_pair
from kglm.binding import check_embeddings
from kglm.errors import InputError
from kglm.files import write_json
from kglm.kg.graph import Graph, evenly_spaced
from kglm.options import Count, Options, Positive, Size


@dataclass(frozen=True)
class Parameters(Options):
    """The options of the analysis."""

    sentences: Count = 1000  # at most so many of the corpus' test passages, evenly spaced; 0: all
    entities: Count = 5000  # at most so many entities and pairs of the graph, evenly spaced; 0: all
    split: Literal["train", "valid", "test"] = "test"  # whose pairs (h, r), t alignment is taken over
    # Where a sentence is pooled: "bracket" at the closing one of {sentence}, as KaLM's encoder reads a text, or
    # "last_token" at whatever token the sentence, or its cut, ends with.
    pooling: Literal["bracket", "last_token"] = "bracket"
    maximum_length: Size = 128  # tokens of a sentence
    batch_size: Size = 32
    layers: bool = True  # all layers, or the last alone
    temperature: Positive = 0.05  # τ of Theorem 2 where the method saved none
    dtype: Literal["float32", "bfloat16"] = "float32"


def anisotropy(
    spec: dict,
    model: Path,
    weights: Path,
    corpus: Path,
    out: Path,
    epochs: Path | None = None,
    graph: Path | None = None,
    embeddings: Path | None = None,
) -> None:
    """Measure sentence-level anisotropy by layer and by epoch, uniformity, alignment and Theorem 2's bound.

    `epochs` holds folders 1 … n of weights, or none; epoch 0 is the base model. With `graph` and `embeddings`
    the same measures are taken on the graph's entities, and alignment on its pairs.
    """
    options = choose_options(spec, Parameters)
    check_run(spec["run"], weights, model)
    passages = read_passages(corpus)
    sentences = [passages[row] for row in evenly_spaced(len(passages), options["sentences"])]
    if len(sentences) < 2:
        raise InputError("fewer than two sentences", corpus, "anisotropy needs pairs: take a larger corpus")
    temperature, source = _temperature(weights, options["temperature"])
    layers = _encode(model, weights, sentences, options)
    on_graph = {"alignment": None, "entities": None}
    if graph is not None and embeddings is not None:
        knowledge = Graph.read(graph)
        check_embeddings(embeddings, knowledge, spec["run"]["name"])
        on_graph = _measure_graph(knowledge, embeddings, temperature, options)
    values = [sentence_anisotropy(layer) for layer in layers]
    result = identity(spec) | {
        "corpus": Path(corpus).name,
        "sentences": len(sentences),
        "layers": values if options["layers"] else [],
        "value": values[-1],
        "epochs": [] if epochs is None else _by_epoch(model, epochs, sentences, options),
        "theorem2": theorem2(layers[-1], temperature) | {"temperature_from": source},
        "uniformity": uniformity(layers[-1]),
        **on_graph,
        "options": options,
    }
    write_json(result, out)


def _encode(
    model: Path, weights: Path | None, texts: list[str], options: dict, layers: bool | None = None
) -> np.ndarray:
    """Embeddings (layers + 1, n, d), the embedding layer first, or (1, n, d): the last layer alone."""
    from kglm.lm.language_model import encode_texts

    layers = options["layers"] if layers is None else layers
    encoded = encode_texts(
        *load_pair(model, weights, options["dtype"]),
        texts,
        options["maximum_length"],
        options["batch_size"],
        options["pooling"],
        layers=layers,
    )
    return np.asarray(encoded if layers else encoded[None])


def _by_epoch(model: Path, epochs: Path, sentences: list[str], options: dict) -> list[dict]:
    """The last layer's anisotropy of the base model and after each epoch kept (Figure 9)."""
    kept = sorted(int(folder.name) for folder in Path(epochs).iterdir() if folder.name.isdecimal())
    if not kept:
        return []
    weights = {0: None} | {epoch: Path(epochs) / str(epoch) for epoch in kept}
    return [
        {
            "epoch": epoch,
            "value": sentence_anisotropy(_encode(model, folder, sentences, options, layers=False)[-1]),
        }
        for epoch, folder in weights.items()
    ]


def _temperature(weights: Path, default: float) -> tuple[float, str]:
    """τ as trained, or the option where the method has none, and which of the two it is."""
    path = Path(weights) / "method.safetensors"
    if has_tensor(path, "log_temperature"):
        return float(np.exp(read_tensor(path, "log_temperature")).item()), "trained"
    return float(default), "option"


def _measure_graph(graph: Graph, embeddings: Path, temperature: float, options: dict) -> dict:
    """Alignment over true pairs of one split, both directions; the measures of a cloud over entities."""
    limit, split = options["entities"], options["split"]
    queries, answers = _true_pairs(graph, Path(embeddings) / "queries.safetensors", split)
    chosen = evenly_spaced(len(queries), limit)
    pairs = [
        read_tensor(Path(embeddings) / f"{side}.safetensors", "embeddings", rows[chosen])
        for side, rows in (("queries", queries), ("entities", answers))
    ]
    rows = evenly_spaced(graph.entity_count, limit)
    entities = read_tensor(Path(embeddings) / "entities.safetensors", "embeddings", rows)
    return {
        "alignment": alignment(*pairs) if len(chosen) else None,
        "pairs": {"split": split, "count": len(chosen)},
        "entities": {
            "count": len(entities),
            "anisotropy": sentence_anisotropy(entities),
            "uniformity": uniformity(entities),
            "theorem2": theorem2(entities, temperature),
        },
    }


def _true_pairs(graph: Graph, path: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the query embeddings and the tails that answer them, for the triples whose query was embedded.

    All of valid and test are; of train only those that ask the same.
    """
    width = 2 * graph.relation_count
    keys = read_tensor(path, "heads").astype(np.int64) * width + read_tensor(path, "relations")
    order = np.argsort(keys)
    triples = graph.split(split, inverse=True)
    wanted = triples[:, 0] * width + triples[:, 1]
    place = order[np.searchsorted(keys, wanted, sorter=order).clip(max=len(keys) - 1)]
    found = keys[place] == wanted
    return place[found], triples[found, 2]

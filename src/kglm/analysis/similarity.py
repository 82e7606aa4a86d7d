"""Matrices of cosine similarities: KaLM's Figures 1 (triples), 4 (sentences), 6 and 7 (chosen entities)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import save_file

from kglm.analysis.common import choose_options, find_entity, identity, is_reference, read_passages, read_tensor
from kglm.analysis.loading import check_run, cut_texts, load_pair
from kglm.binding import check_embeddings
from kglm.errors import InputError
from kglm.files import atomic_file, write_json
from kglm.kg.graph import Graph
from kglm.options import Count, Options, Seed, Size
from kglm.training.specification import completed


@dataclass(frozen=True)
class Parameters(Options):
    """The options of the analysis."""

    triples: Size = 30  # Figure 1: at most so many test triples
    sentences: Size = 40  # Figure 4: the first so many passages of the corpus' test set
    minimum_words: Count = 10  # shorter passages are no sentences (headings)
    # Figures 6 and 7: ids, names or {name, description}; related ones stand side by side.
    entities: list = field(default_factory=list)
    seed: Seed = 0  # of the choice of triples: one for all runs, so that their matrices show the same triples
    # Where a sentence is pooled: "bracket" at the closing one of {sentence}, as KaLM's encoder reads a text, or
    # "last_token" at whatever token the sentence, or its cut, ends with.
    pooling: Literal["bracket", "last_token"] = "bracket"
    maximum_length: Size = 128
    batch_size: Size = 32
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        super().__post_init__()
        for one in self.entities:
            if not is_reference(one):
                raise InputError(f"{one!r} names no entity", "similarity.entities", "give ids, or {name, description}")


def similarity(spec: dict, model: Path, weights: Path, corpus: Path, graph: Path, embeddings: Path, out: Path) -> None:
    """Write the tensors `triples`, `sentences` and `entities`, each (n, n), and their labels beside as JSON.

    Row i and column j of `triples` are query (h, r) i and tail j; the file of labels has the ending .json.
    """
    options = choose_options(spec, Parameters)
    knowledge, folder = Graph.read(graph), Path(embeddings)
    check_run(spec["run"], weights, model, knowledge)
    check_embeddings(folder, knowledge, spec["run"]["name"])
    triples, of_triples = _triple_matrix(knowledge, folder, options["triples"], options["seed"])
    sentences, of_sentences = _sentence_matrix(model, weights, corpus, options)
    entities = [find_entity(knowledge, reference) for reference in options["entities"]]
    matrices = {
        "triples": of_triples,
        "sentences": of_sentences,
        "entities": _entity_matrix(folder, entities),
    }
    labels = identity(spec) | {
        "corpus": Path(corpus).name,
        "triples": [_triple_label(knowledge, triple) for triple in triples],
        "sentences": sentences,
        "entities": _entity_labels(knowledge, entities, spec["run"], model),
        "options": options,
    }
    with atomic_file(out) as temporary:
        save_file({name: np.ascontiguousarray(matrix, np.float32) for name, matrix in matrices.items()}, temporary)
    write_json(labels, Path(out).with_suffix(".json"))


def choose_triples(graph: Graph, count: int, seed: int) -> np.ndarray:
    """At most `count` test triples (n, 3), drawn by seed, whose matrix is true on the diagonal alone.

    All tails differ, and no query is answered by another triple's tail in train, valid or test.
    """
    test = graph.split("test")
    test = test[np.random.default_rng(seed).permutation(len(test))]
    indptr, indices = graph.known_answers(test[:, 0], test[:, 1])
    chosen, tails, answers = [], set(), set()
    for row, triple in enumerate(test):
        if len(chosen) == count:
            break
        own = set(indices[indptr[row] : indptr[row + 1]].tolist())
        if triple[2] in tails or triple[2] in answers or own & tails:
            continue
        chosen.append(row)
        tails.add(int(triple[2]))
        answers |= own
    return test[chosen]


def _triple_matrix(graph: Graph, folder: Path, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    triples = choose_triples(graph, count, seed)
    path = folder / "queries.safetensors"
    asked = zip(read_tensor(path, "heads").tolist(), read_tensor(path, "relations").tolist(), strict=True)
    row_of = {query: row for row, query in enumerate(asked)}
    if missing := {(head, relation) for head, relation, _ in triples.tolist()} - set(row_of):
        raise InputError(f"{len(missing)} queries of test are missing", path, "run the stage embed again")
    queries = read_tensor(path, "embeddings", [row_of[head, relation] for head, relation in triples[:, :2].tolist()])
    tails = read_tensor(folder / "entities.safetensors", "embeddings", triples[:, 2])
    return triples, queries @ tails.T


def _sentence_matrix(model: Path, weights: Path, corpus: Path, options: dict) -> tuple[list[str], np.ndarray]:
    from kglm.lm.language_model import encode_texts

    passages = read_passages(corpus)
    long = [passage for passage in passages if len(passage.split()) >= options["minimum_words"]]
    sentences = (long or passages)[: options["sentences"]]
    encoded = encode_texts(
        *load_pair(model, weights, options["dtype"]),
        sentences,
        options["maximum_length"],
        options["batch_size"],
        options["pooling"],
    )
    embeddings = np.asarray(encoded)
    return sentences, embeddings @ embeddings.T


def _entity_matrix(folder: Path, entities: list[int]) -> np.ndarray:
    rows = read_tensor(folder / "entities.safetensors", "embeddings", entities)
    return rows @ rows.T


def _entity_labels(graph: Graph, entities: list[int], run: dict, model: Path) -> list[dict]:
    """Id, name and description of entities, and `text`: what the run's encoder reads of them."""
    from kglm.lm.language_model import load_tokenizer

    chosen = graph.entities.iloc[entities][["id", "name", "description"]].to_dict("records")
    parameters = completed(run, "spec.run")["parameters"]
    all_texts = graph.entity_texts(parameters["entity_text"])
    texts = [all_texts[entity] for entity in entities]
    read = cut_texts(texts, load_tokenizer(model), parameters["maximum_description_length"])
    return [label | {"text": text} for label, text in zip(chosen, read, strict=True)]


def _triple_label(graph: Graph, triple: np.ndarray) -> dict:
    names = graph.entity_texts("name")
    head, relation, tail = triple.tolist()
    return {"head": names[head], "relation": graph.relation_texts()[relation], "tail": names[tail]}

"""Do neighbours in the graph lie together? Entities placed by t-SNE, with silhouette scores (KG-BiLM, Figure 3)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from kglm.analysis.common import choose_options, find_relation, identity, read_tensor
from kglm.binding import check_embeddings
from kglm.errors import InputError
from kglm.files import atomic_file, write_json
from kglm.kg.graph import Graph
from kglm.kg.neighbourhood import adjacency
from kglm.options import Options, Positive, Seed, Size
from kglm.ranking.matching import read_interaction


@dataclass(frozen=True)
class Parameters(Options):
    """The options of the analysis."""

    groups: str = "neighbourhood"  # communities of the training graph; or a relation, whose tail is an entity's type
    largest: Size = 8  # so many groups are told apart; the entities of the others are "other" and in no silhouette
    entities: Size = 2000  # at most so many points
    perplexity: Positive = 30.0  # of t-SNE; at most a third of the points
    seed: Seed = 0  # of the choice of entities, of the communities and of t-SNE


OTHER = "other"


def clusters(spec: dict, graph: Path, embeddings: Path, out: Path) -> None:
    """Write the tensor `points` (n, 2) and, with the ending .json, each point's group and the silhouette scores.

    Silhouettes (Rousseeuw 1987) are by cosine distance for embeddings, by Euclidean distance in the plane.
    """
    from sklearn.metrics import silhouette_score

    options = choose_options(spec, Parameters)
    knowledge, seed = Graph.read(graph), options["seed"]
    check_embeddings(embeddings, knowledge, spec["run"]["name"])
    rows = choose_entities(knowledge.entity_count, options["entities"], seed)
    labels, names = choose_groups(group_entities(knowledge, options["groups"], seed)[rows], options["largest"])
    vectors = read_positions(Path(embeddings), rows)
    perplexity = min(float(options["perplexity"]), (len(rows) - 1) / 3)
    points = place(vectors, perplexity, seed)
    told = np.flatnonzero(np.asarray(names)[labels] >= 0)
    if not 2 <= len(np.unique(labels[told])) < len(told):
        what = f"{len(told)} of {len(rows)} entities are in {len(np.unique(labels[told]))} groups"
        raise InputError(what, spec["name"], "two groups and a third entity are needed: choose other groups")
    silhouette = {
        "embeddings": float(silhouette_score(vectors[told], labels[told], metric="cosine")),
        "tsne": float(silhouette_score(points[told], labels[told])),
    }
    result = identity(spec) | {
        "entities": len(rows),
        "perplexity": perplexity,
        "labels": labels.tolist(),
        "groups": group_titles(knowledge, names),
        "silhouette": silhouette,
        "options": options,
    }
    with atomic_file(out) as temporary:
        save_file({"points": points}, temporary)
    write_json(result, Path(out).with_suffix(".json"))


def choose_entities(count: int, limit: int, seed: int) -> np.ndarray:
    """At most `limit` of the numbers 0 … count - 1, drawn uniformly by seed, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def group_entities(graph: Graph, kind: str, seed: int) -> np.ndarray:
    """The group of each entity, int64 (E,): the number of the entity that it is called after, -1 for none.

    kind "neighbourhood": communities of the training graph (Louvain's method), called after their entity of highest
    degree, and no group for an entity without neighbours. Else a relation's id or text: an entity's group is
    its tail in train; of several the one that most entities have. Ties go to the lower number.
    """
    if kind == "neighbourhood":
        return _communities(graph, seed)
    return _types(graph, find_relation(graph, kind))


def _communities(graph: Graph, seed: int) -> np.ndarray:
    import networkx

    groups, neighbours = np.full(graph.entity_count, -1), adjacency(graph)
    network = networkx.from_scipy_sparse_array(neighbours.astype(np.int8))
    for community in networkx.community.louvain_communities(network, seed=seed):
        members = np.sort(np.fromiter(community, np.int64))
        if len(members) > 1:
            groups[members] = members[graph.degrees[members].argmax()]
    return groups


def _types(graph: Graph, relation: int) -> np.ndarray:
    triples = graph.split("train")
    pairs = np.unique(triples[triples[:, 1] == relation][:, [0, 2]], axis=0)
    sizes = np.bincount(pairs[:, 1], minlength=graph.entity_count)
    groups = np.full(graph.entity_count, -1)
    # The last assignment stands: the type of most entities, then of the lowest number.
    order = np.lexsort([-pairs[:, 1], sizes[pairs[:, 1]]])
    groups[pairs[order, 0]] = pairs[order, 1]
    return groups


def choose_groups(groups: np.ndarray, largest: int) -> tuple[np.ndarray, list[int]]:
    """Labels (n,) and what each stands for: the `largest` groups by size, then -1 where others are left."""
    numbers, sizes = np.unique(groups[groups >= 0], return_counts=True)
    names = numbers[np.lexsort([numbers, -sizes])][:largest].tolist()
    label_of = {name: label for label, name in enumerate(names)}
    labels = np.array([label_of.get(group, len(names)) for group in groups.tolist()], np.int64)
    return labels, [*names, -1] if (labels == len(names)).any() else names


def group_titles(graph: Graph, names: list[int]) -> list[str]:
    """What groups are called: their entity's name, with its id where another group has the same; -1 is "other"."""
    texts = graph.entity_texts("name")
    plain = [OTHER if name < 0 else texts[name] for name in names]
    ids = graph.entities["id"]
    return [
        f"{title} ({ids.iloc[name]})" if name >= 0 and plain.count(title) > 1 else title
        for name, title in zip(names, plain, strict=True)
    ]


def read_positions(embeddings: Path, rows: np.ndarray) -> np.ndarray:
    """The vectors (n, d) of entities in the space where queries meet them, unit length.

    A coordinate in which all queries are alike adds to an entity's score what no query can change: it is a bias, as
    |e|² is in a distance, no position, and left out where scores are inner products.
    """
    vectors = read_tensor(embeddings / "entities.safetensors", "embeddings", rows)
    if read_interaction(embeddings / "interaction.safetensors") is None:
        queries = read_tensor(embeddings / "queries.safetensors", "embeddings")
        varies = np.ptp(queries, axis=0) > 0
        vectors = vectors[:, varies] if varies.any() else vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


def place(vectors: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Points (n, 2) by t-SNE (van der Maaten and Hinton 2008), float32, begun at the two principal components.

    The vectors have unit length, where Euclidean distances order pairs as their cosines do.
    """
    from sklearn.manifold import TSNE

    projection = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return projection.fit_transform(vectors).astype(np.float32)

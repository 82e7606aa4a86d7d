"""What a graph holds, counted from its data, and what is odd about it."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kglm.errors import InputError
from kglm.kg.graph import SPLITS, Graph
from kglm.kg.negatives import among, triple_keys

EXAMPLES = 5


def statistics(graph: Graph) -> dict:
    """The figures of the papers' statistics tables, and those that explain results; of true triples.

    unseen: entities of a split that no training triple has, triples that touch one, and triples with two such
    ends. linked_in_train: triples whose two entities a training triple links, the same way round by another
    relation, reversed by any relation, or reversed by the same one. description_words: the mean over the entities
    that have a description (None where none has; LMKE, Table 3). degree_groups: entities by their degree in train,
    degree_groups_of_all_splits: in train, valid and test together.
    """
    parts = {name: graph.split(name) for name in SPLITS}
    unseen = {name: _unseen(parts[name], graph) for name in SPLITS[1:]}
    return {
        "entities": graph.entity_count,
        "relations": graph.relation_count,
        **{name: len(part) for name, part in parts.items()},
        "false_triples": {name: int((graph.labelled(name)[1] == -1).sum()) for name in SPLITS[1:]},
        "entities_in": {name: _distinct(part[:, [0, 2]]) for name, part in parts.items()},
        "relations_in": {name: _distinct(part[:, 1]) for name, part in parts.items()},
        "unseen": unseen,
        "self_loops": {name: int((part[:, 0] == part[:, 2]).sum()) for name, part in parts.items()},
        "linked_in_train": {name: _linked(parts["train"], parts[name], graph) for name in SPLITS[1:]},
        "texts": _texts(graph),
        "description_words": _mean_words(_array(graph.entities["description"])),
        "degree_groups": degree_groups(graph.degrees),
        "degree_groups_of_all_splits": degree_groups(_degrees(np.concatenate(list(parts.values())), graph)),
    }


def degree_groups(degrees: np.ndarray) -> dict[str, int]:
    """How many degrees (n,) are "0", "1", "2-3", "4-7" and so on, up to the largest; groups without any are 0."""
    # frexp gives 0 for 0, 1 for 1, 2 for 2 and 3, 3 for 4 to 7: the number of binary digits
    counts = np.bincount(np.frexp(degrees)[1])
    labels = ["0", "1", *(f"{2 ** (digits - 1)}-{2**digits - 1}" for digits in range(2, len(counts)))]
    return dict(zip(labels, counts.tolist(), strict=False))


def _degrees(triples: np.ndarray, graph: Graph) -> np.ndarray:
    return np.bincount(triples[:, [0, 2]].reshape(-1), minlength=graph.entity_count)


def _distinct(numbers: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(numbers.reshape(-1))))


def _unseen(part: np.ndarray, graph: Graph) -> dict[str, int]:
    new = ~graph.entities["in_train"].to_numpy(bool)
    ends = new[part[:, [0, 2]]]
    return {
        "entities": _distinct(part[:, [0, 2]][ends]),
        "triples": int(ends.any(axis=1).sum()),
        "triples_with_both_ends": int(ends.all(axis=1).sum()),
    }


def _linked(train: np.ndarray, part: np.ndarray, graph: Graph) -> dict[str, int]:
    size = graph.entity_count
    pairs = np.sort(train[:, 0] * size + train[:, 2])
    same = among(part[:, 0] * size + part[:, 2], pairs)
    reverse = among(part[:, 2] * size + part[:, 0], pairs)
    exactly = among(triple_keys(part[:, [2, 1, 0]], graph), np.sort(triple_keys(train, graph)))
    return {
        "same": int(same.sum()),
        "reverse": int(reverse.sum()),
        "reverse_same_relation": int(exactly.sum()),
    }


def _texts(graph: Graph) -> dict[str, int]:
    names, descriptions = (_array(graph.entities[column]) for column in ("name", "description"))
    both = pc.binary_join_element_wise(names, descriptions, pa.scalar("\n", pa.large_string()))
    return {
        "names": _filled(names),
        "descriptions": _filled(descriptions),
        "entities_sharing_name": _shared(names),
        "entities_sharing_description": _shared(descriptions),
        "entities_sharing_both": _shared(both),
    }


def _mean_words(texts: pa.ChunkedArray) -> float | None:
    """Clean texts have one space between two words and none at their ends."""
    filled = texts.filter(pc.not_equal(texts, ""))
    return pc.mean(pc.add(pc.count_substring(filled, " "), 1)).as_py()


def _array(column) -> pa.ChunkedArray:
    return pa.chunked_array(pa.Table.from_pandas(column.to_frame(), preserve_index=False)[0]).cast(pa.large_string())


def _filled(texts: pa.ChunkedArray) -> int:
    return len(texts) - (pc.sum(pc.equal(texts, "")).as_py() or 0)


def _shared(texts: pa.ChunkedArray) -> int:
    """How many entities have a text that another one has too."""
    counts = pc.value_counts(texts.filter(pc.not_equal(texts, ""))).field("counts").to_numpy()
    return int(counts[counts > 1].sum())


def duplicates(graph: Graph, places: list[str], files: np.ndarray, lines: np.ndarray) -> dict:
    """Repeated triples within a split, triples in two splits, and false triples that are true elsewhere.

    `places` are the files' names; `files` and `lines` (n,) say where the rows of graph.triples come from.
    """
    triples = graph.triples[["head", "relation", "tail"]].to_numpy(np.int64)
    keys, true = triple_keys(triples, graph), (graph.triples["label"] == 1).to_numpy()
    of = {name: (graph.triples["split"] == name).to_numpy() for name in SPLITS}

    def pairs(first: np.ndarray, second: np.ndarray) -> dict:
        examples = [
            f"{places[files[b]]}:{lines[b]} repeats {places[files[a]]}:{lines[a]}"
            for a, b in zip(first[:EXAMPLES], second[:EXAMPLES], strict=True)
        ]
        return {"triples": len(second), "examples": examples}

    return {
        "within": {name: pairs(*_repeats(keys, of[name] & true)) for name in SPLITS},
        "across": {
            f"{a} and {b}": pairs(*_common(keys, of[a] & true, of[b] & true))
            for a, b in (("train", "valid"), ("train", "test"), ("valid", "test"))
        },
        "false_repeated": {name: pairs(*_repeats(keys, of[name] & ~true)) for name in SPLITS[1:]},
        "false_but_true_elsewhere": {name: pairs(*_common(keys, true, of[name] & ~true)) for name in SPLITS[1:]},
    }


def _repeats(keys: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (first, later) of equal triples among the chosen rows; one pair a later one."""
    rows = np.flatnonzero(chosen)
    _, first, group = np.unique(keys[rows], return_index=True, return_inverse=True)
    later = np.flatnonzero(first[group] != np.arange(len(rows)))
    return rows[first[group[later]]], rows[later]


def _common(keys: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (in one, in other) of equal triples; one pair a row of the other."""
    rows, others = np.flatnonzero(one), np.flatnonzero(other)
    others = others[among(keys[others], np.sort(keys[rows]))]
    rows = rows[among(keys[rows], np.sort(keys[others]))]
    distinct, first = np.unique(keys[rows], return_index=True)
    return rows[first[np.searchsorted(distinct, keys[others])]] if len(others) else others, others


def alike_ids(ids: pa.Array) -> dict:
    """Ids that are the same but for case, spaces and quotes: how many are not the first of theirs, and examples."""
    plain = pc.utf8_normalize(pc.utf8_lower(ids), form="NFKC")
    plain = pc.replace_substring_regex(plain, r"[\s\pZ\"“”„‘’«»]+|^'|'$", "")
    counts = pc.value_counts(plain)
    several = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if not len(several):
        return {"count": 0, "examples": []}
    rows = pc.is_in(plain, value_set=several)
    groups: dict[str, list[str]] = {}
    for key, id in zip(plain.filter(rows).to_pylist(), ids.filter(rows).to_pylist(), strict=True):
        groups.setdefault(key, []).append(id)
    examples = [group[:2] for group in list(groups.values())[:EXAMPLES]]
    return {"count": sum(len(group) - 1 for group in groups.values()), "examples": examples}


def without_false(graph: Graph) -> dict:
    """True triples of which any other head, and any other tail, makes a true one: no false triple can be drawn."""
    triples = np.concatenate([graph.split(name) for name in SPLITS])
    of_relation = np.bincount(triples[:, 1], minlength=graph.relation_count)
    triples = triples[of_relation[triples[:, 1]] >= 2 * graph.entity_count - 1]  # as many as such a triple takes
    triples = np.unique(triples, axis=0)
    full = np.ones(len(triples), bool)
    for columns in ([0, 1], [1, 2]):
        _, rows, counts = np.unique(triples[:, columns], axis=0, return_inverse=True, return_counts=True)
        full &= counts[rows.reshape(-1)] == graph.entity_count
    ids, relations = graph.entities["id"], graph.relations["id"]
    examples = [[ids[head], relations[relation], ids[tail]] for head, relation, tail in triples[full][:EXAMPLES]]
    return {"count": int(full.sum()), "examples": examples}


def compare(expected: Mapping, found: Mapping, where: str) -> None:
    """InputError for the first expected figure that is not the one found."""
    for key, value in expected.items():
        if isinstance(value, Mapping):
            compare(value, found[key], f"{where}.{key}")
        elif found[key] != value:
            remedy = "the files are not those that this entry describes, or its `expect` is wrong"
            raise InputError(f"{found[key]:,} {key}, expected {value:,}", where, remedy)

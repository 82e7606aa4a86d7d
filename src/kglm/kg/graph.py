"""A knowledge graph in memory, as the stage `graph` left it on disk."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from kglm.artefacts import ENTITIES, RELATIONS, TRIPLES, read_parquet, write_parquet
from kglm.errors import InputError

SPLITS = ("train", "valid", "test")
ENTITY_TEXTS = ("name", "description", "name_and_description")


@dataclass(frozen=True)
class Graph:
    """Entities, relations and triples as frames with the columns of `kglm.artefacts`.

    A relation number r >= `relation_count` stands for the inverse of relation r - relation_count.
    """

    entities: pd.DataFrame
    relations: pd.DataFrame
    triples: pd.DataFrame

    @classmethod
    def read(cls, directory: Path) -> "Graph":
        """Read a graph directory; InputError where a file is missing or damaged."""
        directory = Path(directory)
        return cls(
            read_parquet(directory / "entities.parquet", ENTITIES),
            read_parquet(directory / "relations.parquet", RELATIONS),
            read_parquet(directory / "triples.parquet", TRIPLES),
        )

    def write(self, directory: Path) -> None:
        """Write the three files of the graph into `directory`."""
        write_parquet(self.entities, Path(directory) / "entities.parquet", ENTITIES)
        write_parquet(self.relations, Path(directory) / "relations.parquet", RELATIONS)
        write_parquet(self.triples, Path(directory) / "triples.parquet", TRIPLES)

    @property
    def entity_count(self) -> int:
        return len(self.entities)

    @property
    def relation_count(self) -> int:
        return len(self.relations)

    def split(self, name: str, inverse: bool = False) -> np.ndarray:
        """The true triples of a split, int64 (n, 3); with `inverse`, their n inverses (t, r⁻¹, h) follow."""
        rows = self.triples[(self.triples["split"] == name) & (self.triples["label"] == 1)]
        triples = rows[["head", "relation", "tail"]].to_numpy(np.int64)
        return np.concatenate([triples, self.inverse(triples)]) if inverse else triples

    def labelled(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Triples (n, 3) and labels (n,) of a split that holds false triples too."""
        rows = self.triples[self.triples["split"] == name]
        return rows[["head", "relation", "tail"]].to_numpy(np.int64), rows["label"].to_numpy(np.int64)

    @cached_property
    def degrees(self) -> np.ndarray:
        """int64 (E,): ends of true training triples at each entity; a loop counts twice."""
        return np.bincount(self.split("train")[:, [0, 2]].reshape(-1), minlength=self.entity_count)

    def candidates(self, split: str) -> np.ndarray | None:
        """The entities that answers of a split are chosen from: int64, sorted, or None for all of them.

        An inductive split, none of whose entities is in train, is ranked among its own entities, as KEPLER does (Wang
        et al., 2021).
        """
        return self._candidates[split]

    @cached_property
    def _candidates(self) -> dict[str, np.ndarray | None]:
        found: dict[str, np.ndarray | None] = {"train": None}
        for name in SPLITS[1:]:
            present = np.zeros(self.entity_count, bool)
            present[self.split(name)[:, [0, 2]]] = True
            inductive = present.any() and not self.degrees[present].any()
            found[name] = np.flatnonzero(present) if inductive else None
        return found

    def inverse(self, triples: np.ndarray) -> np.ndarray:
        """(h, r, t) -> (t, r⁻¹, h) for an array (n, 3); twice gives the first again."""
        relation = triples[:, 1]
        swapped = np.where(
            relation < self.relation_count, relation + self.relation_count, relation - self.relation_count
        )
        return np.stack([triples[:, 2], swapped, triples[:, 0]], axis=1)

    def entity_texts(self, kind: str = "name_and_description") -> list[str]:
        """One text an entity: the part asked for, or the other where it is empty; both are joined by ", "."""
        if kind not in ENTITY_TEXTS:
            raise InputError(f"unknown entity text {kind!r}", remedy=f"choose one of {', '.join(ENTITY_TEXTS)}")
        name, description = self.entities["name"], self.entities["description"]
        if kind == "name_and_description":
            both = name + ", " + description
            return both.where((name != "") & (description != ""), name + description).tolist()
        first, second = (name, description) if kind == "name" else (description, name)
        return first.where(first != "", second).tolist()

    def relation_texts(self, inverse: str = "dataset") -> list[str]:
        """2 · relation_count texts: those of the relations, then those of their inverses.

        inverse: "dataset" for the dataset's own texts, "prefix" for the word "inverse" before the relation's, "path"
        for the parts of a Freebase id turned round (`turned_path`).
        """
        if inverse not in ("dataset", "prefix", "path"):
            raise InputError(f"unknown inverse text {inverse!r}", remedy="choose dataset, prefix or path")
        texts = self.relations["text"].tolist()
        if inverse == "path":
            return texts + [turned_path(relation) for relation in self.relations["id"]]
        return texts + (
            [f"inverse {text}" for text in texts] if inverse == "prefix" else self.relations["inverse"].tolist()
        )

    @cached_property
    def _answers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every true (h, r, t), inverses included, as sorted distinct query keys, row pointers and tails."""
        triples = np.unique(np.concatenate([self.split(name, inverse=True) for name in SPLITS]), axis=0)
        keys, first = np.unique(self._key(triples[:, 0], triples[:, 1]), return_index=True)
        return keys, np.append(first, len(triples)), triples[:, 2]

    def _key(self, heads: np.ndarray, relations: np.ndarray) -> np.ndarray:
        return heads * (2 * self.relation_count) + relations

    def known_answers(self, heads: np.ndarray, relations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All true tails of the queries (h, r, ?) in train, valid and test, as a CSR pair (indptr, indices).

        Indices of one query are sorted and distinct; the answer that is asked for stands among them.
        """
        keys, pointers, tails = self._answers
        wanted = self._key(np.asarray(heads, np.int64), np.asarray(relations, np.int64))
        position = np.searchsorted(keys, wanted).clip(max=max(len(keys) - 1, 0))
        found = keys[position] == wanted if len(keys) else np.zeros(len(wanted), bool)
        start = np.where(found, pointers[position], 0)
        length = np.where(found, pointers[position + 1] - pointers[position], 0) if len(keys) else start
        indptr = np.concatenate([[0], np.cumsum(length)])
        flat = np.arange(indptr[-1]) - np.repeat(indptr[:-1] - start, length)
        return indptr, tails[flat]


def evenly_spaced(count: int, limit: int | None) -> np.ndarray:
    """At most `limit` (None or 0: all) of the numbers 0 … count - 1, evenly spaced from first to last, ascending."""
    if not limit or limit >= count:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).round().astype(np.int64)


def turned_path(relation: str) -> str:
    """The inverse of a Freebase relation as KaLM's released files have it: halves swapped, or segments turned round.

    "/a/b./c/d" is "c d. a b", "/a/b/c_d" is "c d b a".
    """
    halves = [[segment.replace("_", " ") for segment in half.split("/") if segment] for half in relation.split("./")]
    if len(halves) > 1:
        return ". ".join(" ".join(half) for half in reversed(halves))
    return " ".join(reversed(halves[0]))

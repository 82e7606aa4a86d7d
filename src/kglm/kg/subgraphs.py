"""Sub-graphs sampled from the training graph: walks from an entity along its triples.

KG-BiLM reads an entity with a sampled sub-graph around it (Sections 3.2 and 3.5); how it is sampled is left open.
Random walks are the relational paths of which the paper speaks, and beyond the first step they reach entities that
lie further from each other than the hop threshold.
"""

import numpy as np

from kglm.kg.graph import Graph

NO_WALKS = np.empty((0, 1, 2), np.int64)
_TRIES = 4  # draws of a further step: one that may not be taken is drawn anew so often


class Subgraphs:
    """The training triples at each entity, inverse ones included, as edges (relation, entity) to walk along."""

    def __init__(self, graph: Graph):
        triples = graph.split("train", inverse=True)
        triples = triples[np.lexsort(triples.T[[2, 1, 0]])]  # whatever the order of the file
        triples = triples[np.append(True, (triples[1:] != triples[:-1]).any(axis=1))[: len(triples)]]  # each one once
        self._edges = np.ascontiguousarray(triples[:, 1:])
        self._first = np.concatenate([[0], np.cumsum(np.bincount(triples[:, 0], minlength=graph.entity_count))])
        self._relations = graph.relation_count

    def drawn(
        self,
        entity: int,
        count: int,
        radius: int,
        generator: np.random.Generator,
        asked: tuple[int, int, int] | None = None,
    ) -> np.ndarray:
        """At most `count` walks of at most `radius` steps (relation, entity): (k, radius, 2), -1 behind a walk's end.

        The first steps are drawn without repetition. No walk goes along the triple `asked` = (head, relation, tail)
        or its inverse, whichever entity it has come to, and none comes back to an entity on its way.
        """
        edges = self._edges[self._first[entity] : self._first[entity + 1]]
        if not count or not radius or not len(edges):
            return NO_WALKS
        # The triple asked for stands at its entity once, or, being a loop, twice: as itself and as its inverse.
        edges = edges[generator.choice(len(edges), min(count + 2, len(edges)), replace=False)]
        edges = edges[~self._is_asked(entity, *edges.T, asked)][:count]
        walks = np.full((len(edges), radius, 2), -1)
        walks[:, 0] = edges
        for step in range(1, radius):
            self._go_on(entity, walks, step, generator, asked)
        return walks

    def joint(self, head: int, relation: int, tail: int) -> tuple[int, int]:
        """(head, tail) where this training triple alone joins the two, -1 twice otherwise."""
        edges = self._edges[self._first[head] : self._first[head + 1]]
        between = edges[edges[:, 1] == tail, 0]
        alone = head != tail and between.tolist() == [relation]
        return (head, tail) if alone else (-1, -1)

    def fixed(self, entity: int, count: int, radius: int) -> np.ndarray:
        """As `drawn`, with a draw that is always the same, so that all see what was trained on."""
        return self.drawn(entity, count, radius, np.random.default_rng(entity))

    def _go_on(self, entity: int, walks: np.ndarray, step: int, generator: np.random.Generator, asked) -> None:
        """Draw the step of number `step` of each walk (k, radius, 2) that has not ended before."""
        noise = generator.random((_TRIES, len(walks)))
        origins = walks[:, step - 1, 1]
        waiting = np.flatnonzero(origins >= 0)
        for draws in noise:
            start, end = self._first[origins[waiting]], self._first[origins[waiting] + 1]
            steps = self._edges[start + (draws[waiting] * (end - start)).astype(np.int64)]
            on_the_way = np.column_stack([np.full(len(waiting), entity), walks[waiting, :step, 1]])
            barred = (on_the_way == steps[:, 1:]).any(axis=1) | self._is_asked(origins[waiting], *steps.T, asked)
            walks[waiting[~barred], step] = steps[~barred]
            waiting = waiting[barred]
            if not len(waiting):
                return

    def _is_asked(self, origins, relations: np.ndarray, ends: np.ndarray, asked) -> np.ndarray:
        """Which edges are the triple `asked` or its inverse: bool (k,)."""
        if asked is None:
            return np.zeros(len(relations), bool)
        head, relation, tail = asked
        inverse = (relation + self._relations) % (2 * self._relations)
        forwards = (origins == head) & (relations == relation) & (ends == tail)
        return forwards | ((origins == tail) & (relations == inverse) & (ends == head))

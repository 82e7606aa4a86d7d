"""StAR: negatives, the loss against a plain loop, and factored scores against the network over [u; uv; u−v; v]."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.methods._interface import build_method
from kglm.methods.star import Method

from .rows import one as alone


@pytest.fixture(scope="module")
def star(ring_graph, encoder_folder):
    def make(**changes) -> Method:
        torch.manual_seed(0)
        return build_method("star", changes, ring_graph, encoder_folder).train()

    return make


@pytest.fixture(scope="module")
def one(star) -> Method:
    """One for tests that change nothing of it."""
    return star(negatives=2, margin=2.0, distance_weight=0.5)


def pair(method: Method, head: int, relation: int, tail: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs at [CLS] of both texts, each encoded alone, without padding."""
    vectors = []
    for ids in (alone(method.texts.queries, head, relation), alone(method.texts.described, tail)):
        given = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        vectors.append(method.texts.first(method.encoder, given)[0])
    return vectors[0], vectors[1]


def logit(method: Method, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return method.classifier(torch.cat([u, u * v, u - v, v]))[0]


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 8), parts=st.integers(1, 2))
def test_negatives_are_never_true_and_keep_their_relation(one, ring_graph, seed, size, parts):
    everything = ring_graph.split("train", inverse=True)
    known = {*map(tuple, everything.tolist())}
    triples = everything[np.random.default_rng(seed).permutation(len(everything))[: size * parts]]
    for part in range(parts):
        rows = one.collate(triples, np.random.default_rng(seed), part, parts)["triples"].numpy()
        true, false = rows[: len(rows) // 3], rows[len(rows) // 3 :]
        assert {*map(tuple, true.tolist())} <= known and not {*map(tuple, false.tolist())} & known
        changed = np.repeat(true, 2, axis=0) != false
        assert (changed.sum(axis=1) == 1).all() and not changed[:, 1].any()


def test_the_loss_is_that_of_a_plain_loop(one, ring_graph):
    inputs = one.collate(ring_graph.split("train", inverse=True)[::5], np.random.default_rng(3), 0, 1)
    rows = inputs["triples"].tolist()
    count = len(rows) // 3
    pairs = [pair(one, *triple) for triple in rows]
    probabilities = [torch.sigmoid(logit(one, u, v)).item() for u, v in pairs]
    distances = [torch.sqrt(((u - v) ** 2).sum()).item() for u, v in pairs]
    classification = -np.mean([np.log(p if row < count else 1 - p) for row, p in enumerate(probabilities)])
    hinges = [
        max(2.0 + distances[row] - distances[count + 2 * row + which], 0.0) for row in range(count) for which in (0, 1)
    ]
    found = {name: value.item() for name, value in one(**inputs).items()}
    assert found["classification"] == pytest.approx(classification, rel=1e-4)
    assert found["distance"] == pytest.approx(np.mean(hinges), rel=1e-4) and 0 < found["distance"] != 2.0
    assert found["loss"] == pytest.approx(classification + 0.5 * np.mean(hinges), rel=1e-4)


def test_inner_products_are_the_classifiers_logits(one, ring_graph):
    triples = ring_graph.split("train", inverse=True)[::4]
    with torch.no_grad():
        expected = [logit(one, *pair(one, *triple)).item() for triple in triples.tolist()]
    np.testing.assert_allclose(one.score_triples(triples, 3), expected, atol=1e-4)
    assert one.interaction() is None


@pytest.mark.parametrize("changes", [{"negatives": 0}, {"maximum_length": 129}])
def test_bad_options_are_named(star, changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        star(**changes)

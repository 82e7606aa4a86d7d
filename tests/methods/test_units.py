"""KG-BiLM's sequences, views and the places that are masked in them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.lm.knowledge_mask import PADDING, TEXT, UNKNOWN
from kglm.methods._encoding import TokenTexts
from kglm.methods._masked_prediction import draw_masks
from kglm.methods._units import ENTITY, MASK, RELATION, WORD, Augmentation, Context, Units, Vocabulary

from .graphs import batch, graph_of, train_triples


def test_ids_tell_their_kinds():
    vocabulary = Vocabulary(words=5, entities=3, relations=4)
    ids = [4, vocabulary.entity(0), vocabulary.entity(2), vocabulary.relation(0), vocabulary.relation(3)]
    assert vocabulary.kinds(np.array([0, *ids, vocabulary.mask])).tolist() == [
        WORD,
        WORD,
        ENTITY,
        ENTITY,
        RELATION,
        RELATION,
        MASK,
    ]
    assert vocabulary.mask == 5 + vocabulary.further - 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 6))
def test_context_is_of_the_training_graph_without_the_triple_asked_for(seed, relations, count):
    random = np.random.default_rng(seed)
    triples = np.unique(random.integers([5, relations, 5], size=(15, 3)), axis=0)
    graph = graph_of(triples, 5, relations)
    context = Context(graph)
    known = set(map(tuple, train_triples(graph).tolist()))
    for head, relation, tail in train_triples(graph).tolist():
        edges = context.drawn(head, count, random, (relation, tail)).tolist()
        found = {(head, r, e) for r, e in edges}
        assert len(found) == len(edges) <= count
        assert found <= known
        asked = np.array([[head, relation, tail]])
        assert not found & {(head, relation, tail), *map(tuple, graph.inverse(asked).tolist())}
        others = {t for t in known if t[0] == head} - {(head, relation, tail)}
        if head == tail:
            others -= set(map(tuple, graph.inverse(asked).tolist()))
        assert len(edges) == min(count, len(others))


def test_every_edge_is_drawn_equally_often():
    graph = graph_of(np.array([[0, 0, tail] for tail in range(1, 6)]), 6, 1)
    random, context = np.random.default_rng(0), Context(graph)
    drawn = np.concatenate([context.drawn(0, 2, random, (0, 5))[:, 1] for _ in range(2000)])
    np.testing.assert_allclose(np.bincount(drawn, minlength=6) / 2000, [0, 0.5, 0.5, 0.5, 0.5, 0], atol=0.04)


class Letters:
    """A tokenizer: one token a letter."""

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


VOCABULARY = Vocabulary(words=128, entities=10, relations=6)


def units(texts: list[str], maximum: int = 64, relations: tuple = ("",) * 6) -> Units:
    encoded = [[ord(letter) for letter in text] for text in relations]
    return Units(VOCABULARY, [1], TokenTexts(texts, Letters(), maximum), encoded, maximum)


def test_a_query_and_an_entity_in_tokens():
    built = units(["", "ab"], relations=("", "", "xy", "", "", ""))
    edges = np.array([[3, 4], [0, 1]])
    e, r = VOCABULARY.entity, VOCABULARY.relation
    context = [r(3), e(4), r(0), e(1)]
    asked = [r(2), ord("x"), ord("y"), VOCABULARY.mask]
    assert built.query(1, 2, edges) == [1, e(1), ord("a"), ord("b"), *context, *asked]
    assert built.query(1, 2, token=False) == [1, ord("a"), ord("b"), *asked]
    assert built.entity(1, edges) == [1, e(1), ord("a"), ord("b"), *context]
    assert built.entity(1, token=False) == [1, ord("a"), ord("b")]
    assert built.entity(0, token=False) == [1, e(0)]  # without text, something has to stand for it


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 4), st.integers(8, 40))
def test_what_is_too_long_loses_words_of_the_description_first(length, count, maximum):
    edges = np.stack([np.zeros(count, int), np.arange(count)], axis=1)
    sequence = units(["a" * length], maximum).query(0, 1, edges)
    assert len(sequence) <= maximum
    assert sequence[:2] == [1, VOCABULARY.entity(0)]
    assert sequence[-2:] == [VOCABULARY.relation(1), VOCABULARY.mask]
    kept = (VOCABULARY.kinds(np.array(sequence)) == ENTITY).sum() - 1
    assert kept == min(count, (maximum - 4) // 2)
    assert len(sequence) == min(4 + 2 * kept + length, maximum)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 5), st.floats(0, 0.9), st.floats(0, 0.9))
def test_a_view_drops_entities_deletes_one_span_and_shuffles(seed, length, count, dropping, deletion):
    text = "abcdefghijkl"[:length]
    edges = np.stack([np.arange(count), np.arange(count) + 2], axis=1)
    view = units([text]).view(0, edges, Augmentation(dropping, deletion, True), np.random.default_rng(seed))
    kinds = VOCABULARY.kinds(np.array(view))
    words = "".join(map(chr, np.array(view)[kinds == WORD][1:]))
    assert length - len(words) == round(deletion * length)
    assert words in {text[:i] + text[i + length - len(words) :] for i in range(len(words) + 1)}
    pairs = np.array(view)[kinds == RELATION], np.array(view)[np.flatnonzero(kinds == RELATION) + 1]
    found = set(zip(pairs[0] - VOCABULARY.relation(0), pairs[1] - VOCABULARY.words, strict=True))
    assert found <= set(map(tuple, edges.tolist())) and len(found) == len(pairs[0])
    if dropping == 0:
        assert len(found) == count and view[1] == VOCABULARY.entity(0)
    assert length or view[1] == VOCABULARY.entity(0)


def test_a_share_of_the_entities_is_dropped_and_the_order_varies():
    edges = np.array([[0, 2], [0, 3], [0, 4], [0, 5]])
    random, built = np.random.default_rng(0), units(["ab"])
    views = [built.view(0, edges, Augmentation(0.3, 0.0, True), random) for _ in range(400)]
    kept = np.mean([(VOCABULARY.kinds(np.array(view)) == ENTITY).sum() for view in views])
    assert kept == pytest.approx(5 * 0.7, abs=0.15)
    ordered = [built.view(0, edges, Augmentation(0.0, 0.0, shuffling), random) for shuffling in (False, True)]
    assert ordered[0] == built.entity(0, edges) and sorted(ordered[1]) == sorted(ordered[0])
    assert len({tuple(built.view(0, edges, Augmentation(0.0, 0.0, True), random)) for _ in range(50)}) > 10


# Masks


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=5), st.floats(0.05, 0.9), st.integers(0, 2**32 - 1))
def test_exactly_the_ratio_is_masked_the_answer_always(lengths, ratio, seed):
    random = np.random.default_rng(seed)
    real = np.arange(max(lengths)) < np.array(lengths)[:, None]
    weights = random.random(real.shape) * (random.random(real.shape) < 0.8)
    weights[:, 0] = 0
    masked = draw_masks(real, weights, ratio, random.exponential(size=real.shape))
    for row, length in enumerate(lengths):
        able = np.count_nonzero(weights[row, : length - 1]) + 1
        assert masked[row].sum() == min(max(round(ratio * length), 1), able)
        assert masked[row, length - 1]
        assert not masked[row, length:].any() and not masked[row, 0]
        assert (weights[row, : length - 1][masked[row, : length - 1]] > 0).all()


def test_a_position_is_masked_in_proportion_to_its_weight():
    count = 20_000
    real = np.ones((count, 6), bool)
    weights = np.tile([0.0, 1.0, 2.0, 5.0, 0.0, 9.0], (count, 1))
    noise = np.random.default_rng(0).exponential(size=real.shape)
    masked = draw_masks(real, weights, 0.34, noise)  # two of six: the answer and one more
    np.testing.assert_allclose(masked.mean(axis=0), [0, 1 / 8, 2 / 8, 5 / 8, 0, 1], atol=0.012)


def test_weights_of_positions(kg_bilm, ring_graph):
    method = kg_bilm()
    vocabulary = method.vocabulary
    rank, entropy = method.importance.entities, method.importance.relations
    e, r = vocabulary.entity, vocabulary.relation
    ids = np.array([[0, e(3), 65, r(2), e(7), r(1), 66, e(4)]])
    expected = [0, (rank[3] + entropy[1]) / 2, 1, 0, (rank[7] + entropy[2]) / 2, 0, 1, (rank[4] + entropy[1]) / 2]
    np.testing.assert_allclose(method._mask_weights(ids, np.array([1])), [expected])
    assert rank.mean() == pytest.approx(1)
    assert entropy.mean() == pytest.approx(1)
    assert len(entropy) == 2 * ring_graph.relation_count


def test_a_masked_batch_never_shows_what_it_asks_for(kg_bilm, ring_graph):
    method = kg_bilm()
    triples = train_triples(ring_graph)
    for seed in range(5):
        masked = batch(method, triples, seed)["masked"]
        inputs, positions, targets = masked["inputs"], masked["positions"], masked["targets"]
        ids, classes = inputs["ids"].numpy(), inputs["classes"].numpy()
        assert (ids[tuple(positions.T.numpy())] == method.vocabulary.mask).all()
        assert (ids == method.vocabulary.mask).sum() == len(positions)
        kinds = method.vocabulary.kinds(targets.numpy())
        assert set(kinds) <= {WORD, ENTITY}
        expected = np.where(kinds == WORD, TEXT, UNKNOWN)
        assert (classes[tuple(positions.T.numpy())] == expected).all()
        last = (classes != PADDING).sum(axis=1) - 1
        for row, (head, relation, tail) in enumerate(triples.tolist()):
            place = (positions == torch.tensor([row, last[row]])).all(dim=1)
            assert targets[place].tolist() == [method.vocabulary.entity(tail)]
            tokens = ids[row].tolist()
            pairs = set(itertools.pairwise(tokens))
            assert (method.vocabulary.relation(relation), method.vocabulary.entity(tail)) not in pairs
            if method.vocabulary.entity(head) in tokens:
                assert tokens[1] == method.vocabulary.entity(head)


def test_two_answers_of_one_query_make_the_same_input(kg_bilm):
    graph = graph_of(np.array([[0, 0, 1], [0, 0, 2], [1, 0, 2]]), 3, 1)
    method = kg_bilm(graph, context_neighbours=0)
    one, other = (batch(method, np.array([[0, 0, tail]]), 3)["masked"] for tail in (1, 2))
    for name, tensor in one["inputs"].items():
        assert torch.equal(tensor, other["inputs"][name]), name
    assert not torch.equal(one["targets"], other["targets"])


def test_near_is_that_of_the_entities_that_are_shown(kg_bilm, ring_graph):
    method = kg_bilm(hops=1)
    inputs = batch(method, train_triples(ring_graph))["masked"]["inputs"]
    triples = train_triples(ring_graph)
    joined = np.eye(ring_graph.entity_count, dtype=bool)
    joined[triples[:, 0], triples[:, 2]] = True
    for ids, classes, near in zip(inputs["ids"], inputs["classes"], inputs["near"], strict=True):
        shown = (ids[classes >= 0] - method.vocabulary.words).numpy()
        assert classes[classes >= 0].tolist() == list(range(len(shown)))
        np.testing.assert_array_equal(near[: len(shown), : len(shown)], joined[np.ix_(shown, shown)])
        assert not near[len(shown) :].any()

"""KG-BiLM's sequences, views and the places that are masked in them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglm.kg.graph import Graph
from kglm.lm.knowledge_mask import PADDING, TEXT, UNKNOWN
from kglm.lm.tokens import tokenised
from kglm.methods._masked_prediction import draw_masks
from kglm.methods._units import (
    ENTITY,
    MASK,
    RELATION,
    WORD,
    Augmentation,
    Importance,
    Padded,
    Units,
    Vocabulary,
)

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


class Letters:
    """A tokenizer: one token a letter."""

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


VOCABULARY = Vocabulary(words=128, entities=10, relations=6)


def units(texts: list[str], maximum: int = 64, relations: tuple = ("",) * 6) -> Units:
    encoded = [[ord(letter) for letter in text] for text in relations]
    return Units(VOCABULARY, [1], tokenised(texts, Letters()).cut(maximum), encoded, maximum)


def walks_of(*walks: list[tuple[int, int]]) -> np.ndarray:
    """Walks of (relation, entity) in one array, -1 behind their ends."""
    longest = max(map(len, walks))
    return np.array([[*walk, *[(-1, -1)] * (longest - len(walk))] for walk in walks])


def test_a_query_and_an_entity_in_tokens():
    built = units(["", "ab"], relations=("", "", "xy", "", "", ""))
    walks = walks_of([(3, 4), (5, 2)], [(0, 1)])
    e, r = VOCABULARY.entity, VOCABULARY.relation
    context = (r(3), e(4), r(5), e(2), r(0), e(1))
    asked = (r(2), ord("x"), ord("y"), VOCABULARY.mask)
    query = built.query(1, 2, walks)
    assert query.ids == (1, e(1), ord("a"), ord("b"), *context, *asked)
    # Words belong to their entity, relations to where they start: e(1), e(4), e(1) again.
    assert query.owners == (-1, 1, 1, 1, 1, 5, 5, 7, 1, 9, 1, 1, 1, -1)
    alone = built.query(1, 2, token=False)
    assert alone[:2] == ((1, ord("a"), ord("b"), *asked), (-1,) * 7)
    assert built.entity(1, walks).ids == (1, e(1), ord("a"), ord("b"), *context)
    assert built.entity(1, token=False).ids == (1, ord("a"), ord("b"))
    assert built.entity(0, token=False)[:2] == ((1, e(0)), (-1, 1))  # without text, something has to stand for it


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 4), st.integers(8, 40), st.integers(1, 3))
def test_what_is_too_long_loses_words_of_the_description_first(length, count, maximum, radius):
    walks = np.zeros((count, radius, 2), int)
    query = units(["a" * length], maximum).query(0, 1, walks)
    sequence, kinds = query.ids, VOCABULARY.kinds(np.array(query.ids))
    assert len(sequence) == len(query.owners) <= maximum
    assert sequence[:2] == (1, VOCABULARY.entity(0))
    assert sequence[-2:] == (VOCABULARY.relation(1), VOCABULARY.mask)
    kept = (kinds == ENTITY).sum() - 1
    assert kept == min(count * radius, (maximum - 4) // 2)
    assert len(sequence) == min(4 + 2 * kept + length, maximum)
    assert all(kinds[owner] == ENTITY for owner in query.owners if owner >= 0)
    assert [owner for owner in query.owners if owner < 0] == [-1, -1]  # of the begin token and <mask>


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 12),
    st.integers(0, 3),
    st.integers(0, 3),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
)
def test_a_view_drops_entities_deletes_one_span_and_shuffles(seed, length, count, radius, dropping, deletion):
    text = "abcdefghijkl"[:length]
    walks = np.arange(count * 2).reshape(count, 2)[:, :, None] + [0, 2]
    view = units([text]).view(0, walks, Augmentation(dropping, deletion, True, radius), np.random.default_rng(seed)).ids
    kinds = VOCABULARY.kinds(np.array(view))
    words = "".join(map(chr, np.array(view)[kinds == WORD][1:]))
    assert length - len(words) == round(deletion * length)
    assert words in {text[:i] + text[i + length - len(words) :] for i in range(len(words) + 1)}
    places = np.flatnonzero(kinds == RELATION)
    found = [(view[at] - VOCABULARY.relation(0), view[at + 1] - VOCABULARY.words) for at in places]
    whole = {tuple(map(tuple, walk)) for walk in walks.tolist()}
    left = [step for walk in whole for step in walk if step in found]
    assert sorted(left) == sorted(found)
    for first, second in whole:  # whoever is dropped takes what is behind it along
        assert second not in found or first in found
        assert radius > 1 or (second in found) == (first in found)  # further entities are not dropped themselves
    if dropping == 0 or radius == 0:
        assert len(found) == 2 * count and view[1] == VOCABULARY.entity(0)
    assert length or view[1] == VOCABULARY.entity(0)


def test_a_share_of_the_entities_is_dropped_and_the_order_varies():
    walks = walks_of([(0, 2)], [(0, 3)], [(0, 4)], [(0, 5)])
    random, built = np.random.default_rng(0), units(["ab"])
    views = [built.view(0, walks, Augmentation(0.3, 0.0, True, 2), random).ids for _ in range(400)]
    kept = np.mean([(VOCABULARY.kinds(np.array(view)) == ENTITY).sum() for view in views])
    assert kept == pytest.approx(5 * 0.7, abs=0.15)
    ordered = [built.view(0, walks, Augmentation(0.0, 0.0, shuffling, 2), random) for shuffling in (False, True)]
    assert ordered[0] == built.entity(0, walks) and sorted(ordered[1].ids) == sorted(ordered[0].ids)
    assert len({built.view(0, walks, Augmentation(0.0, 0.0, True, 2), random) for _ in range(50)}) > 10


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
    method = kg_bilm(mask_head=True)
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
    vocabulary, triples = method.vocabulary, train_triples(ring_graph)
    for seed in range(5):
        masked = batch(method, triples, seed)["masked"]
        (inputs,), (positions,), targets = masked["parts"], masked["positions"], masked["targets"]
        ids, classes = inputs["ids"].numpy(), inputs["classes"].numpy()
        assert (ids[tuple(positions.T.numpy())] == vocabulary.mask).all()
        assert (ids == vocabulary.mask).sum() == len(positions)
        kinds, slots = vocabulary.kinds(targets.numpy()), inputs["near"].shape[1]
        found = classes[tuple(positions.T.numpy())]
        assert set(kinds) <= {WORD, ENTITY}
        assert (found[kinds == ENTITY] == UNKNOWN).all()
        assert ((found[kinds == WORD] == TEXT) | (found[kinds == WORD] >= slots)).all()
        _masked_words_keep_their_parent(vocabulary, triples, ids, classes, positions.numpy()[kinds == WORD])
        last = (classes != PADDING).sum(axis=1) - 1
        for row, (head, relation, tail) in enumerate(triples.tolist()):
            place = (positions == torch.tensor([row, last[row]])).all(dim=1)
            assert targets[place].tolist() == [vocabulary.entity(tail)]
            (asked,) = np.flatnonzero(vocabulary.kinds(ids[row]) == RELATION)[-1:]
            assert not {
                (head, relation, tail),
                (tail, *ring_graph.inverse(triples[row : row + 1])[0, 1:].tolist()),
            } & walked(vocabulary, head, ids[row][:asked])


def _masked_words_keep_their_parent(vocabulary, triples, ids, classes, places) -> None:
    """The words of the head's text belong to it; `mask_head: false` always shows it, in the first slot."""
    slots = ((classes >= 0) & (vocabulary.kinds(ids) == ENTITY)).sum(axis=1).max()
    assert (ids[:, 1] == vocabulary.entity(0) + triples[:, 0]).all() and (classes[:, 1] == 0).all()
    assert len(places) and (classes[tuple(places.T)] == slots).all()


def walked(vocabulary: Vocabulary, head: int, ids: np.ndarray) -> set[tuple[int, int, int]]:
    """All triples that the context could be read as: each step from the head or from the entity before it."""
    kinds, found = vocabulary.kinds(ids), set()
    for at in np.flatnonzero(kinds[:-1] == RELATION):
        for origin in (vocabulary.entity(head), ids[at - 1]):
            found.add(
                (int(origin) - vocabulary.words, ids[at] - vocabulary.relation(0), ids[at + 1] - vocabulary.words)
            )
    return {tuple(map(int, triple)) for triple in found}


def test_two_answers_of_one_query_make_the_same_input(kg_bilm):
    graph = graph_of(np.array([[0, 0, 1], [0, 0, 2], [1, 0, 2]]), 3, 1)
    method = kg_bilm(graph, context_walks=0)
    one, other = (batch(method, np.array([[0, 0, tail]]), 3)["masked"] for tail in (1, 2))
    for name, tensor in one["parts"][0].items():
        assert torch.equal(tensor, other["parts"][0][name]), name
    assert not torch.equal(one["targets"], other["targets"])


TRIPLES = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 1), st.integers(0, 7)), min_size=1, max_size=14)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(triples=TRIPLES, hops=st.integers(1, 3), radius=st.integers(1, 3))
def test_the_mask_of_a_training_triple_is_that_of_the_graph_without_it(kg_bilm, triples, hops, radius):
    """As when it is a test triple: what it alone joins stays apart, in masked queries and pooled views alike."""
    triples = np.array(sorted(triples))
    options = {"hops": hops, "context_radius": radius, "pooled_view": "graph", "contrastive_weight": 0.0}
    method = kg_bilm(graph_of(triples, 8, 2), **options)
    for row, (head, relation, tail) in enumerate(triples.tolist()):
        other = kg_bilm(graph_of(np.delete(triples, row, axis=0), 8, 2), **options)
        made = batch(method, np.array([[head, relation, tail]]))
        shown = made["masked"]["parts"] + made["alignment"]["queries"]["parts"] + made["alignment"]["answers"]["parts"]
        for inputs in shown:
            entities = np.full((1, inputs["near"].shape[1]), -1)
            slots = inputs["classes"].numpy()
            at = (slots >= 0) & (slots < entities.shape[1])
            entities[0, slots[at]] = inputs["ids"].numpy()[at] - method.vocabulary.words
            np.testing.assert_array_equal(inputs["near"].numpy(), other.near(entities, np.full((1, 2), -1)))


def joined_graph(graph) -> np.ndarray:
    triples, joined = train_triples(graph), np.eye(graph.entity_count, dtype=bool)
    joined[triples[:, 0], triples[:, 2]] = True
    return joined


def test_near_is_that_of_the_entities_that_are_shown(kg_bilm, ring_graph):
    method, joined = kg_bilm(hops=1), joined_graph(ring_graph)
    inputs = method._inputs([method.query(head, relation) for head, relation, _ in train_triples(ring_graph).tolist()])
    for ids, classes, near in zip(inputs["ids"], inputs["classes"], inputs["near"], strict=True):
        entities = (classes >= 0) & (classes < len(near))
        shown = (ids[entities] - method.vocabulary.words).numpy()
        assert classes[entities].tolist() == list(range(len(shown)))
        np.testing.assert_array_equal(near[: len(shown), : len(shown)], joined[np.ix_(shown, shown)])
        assert not near[len(shown) :].any()


def hidden_pairs(method, graph) -> float:
    """The share of pairs of entity tokens of queries that do not see each other."""
    seen = []
    for head, relation, _ in train_triples(graph).tolist():
        inputs = method._inputs([method.query(head, relation)])
        kinds, visible = inputs["kinds"][0], method.mask(inputs["classes"], inputs["near"], torch.float32)[0, 0] == 0
        seen.append(visible[kinds == ENTITY][:, kinds == ENTITY].flatten())
    return 1 - torch.cat(seen).float().mean().item()


def chain_graph() -> Graph:
    """A ring of twenty entities: what lies two steps to either side of one is up to four hops apart."""
    return graph_of(np.array([[i, 0, (i + 1) % 20] for i in range(20)]), 20, 1)


def test_the_threshold_of_hops_hides_pairs_of_entities(kg_bilm):
    graph = chain_graph()
    shares = {hops: hidden_pairs(kg_bilm(graph, hops=hops, window=0), graph) for hops in (1, 2, 3, 4)}
    assert shares[1] > shares[2] > shares[3] > shares[4] == 0


def test_no_neighbourhood_is_made_for_nothing(kg_bilm, ring_graph, monkeypatch):
    """Within one step of an entity all are within two hops of each other; a single token has nobody to see."""
    monkeypatch.setattr("kglm.kg.neighbourhood.Neighbourhood.of", None)
    triples = train_triples(ring_graph)
    for changes in ({"context_radius": 1}, {"context_walks": 0}, {"attention": "causal"}):
        method = kg_bilm(**changes)
        (inputs,) = batch(method, triples)["masked"]["parts"]
        shown = ((inputs["classes"] >= 0) & (inputs["classes"] < inputs["near"].shape[1])).sum(dim=1)
        assert torch.equal(inputs["near"].sum(dim=(1, 2)), shown**2)
    method = kg_bilm(scoring="pooled")
    method.encode_queries(triples[:3, 0], triples[:3, 1], 2)
    with pytest.raises(TypeError):
        batch(method, triples)


@pytest.mark.parametrize("parents", ["none", "words", "words_and_relations"])
def test_what_predicts_the_answer_sees_the_head(kg_bilm, parents):
    """The paper's third condition: words see what their entity sees; here the relation that is asked for, too."""
    graph = chain_graph()
    graph.entities["description"] = "a long text"
    method = kg_bilm(graph, parents=parents, window=1)
    query = method.query(3, 0)
    inputs = method._inputs([query])
    visible = method.mask(inputs["classes"], inputs["near"], torch.float32)[0, 0] == 0
    predicts, word = len(query.ids) - 2, 3
    assert visible[predicts, 1] == (parents == "words_and_relations")
    entities = np.flatnonzero(method.vocabulary.kinds(np.array(query.ids)) == ENTITY)
    assert visible[word, entities].all() == (parents != "none")  # all walks of two steps stay within two hops


def test_a_parent_that_is_masked_tells_nothing(kg_bilm):
    graph = chain_graph()
    method = kg_bilm(graph)
    whole = Padded.of([method.query(3, 0)])
    ids = whole.ids.copy()
    ids[0, 1] = method.vocabulary.mask  # the head
    inputs = method._model_inputs(whole._replace(ids=ids))
    classes, slots = inputs["classes"][0], inputs["near"].shape[1]
    of_head = (whole.owners[0] == 1) & (np.arange(ids.shape[1]) != 1)
    assert (classes[of_head] == TEXT).all() and of_head.sum() > 2
    assert (classes[whole.owners[0] > 1] >= 0).all() and slots == 4


def test_the_head_can_be_kept(kg_bilm, ring_graph):
    masked = [
        torch.cat(
            [(part["ids"][:, 1] == method.vocabulary.mask) for part in batch(method, triples, seed)["masked"]["parts"]]
        )
        for method, triples in [(kg_bilm(mask_head=keep), train_triples(ring_graph)) for keep in (True, False)]
        for seed in range(3)
    ]
    assert torch.cat(masked[:3]).any() and not torch.cat(masked[3:]).any()


def test_importance_to_a_power(ring_graph):
    linear, root, none = (Importance(ring_graph, exponent) for exponent in (1.0, 0.5, 0.0))
    for of in (lambda i: i.entities, lambda i: i.relations):
        assert of(linear).mean() == pytest.approx(of(root).mean()) == pytest.approx(1)
        ratio = of(root) / np.sqrt(of(linear))
        assert ratio == pytest.approx(ratio[0])
        assert (of(none) == 1).all()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 9), seed=st.integers(0, 2**32 - 1))
def test_groups_of_like_length_change_no_vector(kg_bilm, ring_graph, size, seed):
    method = kg_bilm().eval()
    sequences = [method.units.entity(e, method.subgraphs.fixed(e, e % 3, 2)) for e in range(ring_graph.entity_count)]
    expected = method.pooled(**method._inputs(sequences))
    method.parameters_ = replace(method.parameters_, chunk_size=size)
    chunked = method._chunks(sequences)
    assert max(len(part["ids"]) for part in chunked["parts"]) <= (size or len(sequences))
    torch.testing.assert_close(method.pooled_chunks(**chunked), expected)
    inputs = [batch(method, train_triples(ring_graph), seed % 100)["masked"]]
    method.parameters_ = replace(method.parameters_, chunk_size=0)
    inputs.append(batch(method, train_triples(ring_graph), seed % 100)["masked"])
    one, other = (method(masked=masked)["masked_prediction"] for masked in inputs)
    torch.testing.assert_close(one, other)

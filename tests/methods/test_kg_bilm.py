"""KG-BiLM: its sequences and views, what is masked, the softmax over words and entities, its options, its scale."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import kglm.methods.kg_bilm as module
from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.lm.knowledge_mask import PADDING, TEXT, UNKNOWN
from kglm.methods._encoding import TokenTexts
from kglm.methods._interface import build_method
from kglm.methods._masked_prediction import candidate_entities, draw_masks, masked_prediction_loss
from kglm.methods._units import ENTITY, MASK, RELATION, WORD, Augmentation, Context, Units, Vocabulary
from kglm.methods.kg_bilm import Method
from kglm.ranking import rank_triples

SMALL = {"maximum_length": 64, "context_neighbours": 2, "dropout": 0.0, "lora_dropout": 0.0}


@pytest.fixture(scope="session")
def gpt2_folder(model_folder, tmp_path_factory):
    """A GPT-2 of two layers with random weights and the LLaMA's tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    for file in model_folder.glob("tokenizer*"):
        shutil.copy(file, folder)
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, "vocab_size": 258}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=1, initializer_range=0.3)).save_pretrained(folder)
    return folder


@pytest.fixture
def kg_bilm(ring_graph, model_folder, gpt2_folder):
    def make(graph: Graph = ring_graph, family: str = "llama", **changes) -> Method:
        torch.manual_seed(0)
        folder = model_folder if family == "llama" else gpt2_folder
        method = build_method("kg_bilm", {**SMALL, **changes}, graph, folder)
        with torch.no_grad():  # as after some training
            for name, tensor in method.trainable().items():
                tensor.add_(torch.randn_like(tensor) * (0.3 if "types" in name or "bias" in name else 0.05))
        return method.train()

    return make


def batch(method: Method, triples: np.ndarray, seed: int = 0) -> dict:
    return method.collate(triples, np.random.default_rng(seed), 0, 1)


def train_triples(graph: Graph) -> np.ndarray:
    return graph.split("train", inverse=True)


def graph_of(triples: np.ndarray, entities: int, relations: int, split: str = "train") -> Graph:
    names = [f"e{i}" for i in range(entities)]
    frame = pd.DataFrame(triples, columns=["head", "relation", "tail"]).assign(split=split, label=1)
    kinds = [f"r{i}" for i in range(relations)]
    return Graph(
        pd.DataFrame({"id": names, "name": names, "description": "", "in_train": True}),
        pd.DataFrame({"id": kinds, "text": kinds, "inverse": kinds}),
        frame[["split", "head", "relation", "tail", "label"]],
    )


# Sequences


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


# The softmax over words and entities


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(0, 20))
def test_the_sample_holds_the_labels_and_stands_for_all(seed, entities, count):
    random = np.random.default_rng(seed)
    labels = random.integers(entities, size=4)
    candidates, log_weights = candidate_entities(labels, entities, count, random)
    assert (np.diff(candidates) > 0).all() and candidates.min() >= 0 and candidates.max() < entities
    assert set(labels) <= set(candidates)
    rest = entities - len(set(labels))
    assert len(candidates) == len(set(labels)) + min(count, rest)
    in_batch = np.isin(candidates, labels)
    assert (log_weights[in_batch] == 0).all()
    if count:
        assert np.exp(log_weights).sum() == pytest.approx(entities, rel=1e-5)


def test_the_weighted_sum_over_the_sample_is_unbiased():
    terms = np.exp(np.random.default_rng(1).normal(size=12))
    labels, sums = np.array([2, 2, 7]), []
    for seed in range(4000):
        candidates, log_weights = candidate_entities(labels, 12, 3, np.random.default_rng(seed))
        sums.append((terms[candidates] * np.exp(log_weights)).sum())
    assert np.std(sums) > 1
    assert np.mean(sums) == pytest.approx(terms.sum(), abs=4 * np.std(sums) / len(sums) ** 0.5)


def test_the_loss_is_equation_10(kg_bilm, ring_graph):
    method = kg_bilm()
    masked = batch(method, train_triples(ring_graph))["masked"]
    hidden = method.states(**masked["inputs"])
    vectors = torch.cat([method.embedding.words.weight, method.embedding.further.weight[: ring_graph.entity_count]])
    terms = []
    for (row, column), target in zip(masked["positions"].tolist(), masked["targets"].tolist(), strict=True):
        logits = vectors @ hidden[row, column - 1] + method.bias
        terms.append(-torch.log_softmax(logits, dim=0)[target])
    torch.testing.assert_close(method(masked=masked)["masked_prediction"], torch.stack(terms).mean())


def gradients(method: Method, inputs: dict) -> dict[str, torch.Tensor]:
    method.zero_grad()
    torch.manual_seed(1)
    method(**inputs)["loss"].backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def test_a_sample_of_all_entities_is_exact(kg_bilm, ring_graph):
    only = {"contrastive_weight": 0.0, "alignment_weight": 0.0}
    triples = train_triples(ring_graph)[:6]
    found = []
    for sampling in ({}, {"maximum_exact_entities": 0, "sampled_entities": 100}):
        method = kg_bilm(**only, **sampling)
        inputs = batch(method, triples)
        assert ("candidates" in inputs["masked"]) is bool(sampling)
        found.append({"loss": method(**inputs)["loss"], **gradients(method, inputs)})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)


def test_a_smaller_sample_is_exact_on_average(kg_bilm):
    """The normaliser is unbiased, so its logarithm is a little too small, the less the larger the sample."""
    torch.manual_seed(0)
    hidden, words, entities = torch.randn(8, 6), torch.randn(5, 6), torch.randn(400, 6) / 2
    bias, labels = torch.randn(405), np.arange(8) * 3
    exact = masked_prediction_loss(hidden, words, entities, bias, None, torch.from_numpy(labels) + 5)
    errors = []
    for count in (20, 200):
        losses = []
        for seed in range(100):
            candidates, log_weights = candidate_entities(labels, 400, count, np.random.default_rng(seed))
            places = torch.from_numpy(np.searchsorted(candidates, labels)) + 5
            chosen = torch.from_numpy(candidates)
            of_chosen = torch.cat([bias[:5], bias[5 + chosen]])
            weights = torch.from_numpy(log_weights)
            losses.append(masked_prediction_loss(hidden, words, entities[chosen], of_chosen, weights, places))
        errors.append((torch.stack(losses).mean() - exact).abs().item())
    assert errors[1] < errors[0] < 0.2
    assert errors[1] < 0.01


def test_words_are_exact_in_a_sample(kg_bilm, ring_graph):
    method = kg_bilm(maximum_exact_entities=0, sampled_entities=1)
    masked = batch(method, train_triples(ring_graph)[:4])["masked"]
    words = method.vocabulary.words
    of_words = masked["targets"] < words
    assert of_words.any() and not of_words.all()
    entities = masked["candidates"][masked["targets"][~of_words] - words]
    full = batch(kg_bilm(), train_triples(ring_graph)[:4])["masked"]["targets"]
    assert torch.equal(full[of_words], masked["targets"][of_words])
    assert torch.equal(full[~of_words], entities + words)


# The contrasts


def test_contrastive_loss_is_equation_12(kg_bilm, ring_graph):
    method = kg_bilm()
    views = batch(method, train_triples(ring_graph))["views"]
    z = method.pooled(**views)
    first, second = z[: len(z) // 2].double(), z[len(z) // 2 :].double()
    assert len(first) == ring_graph.entity_count
    expected = 0.0
    for k in range(len(first)):
        similarity = torch.stack([torch.dot(first[k], other) for other in second]) / 0.07
        expected -= torch.log(torch.exp(similarity[k]) / torch.exp(similarity).sum())
    found = method(views=views)["contrastive"]
    assert found.item() == pytest.approx(expected.item() / len(first), rel=1e-4)


@pytest.mark.parametrize("size", [4, 256])
def test_the_entities_of_a_contrast_differ(kg_bilm, ring_graph, size):
    method = kg_bilm(contrastive_batch_size=size)
    chosen = method._contrasted(train_triples(ring_graph), np.random.default_rng(0), 2)
    entities = [entity for entity, _ in chosen]
    assert len(set(entities)) == len(entities) == min(size, ring_graph.entity_count)
    aligned = batch(method, train_triples(ring_graph))["alignment"]["triples"]
    assert len(aligned) == min(size, len(train_triples(ring_graph)))


def test_pooling(kg_bilm, ring_graph):
    method = kg_bilm()
    inputs = method._inputs([method.query(0, 0), method.query(0, 1), method.units.entity(3)])
    hidden, real = method.states(**inputs), inputs["classes"] != PADDING
    assert not real.all()
    for pooling, pool in {
        "mean": lambda states: states.mean(dim=0),
        "max": lambda states: states.amax(dim=0),
        "last": lambda states: states[-1],
    }.items():
        method.parameters_ = replace(method.parameters_, pooling=pooling)
        expected = torch.stack([pool(states[row]) for states, row in zip(hidden, real, strict=True)])
        torch.testing.assert_close(method.pooled(**inputs), torch.nn.functional.normalize(expected, dim=1))


@pytest.mark.parametrize("view", ["text", "graph"])
def test_aligned_are_the_vectors_that_are_scored(kg_bilm, ring_graph, view):
    """With texts alone; with the graph, training draws other neighbours and hides the triple itself."""
    method = kg_bilm(scoring="pooled", pooled_view=view).eval()
    triples = train_triples(ring_graph)[:5]
    inputs = batch(method, triples)["alignment"]
    with torch.no_grad():
        queries = method.pooled(**inputs["queries"])[inputs["query_rows"]].numpy()
        answers = method.pooled(**inputs["answers"])[inputs["answer_rows"]].numpy()
    expected = method.encode_queries(triples[:, 0], triples[:, 1], 8), method.encode_entities(triples[:, 2], 8)
    assert np.allclose(queries, expected[0], atol=1e-5) is (view == "text")
    assert np.allclose(answers, expected[1], atol=1e-5) is (view == "text")
    kinds = method.vocabulary.kinds(inputs["queries"]["ids"].numpy())
    assert (ENTITY in kinds) is (view == "graph")


# Scores


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("attention", ["knowledge", "causal", "bidirectional"])
def test_scores_by_mask_are_the_logits_of_the_masked_answer(kg_bilm, ring_graph, family, attention):
    method = kg_bilm(family=family, attention=attention).eval()
    queries = ring_graph.split("test", inverse=True)
    q = method.encode_queries(queries[:, 0], queries[:, 1], 3)
    k = method.encode_entities(np.arange(ring_graph.entity_count), 3)
    with torch.no_grad():
        for row, (head, relation, _) in enumerate(queries.tolist()):
            inputs = method._inputs([method.query(head, relation)])
            hidden = method.states(**inputs)[0, -2]
            vectors = method.embedding.further.weight[: ring_graph.entity_count]
            logits = vectors @ hidden + method.bias[method.vocabulary.words :]
            np.testing.assert_allclose(q[row] @ k.T, logits.numpy(), atol=2e-5)


def test_permuting_the_tails_asked_for_changes_no_vector(kg_bilm, ring_graph):
    held_out = ring_graph.triples["split"] != "train"
    triples = ring_graph.triples.copy()
    triples.loc[held_out, "tail"] = np.roll(triples.loc[held_out, "tail"], 1)
    other = Graph(ring_graph.entities, ring_graph.relations, triples)
    for scoring in ("mask", "pooled"):
        vectors = []
        for graph in (ring_graph, other):
            method = kg_bilm(graph, scoring=scoring)
            queries = ring_graph.split("test")
            vectors.append(method.encode_queries(queries[:, 0], queries[:, 1], 4))
        np.testing.assert_array_equal(*vectors)


def test_unseen_entities_are_treated_as_seen_ones_when_texts_are_pooled(kg_bilm, ring_graph):
    method = kg_bilm(scoring="pooled")
    entities, size = np.arange(ring_graph.entity_count), 4
    before = method.encode_entities(entities, size)
    with torch.no_grad():
        method.embedding.further.weight[: ring_graph.entity_count].normal_()
    np.testing.assert_array_equal(method.encode_entities(entities, size), before)
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, atol=1e-5)


def test_equal_texts_have_equal_vectors(kg_bilm, ring_graph):
    entities = ring_graph.entities.assign(name="same", description="")
    method = kg_bilm(Graph(entities, ring_graph.relations, ring_graph.triples), scoring="pooled")
    vectors = method.encode_entities(np.arange(ring_graph.entity_count), 5)
    assert (vectors == vectors[0]).all()


def test_entities_are_encoded_in_pieces(kg_bilm, ring_graph, monkeypatch):
    method = kg_bilm(scoring="pooled")
    entities = np.arange(ring_graph.entity_count)
    whole = method.encode_entities(entities, 4)
    monkeypatch.setattr(module, "PIECE", 5)
    np.testing.assert_allclose(method.encode_entities(entities, 4), whole, atol=1e-6)


# Options


@pytest.mark.parametrize(("family", "scoring"), [("gpt2", "mask"), ("llama", "pooled")])
def test_the_losses_fall_and_answers_come_up(kg_bilm, ring_graph, family, scoring):
    method = kg_bilm(family=family, scoring=scoring, contrastive_weight=0.0)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=5e-3)
    triples = train_triples(ring_graph)
    losses = []
    for step in range(40):
        parts = method(**batch(method, triples, step))
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append({name: value.item() for name, value in parts.items()})
    for name in ("loss", "masked_prediction", "alignment"):
        assert np.mean([row[name] for row in losses[-5:]]) < np.mean([row[name] for row in losses[:5]]) - 0.3, name
    scores = method.encode_queries(triples[:, 0], triples[:, 1], 16) @ method.encode_entities(np.arange(12), 16).T
    ranks = (scores >= scores[np.arange(len(triples)), triples[:, 2]][:, None]).sum(axis=1)
    assert (1 / ranks).mean() > 0.4  # at random 0.26


ABLATIONS = {
    "whole": {},
    "without BKA": {"attention": "causal"},
    "without KMP": {"masked_prediction_weight": 0.0, "scoring": "pooled"},
    "without CGSA": {"contrastive_weight": 0.0, "alignment_weight": 0.0},
    "structure only": {"entity_text": "none", "relation_text": False},
    "LoRA": {"lora_modules": "att-ffn"},
    "frozen words, sampled": {"lora_modules": "ffn", "maximum_exact_entities": 0, "sampled_entities": 3},
    "bfloat16": {"base_weights": "bfloat16", "lora_modules": "ffn"},
    "random starts": {"entity_initialisation": "random", "language_model_mode": False},
}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("changes", ABLATIONS.values(), ids=ABLATIONS.keys())
def test_every_trained_parameter_has_a_gradient(kg_bilm, ring_graph, family, changes):
    """Else data-parallel training stops: it waits for the gradients of all."""
    method = kg_bilm(family=family, **changes)
    found = gradients(method, batch(method, train_triples(ring_graph)))
    assert found.keys() == method.trainable().keys()
    lora = changes.get("lora_modules", "none") != "none"
    assert any("lora_" in name for name in found) is lora
    assert ("embedding.words.weight" in found or any("wte" in n or "embed_tokens" in n for n in found)) is not lora
    with torch.no_grad():
        method.eval().encode_queries(np.array([0]), np.array([1]), 2)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_checkpointing_changes_no_gradient(kg_bilm, ring_graph, family):
    triples = train_triples(ring_graph)[:6]
    plain, checkpointed = (kg_bilm(family=family, gradient_checkpointing=on) for on in (False, True))
    expected = gradients(plain, batch(plain, triples))
    for name, gradient in gradients(checkpointed, batch(checkpointed, triples)).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_dropout_is_set_in_the_stock_model(kg_bilm, ring_graph, family):
    method = kg_bilm(family=family, dropout=0.5, contrastive_weight=0.0, alignment_weight=0.0)
    inputs = batch(method, train_triples(ring_graph))
    torch.manual_seed(0)
    assert method(**inputs)["loss"] != method(**inputs)["loss"]
    method.eval()
    assert method(**inputs)["loss"] == method(**inputs)["loss"]


def test_saved_and_loaded(kg_bilm, ring_graph, tmp_path):
    first = kg_bilm(lora_modules="ffn")
    first.save(tmp_path)
    second = kg_bilm(lora_modules="ffn")
    with torch.no_grad():
        for tensor in second.trainable().values():
            tensor.normal_()
    second.load(tmp_path)
    triples = train_triples(ring_graph)
    np.testing.assert_array_equal(first.score_triples(triples, 4), second.score_triples(triples, 4))


def test_the_decoder_has_its_own_learning_rate(kg_bilm):
    method = kg_bilm()
    of_model = {id(p) for part in method.language_model() for p in part.parameters()}
    others = {name for name, p in method.named_parameters() if id(p) not in of_model}
    assert others == {"embedding.further.weight", "types.weight", "bias"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"mask_ratio": 0.0}, "mask_ratio"),
        ({"temperature": 0.0}, "temperature"),
        ({"span_deletion": 1.0}, "span_deletion"),
        ({"masked_prediction_weight": 0.0}, "scoring: pooled"),
        ({"attention": "full"}, "attention"),
        ({"maximum_length": 4096}, "2048 positions"),
        ({"entity_text": "title"}, "title"),
    ],
)
def test_bad_options_are_named(kg_bilm, changes, named):
    with pytest.raises(InputError, match=named):
        kg_bilm(**changes)


# A graph of Wikidata5M's shape, at a hundredth of its size


def wikidata5m_graph() -> Graph:
    """46,000 entities, 822 relations and 206,000 triples; a few entities stand in very many, most in a few."""
    entities, relations, train, held_out = 46_000, 822, 206_000, 60
    random = np.random.default_rng(0)
    triples = (np.array([entities, relations, entities]) * random.random((2 * train, 3)) ** 3).astype(np.int64)
    triples = random.permutation(np.unique(triples, axis=0))[: train + held_out]
    graph = graph_of(triples, entities, relations)
    graph.entities["description"] = [f"it is number {number % 997}" for number in range(entities)]
    graph.triples.loc[train:, "split"] = np.repeat(["valid", "test"], held_out // 2)
    return graph


@pytest.mark.slow
def test_wikidata5m_shape(kg_bilm, tmp_path):
    graph = wikidata5m_graph()
    sampling = {"maximum_exact_entities": 10_000, "sampled_entities": 1024}
    method = kg_bilm(graph, **sampling, contrastive_batch_size=16, entity_text="description")
    assert method.neighbourhood.hops == 2
    triples = np.random.default_rng(0).permutation(train_triples(graph))
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    for step in range(3):
        inputs = batch(method, triples[step * 32 : (step + 1) * 32], step)
        assert 1024 < len(inputs["masked"]["candidates"]) < 1024 + 32 * 4
        loss = method(**inputs)["loss"]
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    asked = graph.split("valid")
    for scoring in ("mask", "pooled"):
        method.parameters_ = replace(method.parameters_, scoring=scoring)
        pieces = np.array_split(np.arange(graph.entity_count), 4)
        path = tmp_path / f"{scoring}.safetensors"
        save_file({"embeddings": np.concatenate([method.encode_entities(piece, 512) for piece in pieces])}, path)
        ranks = rank_triples(graph, asked, lambda h, r: method.encode_queries(h, r, 64), path)["realistic"]
        assert len(ranks) == 2 * len(asked)
        assert ranks.between(1, graph.entity_count).all()

"""KG-BiLM's softmax over words and entities together, exact and over a sample."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.methods._masked_prediction import candidate_entities, masked_prediction_loss

from .graphs import batch, gradients, train_triples


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
    (part,), (places,) = masked["parts"], masked["positions"]
    hidden = method.states(**part)
    vectors = torch.cat([method.embedding.words.weight, method.embedding.further.weight[: ring_graph.entity_count]])
    terms = []
    for (row, column), target in zip(places.tolist(), masked["targets"].tolist(), strict=True):
        logits = vectors @ hidden[row, column - 1] + method.bias
        terms.append(-torch.log_softmax(logits, dim=0)[target])
    torch.testing.assert_close(method(masked=masked)["masked_prediction"], torch.stack(terms).mean())


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

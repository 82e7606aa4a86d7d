"""SimKGC: texts without their answers, the negatives of each kind, and the loss against a plain loop."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.lm.language_model import load_tokenizer
from kglm.methods._interface import build_method
from kglm.methods.simkgc import FormerAnswers, Method, described

from .rows import one


@pytest.fixture(scope="module")
def simkgc(ring_graph, encoder_folder):
    def make(graph=ring_graph, **changes) -> Method:
        torch.manual_seed(0)
        return build_method("simkgc", changes, graph, encoder_folder).train()

    return make


def test_a_name_stands_before_the_description_but_not_twice(ring_graph):
    descriptions = ["ant, an insect", "an insect", ""] + [""] * 9
    entities = ring_graph.entities.assign(description=descriptions)
    texts = described(Graph(entities, ring_graph.relations, ring_graph.triples), "name_and_description")
    assert texts[:3] == ["ant: , an insect", "bee: an insect", "cat"]


def test_neighbours_are_named_behind_short_descriptions_but_never_the_answer(simkgc, ring_graph, encoder_folder):
    method, decode = simkgc(maximum_length=100), load_tokenizer(encoder_folder).decode
    # In train the bee has the ant, the cat and, across, the hen.
    assert decode(one(method.queries, 1, 0)) == "[CLS]bee: the animal bee ant cat hen[SEP]is followed by[SEP]"
    assert decode(one(method.queries, 1, 0, 2)) == "[CLS]bee: the animal bee ant hen[SEP]is followed by[SEP]"
    assert decode(one(method.queries, 1, 2)) == "[CLS]bee: the animal bee ant cat hen[SEP]inverse is followed by[SEP]"
    assert decode(one(method.described, 1, 0)) == "[CLS]bee: the animal bee cat hen[SEP]"
    assert decode(one(simkgc(neighbour_names=1).described, 1)) == "[CLS]bee: the animal bee ant[SEP]"
    assert decode(one(simkgc(neighbour_names=0, maximum_length=12).queries, 1, 0)) == "[CLS]bee: [SEP]is f[SEP]"
    words = ring_graph.entities.assign(description="long " * 20)
    long = simkgc(Graph(words, ring_graph.relations, ring_graph.triples), maximum_length=100)
    assert one(long.neighbours, 1, -1) == []
    longest = Graph(words, ring_graph.relations, ring_graph.triples)
    assert one(simkgc(longest, maximum_length=100, short_description=21).neighbours, 1, -1) != []
    assert one(simkgc(short_description=3).neighbours, 1, -1) == []  # "the animal bee" has three words


def unit(method: Method, encoder, ids: list[int]) -> torch.Tensor:
    """The mean output over one text, without padding, of unit length (d,)."""
    ends = torch.tensor([0] + [token == method.texts.special.sep for token in ids[:-1]]).cumsum(0) % 2
    states = encoder(input_ids=torch.tensor([ids]), token_type_ids=ends[None]).last_hidden_state[0]
    mean = states.mean(dim=0)
    return mean / mean.norm()


def plain_loss(method: Method, graph: Graph, triples: list, former: list) -> float:
    """InfoNCE with all its negatives, one term at a time; former: (entity, vector) of the batches before."""
    p, train = method.parameters_, {*map(tuple, graph.split("train", inverse=True).tolist())}
    temperature = method.log_temperature.exp().item()
    queries = [unit(method, method.query_encoder, one(method.queries, *triple)) for triple in triples]
    answers = [unit(method, method.entity_encoder, one(method.described, t, h)) for h, _, t in triples]
    heads = [unit(method, method.entity_encoder, one(method.described, h, t)) for h, _, t in triples]

    def exponential(one, other, weight=1.0, margin=0.0) -> float:
        return np.exp((weight * (one @ other).item() - margin) / temperature)

    total = 0.0
    for i, (h, r, _) in enumerate(triples):
        positive = exponential(queries[i], answers[i], margin=p.margin)
        pairs = [(queries[i], answers[j]) for j, (_, _, t) in enumerate(triples) if j != i and (h, r, t) not in train]
        negatives = [exponential(*vectors) for vectors in pairs]
        if p.self_negatives and (h, r, h) not in train:
            negatives.append(exponential(queries[i], heads[i]))
        known = ((entity, vector) for entity, vector in former if (h, r, entity) not in train)
        negatives += [exponential(queries[i], vector, weight=p.pre_batch_weight) for _, vector in known]
        total -= np.log(positive / (positive + sum(negatives)))
        t = triples[i][2]
        others = [(queries[j], answers[i]) for j, (a, b, _) in enumerate(triples) if j != i and (a, b, t) not in train]
        total -= np.log(positive / (positive + sum(exponential(*vectors) for vectors in others)))
    return total / (2 * len(triples))


@pytest.mark.parametrize(
    "changes",
    [
        {"self_negatives": False},
        {"neighbour_names": 0},
        {"self_negatives": False, "pre_batch_negatives": 10},
        {"pre_batch_negatives": 10, "margin": 0.3, "pre_batch_weight": 0.8},
    ],
    ids=["in batch", "self", "pre-batch", "all"],
)
@torch.no_grad()
def test_the_loss_is_that_of_a_plain_loop(simkgc, ring_graph, changes):
    """Three batches of six: the second has six former answers, the third the last ten."""
    loop = ring_graph.triples.iloc[:1].assign(head=3, relation=0, tail=3)  # a head that is a true answer
    triples = pd.concat([ring_graph.triples, loop, loop.assign(head=0)], ignore_index=True)
    graph = Graph(ring_graph.entities, ring_graph.relations, triples)
    method, former = simkgc(graph, **changes), []
    batches = [*np.array_split(graph.split("train", inverse=True)[::3], 2), np.array([[3, 0, 4], [3, 0, 3], [0, 0, 1]])]
    for batch in batches:
        found = method(**method.collate(batch, np.random.default_rng(0), 0, 1))["loss"].item()
        expected = plain_loss(method, graph, batch.tolist(), former)
        assert found == pytest.approx(expected, rel=1e-4)
        own = [(t, unit(method, method.entity_encoder, one(method.described, t, h))) for h, _, t in batch.tolist()]
        former = (own + former)[: method.parameters_.pre_batch_negatives]


@given(count=st.integers(0, 7), sizes=st.lists(st.integers(1, 5), max_size=5))
def test_former_answers_are_the_last_ones_newest_batch_first(count, sizes):
    former, kept, number = FormerAnswers(count, 2), [], 0
    for size in sizes:
        batch = list(range(number, number + size))
        number += size
        former.add(torch.tensor(batch)[:, None].expand(-1, 2).float(), torch.tensor(batch))
        kept = (batch + kept)[:count]
    assert former.entities.tolist() == kept + [-1] * (count - len(kept))
    assert former.vectors[: len(kept), 1].tolist() == kept


def test_two_encoders_start_equal_and_share_nothing(simkgc):
    method = simkgc(pre_batch_negatives=4)
    pairs = zip(method.query_encoder.parameters(), method.entity_encoder.parameters(), strict=True)
    assert all(torch.equal(one, other) and one is not other for one, other in pairs)
    assert {"former.vectors", "former.entities", "log_temperature"} < method.trainable().keys()
    inputs = method.collate(method.graph.split("train", inverse=True)[:9], np.random.default_rng(0), 0, 1)
    for _ in range(2):
        method(**inputs)["loss"].backward()
    assert not [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert not simkgc(train_temperature=False).log_temperature.requires_grad


def test_cached_gradients_are_those_of_the_whole_batch(ring_graph, encoder_folder):
    found = []
    for options in ({}, {"chunk_size": 3, "gradient_caching": True}):
        torch.manual_seed(0)
        method = build_method("simkgc", options, ring_graph, encoder_folder).train()
        triples = ring_graph.split("train", inverse=True)[::2]
        method(**method.collate(triples, np.random.default_rng(0), 0, 1))["loss"].backward()
        found.append({name: p.grad for name, p in method.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"pre_batch_negatives": -1}, {"neighbour_names": -1}])
def test_bad_options_are_named(simkgc, changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        simkgc(**changes)

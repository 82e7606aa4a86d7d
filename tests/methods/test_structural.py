import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.methods._interface import build_method

INTERACTIONS = ["transe", "distmult", "complex", "rotate"]
SMALL = {"dimension": 6, "negatives": 5, "initial_range": 0.8}


def build(graph: Graph, **parameters):
    """A method whose every parameter was moved, as by training."""
    torch.manual_seed(3)
    method = build_method("structural", SMALL | parameters, graph, None)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return method


def graph_of(triples: np.ndarray, entities: int, relations: int) -> Graph:
    frame = pd.DataFrame(triples, columns=["head", "relation", "tail"]).assign(split="train", label=1)
    names = [f"e{number}" for number in range(entities)]
    texts = [f"r{number}" for number in range(relations)]
    return Graph(
        pd.DataFrame({"id": names, "name": names, "description": "", "in_train": True}),
        pd.DataFrame({"id": texts, "text": texts, "inverse": texts}),
        frame,
    )


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_inner_products_are_the_models_own_scores_in_both_directions(interaction, ring_graph):
    method = build(ring_graph, interaction=interaction)
    heads, relations = (np.ascontiguousarray(part.reshape(-1)) for part in np.mgrid[0:12, 0:4])
    queries = method.encode_queries(heads, relations, 7).astype(np.float64)
    found = queries @ method.encode_entities(np.arange(12), 5).astype(np.float64).T
    if interaction in ("transe", "rotate"):
        assert (queries[:, -1] == 1).all()
        lengths = (queries[:, :-1] ** 2).sum(axis=1) / 4
        found = -np.sqrt(lengths[:, None] - found)
    with torch.no_grad():
        for row, (entity, relation) in enumerate(zip(heads.tolist(), relations.tolist(), strict=True)):
            if relation < 2:
                expected = method.model.score_t(torch.tensor([[entity, relation]]))
            else:
                expected = method.model.score_h(torch.tensor([[relation - 2, entity]]))
            np.testing.assert_allclose(found[row], expected[0].numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_a_triple_has_the_models_score_either_way_round(interaction, ring_graph):
    method, triples = build(ring_graph, interaction=interaction), ring_graph.split("train")
    with torch.no_grad():
        expected = method.model.score_hrt(torch.from_numpy(triples.copy()))[:, 0].numpy()
    np.testing.assert_array_equal(method.score_triples(triples, 4), method.score_triples(triples, 100))
    np.testing.assert_allclose(method.score_triples(triples, 4), expected, rtol=1e-6)
    np.testing.assert_array_equal(
        method.score_triples(ring_graph.inverse(triples), 4), method.score_triples(triples, 4)
    )
    assert np.ptp(expected) > 0.1


def negatives_of(batch: dict) -> np.ndarray:
    """The false triples (b, n, 3) of a batch."""
    false = batch["triples"][:, None].repeat(1, batch["negatives"].shape[1], 1).numpy()
    for row, of_head in enumerate(batch["of_heads"].tolist()):
        false[row, :, 0 if of_head else 2] = batch["negatives"][row]
    return false


@pytest.mark.parametrize("interaction", INTERACTIONS)
def test_nssa_is_the_loss_of_sun_et_al(interaction, ring_graph):
    method = build(ring_graph, interaction=interaction, margin=1.5, adversarial_temperature=0.7)
    batch = method.collate(ring_graph.split("train"), np.random.default_rng(0), 0, 1)
    assert 0 < batch["of_heads"].sum() < len(batch["of_heads"])
    positive = method.score_triples(batch["triples"].numpy(), 64).astype(np.float64)
    negative = method.score_triples(negatives_of(batch).reshape(-1, 3), 64).astype(np.float64).reshape(-1, 5)
    weights = np.exp(0.7 * negative) / np.exp(0.7 * negative).sum(axis=1, keepdims=True)
    right, wrong = np.log1p(np.exp(-1.5 - positive)), np.log1p(np.exp(negative + 1.5))
    expected = (right.mean() + (weights * wrong).sum(axis=1).mean()) / 2
    assert method(**batch)["loss"].item() == pytest.approx(expected, rel=1e-4)


def test_negatives_stand_beside_their_own_positive(ring_graph):
    method = build(ring_graph, loss="marginranking", margin=0.4)
    batch = method.collate(ring_graph.split("train"), np.random.default_rng(1), 0, 1)
    positive = method.score_triples(batch["triples"].numpy(), 64)[:, None]
    negative = method.score_triples(negatives_of(batch).reshape(-1, 3), 64).reshape(-1, 5)
    expected = np.maximum(negative - positive + 0.4, 0).mean()
    assert method(**batch)["loss"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", ["softplus", "crossentropy", "bcewithlogits"])
def test_the_other_losses_fall_where_the_positives_score_higher(loss, ring_graph):
    method = build(ring_graph, loss=loss).model.loss
    negative = torch.zeros(3, 4)
    losses = [method.process_slcwa_scores(torch.full((3, 1), score), negative) for score in (-1.0, 0.0, 1.0)]
    assert losses[0] > losses[1] > losses[2]


def test_the_regularisation_is_the_sum_of_third_powers(ring_graph):
    method = build(ring_graph, interaction="distmult", regularisation=0.01)
    output = method(**method.collate(ring_graph.split("train"), np.random.default_rng(0), 0, 1))
    cubes = sum((np.abs(tensor.numpy()) ** 3).sum() for tensor in method.trainable().values())
    assert output["regularisation"].item() == pytest.approx(0.01 * cubes, rel=1e-4)
    assert output["loss"].item() == pytest.approx((output["fit"] + output["regularisation"]).item())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(12, 20), st.integers(1, 3), st.integers(1, 12))
def test_negatives_are_false_in_train_and_keep_one_end(seed, entities, relations, count):
    draw = np.random.default_rng(seed)
    triples = np.unique(draw.integers([entities, relations, entities], size=(count, 3)), axis=0)
    method = build(graph_of(triples, entities, relations), negatives=40)
    batch = method.collate(triples, draw, 0, 1)
    true = set(map(tuple, triples.tolist()))
    for row, false in enumerate(negatives_of(batch)):
        end = 0 if batch["of_heads"][row] else 2
        np.testing.assert_array_equal(np.delete(false, end, axis=1), np.delete(triples[row], end)[None].repeat(40, 0))
        answers = {triple for triple in true if np.array_equal(np.delete(triple, end), np.delete(triples[row], end))}
        # With more answers the ten rounds of drawing end with a true one now and then.
        if 6 * len(answers) <= entities:
            assert not true & set(map(tuple, false.tolist()))


def test_uniform_negatives_may_be_true_and_filtered_ones_are_not():
    triples = np.array([[0, 0, tail] for tail in range(6)] + [[1, 0, 0]])
    true = {tuple(triple) for triple in triples.tolist()}
    shares = {}
    for corruption in ("uniform", "filtered"):
        method = build(graph_of(triples, 12, 1), negatives=200, corruption=corruption)
        false = negatives_of(method.collate(triples, np.random.default_rng(0), 0, 1)).reshape(-1, 3)
        shares[corruption] = np.mean([tuple(triple) in true for triple in false.tolist()])
    assert shares["uniform"] > 0.1
    assert shares["filtered"] < 0.001


def test_a_query_that_all_entities_answer_ends_the_drawing():
    triples = np.array([[0, 0, tail] for tail in range(4)])
    method = build(graph_of(triples, 4, 1), negatives=3)
    assert method.collate(triples, np.random.default_rng(0), 0, 1)["negatives"].shape == (4, 3)


def test_the_shares_of_two_processes_are_the_batch_of_one(ring_graph):
    method, triples = build(ring_graph), ring_graph.split("train")[:8]
    whole = method.collate(triples, np.random.default_rng(0), 0, 1)
    for part in range(2):
        share = method.collate(triples, np.random.default_rng(0), part, 2)
        for name, tensor in share.items():
            torch.testing.assert_close(tensor, whole[name][part::2])


def test_entities_without_a_training_triple_are_ranked_like_the_others():
    graph = graph_of(np.array([[0, 0, 1]]), 5, 2)
    method = build(graph)
    assert method.encode_entities(np.arange(5), 2).shape == (5, 13)
    assert np.isfinite(method.score_triples(np.array([[3, 1, 4]]), 1)).all()


def test_the_l1_distance_is_refused_in_one_line(ring_graph):
    with pytest.raises(InputError, match=r"^method structural: norm is 1; set norm: 2;.*inner product"):
        build(ring_graph, interaction="transe", norm=1)


def test_training_without_negatives_is_refused(ring_graph):
    with pytest.raises(InputError, match="negatives is 0; it must be at least 1"):
        build(ring_graph, negatives=0)

"""MEM-KGC: masked entities, the loss against torch's, and scores against the output layer."""

import numpy as np
import pytest
import torch

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.lm.language_model import load_tokenizer
from kglm.methods._interface import build_method
from kglm.methods.mem_kgc import Method

from .rows import one


@pytest.fixture(scope="module")
def mem_kgc(ring_graph, encoder_folder):
    def make(graph=ring_graph, **changes) -> Method:
        torch.manual_seed(0)
        return build_method("mem_kgc", changes, graph, encoder_folder).train()

    return make


def test_the_answer_and_an_entitys_own_name_are_masked(mem_kgc, ring_graph, encoder_folder):
    tokenizer = load_tokenizer(encoder_folder)
    method = mem_kgc()
    query = tokenizer.decode(one(method.queries, 0, 2))
    assert query == "[CLS]ant, the animal ant[SEP]inverse is followed by[SEP][MASK][SEP]"
    assert tokenizer.decode(one(method.descriptions, 0)) == "[CLS]the animal [MASK][SEP][MASK][SEP]"
    entities = ring_graph.entities.assign(description="")
    bare = mem_kgc(Graph(entities, ring_graph.relations, ring_graph.triples))
    assert tokenizer.decode(one(bare.descriptions, 0)) == "[CLS]ant[SEP][MASK][SEP]"  # else nothing were left


def output(method: Method, ids: list[int]) -> torch.Tensor:
    """The vector at the last [MASK] but one token, (d,)."""
    ids = torch.tensor([ids])
    segments = torch.zeros_like(ids)
    for place in range(1, ids.shape[1]):
        segments[0, place] = (segments[0, place - 1] + (ids[0, place - 1] == method.texts.special.sep)) % 2
    return method.encoder(input_ids=ids, token_type_ids=segments).last_hidden_state[0, -2]


@pytest.mark.parametrize("weight", [None, 0.5])
def test_the_loss_is_the_cross_entropy_over_all_entities(mem_kgc, ring_graph, weight):
    method = mem_kgc(entity_prediction=weight is not None, entity_prediction_weight=weight or 1.0)
    triples = ring_graph.split("train", inverse=True)[::4]
    found = method(**method.collate(triples, np.random.default_rng(0), 0, 1))
    answers = torch.stack([method.output(output(method, one(method.queries, h, r))) for h, r, _ in triples.tolist()])
    expected = torch.nn.functional.cross_entropy(answers, torch.from_numpy(triples[:, 2].copy()))
    torch.testing.assert_close(found["completion"], expected, rtol=1e-4, atol=1e-5)
    if weight is None:
        assert "entity_prediction" not in found
    else:
        named = torch.stack(
            [method.output(output(method, one(method.descriptions, h))) for h in triples[:, 0].tolist()]
        )
        own = torch.nn.functional.cross_entropy(named, torch.from_numpy(triples[:, 0].copy()))
        torch.testing.assert_close(found["entity_prediction"], own, rtol=1e-4, atol=1e-5)
        expected = expected + weight * own
    torch.testing.assert_close(found["loss"], expected, rtol=1e-4, atol=1e-5)


def test_scores_are_the_logits_of_the_output_layer(mem_kgc, ring_graph):
    method = mem_kgc()
    queries = ring_graph.split("test", inverse=True)[:, :2]
    heads, relations = np.ascontiguousarray(queries.T)
    scores = method.encode_queries(heads, relations, 3) @ method.encode_entities(np.array([5, 2]), 3).T
    with torch.no_grad():
        logits = torch.stack([method.output(output(method, one(method.queries, h, r))) for h, r in queries.tolist()])
    np.testing.assert_allclose(scores, logits[:, [5, 2]].numpy(), atol=1e-4)


def test_bad_options_are_named(mem_kgc):
    with pytest.raises(InputError, match="entity_prediction_weight"):
        mem_kgc(entity_prediction_weight=-1.0)

"""KG-BERT: what is read of a triple, the loss against a plain loop, and candidates against single triples."""

import numpy as np
import pytest
import torch

from kglm.errors import InputError
from kglm.lm.language_model import load_tokenizer
from kglm.methods._interface import build_method
from kglm.methods.kg_bert import Method


@pytest.fixture(scope="module")
def kg_bert(ring_graph, encoder_folder):
    def make(**changes) -> Method:
        torch.manual_seed(0)
        return build_method("kg_bert", {"maximum_length": 64, **changes}, ring_graph, encoder_folder).train()

    return make


def test_a_triple_is_read_in_three_sentences(kg_bert, encoder_folder, monkeypatch):
    method, tokenizer = kg_bert(entity_text="name"), load_tokenizer(encoder_folder)
    ids = method.texts.triples(np.array([[0, 1, 6]])).row(0)
    assert tokenizer.decode(ids) == "[CLS]ant[SEP]faces[SEP]gnu[SEP]"
    cut = kg_bert(maximum_length=20).texts.triples(np.array([[0, 1, 6]])).row(0)
    assert tokenizer.decode(cut) == "[CLS]ant, t[SEP]faces[SEP]gnu, [SEP]" and len(cut) == 20
    given = {}
    method.encoder.register_forward_hook(lambda *call: given.update(call[2]), with_kwargs=True)
    method.texts.first(method.encoder, {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))})
    assert given["token_type_ids"].tolist() == [[0] * 5 + [1] * 6 + [0] * 4]


def test_the_loss_is_that_of_a_plain_loop(kg_bert, ring_graph):
    """One triple at a time, without padding."""
    method = kg_bert(negatives=2)
    inputs = method.collate(ring_graph.split("train")[:5], np.random.default_rng(3), 0, 1)
    total = 0.0
    for row, triple in enumerate(inputs["triples"].tolist()):
        ids = torch.tensor([method.texts.triples(np.array([triple])).row(0)])
        ends = (ids == method.texts.special.sep)[0].nonzero()[:, 0].tolist()
        segments = torch.zeros_like(ids)
        segments[0, ends[0] + 1 : ends[1] + 1] = 1
        output = method.encoder(input_ids=ids, token_type_ids=segments).last_hidden_state[0, 0]
        p = torch.sigmoid(method.classifier.weight[0] @ output + method.classifier.bias[0]).item()
        total -= np.log(p) if row < 5 else np.log(1 - p)
    assert method(**inputs)["loss"].item() == pytest.approx(total / 15, rel=1e-4)


def test_candidates_are_scored_as_their_triples_are(kg_bert, ring_graph):
    """(h, r⁻¹, ?) asks for the triples that end in h."""
    method = kg_bert()
    queries = ring_graph.split("train", inverse=True)[::3, :2]
    candidates = np.array([7, 0, 3])
    found = method.score_candidates(*np.ascontiguousarray(queries.T), candidates, 4)
    assert found.shape == (len(queries), 3) and found.dtype == np.float32
    for row, (head, relation) in enumerate(queries.tolist()):
        inverse = relation >= ring_graph.relation_count
        triples = [
            (c, relation - ring_graph.relation_count, head) if inverse else (head, relation, c) for c in candidates
        ]
        np.testing.assert_allclose(found[row], method.score_triples(np.array(triples), 1), atol=1e-5)


def test_the_loss_knows_which_weights_are_whose(kg_bert):
    method = kg_bert()
    inside = {id(p) for module in method.language_model() for p in module.parameters()}
    assert {id(p) for p in method.parameters()} - inside == {id(p) for p in method.classifier.parameters()}


@pytest.mark.parametrize("changes", [{"negatives": 0}, {"maximum_length": 129}, {"entity_text": "title"}])
def test_bad_options_are_named(kg_bert, changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        kg_bert(**changes)

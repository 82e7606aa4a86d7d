"""KG-BiLM: its contrasts, its scores, its options, its scale."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import kglm.methods.kg_bilm as module
from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.lm.knowledge_mask import PADDING
from kglm.methods._units import ENTITY
from kglm.ranking import rank_triples

from .graphs import batch, gradients, graph_of, train_triples

# The contrasts


def test_contrastive_loss_is_equation_12(kg_bilm, ring_graph):
    method = kg_bilm()
    views = batch(method, train_triples(ring_graph))["views"]
    z = method.pooled_chunks(**views)
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
        queries = method.pooled_chunks(**inputs["queries"])[inputs["query_rows"]].numpy()
        answers = method.pooled_chunks(**inputs["answers"])[inputs["answer_rows"]].numpy()
    expected = method.encode_queries(triples[:, 0], triples[:, 1], 8), method.encode_entities(triples[:, 2], 8)
    assert np.allclose(queries, expected[0], atol=1e-5) is (view == "text")
    assert np.allclose(answers, expected[1], atol=1e-5) is (view == "text")
    kinds = method.vocabulary.kinds(inputs["queries"]["parts"][0]["ids"].numpy())
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
    "short walks, in groups": {"context_radius": 1, "chunk_size": 4, "parents": "none"},
    "rows": {"sparse_gradients": True},
    "random starts": {"entity_initialisation": "random", "language_model_mode": False},
}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("changes", ABLATIONS.values(), ids=ABLATIONS.keys())
def test_every_trained_parameter_has_a_gradient(kg_bilm, ring_graph, family, changes):
    """Else data-parallel training stops: it waits for the gradients of all."""
    method = kg_bilm(family=family, **changes)
    found = gradients(method, batch(method, train_triples(ring_graph)))
    assert found.keys() == method.trainable().keys()
    assert {tensor.dtype for tensor in method.trainable().values()} == {torch.float32}
    lora = changes.get("lora_modules", "none") != "none"
    assert any("lora_" in name for name in found) is lora
    assert ("embedding.words.weight" in found or any("wte" in n or "embed_tokens" in n for n in found)) is not lora
    with torch.no_grad():
        method.eval().encode_queries(np.array([0]), np.array([1]), 2)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("sampling", [{}, {"maximum_exact_entities": 0, "sampled_entities": 3}])
def test_gradients_of_rows_are_those_of_the_table(kg_bilm, ring_graph, family, sampling):
    dense, sparse = (kg_bilm(family=family, sparse_gradients=on, **sampling) for on in (False, True))
    triples, name = train_triples(ring_graph)[:6], "embedding.further.weight"
    expected, found = (gradients(method, batch(method, triples)) for method in (dense, sparse))
    assert found[name].is_sparse
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key].to_dense(), gradient, rtol=1e-4, atol=1e-6)


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
        ({"context_radius": 0}, "context_radius"),
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
    assert method.neighbourhood.hops == 2 and method.neighbourhood.table is None
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

"""C-LMKE: two encoders with shared vectors, queries without answers, and a loss over all keys of a batch."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.lm.language_model import load_tokenizer
from kglm.methods._interface import build_method
from kglm.methods.c_lmke import Matching, Method, drawn_negatives, matching_losses


@pytest.fixture(scope="module")
def uneven(ring_graph) -> Graph:
    """The ring, and one animal that three others face as well: degrees differ, and queries have several answers."""
    rows = [("train", head, 1, 3, 1) for head in (0, 1, 2)] + [("train", 0, 0, 4, 1)]
    more = pd.DataFrame(rows, columns=ring_graph.triples.columns)
    return Graph(ring_graph.entities, ring_graph.relations, pd.concat([ring_graph.triples, more], ignore_index=True))


@pytest.fixture(scope="module")
def c_lmke(uneven, encoder_folder):
    def make(graph=uneven, **changes) -> Method:
        torch.manual_seed(0)
        return build_method("c_lmke", changes, graph, encoder_folder)

    return make


def test_queries_and_keys_are_read_at_the_mask_and_at_the_entity(c_lmke, uneven, encoder_folder):
    method, tokenizer = c_lmke(entity_text="name"), load_tokenizer(encoder_folder)
    words, entities = method.tokens.words.num_embeddings, uneven.entity_count

    def ids(*parts) -> list[int]:
        """Tokens of texts, and of the further tokens' numbers."""
        found = []
        for part in parts:
            found += tokenizer(part, add_special_tokens=False)["input_ids"] if isinstance(part, str) else [words + part]
        return found

    tail, head = (method.texts.queries(np.array([[1, relation]])) for relation in (0, 2))
    assert tail.rows.row(0) == ids("[CLS]", 1, "bee", entities, "is followed by", "[MASK]", "[SEP]")
    assert head.rows.row(0) == ids(
        "[CLS]", "[MASK]", entities, "is followed by", 1, "bee", "[SEP]"
    )  # in its natural order
    assert tail.rows.row(0)[tail.positions[0]] == head.rows.row(0)[head.positions[0]] == tokenizer.mask_token_id
    key = method.texts.keys(np.array([1]))
    assert key.rows.row(0) == ids("[CLS]", 1, "bee", "[SEP]") and key.rows.row(0)[key.positions[0]] == words + 1


def test_vectors_are_outputs_at_these_positions(c_lmke):
    method, four = c_lmke(), np.array([4])
    with torch.no_grad():
        for sequence, encoder, found in (
            (
                method.texts.queries(np.array([[4, 1]])),
                method.query_encoder,
                method.encode_queries(four, four - 3, 1),
            ),
            (method.texts.keys(four), method.key_encoder, method.encode_entities(four, 1)),
        ):
            output = encoder(input_ids=torch.tensor([sequence.rows.row(0)])).last_hidden_state[0, sequence.positions[0]]
            np.testing.assert_allclose(found[0], output.numpy(), atol=1e-6)


def test_two_encoders_start_equal_and_share_the_vectors_of_words_and_further_tokens(c_lmke, uneven):
    method = c_lmke()
    first, second = method.query_encoder, method.key_encoder
    assert first.get_input_embeddings() is second.get_input_embeddings() is method.tokens
    for (name, one), (_, other) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(one, other) and ((one is other) == ("word_embeddings" in name)), name
    shared = [name for name in method.trainable() if "word_embeddings" in name]
    assert len(shared) == 2  # words and further tokens, once each
    triples = uneven.split("train", inverse=True)
    method(**method.collate(triples, np.random.default_rng(0), 0, 1))["loss"].backward()
    both = method.tokens.further.weight.grad.clone()
    alone = []
    for detached in ("query_encoder", "key_encoder"):
        method.zero_grad()
        encoder = getattr(method, detached)
        hook = encoder.register_forward_hook(_detach)
        method(**method.collate(triples, np.random.default_rng(0), 0, 1))["loss"].backward()
        hook.remove()
        alone.append(method.tokens.further.weight.grad.clone())
        assert alone[-1].abs().sum() > 0
    torch.testing.assert_close(alone[0] + alone[1], both, rtol=1e-4, atol=1e-6)


def _detach(module, inputs, output):
    output.last_hidden_state = output.last_hidden_state.detach()


def plain_loss(method: Method, graph: Graph, triples: np.ndarray) -> float:
    """Equation 2 with the concatenation, and L(q, K) key by key."""
    train = {*map(tuple, graph.split("train", inverse=True).tolist())}
    degrees, mode = np.log(graph.degrees + 1), method.parameters_.degrees
    first, second = method.matching.first, method.matching.second
    losses = []
    with torch.no_grad():
        for head, relation, answer in triples.tolist():
            q = torch.from_numpy(method.encode_queries(np.array([head]), np.array([relation]), 1)[0])
            probabilities = {}
            for key in set(triples[:, 2].tolist()):
                k = torch.from_numpy(method.encode_entities(np.array([key]), 1)[0])
                d = [] if mode == "none" else [degrees[head], degrees[answer if mode == "leaked" else key]]
                features = torch.cat([q, k, q - k, q * k, torch.tensor(d, dtype=torch.float32)])
                probabilities[key] = torch.sigmoid(second(torch.relu(first(features)))).item()
            positive = [p for key, p in probabilities.items() if (head, relation, key) in train]
            negative = np.array([p for key, p in probabilities.items() if (head, relation, key) not in train])
            weights = np.exp(negative) / np.exp(negative).sum()
            losses.append(-np.mean(np.log(positive)) - (weights * np.log(1 - negative)).sum())
    return float(np.mean(losses))


@pytest.mark.parametrize("degrees", ["none", "train", "leaked"])
def test_the_loss_is_that_of_a_plain_loop(c_lmke, uneven, degrees):
    method = c_lmke(degrees=degrees).eval()
    triples = np.concatenate([uneven.split("train", inverse=True)[::5], [[0, 1, 3], [0, 0, 4], [0, 0, 4]]])
    inputs = method.collate(triples, np.random.default_rng(0), 0, 1)
    assert sum(len(part["input_ids"]) for part in inputs["keys"]) == len(set(triples[:, 2].tolist()))
    assert method(**inputs)["loss"].item() == pytest.approx(plain_loss(method, uneven, triples), rel=1e-4)


def test_weights_of_negatives_have_no_gradient_and_a_query_without_negatives_adds_none():
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.1, 2.0]], requires_grad=True)
    positive = torch.tensor([[True, False, False], [True, True, True]])
    attraction, repulsion = matching_losses(logits, positive, ~positive)
    p = torch.sigmoid(torch.tensor([-2.0, 0.5]))
    weights = torch.softmax(p, dim=0)
    assert repulsion.item() == pytest.approx((-(weights * torch.log(1 - p)).sum() / 2).item(), rel=1e-5)
    repulsion.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0, *(weights * p / 2)], [0.0, 0.0, 0.0]]))
    assert torch.isfinite(attraction)


@given(seed=st.integers(0, 1000), count=st.integers(1, 8))
def test_drawn_negatives_are_negatives_and_as_many_as_asked_for(seed, count):
    generator = torch.Generator().manual_seed(seed)
    negative = torch.rand(5, 7, generator=generator) < 0.6
    drawn = drawn_negatives(negative, torch.rand(5, 7, generator=generator), count) & negative
    assert drawn.sum(dim=1).tolist() == negative.sum(dim=1).clamp(max=count).tolist()


def test_every_negative_is_drawn_now_and_then_and_fewer_of_them_change_the_loss(c_lmke, uneven):
    method = c_lmke(negative_keys=2).eval()
    triples = uneven.split("train", inverse=True)[:9]
    losses = {method(**method.collate(triples, np.random.default_rng(seed), 0, 1))["loss"].item() for seed in range(5)}
    assert len(losses) == 5
    all_keys = c_lmke().eval()
    assert "draws" not in all_keys.collate(triples, np.random.default_rng(0), 0, 1)
    enough = c_lmke(negative_keys=50).eval()
    found = [m(**m.collate(triples, np.random.default_rng(0), 0, 1))["loss"].item() for m in (all_keys, enough)]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


@settings(max_examples=20)
@given(seed=st.integers(0, 100), degrees=st.sampled_from(["none", "train", "leaked"]))
def test_the_interaction_for_the_ranker_scores_as_the_training_does(seed, degrees):
    from kglm.ranking.matching import matching_scorer

    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    matching = Matching(6, degrees)
    queries, keys = (generator.standard_normal((n, 6)).astype(np.float32) for n in (3, 5))
    of_queries, of_keys, of_answers = (generator.integers(0, 50, n) for n in (3, 5, 3))
    leaked = degrees == "leaked"
    logs = [torch.from_numpy(np.log1p(d)).float() for d in (of_queries, of_answers if leaked else of_keys)]
    with torch.no_grad():
        of_pairs = logs[1][:, None] if leaked else logs[1][None]
        expected = matching(torch.from_numpy(queries), torch.from_numpy(keys), logs[0], of_pairs)
    targets = of_answers if leaked else None
    scorer = matching_scorer(matching.factored(), queries, keys, of_queries, of_keys, targets, threads=1)
    np.testing.assert_allclose(scorer(slice(0, 3), slice(0, 5)), expected.numpy(), rtol=1e-4, atol=1e-5)


def scores_of_all(method: Method, graph: Graph, triples: np.ndarray) -> np.ndarray:
    """The ranker's scores of all entities for the queries of triples (n, 3), asked for with their own answers."""
    from kglm.ranking.matching import matching_scorer

    interaction, degrees = method.interaction(), graph.degrees
    queries = method.encode_queries(triples[:, 0].copy(), triples[:, 1].copy(), 8)
    entities = method.encode_entities(np.arange(graph.entity_count), 8)
    answers = degrees[triples[:, 2]] if interaction.degree == "leaked" else None
    scorer = matching_scorer(interaction, queries, entities, degrees[triples[:, 0]], degrees, answers, threads=1)
    return scorer(slice(0, len(triples)), slice(0, graph.entity_count))


@pytest.mark.parametrize(("degrees", "sees"), [("none", False), ("train", False), ("leaked", True)])
def test_only_leaked_scores_depend_on_the_answer(c_lmke, uneven, degrees, sees):
    """The same queries with other answers: all scores of a query change with the answer's degree, or none does."""
    method, triples = c_lmke(degrees=degrees), uneven.split("train", inverse=True)[:6]
    other = triples.copy()
    other[:, 2] = np.where(uneven.degrees[triples[:, 2]] == uneven.degrees[3], 8, 3)
    assert (uneven.degrees[other[:, 2]] != uneven.degrees[triples[:, 2]]).all()
    one, two = scores_of_all(method, uneven, triples), scores_of_all(method, uneven, other)
    assert (np.abs(one - two).max(axis=1) > 1e-4).all() if sees else np.array_equal(one, two)
    inputs = method.collate(triples, np.random.default_rng(0), 0, 1)
    given, targets = method._log_degrees(inputs["triples"], inputs["first"])
    assert given.tolist() == pytest.approx(np.log(uneven.degrees[triples[:, 0]] + 1))
    expected = triples[:, 2][:, None] if sees else np.unique(triples[:, 2])[None]
    np.testing.assert_allclose(targets, np.log(uneven.degrees[expected] + 1), rtol=1e-6)


def test_without_degrees_they_have_no_weights(c_lmke):
    none, train = c_lmke(degrees="none"), c_lmke()
    width = none.query_encoder.config.hidden_size
    assert none.matching.first.in_features == 4 * width == train.matching.first.in_features - 2
    assert not none.interaction().degrees.any() and none.interaction().degree == "none"


@pytest.mark.parametrize("changes", [{"degrees": "all"}, {"negative_keys": -1}])
def test_bad_options_are_named(c_lmke, changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        c_lmke(**changes)


def test_matching_is_in_float32_inside_autocast():
    """In bfloat16 a thirtieth of the logits were distinct."""
    torch.manual_seed(0)
    matching = Matching(64, "train")
    vectors, degrees = torch.randn(2, 40, 64), torch.rand(40)
    exact = matching(*vectors, degrees, degrees[None])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(matching(*vectors, degrees, degrees[None]), exact, rtol=0, atol=0)
        assert matching(*vectors.bfloat16(), degrees, degrees[None]).dtype == torch.float32

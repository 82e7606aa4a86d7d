import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kglm.methods._contrastive import KnownTriples, as_tensor, info_nce, same_tail, similarities
from kglm.methods._interface import build_method

POOLED = {"masked_prediction_weight": 0.0, "scoring": "pooled", "maximum_length": 64}
NONE = torch.zeros(1, 1, dtype=torch.bool)


def by_hand(similarity: np.ndarray, excluded: np.ndarray, temperature: float, margin: float) -> float:
    """Equations 1 and 2, term by term."""
    n = len(similarity)
    total = 0.0
    for matrix, mask in ((similarity, excluded), (similarity.T, excluded.T)):
        for i in range(n):
            positive = np.exp((matrix[i, i] - margin) / temperature)
            negatives = sum(np.exp(matrix[i, j] / temperature) for j in range(n) if j != i and not mask[i, j])
            total += -np.log(positive / (positive + negatives)) / 2
    return total / n


@given(
    n=st.integers(1, 6),
    seed=st.integers(0, 1000),
    temperature=st.floats(0.05, 2),
    margin=st.floats(0, 0.5),
)
def test_info_nce_is_the_sum_of_equation_1(n, seed, temperature, margin):
    generator = np.random.default_rng(seed)
    similarity = generator.uniform(-1, 1, (n, n))
    excluded = generator.random((n, n)) < 0.3
    loss = info_nce(torch.tensor(similarity), torch.tensor(excluded), torch.tensor(temperature), margin)
    assert loss.item() == pytest.approx(by_hand(similarity, excluded, temperature, margin), rel=1e-6, abs=1e-9)


def test_info_nce_equals_the_symmetric_loss_of_sentence_transformers():
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    torch.manual_seed(0)
    queries, answers = (torch.nn.functional.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    oracle = MultipleNegativesRankingLoss(
        model=None, scale=20.0, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    expected = oracle.compute_loss_from_embeddings([queries, answers], None)
    found = info_nce(queries @ answers.T, NONE.expand(5, 5), torch.tensor(0.05), 0.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_an_excluded_pair_gets_no_gradient():
    similarity = torch.rand(3, 3, requires_grad=True)
    excluded = torch.zeros(3, 3, dtype=torch.bool)
    excluded[0, 2] = True
    info_nce(similarity, excluded, torch.tensor(0.1), 0.0).backward()
    assert similarity.grad[0, 2] == 0
    assert (similarity.grad[~excluded] != 0).all()


def test_the_margin_raises_the_loss():
    similarity = torch.eye(4)
    losses = [info_nce(similarity, NONE.expand(4, 4), torch.tensor(0.5), margin).item() for margin in (0, 0.1, 0.5)]
    assert losses == sorted(losses) and losses[0] < losses[-1]


@given(rows=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 3), st.integers(0, 11)), min_size=1, max_size=20))
def test_known_triples_are_those_of_train_and_their_inverses(ring_graph, rows):
    known = {tuple(triple) for triple in ring_graph.split("train", inverse=True).tolist()}
    mask = KnownTriples(ring_graph)(as_tensor(np.array(rows)))
    expected = [[(h, r, t) in known for _, _, t in rows] for h, r, _ in rows]
    assert mask.tolist() == expected


def test_triples_of_valid_and_test_are_not_known_in_training(ring_graph):
    test = as_tensor(ring_graph.split("test"))
    assert len(test) and not KnownTriples(ring_graph)(test).diagonal().any()


def test_same_tail_masks_repeated_tails_only():
    triples = torch.tensor([[0, 0, 5], [1, 0, 6], [2, 0, 5]])
    assert same_tail(triples).tolist() == [[True, False, True], [False, True, False], [True, False, True]]


def in_bfloat16(values: torch.Tensor) -> bool:
    return values.dtype is not torch.float32 or torch.equal(values.bfloat16().float(), values)


def test_similarities_are_those_of_float32_inside_autocast():
    torch.manual_seed(0)
    first, second = torch.randn(24, 16), torch.randn(20, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert in_bfloat16((first @ second.T).float())
        torch.testing.assert_close(similarities(first, second), (first.double() @ second.double().T).float())


@pytest.mark.parametrize(
    "method, parameters",
    [
        ("kalm", {"language_model_weight": 0.0, "gradient_checkpointing": False, "margin": 0.0, "temperature": 1.0}),
        ("simkgc", {"pre_batch_negatives": 8, "margin": 0.0, "temperature": 1.0}),
        ("kg_bilm", {**POOLED, "alignment_weight": 0.0}),
        ("kg_bilm", {**POOLED, "contrastive_weight": 0.0}),
    ],
)
def test_no_contrastive_loss_is_made_of_bfloat16_cosines(
    method, parameters, ring_graph, model_folder, encoder_folder, monkeypatch
):
    """Autocast multiplies matrices in bfloat16; the margin and the temperature then hide what it has cut off."""
    seen, before = [], torch.nn.functional.cross_entropy

    def spy(logits, *rest, **options):
        seen.append(logits.detach())
        return before(logits, *rest, **options)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", spy)
    folder = encoder_folder if method == "simkgc" else model_folder
    built = build_method(method, parameters, ring_graph, folder).train()
    triples = ring_graph.split("train", inverse=True)[:12]
    for seed in range(2):  # the second step has answers of the first
        inputs = built.collate(triples, np.random.default_rng(seed), 0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            built(**inputs)
    temperature = built.parameters_.temperature
    assert seen and not any(in_bfloat16(logits[logits.isfinite()] * temperature) for logits in seen)

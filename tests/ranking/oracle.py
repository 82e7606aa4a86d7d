"""Ranks the slow way, twice: by the definition, and by PyKEEN's evaluator on the same scores."""

import numpy as np
import torch
from hypothesis import strategies as st
from pykeen.evaluation import RankBasedEvaluator
from pykeen.evaluation.evaluator import filter_scores_

NONE = np.zeros(0, np.int64)


def csr(known: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of indices as a CSR pair."""
    indptr = np.cumsum([0] + [len(row) for row in known])
    return indptr, np.array([index for row in known for index in row], np.int64)


def naive_ranks(scores: np.ndarray, targets: np.ndarray, known: list[list[int]]) -> np.ndarray:
    """One row a query: optimistic, realistic, pessimistic, candidates."""
    rows = []
    for score, target, filtered in zip(scores.tolist(), targets.tolist(), known, strict=True):
        others = [score[j] for j in range(len(score)) if j != target and j not in filtered]
        best = 1 + sum(other > score[target] for other in others)
        worst = 1 + sum(other >= score[target] for other in others)
        rows.append((best, (best + worst) / 2, worst, 1 + len(others)))
    return np.array(rows, float).reshape(-1, 4)


def pykeen_evaluator(scores: np.ndarray, targets: np.ndarray, known: list[list[int]]) -> RankBasedEvaluator:
    """PyKEEN's evaluator after one batch; its filtered scores are NaN but for the targets."""
    evaluator = RankBasedEvaluator(clear_on_finalize=False)
    scores = torch.from_numpy(np.array(scores, np.float32))
    target = torch.from_numpy(np.array(targets, np.int64))[:, None]
    true = scores.gather(1, target)
    pairs = [(i, j) for i, row in enumerate(known) for j in row]
    scores = filter_scores_(scores, torch.tensor(pairs, dtype=torch.long).reshape(-1, 2))
    scores = scores.scatter(1, target, true)
    evaluator.process_scores_(None, "tail", scores, true_scores=true)
    return evaluator


def pykeen_ranks(scores: np.ndarray, targets: np.ndarray, known: list[list[int]]) -> np.ndarray:
    """The same columns as `naive_ranks`, from PyKEEN."""
    evaluator = pykeen_evaluator(scores, targets, known)
    columns = [evaluator.ranks["tail", kind][0] for kind in ("optimistic", "realistic", "pessimistic")]
    return np.stack([*columns, evaluator.num_candidates["tail"][0]], axis=1)


@st.composite
def problems(draw, levels: int = 3):
    """Small integer embeddings (their scores are exact, and full of ties), targets and known answers."""
    queries, entities, width = draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    numbers = random.integers(0, draw(st.integers(1, levels)), (queries + entities, width))
    index = st.integers(0, entities - 1)
    targets = draw(st.lists(index, min_size=queries, max_size=queries))
    known = draw(st.lists(st.lists(index, max_size=2 * entities), min_size=queries, max_size=queries))
    vectors = numbers.astype(np.float32)
    return vectors[:queries], vectors[queries:], np.array(targets), known

"""Knowledge-masked prediction (KG-BiLM, Section 3.4, Appendix C.2): which positions are masked, and the loss."""

import numpy as np
import torch

from kglm.methods._contrastive import mean_over_processes


def draw_masks(real: np.ndarray, weights: np.ndarray, ratio: float, noise: np.ndarray) -> np.ndarray:
    """Which positions are masked, bool (b, s): round(ratio · length) of each row, and at least its last one.

    real: bool (b, s), true on the left; weights: (b, s), 0 where nothing is masked; noise: (b, s), exponentially
    distributed. The last real position is the answer's and always masked; the others are drawn one after another,
    each with a chance in proportion to its weight. Rows with fewer positions of weight have these masked.
    """
    lengths = real.sum(axis=1)
    wanted = np.maximum(np.rint(ratio * lengths).astype(np.int64), 1)
    # The first of exponential waiting times with rates w falls on i with the chance w_i / Σ w.
    waiting = np.where(real & (weights > 0), noise / np.where(weights > 0, weights, 1), np.inf)
    waiting[np.arange(len(real)), lengths - 1] = -1
    order = np.argsort(waiting, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    return (place < wanted[:, None]) & np.isfinite(waiting)


def candidate_entities(
    labels: np.ndarray, entities: int, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A sample of the entities for the softmax, sorted, and log weights (c,) that make it stand for all of them.

    All entities among `labels` are in it with weight 1, and of the rest `count` drawn uniformly without repetition,
    each with the weight rest / count. The weighted sum of any function is then unbiased for the sum over all
    entities, and equal to it where the sample holds all.
    """
    batch = np.unique(labels)
    rest = entities - len(batch)
    drawn = generator.choice(rest, min(count, rest), replace=False)
    # The number x among those outside the batch, as a number among all.
    drawn = drawn + np.searchsorted(batch - np.arange(len(batch)), drawn, side="right")
    candidates = np.concatenate([batch, drawn])
    weight = np.log(rest / len(drawn)) if len(drawn) else 0.0
    log_weights = np.concatenate([np.zeros(len(batch)), np.full(len(drawn), weight)])
    order = np.argsort(candidates)
    return candidates[order], log_weights[order].astype(np.float32)


def masked_prediction_loss(
    hidden: torch.Tensor,
    words: torch.Tensor,
    entities: torch.Tensor,
    bias: torch.Tensor,
    log_weights: torch.Tensor | None,
    targets: torch.Tensor,
) -> torch.Tensor:
    """Equation 10 as the mean over the masked positions of all processes (Algorithm 2).

    hidden: (n, d), the states before the masked positions; words (v, d) and entities (c, d): the rows of W_P;
    bias: (v + c,); log_weights: (c,) or None, see `candidate_entities`; targets: (n,) rows of both together.
    """
    of_entities = hidden.to(entities.dtype) @ entities.T
    logits = torch.cat([(hidden @ words.T).float(), of_entities.float()], dim=1) + bias
    if log_weights is not None:
        logits[:, len(words) :] += log_weights
    total = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    return mean_over_processes(total, torch.tensor(float(len(targets)), device=total.device))

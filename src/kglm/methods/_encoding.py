"""Token sequences through an encoder: each distinct one once, alike in length together, with or without gradients."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedTokenizerBase

from kglm.errors import InputError
from kglm.lm.tokens import Ragged, distinct

Chunk = dict[str, torch.Tensor]
Encode = Callable[[Chunk], torch.Tensor]  # a padded chunk of n sequences -> n vectors, or n numbers, float32

PIECE = 65_536  # rows that are held at once where no gradient is needed


class SpecialTokens(NamedTuple):
    """What an encoder's tokenizer begins, ends, masks and pads sequences with."""

    cls: int
    sep: int
    mask: int
    padding: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "SpecialTokens":
        """InputError where the tokenizer has no such token."""
        names = ("cls", "sep", "mask", "pad")
        special = [getattr(tokenizer, f"{name}_token_id") for name in names]
        if None in special:
            missing = names[special.index(None)]
            raise InputError(f"the tokenizer has no {missing} token", "base model", "give an encoder such as BERT")
        return cls(*special)


def chunks(rows: Ragged, padding: int, size: int = 0, tokens: int = 0) -> tuple[list[Chunk], torch.Tensor]:
    """Rows in padded chunks of at most `size` rows and of `tokens`, padding counted; and where each row went.

    Alike in length, longest first, so that little is padded and memory peaks at once. 0: no limit. A row that is longer
    than `tokens` is a chunk of its own.
    """
    order = np.argsort(-rows.sizes, kind="stable")
    sorted_rows, place = rows.take(order), np.empty(rows.count, np.int64)
    place[order] = np.arange(rows.count)
    parts, at, sizes = [], 0, sorted_rows.sizes
    while at < rows.count:
        fitting = max(tokens // max(int(sizes[at]), 1), 1) if tokens else rows.count
        stop = min(at + min(fitting, size or rows.count), rows.count)
        parts.append(padded(sorted_rows.take(slice(at, stop)), padding))
        at = stop
    return parts, torch.from_numpy(place)


def padded(rows: Ragged, padding: int) -> Chunk:
    """Rows as `input_ids` and `attention_mask`, int64 (n, longest), padded on the right."""
    real = np.arange(rows.sizes.max(initial=0)) < rows.sizes[:, None]
    ids = np.full(real.shape, padding, np.int64)
    ids[real] = rows.flat()
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(real.astype(np.int64))}


def distinct_chunks(rows: Ragged, padding: int, size: int = 0, tokens: int = 0) -> tuple[list[Chunk], torch.Tensor]:
    """The distinct ones of n rows as `chunks`, and the row (n,) of each among them."""
    unique, own = distinct(rows)
    parts, order = chunks(unique, padding, size, tokens)
    return parts, order[torch.from_numpy(own)]


def encode_chunks(encode: Encode, parts: list[Chunk], caching: bool = False) -> torch.Tensor:
    """Encode chunk by chunk; with `caching`, only the vectors are kept and the rest is computed again backwards.

    This is gradient caching (Gao et al. 2021) by PyTorch's own checkpointing: random states are restored, so that
    the gradients are those of one big batch while memory is that of one chunk.
    """
    if not caching:
        return torch.cat([encode(part) for part in parts])
    return torch.cat([checkpoint(encode, part, use_reentrant=False) for part in parts])


@torch.inference_mode()
def apply_in_chunks(module: torch.nn.Module, encode: Encode, parts: list[Chunk], order: torch.Tensor) -> np.ndarray:
    """What `encode`, a function of the module, makes of `chunks` in eval mode: float32 (n, …) in the former order."""
    training, device = module.training, next(module.parameters()).device
    module.eval()
    vectors = [encode({name: value.to(device) for name, value in part.items()}).cpu() for part in parts]
    module.train(training)
    return torch.cat(vectors)[order].numpy()


def encode_sequences(
    module: torch.nn.Module,
    encode: Encode,
    count: int,
    rows_of: Callable[[slice], Ragged],
    padding: int,
    size: int = 0,
    tokens: int = 0,
) -> np.ndarray:
    """`count` rows, made when they are read -> what `apply_in_chunks` gives, float32 (n, …).

    Equal rows have vectors equal to the last bit, for each is encoded once (of every 65,536 rows: more are never held).
    """
    pieces = []
    for start in range(0, count, PIECE):
        rows = rows_of(slice(start, min(start + PIECE, count)))
        pieces.append(apply_in_chunks(module, encode, *distinct_chunks(rows, padding, size, tokens)))
    return np.concatenate(pieces)

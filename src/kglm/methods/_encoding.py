"""Token sequences through an encoder: each distinct one once, alike in length together, with or without gradients."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedTokenizerBase

from kglm.errors import InputError
from kglm.lm.language_model import batches_by_length, pad

T = TypeVar("T", bound=Sequence)
Chunk = dict[str, torch.Tensor]
Encode = Callable[[Chunk], torch.Tensor]  # a padded chunk of n sequences -> n vectors, or n numbers, float32

PIECE = 65_536  # sequences that are held at once where no gradient is needed
_BLOCK = 1024  # texts tokenised at once: one by one takes far longer


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


class TokenTexts:
    """Token ids of texts, made when they are asked for: those of millions of texts would not fit into memory."""

    def __init__(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, maximum_length: int):
        self._texts, self._tokenizer, self._maximum = texts, tokenizer, maximum_length
        self._known: dict[int, np.ndarray] = {}

    def prepare(self, numbers: Iterable[int]) -> None:
        """Tokenise several texts at once."""
        new = [number for number in dict.fromkeys(numbers) if number not in self._known]
        if new:
            texts = [self._texts[number] for number in new]
            encoded = self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
            for number, ids in zip(new, encoded, strict=True):
                self._known[number] = np.array(ids[: self._maximum], np.int32)

    def __getitem__(self, number: int) -> list[int]:
        if number not in self._known:
            first = number - number % _BLOCK
            self.prepare(range(first, min(first + _BLOCK, len(self._texts))))
        return self._known[number].tolist()


def distinct(sequences: Iterable[T]) -> tuple[list[T], np.ndarray]:
    """The distinct sequences, and the row of each among them: what is equal is encoded once."""
    first: dict[tuple, tuple[int, T]] = {}
    rows = [first.setdefault(tuple(sequence), (len(first), sequence))[0] for sequence in sequences]
    return [sequence for _, sequence in first.values()], np.array(rows, np.int64)


def chunks(sequences: Sequence[Sequence[int]], padding: int, size: int) -> tuple[list[Chunk], torch.Tensor]:
    """Sequences in padded chunks of at most `size`, alike in length, so that little is padded; and where each went."""
    batches = list(batches_by_length(sequences, size))
    order = torch.empty(len(sequences), dtype=torch.long)
    order[torch.tensor([row for batch in batches for row in batch], dtype=torch.long)] = torch.arange(len(sequences))
    return [pad([sequences[row] for row in batch], padding) for batch in batches], order


def distinct_chunks(sequences: Iterable[Sequence[int]], padding: int, size: int) -> tuple[list[Chunk], torch.Tensor]:
    """The distinct ones of n sequences as `chunks`, and the row (n,) of each among them."""
    unique, rows = distinct(sequences)
    parts, order = chunks(unique, padding, size)
    return parts, order[torch.from_numpy(rows)]


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
    module: torch.nn.Module, encode: Encode, sequences: Iterable[Sequence[int]], padding: int, batch_size: int
) -> np.ndarray:
    """Token sequences -> what `apply_in_chunks` gives, float32 (n, …); equal sequences have equal vectors.

    Equal to the last bit, for each is encoded once (of every 65,536 sequences: more are never held).
    """
    waiting, pieces = iter(sequences), []
    while piece := list(islice(waiting, PIECE)):
        parts, rows = distinct_chunks(piece, padding, batch_size)
        pieces.append(apply_in_chunks(module, encode, parts, rows))
    return np.concatenate(pieces)

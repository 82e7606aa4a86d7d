"""Texts as tokens, tokenised once, and sequences that are put together from them by index arithmetic alone."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from kglm.files import atomic_file

_BLOCK = 8192  # texts tokenised at once
_STORED = 1000  # texts: fewer are tokenised sooner than a file is found
_HEAD = np.dtype("<i8"), 2  # of a file: how many texts, how many tokens


class Ragged(NamedTuple):
    """Rows of token ids of different lengths in one array, which may lie on disk.

    A row is one span of the array, or several one behind another: starts and lengths are int64 (n,) or (n, k).
    """

    ids: np.ndarray  # int32
    starts: np.ndarray
    lengths: np.ndarray

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.starts)

    @property
    def sizes(self) -> np.ndarray:
        """How many tokens each row has, int64 (n,)."""
        return self.lengths if self.lengths.ndim == 1 else self.lengths.sum(axis=1)

    def row(self, number: int) -> list[int]:
        """The tokens of one row."""
        return self.take(np.array([number])).flat().tolist()

    def rows(self) -> list[list[int]]:
        """The tokens of each row."""
        return [part.tolist() for part in np.split(self.flat(), self.sizes.cumsum()[:-1])]

    def take(self, numbers: np.ndarray) -> "Ragged":
        """Some of the rows, in this order; nothing is copied."""
        return Ragged(self.ids, self.starts[numbers], self.lengths[numbers])

    def cut(self, size: "int | np.ndarray") -> "Ragged":
        """The first tokens of each row, as many as `size` says, a number or (n,)."""
        if self.lengths.ndim == 1:
            return self._replace(lengths=np.minimum(self.lengths, size))
        before = self.lengths.cumsum(axis=1) - self.lengths
        return self._replace(lengths=(np.reshape(size, (-1, 1)) - before).clip(0, self.lengths))

    def flat(self) -> np.ndarray:
        """The tokens of all rows, one row behind another."""
        return self.ids[spans(self.starts.reshape(-1), self.lengths.reshape(-1))]


Part = Ragged | int | np.ndarray


def spans(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers start, start + 1, … of each span (n,), one span behind another."""
    ends = lengths.cumsum()
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def joined(count: int, *parts: Part) -> Ragged:
    """`count` rows of the parts one behind another; a number, or (n,) of them, is one token of each row."""
    sizes = sum(part.sizes if isinstance(part, Ragged) else 1 for part in parts) + np.zeros(count, np.int64)
    starts = sizes.cumsum() - sizes
    ids, at = np.empty(int(sizes.sum()), np.int32), starts
    for part in parts:
        if isinstance(part, Ragged):
            ids[spans(at, part.sizes)] = part.flat()
            at = at + part.sizes
        else:
            ids[at] = part
            at = at + 1
    return Ragged(ids, starts, sizes)


def stacked(*rows: Ragged) -> Ragged:
    """The rows of each, one after another."""
    return of_flat(np.concatenate([part.flat() for part in rows]), np.concatenate([part.sizes for part in rows]))


def of_flat(ids: np.ndarray, sizes: np.ndarray) -> Ragged:
    """Rows that follow each other in an array."""
    return Ragged(ids, sizes.cumsum() - sizes, sizes)


def of_lists(rows: Sequence[Sequence[int]]) -> Ragged:
    """Rows of token ids."""
    sizes = np.array([len(row) for row in rows], np.int64)
    return of_flat(np.array([token for row in rows for token in row], np.int32), sizes)


def distinct(rows: Ragged) -> tuple[Ragged, np.ndarray]:
    """The distinct rows, and the number (n,) of each among them.

    Rows are told apart by sums of 64 bits: that two of 65,536 have the same is as likely as one in 10 billion.
    """
    keys = _sums(rows)
    _, first, own = np.unique(keys, return_index=True, return_inverse=True)
    return rows.take(first), own.reshape(-1)


def _sums(rows: Ragged) -> np.ndarray:
    """A number uint64 (n,) for each row, by its tokens and their places."""
    sizes = rows.sizes
    places = spans(np.zeros_like(sizes), sizes).astype(np.uint64)
    mixed = rows.flat().astype(np.uint64) + (places + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for factor, shift in ((0xBF58476D1CE4E5B9, 30), (0x94D049BB133111EB, 27)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    ends = np.concatenate([[np.uint64(0)], mixed.cumsum(dtype=np.uint64)])
    stops = sizes.cumsum()
    return ends[stops] - ends[stops - sizes] + sizes.astype(np.uint64)


def tokenised(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Ragged:
    """Tokens of texts without special ones.

    Many texts are written to the folder <model>.tokens beside the tokenizer's, under a sum of the tokenizer and the
    texts, and are found there again by every run that reads the same ones; they are read from disk as they are needed.
    Where that folder cannot be written, they are held in memory.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    folder = Path(getattr(tokenizer, "name_or_path", "") or "/nowhere")
    if len(texts) < _STORED or backend is None or not folder.is_dir():
        return of_lists([ids for block in _blocks(texts, tokenizer) for ids in block])
    path = folder.with_name(f"{folder.name}.tokens") / f"{_sum(texts, backend.to_str())}.tokens"
    try:
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            with atomic_file(path) as temporary:
                _write(texts, tokenizer, temporary)
        return _read(path)
    except PermissionError:
        return of_lists([ids for block in _blocks(texts, tokenizer) for ids in block])


def following(before: str, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Ragged:
    """Tokens of texts as they are written behind the text `before`, which itself is left out.

    Many tokenizers write the first word of a text in another way. A text that is one token with `before` is tokenised
    alone.
    """
    first = np.array(tokenizer(before, add_special_tokens=False)["input_ids"])
    whole = tokenised([before + text for text in texts], tokenizer)
    long = np.flatnonzero(whole.sizes >= len(first))
    begun = np.zeros(whole.count, bool)
    begun[long] = (whole.take(long).cut(len(first)).flat().reshape(len(long), -1) == first).all(axis=1)
    rest = whole._replace(starts=whole.starts + len(first), lengths=whole.lengths - len(first))
    if begun.all():
        return rest
    alone = tokenised(texts, tokenizer)
    own = np.where(begun, 0, whole.count) + np.arange(whole.count)
    return stacked(rest._replace(lengths=rest.lengths.clip(min=0)), alone).take(own)


def _blocks(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[list[list[int]]]:
    for start in range(0, len(texts), _BLOCK):
        block = list(texts[start : start + _BLOCK])
        yield tokenizer(block, add_special_tokens=False, verbose=False)["input_ids"]


def _sum(texts: Sequence[str], tokenizer: str) -> str:
    digest = hashlib.sha256(tokenizer.encode("utf-8"))
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return digest.hexdigest()[:32]


def _write(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """The counts of texts and tokens, the texts' lengths, their tokens: little-endian, of 64, 64 and 32 bits."""
    kind, count = _HEAD
    lengths = np.zeros(len(texts), kind)
    with open(path, "wb") as stream:
        stream.seek(kind.itemsize * (count + len(texts)))
        number = 0
        for block in _blocks(texts, tokenizer):
            for ids in block:
                lengths[number] = len(ids)
                number += 1
            stream.write(np.array([token for ids in block for token in ids], "<i4").tobytes())
        stream.seek(0)
        stream.write(np.array([len(texts), lengths.sum()], kind).tobytes() + lengths.tobytes())


def _read(path: Path) -> Ragged:
    kind, count = _HEAD
    texts, tokens = np.fromfile(path, kind, count)
    lengths = np.fromfile(path, kind, int(texts), offset=count * kind.itemsize)
    at = kind.itemsize * (count + int(texts))
    ids = np.asarray(np.memmap(path, "<i4", "r", at, (int(tokens),))) if tokens else np.empty(0, np.int32)
    return of_flat(ids, lengths.astype(np.int64))

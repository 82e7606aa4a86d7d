"""Sequences in chunks and in pieces, texts tokenised in blocks, and parts cut to fit."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from kglm.methods import _encoding
from kglm.methods._encoding import SpecialTokens, TokenTexts, distinct_chunks, encode_sequences
from kglm.methods._segmented_texts import SegmentedTexts

SEQUENCES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=12)


@given(sequences=SEQUENCES, size=st.integers(1, 5))
def test_each_distinct_sequence_stands_in_one_row(sequences, size):
    parts, rows = distinct_chunks(sequences, 0, size)
    assert all(len(part["input_ids"]) <= size for part in parts)
    found = [
        [
            ids[:length].tolist()
            for ids, length in zip(part["input_ids"], part["attention_mask"].sum(dim=1), strict=True)
        ]
        for part in parts
    ]
    flat = [sequence for part in found for sequence in part]
    assert [flat[row] for row in rows] == sequences and len(flat) == len({*map(tuple, sequences)})


@given(sequences=SEQUENCES, size=st.integers(1, 5), piece=st.integers(1, 20))
def test_sequences_are_encoded_in_pieces_and_keep_their_order(sequences, size, piece):
    module, seen = torch.nn.Linear(1, 1).train(), []

    def encode(inputs):
        seen.append(len(inputs["input_ids"]))
        assert not module.training and not torch.is_grad_enabled()
        return torch.stack([inputs["input_ids"].sum(dim=1), inputs["attention_mask"].sum(dim=1)], dim=1).float()

    former, _encoding.PIECE = _encoding.PIECE, piece
    try:
        vectors = encode_sequences(module, encode, iter(sequences), 0, size)
    finally:
        _encoding.PIECE = former
    assert vectors.tolist() == [[sum(sequence), len(sequence)] for sequence in sequences] and module.training
    assert sum(seen) == sum(len({*map(tuple, sequences[at : at + piece])}) for at in range(0, len(sequences), piece))


class Letters:
    """A tokenizer of letters that notes how many texts it was given at once."""

    def __init__(self):
        self.given = []

    def __call__(self, texts, **_):
        self.given.append(len(texts))
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


def test_texts_are_tokenised_in_blocks_and_once():
    letters = Letters()
    texts = TokenTexts([f"{number:05}" for number in range(2500)], letters, 3)
    assert [texts[0], texts[1023], texts[2400], texts[5]] == [[48, 48, 48], [48, 49, 48], [48, 50, 52], [48, 48, 48]]
    assert letters.given == [1024, 2500 - 2048]


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=3), maximum=st.integers(8, 40))
def test_the_longest_parts_are_cut_and_only_as_far_as_needed(lengths, maximum):
    texts = SegmentedTexts(None, [], SpecialTokens(-1, -2, -3, -4), maximum, 2)
    parts = [list(range(100 * number, 100 * number + length)) for number, length in enumerate(lengths)]
    ids = texts.sequence(*parts)
    ends = [place for place, token in enumerate(ids) if token == -2]
    found = [ids[start + 1 : end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    assert ids[0] == -1 and len(ends) == len(parts) and ends[-1] == len(ids) - 1
    assert len(ids) == min(sum(lengths) + len(parts) + 1, maximum)
    kept = [len(part) for part in found]
    assert [part[:length] for part, length in zip(parts, kept, strict=True)] == found
    for length, short in zip(lengths, kept, strict=True):
        assert short == length or short >= max(kept) - 1  # what was cut is still about the longest


def test_sentences_take_turns():
    texts = SegmentedTexts(None, [], SpecialTokens(0, 1, 2, 3), 64, 2)
    seen = {}

    class Encoder:
        def __call__(self, **inputs):
            seen.update(inputs)
            return type("Output", (), {"last_hidden_state": torch.arange(24.0).reshape(1, 12, 2)})

    ids = torch.tensor([[0, 5, 1, 6, 2, 1, 7, 2, 8, 1, 3, 3]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 3).long()}
    masked = texts.masked(Encoder(), inputs)
    assert seen["token_type_ids"].tolist()[0][:10] == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert masked.tolist() == [[14.0, 15.0]]  # of the last [MASK]
    assert texts.mean(Encoder(), inputs).tolist() == [[9.0, 10.0]]  # of the ten that are no padding
    assert texts.first(Encoder(), inputs).tolist() == [[0.0, 1.0]]
    np.testing.assert_array_equal(seen["attention_mask"], inputs["attention_mask"])

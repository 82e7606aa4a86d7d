"""Sequences in chunks and in pieces, texts tokenised in blocks, and parts cut to fit."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from kglm.lm.tokens import of_lists
from kglm.methods import _encoding
from kglm.methods._encoding import SpecialTokens, chunks, distinct_chunks, encode_sequences
from kglm.methods._segmented_texts import SegmentedTexts, fitted

SEQUENCES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=12)


@given(sequences=SEQUENCES, size=st.integers(1, 5))
def test_each_distinct_sequence_stands_in_one_row(sequences, size):
    parts, rows = distinct_chunks(of_lists(sequences), 0, size)
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
        count = len(sequences)
        vectors = encode_sequences(module, encode, count, lambda rows: of_lists(sequences[rows]), 0, size)
    finally:
        _encoding.PIECE = former
    assert vectors.tolist() == [[sum(sequence), len(sequence)] for sequence in sequences] and module.training
    assert sum(seen) == sum(len({*map(tuple, sequences[at : at + piece])}) for at in range(0, len(sequences), piece))


@given(sequences=SEQUENCES, tokens=st.integers(1, 12))
def test_chunks_hold_so_many_tokens_padding_counted_and_no_fewer_than_they_could(sequences, tokens):
    parts, order = chunks(of_lists(sequences), 0, tokens=tokens)
    shapes = [part["input_ids"].shape for part in parts]
    assert all(rows * length <= tokens or rows == 1 for rows, length in shapes)
    assert all((rows + 1) * length > tokens for rows, length in shapes[:-1])
    assert [length for _, length in shapes] == sorted((length for _, length in shapes), reverse=True)
    flat = [ids[ids > 0].tolist() for part in parts for ids in part["input_ids"]]
    assert [flat[row] for row in order] == sequences


def cut_one_by_one(sizes: list[int], room: int) -> list[int]:
    """What `fitted` says, word by word."""
    sizes = list(sizes)
    while sum(sizes) > room:
        sizes[max(range(len(sizes)), key=lambda number: (sizes[number], number))] -= 1
    return sizes


@given(
    sizes=st.integers(1, 4).flatmap(
        lambda count: st.lists(st.lists(st.integers(0, 20), min_size=count, max_size=count), min_size=1, max_size=6)
    ),
    room=st.integers(0, 40),
)
def test_the_largest_part_is_cut_until_all_fit(sizes, room):
    assert fitted(np.array(sizes), room).tolist() == [cut_one_by_one(row, room) for row in sizes]


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=3), maximum=st.integers(8, 40))
def test_the_longest_parts_are_cut_and_only_as_far_as_needed(lengths, maximum):
    texts = SegmentedTexts(None, [], SpecialTokens(-1, -2, -3, -4), maximum, 2)
    parts = [list(range(100 * number, 100 * number + length)) for number, length in enumerate(lengths)]
    ids = texts.sequences(1, *[[of_lists([part])] for part in parts]).row(0)
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

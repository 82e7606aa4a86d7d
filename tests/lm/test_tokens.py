"""Texts tokenised once, kept beside the model, and rows of tokens joined, cut and told apart."""

import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kglm.lm import tokens
from kglm.lm.language_model import load_tokenizer
from kglm.lm.tokens import Ragged, distinct, following, joined, of_lists, stacked, tokenised

ROWS = st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=8)


@given(first=ROWS, seed=st.integers(0, 99))
def test_rows_are_joined_part_by_part(first, seed):
    second = [[9] * (number % 3) for number in range(len(first))]
    order = np.random.default_rng(seed).permutation(len(first))
    found = joined(len(first), 7, of_lists(first).take(order), order, of_lists(second))
    assert found.rows() == [[7, *first[number], number, *second[at]] for at, number in enumerate(order)]


@given(rows=ROWS, size=st.integers(0, 6))
def test_rows_are_cut_behind(rows, size):
    whole = of_lists(rows)
    assert whole.cut(size).rows() == [row[:size] for row in rows]
    spans = Ragged(whole.ids, np.stack([whole.starts] * 2, axis=1), np.stack([whole.lengths] * 2, axis=1))
    assert spans.rows() == [row + row for row in rows]
    sizes = np.arange(len(rows)) % 7
    assert spans.cut(sizes).rows() == [(row + row)[:kept] for row, kept in zip(rows, sizes, strict=True)]


@given(rows=ROWS, others=ROWS)
def test_equal_rows_are_one_row(rows, others):
    both = stacked(of_lists(rows), of_lists(others))
    unique, own = distinct(both)
    found = unique.rows()
    assert [found[number] for number in own] == rows + others
    assert len({*map(tuple, found)}) == len(found)


@pytest.fixture
def folder(model_folder, tmp_path):
    """A tokenizer of its own."""
    copied = tmp_path / "model"
    shutil.copytree(model_folder, copied)
    return copied


def test_texts_are_tokenised_once_for_all_runs_that_read_them(folder, monkeypatch):
    monkeypatch.setattr(tokens, "_STORED", 2)
    monkeypatch.setattr(tokens, "_BLOCK", 2)
    texts, tokenizer = ["ant", "", "a bee", "Ångström\ud800"[:8]], load_tokenizer(folder)
    made = tokenised(texts, tokenizer)
    assert made.rows() == tokenizer(texts, add_special_tokens=False)["input_ids"]
    (file,) = (folder.parent / "model.tokens").iterdir()
    stamp = file.stat().st_mtime_ns
    monkeypatch.setattr(tokens, "_blocks", None)  # nothing is tokenised again
    assert tokenised(texts, load_tokenizer(folder)).rows() == made.rows()
    assert file.stat().st_mtime_ns == stamp
    monkeypatch.undo()
    monkeypatch.setattr(tokens, "_STORED", 2)
    assert tokenised([*texts, "one more"], tokenizer).count == 5
    assert len(list((folder.parent / "model.tokens").iterdir())) == 2


def test_where_nothing_can_be_written_texts_are_held(folder, monkeypatch):
    monkeypatch.setattr(tokens, "_STORED", 1)
    monkeypatch.setattr(tokens, "atomic_file", lambda path: (_ for _ in ()).throw(PermissionError))
    assert tokenised(["ant"], load_tokenizer(folder)).row(0) == load_tokenizer(folder)("ant")["input_ids"]
    assert os.listdir(folder.parent / "model.tokens") == []


class Pairs:
    """A tokenizer that makes one token of two letters, from the left."""

    def __call__(self, texts, **_):
        cut = lambda text: [text[at : at + 2] for at in range(0, len(text), 2)]  # noqa: E731
        numbers = lambda text: [sum(map(ord, pair)) for pair in cut(text)]  # noqa: E731
        return {"input_ids": numbers(texts) if isinstance(texts, str) else list(map(numbers, texts))}


def test_texts_follow_another_one_where_it_stays_apart():
    whole = Pairs()("abcd")["input_ids"]
    assert following("ab", ["cd", ""], Pairs()).rows() == [whole[1:], []]
    assert following("a", ["bcd", "x"], Pairs()).rows() == [Pairs()("bcd")["input_ids"], Pairs()("x")["input_ids"]]

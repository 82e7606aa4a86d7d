"""Names in text of all scripts."""

import re

import pytest

from kglm.kg.characters import as_a_word, inside_a_word


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("Yahoo!", "Yahoo! is a company; yahoo!, too.", "_ is a company; _, too."),
        ("Jr.", "Cuba Gooding, Jr. acts", "Cuba Gooding, _ acts"),
        ("Moulin Rouge!", "The film Moulin Rouge!was", "The film _was"),
        ("(500) Days", "It is (500) Days long", "It is _ long"),
        ("北京", "我在北京工作。", "我在_工作。"),
        ("東京", "東京タワー", "_タワー"),
        ("서울", "서울은 크다", "_은 크다"),
        ("กรุงเทพ", "ในกรุงเทพมหานคร", "ใน_มหานคร"),
        ("cat", "The cat, a Cat, concatenates cats", "The _, a _, concatenates cats"),
        ("Москва", "Москва и Москвариум", "_ и Москвариум"),
        ("C++", "C++ and C++11", "_ and _11"),
        ("AT&T北京", "AT&T北京分公司 xAT&T北京", "_分公司 xAT&T北京"),
    ],
)
def test_a_name_is_found_where_it_is_no_part_of_a_longer_word(name, text, expected):
    assert re.sub(as_a_word(name), "_", text, flags=re.IGNORECASE) == expected


@pytest.mark.parametrize(
    ("text", "place", "inside"),
    [
        ("Elbeland", 4, True),
        ("Elbe, ", 4, False),
        ("北京是", 2, False),
        ("서울은", 2, False),
        ("दिल्ली", 1, True),
        ("a", 1, False),
    ],
)
def test_where_a_word_goes_on(text, place, inside):
    assert inside_a_word(text, place) == inside

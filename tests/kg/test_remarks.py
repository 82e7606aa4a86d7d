"""What is odd about a graph is told: each kind once, and never where it is meant."""

import json

import pytest

from kglm.errors import InputError
from kglm.kg.remarks import KINDS, remarks, remarks_in, sentence

from .conftest import TRAIN

RING = "".join(f"n{i}\tr\tn{(i + 1) % 60}\n" for i in range(60))
# No link of these is one of the ring, nor the ring's turned round.
CHORDS = [f"n{i}\tr\tn{(i + 2) % 60}\n" for i in range(60)]
QUIET = {"train.tsv": RING, "valid.tsv": "".join(CHORDS[:20]), "test.tsv": "".join(CHORDS[20:40])}


@pytest.fixture
def told(build, tmp_path):
    """told(files, **entry): the remarks on a graph, by kind."""

    def told(files=None, **entry):
        build(QUIET | (files or {}), **entry)
        return remarks_in(tmp_path / "out")

    return told


def with_test(*lines):
    return {"test.tsv": QUIET["test.tsv"] + "".join(lines)}


FILES = {
    "repeated": (with_test("n0\tr\tn1\n"), "1 of 21 test triples stand in train, too"),
    "reversed": (with_test("n1\tr\tn0\n"), "1 of 21 test triples stand reversed in train (all with the same relation)"),
    "unseen": (with_test("n0\tr\tnew\n"), "1 of 21 test triples touch 1 entities that train has not"),
    "alike_ids": (
        {"train.tsv": RING + 'n0\tr\tN1\nn0\tr\t"n1"\n'},
        '2 entity ids differ from others by case, spaces or quotes alone, as "n1" and N1',
    ),
    "small_splits": ({"test.tsv": CHORDS[-1]}, "60 train, 20 valid, 1 test triples: too few to tell much"),
}


def test_an_ordinary_graph_needs_no_remark(told):
    assert told() == {}


@pytest.mark.parametrize("kind", FILES)
def test_each_kind_is_told_alone_and_can_be_accepted(told, kind):
    files, expected = FILES[kind]
    assert told(files) == {kind: expected}
    assert told(files, accepted=[kind]) == {}


def test_no_entity_of_a_split_in_train(told):
    files = {"test.tsv": "".join(f"m{i}\tr\tm{i + 1}\n" for i in range(20))}
    assert told(files) == {"unseen": "no entity of test is in train: test is ranked among its own 21 entities"}


def test_texts_of_few_entities(told):
    files = {"d.tsv": "n0\tfirst\nn1\tsecond\n"}
    expected = {"uncovered_texts": "the files have descriptions for 2 of 60 entities"}
    assert told(files, descriptions=[{"file": "d.tsv"}]) == expected


@pytest.mark.parametrize("kind", ["names", "descriptions", "relation_texts"])
def test_texts_of_no_entity_stop_the_stage(told, kind):
    with pytest.raises(InputError, match=r"d\.tsv: none of its 2 ids is one of the graph's: it has 2, the graph"):
        told({"d.tsv": "1\tfirst\n2\tsecond\n"}, **{kind: [{"file": "d.tsv"}, {"from_ids": True}]})


def test_entities_of_one_name(told):
    names = "".join(f"n{i}\tname {min(i, 57)}\n" for i in range(60))
    found = told({"names.tsv": names}, names=[{"file": "names.tsv"}])
    assert found == {"shared_names": "3 entities share their name with another"}


def test_triples_that_have_no_false_one(build, tmp_path):
    lines = "".join(f"a{i}\tall\ta{j}\n" for i in range(3) for j in range(3))
    build({"train.tsv": lines, "valid.tsv": "a0\tr\ta1\n", "test.tsv": "a1\tr\ta2\n"})
    found = remarks_in(tmp_path / "out")["no_false_triple"]
    assert found == "with any other head or tail (a0, all, a0) and 8 more would be true, too"


def test_a_hub_leaves_little_to_valid_and_test(build, tmp_path):
    spokes = "".join(f"hub\tr\tn{i}\n" for i in range(97))
    files = {"all.tsv": spokes + "".join(f"hub\ts\tn{i}\n" for i in range(4))}
    build(files, splits={"file": "all.tsv", "ratio": [8, 1, 1], "seed": 0})
    found = remarks_in(tmp_path / "out")["small_splits"]
    assert found == (
        "97 train, 2 valid, 2 test triples, where the ratio asks for 10 valid, 10 test: the others are needed in train"
    )


def test_false_triples_that_are_true(told):
    found = told(
        {"neg.tsv": "n0\tr\tn1\nn0\tr\tn3\n"},
        splits={**{name: f"{name}.tsv" for name in ("train", "valid", "test")}, "negatives": {"test": "neg.tsv"}},
    )
    assert found == {"true_negatives": "1 of 2 false test triples are true elsewhere"}


def test_what_an_inductive_split_and_rdf_leave_out(told):
    found = told(splits={"file": "train.tsv", "inductive": {"seed": 0, "valid": 0.3, "test": 0.3}})
    assert "the split leaves out" in found["left_out"]
    assert "no entity of test is in train" in found["unseen"]


def test_what_is_told_is_printed_with_a_remedy_and_what_is_accepted_is_kept(build, tmp_path, capsys):
    files = {"train.tsv": TRAIN, "valid.tsv": "a\tlikes\tb\n", "test.tsv": "b\tlikes\ta\n"}
    build(files, accepted=["reversed"])
    told = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in told] == ["note"] * len(told)
    assert any("1 of 1 valid triples stand in train, too; take out what" in line for line in told)
    assert any("`accepted: [repeated]`" in line for line in told)
    assert not any("reversed" in line for line in told)
    problems = json.loads((tmp_path / "out/problems.json").read_text())
    assert problems["accepted"] == ["reversed"]


def test_the_counts_alone_tell_something():
    counts = {
        **{"entities": 3, "train": 40, "valid": 20, "test": 20, "entities_in": {"test": 2}},
        "unseen": {"test": {"entities": 1, "triples": 5}},
    }
    found = remarks(counts)
    assert sentence("g", found) == "g: 5 of 20 test triples touch 1 entities that train has not."


def test_the_kinds_are_those_of_the_schema(entries):
    from kglm.kg.configuration import check

    entry = entries["datasets"]["umls"]
    check(entry | {"accepted": list(KINDS)}, "dataset")
    with pytest.raises(InputError, match="accepted"):
        check(entry | {"accepted": ["anything"]}, "dataset")


@pytest.mark.parametrize("name", ["umls", "WN18RR", "FB15k-237", "FB13"])
def test_public_benchmarks_are_told_of_in_one_short_line(built, name):
    _, _, statistics, problems = built(name)
    found = remarks(statistics, problems)
    assert found
    assert len(sentence(name, found)) < 320

"""Own graphs and bad input: each case of what a user may hand over, one by one."""

import errno
import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kglm.artefacts import TRIPLES_WITH_INVERSE, read_parquet
from kglm.cli import main
from kglm.errors import InputError
from kglm.kg.build import augment, graph
from kglm.kg.configuration import check
from kglm.kg.graph import Graph
from kglm.kg.statistics import degree_groups

from .conftest import THREE, TRAIN

SPLITS = {name: f"{name}.tsv" for name in ("train", "valid", "test")}
DRAWN = {"seed": 0, "splits": ["valid", "test"]}
INDUCTIVE = {"seed": 0, "valid": 0.1, "test": 0.25}


def read_json(tmp_path, name):
    return json.loads((tmp_path / "out" / name).read_text())


def refused(tmp_path, error):
    """One line, and nothing of the graph on disk."""
    assert "\n" not in str(error.value)
    left = {path.name for path in (tmp_path / "out").iterdir()} if (tmp_path / "out").exists() else set()
    assert left <= {"raw"}
    return str(error.value)


def test_three_files_are_enough(build, tmp_path):
    built = build()
    assert built.entities["id"].tolist() == ["a", "b", "c"]
    assert built.entities["name"].tolist() == ["a", "b", "c"]
    assert built.relations[["text", "inverse"]].to_numpy().tolist() == [["likes", "inverse likes"]]
    assert built.split("train").tolist() == [[0, 0, 1], [1, 0, 2], [2, 0, 0]]
    assert built.split("test").tolist() == [[1, 0, 0]]


def test_the_numbering_does_not_depend_on_the_order_of_lines(build):
    one = build()
    other = build({"train.tsv": "".join(reversed(TRAIN.splitlines(keepends=True)))})
    pd.testing.assert_frame_equal(one.entities, other.entities)
    assert one.triples["head"].tolist() != other.triples["head"].tolist()


def test_numbers_follow_code_points(build):
    built = build({"train.tsv": "é\tr\tZ\na\tr\t10\n9\tr\t010\n" + TRAIN})
    assert built.entities["id"].tolist() == ["010", "10", "9", "Z", "a", "b", "c", "é"]


def test_one_file_with_ratio_and_seed(build, tmp_path):
    lines = [f"n{i}\t{r}\tn{j}\n" for r in "rs" for i in range(6) for j in range(i)]
    splits = {"file": "all.tsv", "ratio": [0.8, 0.1, 0.1], "seed": 1}
    built = build({"all.tsv": "".join(lines)}, splits=splits)
    assert built.triples["split"].value_counts().to_dict() == {"train": 24, "valid": 3, "test": 3}
    assert built.entities["in_train"].all()
    again = build({"all.tsv": "".join(reversed(lines))}, splits=splits)
    key = ["split", "head", "relation", "tail"]
    assert set(map(tuple, built.triples[key].to_numpy())) == set(map(tuple, again.triples[key].to_numpy()))


def test_ntriples_bring_their_texts(build):
    label = "<http://www.w3.org/2000/01/rdf-schema#label>"
    train = (
        "<http://x/a> <http://x/born_in> <http://x/b> .\n"
        f'<http://x/a> {label} "Ann" .\n<http://x/born_in> {label} "was born in"@en .\n'
    )
    other = "<http://x/b> <http://x/born_in> <http://x/a> .\n"
    splits = {"train": "t.nt", "valid": "v.nt", "test": "v.nt"}
    built = build({"t.nt": train, "v.nt": other}, splits=splits)
    assert built.entities["name"].tolist() == ["Ann", "b"]
    assert built.relations["text"].tolist() == ["was born in"]


def test_names_descriptions_and_relation_texts(build, tmp_path):
    built = build(
        {"names.txt": "a\tAnn\nb\tBob\n", "d.csv": 'c,"third, last"\na,first', "r.txt": "likes\tis fond of"},
        names=[{"file": "names.txt"}],
        descriptions=[{"file": "d.csv"}],
        relation_texts=[{"file": "r.txt"}],
    )
    assert built.entity_texts() == ["Ann, first", "Bob", "third, last"]
    assert built.relation_texts() == ["is fond of", "inverse is fond of"]
    problems = read_json(tmp_path, "problems.json")
    assert problems["without_name"] == {"count": 1, "examples": ["c"]}
    assert problems["without_description"] == {"count": 1, "examples": ["b"]}
    assert problems["names_from"] == {"names.txt": 2}


def test_an_entity_without_any_text(build, tmp_path):
    with pytest.raises(InputError, match="is without name and description") as error:
        build({"names.txt": "a\tAnn\nb\tBob\n"}, names=[{"file": "names.txt"}])
    assert "train.tsv:2: entity c is" in refused(tmp_path, error)
    assert build({"names.txt": "a\tAnn"}, names=[{"file": "names.txt"}, {"from_ids": True}]).entity_texts() == [
        "Ann",
        "b",
        "c",
    ]


def test_a_relation_without_text(build, tmp_path):
    with pytest.raises(InputError, match=r"train\.tsv:1: relation likes has no text") as error:
        build({"r.txt": "likes\t\nhates\thates"}, relation_texts=[{"file": "r.txt"}])
    refused(tmp_path, error)


def test_inverse_texts(build, tmp_path):
    assert build(inverse_texts={"likes": "is \ud83d\ude00"}).relations["inverse"].tolist() == ["is 😀"]
    assert build(inverse_texts={"likes": "is liked by"}).relations["inverse"].tolist() == ["is liked by"]
    with pytest.raises(InputError, match="no triple has the relation hates"):
        build(inverse_texts={"hates": "is hated by"})


def test_duplicates_are_kept_and_reported(build, tmp_path):
    built = build({"train.tsv": TRAIN + "\nb\tlikes\tc\n", "valid.tsv": "a\tlikes\tb\na\tlikes\tc\n"})
    assert len(built.split("train")) == 4
    found = read_json(tmp_path, "problems.json")["duplicates"]
    assert found["within"]["train"] == {"triples": 1, "examples": ["train.tsv:5 repeats train.tsv:2"]}
    assert found["within"]["valid"]["triples"] == 0
    assert found["across"]["train and valid"]["examples"] == ["valid.tsv:1 repeats train.tsv:1"]
    assert found["across"]["valid and test"]["triples"] == 0


def test_labelled_splits_and_negatives(build, tmp_path):
    labelled = {"valid.tsv": "a\tlikes\tc\t1\na\tlikes\td\t-1\n", "neg.tsv": "b\tlikes\tb\nc\tlikes\ta\n"}
    splits = {
        "train": "train.tsv",
        "valid": "valid.tsv",
        "test": "test.tsv",
        "labelled": ["valid"],
        "negatives": {"test": "neg.tsv"},
    }
    built = build(labelled, splits=splits)
    assert built.entities["id"].tolist() == ["a", "b", "c", "d"]  # those of false triples too
    assert built.split("valid").tolist() == [[0, 0, 2]]
    assert built.labelled("valid")[1].tolist() == [1, -1]
    assert built.labelled("test")[1].tolist() == [1, -1, -1]
    assert read_json(tmp_path, "statistics.json")["false_triples"] == {"valid": 1, "test": 2}
    found = read_json(tmp_path, "problems.json")["duplicates"]["false_but_true_elsewhere"]["test"]
    assert found == {"triples": 1, "examples": ["neg.tsv:2 repeats train.tsv:3"]}


def test_entities_that_no_training_triple_has_are_kept(build, tmp_path):
    built = build({"test.tsv": "new\tlikes\ta\nnew\tlikes\tnewer\n", "valid.tsv": "a\tlikes\ta\n"})
    assert built.entities.set_index("id")["in_train"].to_dict() == {
        "a": True,
        "b": True,
        "c": True,
        "new": False,
        "newer": False,
    }
    assert len(built.split("test")) == 2
    found = read_json(tmp_path, "statistics.json")
    assert found["unseen"]["test"] == {"entities": 2, "triples": 2, "triples_with_both_ends": 1}
    assert found["self_loops"] == {"train": 0, "valid": 1, "test": 0}
    assert found["entities_in"] == {"train": 3, "valid": 1, "test": 3}


def test_links_in_train(build, tmp_path):
    build({"valid.tsv": "a\thates\tb\nb\tlikes\ta\na\tlikes\tc\n", "test.tsv": "b\thates\ta\n"})
    found = read_json(tmp_path, "statistics.json")["linked_in_train"]
    # train: a-b, b-c, c-a, all by likes
    assert found["valid"] == {"same": 1, "reverse": 2, "reverse_same_relation": 2}
    assert found["test"] == {"same": 0, "reverse": 1, "reverse_same_relation": 0}


def test_shared_texts(build, tmp_path):
    build({"names.txt": "a\tAnn\nb\tAnn\nc\tCid\n"}, names=[{"file": "names.txt"}])
    found = read_json(tmp_path, "statistics.json")["texts"]
    assert (found["names"], found["entities_sharing_name"], found["descriptions"]) == (3, 2, 0)


def test_words_of_descriptions(build, tmp_path):
    build({"d.txt": "a\tone  two\tthree\nb\tone\n"}, descriptions=[{"file": "d.txt", "columns": "any"}])
    assert read_json(tmp_path, "statistics.json")["description_words"] == 1.5
    build()
    assert read_json(tmp_path, "statistics.json")["description_words"] is None


def test_degree_groups(build, tmp_path):
    star = "".join(f"hub\tlikes\tn{i}\n" for i in range(9)) + "n0\tlikes\tn0\n"
    build({"train.tsv": star, "valid.tsv": "new\tlikes\thub\n", "test.tsv": "n1\tlikes\tn2\n"})
    found = read_json(tmp_path, "statistics.json")["degree_groups"]
    assert list(found.items()) == [("0", 1), ("1", 8), ("2-3", 1), ("4-7", 0), ("8-15", 1)]
    found = read_json(tmp_path, "statistics.json")["degree_groups_of_all_splits"]
    assert list(found.items()) == [("0", 0), ("1", 7), ("2-3", 3), ("4-7", 0), ("8-15", 1)]


@given(degrees=st.lists(st.integers(0, 5000)))
def test_a_degree_is_in_the_group_of_its_label(degrees):
    found = degree_groups(np.array(degrees, np.int64))
    for label, count in found.items():
        low, _, high = label.partition("-")
        assert count == sum(int(low) <= degree <= int(high or low) for degree in degrees)
    assert sum(found.values()) == len(degrees)


def test_an_inductive_split(build, tmp_path):
    lines = [f"n{i}\tr\tn{j}\n" for i in range(20) for j in range(20) if i != j]
    lines.append("n3\tonly once\tn4\n")
    files = {"all.tsv": "".join(lines)}
    inductive = {"seed": 2, "valid": 0.2, "test": 0.3}
    found = build(files, splits={"file": "all.tsv", "inductive": inductive})
    assert found.entities["id"].tolist() == sorted(f"n{i}" for i in range(20))
    assert [len(found.candidates(name)) for name in ("valid", "test")] == [4, 6]
    assert (~found.entities["in_train"]).sum() == 10
    unseen = read_json(tmp_path, "statistics.json")["unseen"]["test"]
    assert unseen == {"entities": 6, "triples": 30, "triples_with_both_ends": 30}
    left_out = read_json(tmp_path, "problems.json")["left_out_by_split"]
    assert left_out["between_entity_sets"] + left_out["relation_not_in_train"] + len(found.triples) == 381
    # three files and their order do not matter
    cut = {"train.tsv": "".join(lines[100:]), "valid.tsv": "".join(lines[:50]), "test.tsv": "".join(lines[50:100])}
    splits = {"train": "train.tsv", "valid": "valid.tsv", "test": "test.tsv", "inductive": inductive}
    again = build(cut, splits=splits)
    key = ["split", "head", "relation", "tail"]
    assert set(map(tuple, found.triples[key].to_numpy())) == set(map(tuple, again.triples[key].to_numpy()))


def test_entities_whose_triples_an_inductive_split_leaves_out_are_kept(build, tmp_path):
    # The only triple of one entity is left out where its other end is in another set.
    lines = [f"n{i}\tr\tn{j}\n" for i in range(20) for j in range(20) if i != j] + ["lone\tr\tn0\n"]
    for seed in range(20):
        splits = {"file": "all.tsv", "inductive": {"seed": seed, "valid": 0.3, "test": 0.3}}
        found = build({"all.tsv": "".join(lines)}, splits=splits)
        idle = read_json(tmp_path, "problems.json")["entities_without_triples"]
        assert found.entities["id"].iloc[0] == "lone" and found.entity_count == 21
        if idle["count"]:
            break
    assert idle == {"count": 1, "examples": ["lone"]}
    assert not found.entities["in_train"].iloc[0]


def test_entities_from_a_file(build, tmp_path):
    listed = {"e.txt": "c\na\nspare\nb"}
    assert build(listed, entities="e.txt").entities["id"].tolist() == ["a", "b", "c"]
    built = build(listed, entities="e.txt", entities_from="file")
    assert built.entities["id"].tolist() == ["a", "b", "c", "spare"]
    assert read_json(tmp_path, "problems.json")["entities_without_triples"]["examples"] == ["spare"]


def test_an_entity_that_the_file_does_not_list(build, tmp_path):
    with pytest.raises(InputError, match=r"train\.tsv:2: entity c is not listed in e\.txt") as error:
        build({"e.txt": "a\nb\n"}, entities="e.txt", entities_from="file")
    refused(tmp_path, error)


@pytest.mark.parametrize("name", ["train.tsv", "valid.tsv", "test.tsv"])
def test_an_empty_split(build, tmp_path, name):
    with pytest.raises(InputError, match="holds no triples") as error:
        build({name: "\n"})
    assert name in refused(tmp_path, error)


def test_a_wrong_column_count(build, tmp_path):
    with pytest.raises(InputError, match=r"test\.tsv:2: 2 columns, expected 3") as error:
        build({"test.tsv": "a\tlikes\tb\na likes\tb\n"})
    refused(tmp_path, error)


def test_undecodable_bytes(build, tmp_path):
    with pytest.raises(InputError, match=r"valid\.tsv:1: byte 0xff is not UTF-8") as error:
        build({"valid.tsv": b"\xff\tlikes\tb\n"})
    refused(tmp_path, error)


def test_a_count_that_is_not_the_expected_one(build, tmp_path):
    with pytest.raises(InputError, match="dataset own: 3 train, expected 86,835") as error:
        build(expect={"train": 86835})
    refused(tmp_path, error)
    with pytest.raises(InputError, match=r"own\.entities_in: 3 train, expected 4"):
        build(expect={"entities_in": {"train": 4}})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"inverse_text": {}}, "dataset.own: unknown key inverse_text; the keys here are accepted, base_url"),
        ({"expect": {"train": "3"}}, "dataset.own.expect.train: '3' is text, expected integer"),
        (
            {"splits": {"file": "train.tsv", "ratio": [8, 1, 1], "seed": "1"}},
            "splits.seed: '1' is text, expected integer",
        ),
        ({"splits": {"train": "../x", "valid": "v", "test": "t"}}, "splits.train: '../x' is no plain name"),
        ({"entities": "../etc/passwd"}, "dataset.own.entities: '../etc/passwd' is no plain name"),
        ({"entities_from": "file"}, "'entities' is a required property"),
        ({"names": [{"file": "n.txt", "clean": ["wash"]}]}, "names.0.clean.0: 'wash' is not one of"),
        (
            {"splits": SPLITS | {"drawn_negatives": DRAWN, "labelled": ["test"]}},
            "dataset.own.splits: drawn_negatives and labelled do not go together: the files hold false triples",
        ),
        (
            {"splits": SPLITS | {"drawn_negatives": DRAWN, "negatives": {"test": "test.tsv"}}},
            "dataset.own.splits: drawn_negatives and negatives do not go together",
        ),
        (
            {"splits": SPLITS | {"drawn_negatives": DRAWN, "inductive": INDUCTIVE}},
            "dataset.own.splits: inductive and drawn_negatives do not go together: an inductive split is made of true",
        ),
        ({"splits": SPLITS | {"drawn_negatives": {"seed": 0, "splits": ["train"]}}}, "'train' is not one of"),
        ({"splits": SPLITS | {"drawn_negatives": {"splits": ["test"]}}}, "'seed' is a required property"),
        ({"splits": SPLITS | {"inductive": INDUCTIVE | {"test": 1}}}, "inductive.test: 1 is greater than or equal to"),
        ({"splits": SPLITS | {"inductive": INDUCTIVE | {"train": 0.6}}}, "unknown key train; the keys here are seed"),
        ({"mirror_folder": "../up"}, "'../up' is no plain name"),
    ],
)
def test_wrong_configuration(build, tmp_path, entry, message):
    with pytest.raises(InputError) as error:
        build(**entry)
    assert message in refused(tmp_path, error)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"sha": "0"}, "dataset.own.files.t: unknown key sha; the keys here are bytes, git_blob, member"),
        ({"sha256": "0"}, "dataset.own.files.t.sha256: '0' does not have the form"),
        (7, "dataset.own.files.t"),
    ],
)
def test_wrong_file_entries(file, message):
    splits = {"train": "t", "valid": "t", "test": "t"}
    with pytest.raises(InputError) as error:
        check({"name": "own", "files": {"t": file}, "splits": splits}, "dataset")
    assert message in str(error.value)


def test_a_full_disk_leaves_nothing(build, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("kglm.artefacts.pq.write_table", full)
    with pytest.raises(InputError, match="the disk is full") as error:
        build()
    refused(tmp_path, error)
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out" / "raw"]


def test_augment(build, tmp_path):
    build()
    augment(tmp_path / "out", tmp_path / "both.parquet")
    frame = read_parquet(tmp_path / "both.parquet", TRIPLES_WITH_INVERSE)
    rows = frame[["split", "head", "relation", "tail", "inverse"]].to_numpy().tolist()
    assert rows[:6] == [
        ["train", 0, 0, 1, False],
        ["train", 1, 0, 2, False],
        ["train", 2, 0, 0, False],
        ["train", 1, 1, 0, True],
        ["train", 2, 1, 1, True],
        ["train", 0, 1, 2, True],
    ]
    assert rows[6:] == [
        ["valid", 0, 0, 2, False],
        ["valid", 2, 1, 0, True],
        ["test", 1, 0, 0, False],
        ["test", 0, 1, 1, True],
    ]


def test_the_stages_from_the_command_line(build, tmp_path, capsys):
    own = {name: str(tmp_path / name) for name in THREE}
    for name, content in THREE.items():
        (tmp_path / name).write_text(content)
    spec = {"name": "x", "files": own, "splits": {name[:-4]: name for name in own}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    out = tmp_path / "data"
    assert main(["fetch", "--spec", str(tmp_path / "spec.json"), "--out", str(out / "raw")]) == 0
    arguments = ["--spec", str(tmp_path / "spec.json"), "--raw", str(out / "raw"), "--out", str(out)]
    assert main(["graph", *arguments]) == 0
    assert Graph.read(out).entity_count == 3
    assert "1 of 1 test triples stand reversed in train" in capsys.readouterr().err
    (out / "raw" / "test.tsv").write_text("a b\n")
    assert main(["graph", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


ID = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=4)
TRIPLES = st.lists(st.tuples(ID, ID, ID), min_size=1, max_size=12)


@settings(deadline=None, max_examples=25)
@given(train=TRIPLES, valid=TRIPLES, test=TRIPLES)
def test_a_graph_holds_the_triples_that_were_written(tmp_path_factory, train, valid, test):
    folder = tmp_path_factory.mktemp("graph")
    splits = {"train": train, "valid": valid, "test": test}
    for name, triples in splits.items():
        (folder / name).write_text("".join("\t".join(row) + "\n" for row in triples), "utf-8")
    names = [{"from_ids": True, "clean": []}]
    spec = {
        "files": {name: "-" for name in splits},
        "splits": {name: name for name in splits},
        "names": names,
    }
    graph(spec | {"relation_texts": names}, folder, folder / "out")
    built = Graph.read(folder / "out")
    entities, relations = built.entities["id"].tolist(), built.relations["id"].tolist()
    for name, triples in splits.items():
        found = [(entities[h], relations[r], entities[t]) for h, r, t in built.split(name)]
        assert found == triples

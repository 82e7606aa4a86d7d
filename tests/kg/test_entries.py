"""The configuration's datasets and corpora: all against the schema, and the mirrored ones built for real."""

import json

import numpy as np
import pandas as pd
import pytest

from kglm.artefacts import QUESTIONS, read_parquet
from kglm.files import MARK
from kglm.kg.build import graph
from kglm.kg.configuration import check
from kglm.kg.corpora import corpus
from kglm.kg.graph import Graph
from kglm.kg.parsers import read_lines
from kglm.kg.sources import fetch
from kglm.kg.texts import read_texts

MIRRORED = ("WN18RR", "FB15k-237", "FB15k-237N", "FB13", "umls", "umls_long", "umls_inductive")


def test_every_entry_fits_its_schema(entries):
    assert set(MIRRORED) | {"Wikidata5M-transductive", "Wikidata5M-inductive"} <= set(entries["datasets"])
    assert {"wikitext-103", "wikitext-2", "wikitext-2-raw", "mmlu", "sklearn"} <= set(entries["corpora"])
    for entry in entries["datasets"].values():
        check(entry, "dataset")
    for entry in entries["corpora"].values():
        check(entry, "corpus")


def test_every_file_that_an_entry_reads_is_fetched(entries):
    for entry in entries["datasets"].values():
        splits = entry["splits"]
        read = {splits[name] for name in ("train", "valid", "test")} | set(splits.get("negatives", {}).values())
        for key in ("names", "descriptions", "relation_texts"):
            read |= {source["file"] for source in entry.get(key, []) if "file" in source}
        read |= {entry["entities"]} if "entities" in entry else set()
        assert read == set(entry["files"])


def test_the_demo_needs_installed_packages_alone(entries, tmp_path, monkeypatch):
    monkeypatch.delenv("KGLM_MIRROR", raising=False)
    monkeypatch.setattr("kglm.kg.sources.download", lambda *arguments: pytest.fail("the network was asked"))
    umls, sklearn = entries["datasets"]["umls"], entries["corpora"]["sklearn"]
    fetch(umls, tmp_path / "umls" / "raw")
    graph(umls, tmp_path / "umls" / "raw", tmp_path / "umls")
    built = Graph.read(tmp_path / "umls")
    assert built.entities["name"].iloc[0] == "acquired abnormality"
    assert "location of" in built.relation_texts()
    fetch(sklearn, tmp_path / "sklearn" / "raw")
    corpus(sklearn, tmp_path / "sklearn" / "raw", tmp_path / "sklearn")
    train, test = ((tmp_path / "sklearn" / f"{n}.txt").read_text("utf-8").split("\n")[:-1] for n in ("train", "test"))
    assert len(test) >= 25 and len(train) >= 50 and not set(train) & set(test)
    assert all(sentence.endswith((".", "!", "?", '"', ")")) for sentence in train + test)


pytestmark = pytest.mark.filterwarnings("error::UserWarning")


@pytest.mark.mirror
@pytest.mark.parametrize("name", MIRRORED)
def test_counts(built, entries, name):
    found, raw, statistics, problems = built(name)
    expect = entries["datasets"][name]["expect"]
    assert {key: statistics[key] for key in expect} == expect
    assert all(part["triples"] == 0 for part in problems["duplicates"]["within"].values())
    assert all(part["triples"] == 0 for part in problems["duplicates"]["across"].values())
    record = json.loads((raw / "sources.json").read_text())
    assert all(one["source"] == "mirror" and one["sha256_was_known"] for one in record.values())
    assert found.entities["id"].is_monotonic_increasing
    assert not ((found.entities["name"] == "") & (found.entities["description"] == "")).any()
    texts = pd.concat([found.entities["name"], found.entities["description"], found.relations["text"]])
    assert not texts.str.contains(r"^\s|\s$|\s\s|[\n\r\t]").any()


@pytest.mark.mirror
def test_wn18rr(built):
    found, raw, statistics, _ = built("WN18RR")
    assert statistics["unseen"] == {
        "valid": {"entities": 198, "triples": 210, "triples_with_both_ends": 1},
        "test": {"entities": 209, "triples": 210, "triples_with_both_ends": 2},
    }
    assert (~found.entities["in_train"]).sum() == 384
    assert statistics["linked_in_train"]["test"] == {
        "same": 8,
        "reverse": 1095,
        "reverse_same_relation": 1086,
    }
    assert statistics["linked_in_train"]["valid"] == {
        "same": 7,
        "reverse": 1073,
        "reverse_same_relation": 1070,
    }
    assert statistics["self_loops"] == {"train": 7, "valid": 2, "test": 0}
    assert statistics["texts"]["entities_sharing_name"] == 12873
    assert statistics["texts"]["entities_sharing_description"] == 356
    assert statistics["texts"]["entities_sharing_both"] == 0
    assert found.entities["id"].str.fullmatch("[0-9]{8}").all()
    assert found.entities["id"].str.startswith("0").sum() == 30453
    assert found.entities["description"].str.contains('"', regex=False).sum() == 11079
    inverse = dict(zip(found.relations["id"], found.relations["inverse"], strict=True))
    assert inverse["_hypernym"] == "hyponym"
    assert inverse["_also_see"] == found.relations.set_index("id")["text"]["_also_see"] == "also see"
    assert len(read_lines(raw / "entity2text.txt")) == 40943  # the last line ends in no newline


@pytest.mark.mirror
def test_wn18rr_definitions_have_the_same_lemmas(mirror, built, tmp_path):
    found, *_ = built("WN18RR")
    name = "wordnet-mlj12-definitions.txt"
    fetch({"name": "WN18RR", "mirror": str(mirror), "format": "lines", "files": {name: {}}}, tmp_path / "raw")
    source = {"file": name, "columns": 3}
    senses = read_texts(tmp_path / "raw", source | {"column": 1, "clean": ["senses", "underscores"]})
    glosses = read_texts(tmp_path / "raw", source | {"column": 2})
    expected = found.entities.set_index("id").loc[senses.ids.to_pylist()]
    assert senses.texts.to_pylist() == expected["name"].tolist()
    assert glosses.texts.to_pylist() == expected["description"].tolist()


@pytest.mark.mirror
def test_fb15k_237(built):
    found, raw, statistics, problems = built("FB15k-237")
    assert (raw / "train.tsv").read_bytes().count(b"\r\n") == 272115
    assert not found.entities["id"].str.contains("\r").any()
    assert statistics["unseen"]["valid"] == {"entities": 8, "triples": 9, "triples_with_both_ends": 0}
    assert statistics["unseen"]["test"] == {"entities": 29, "triples": 28, "triples_with_both_ends": 2}
    assert statistics["self_loops"] == {"train": 1625, "valid": 90, "test": 91}
    assert statistics["relations_in"] == {"train": 237, "valid": 223, "test": 224}
    assert problems["descriptions_from"] == {"fb-entity2text-new.txt": 14515, "entity2wikidata.json": 24}
    assert problems["without_description"]["count"] == 2
    names = found.entities.set_index("id")["name"]
    assert not names.str.contains(r"_|-GB$|-US$").any()
    assert "Actor" in set(names)
    assert not found.entities["description"].str.contains("\\", regex=False).any()
    assert found.entities["description"].str.contains('"', regex=False).sum() > 500
    assert not any(file.name.startswith("entity2textlong") for file in raw.iterdir())


@pytest.mark.mirror
def test_fb15k_237n(built, entries, tmp_path):
    found, raw, statistics, problems = built("FB15k-237N")
    assert statistics["unseen"]["valid"] == {"entities": 69, "triples": 78, "triples_with_both_ends": 4}
    assert statistics["unseen"]["test"] == {"entities": 82, "triples": 89, "triples_with_both_ends": 4}
    assert (~found.entities["in_train"]).sum() == 139
    assert problems["duplicates"]["false_repeated"]["valid"]["triples"] == 143
    assert problems["duplicates"]["false_repeated"]["test"]["triples"] == 190
    assert problems["duplicates"]["false_but_true_elsewhere"]["test"]["triples"] == 0
    assert not found.entities["name"].str.contains("\\", regex=False).any()
    entry = entries["datasets"]["FB15k-237N"] | {"entities_from": "file"}
    graph(entry | {"expect": {"entities": 14541}}, raw, tmp_path)
    assert json.loads((tmp_path / "problems.json").read_text())["entities_without_triples"]["count"] == 1437


@pytest.mark.mirror
def test_fb13(built):
    found, _, statistics, problems = built("FB13")
    for split in ("valid", "test"):
        triples, labels = found.labelled(split)
        assert (labels.reshape(-1, 2) == [1, -1]).all()
        pairs = triples.reshape(-1, 2, 3)
        assert (pairs[:, 0, :2] == pairs[:, 1, :2]).all()
    assert statistics["relations_in"] == {"train": 13, "valid": 7, "test": 7}
    assert statistics["self_loops"]["train"] == 4
    false = problems["duplicates"]["false_but_true_elsewhere"]
    assert (false["valid"]["triples"], false["test"]["triples"]) == (14, 53)
    assert problems["duplicates"]["false_repeated"]["test"]["triples"] == 2
    names = found.entities.set_index("id")["name"]
    assert names.is_unique
    assert names["arthur_hornblow_jr__1893"] == "arthur hornblow jr 1893"


@pytest.mark.mirror
def test_umls(built):
    short, _, statistics, _ = built("umls")
    long, _, statistics_long, _ = built("umls_long")
    assert statistics["linked_in_train"]["test"] == {"same": 345, "reverse": 270, "reverse_same_relation": 97}
    assert statistics["linked_in_train"]["valid"] == {
        "same": 334,
        "reverse": 224,
        "reverse_same_relation": 81,
    }
    assert statistics_long["texts"]["entities_sharing_description"] == 8
    assert long.entities["description"].nunique() == 131
    for split in ("train", "valid", "test"):
        assert np.array_equal(short.split(split), long.split(split))
    assert short.entities["name"].tolist() == long.entities["name"].tolist()
    differing = short.relations["text"] != long.relations["text"]
    assert short.relations["text"][differing].tolist() == ["isa"]  # "is a" in the benchmark's own texts


@pytest.mark.mirror
@pytest.mark.parametrize("name", ["umls", "umls_long"])
def test_drawn_negatives_of_umls(built, name):
    found, _, _, problems = built(name)
    true = {tuple(row) for split in ("train", "valid", "test") for row in found.split(split).tolist()}
    for split in ("valid", "test"):
        triples, labels = found.labelled(split)
        count = len(triples) // 2
        assert labels.tolist() == [1] * count + [-1] * count
        assert not true & {tuple(row) for row in triples[count:].tolist()}
        changed = triples[count:] != triples[:count]
        assert (changed.sum(axis=1) == 1).all()
        assert abs(changed[:, 0].mean() - 0.5) < 0.1
        assert problems["duplicates"]["false_but_true_elsewhere"][split]["triples"] == 0


@pytest.mark.mirror
def test_umls_inductive(built):
    found, _, statistics, problems = built("umls_inductive")
    whole = {tuple(row) for split in ("train", "valid", "test") for row in built("umls")[0].split(split).tolist()}
    for split in ("train", "valid", "test"):
        assert {tuple(row) for row in found.split(split).tolist()} < whole  # the numbers are those of umls
    assert [len(found.candidates(split)) for split in ("valid", "test")] == [14, 34]
    for split in ("valid", "test"):
        assert statistics["unseen"][split]["triples_with_both_ends"] == statistics[split]
        assert set(found.split(split)[:, 1]) <= set(found.split("train")[:, 1])
    assert problems["left_out_by_split"] == {"between_entity_sets": 3285, "relation_not_in_train": 4}
    assert len(whole) == 2851 + 65 + 324 + 3285 + 4


@pytest.mark.mirror
def test_figures_of_the_papers_statistics(built):
    assert built("umls_long")[2]["description_words"] == pytest.approx(211.6, abs=0.1)
    assert built("umls")[2]["description_words"] is None
    assert built("WN18RR")[2]["description_words"] == pytest.approx(12.9, abs=0.1)
    assert built("WN18RR")[2]["degree_groups"]["0"] == 384
    assert sum(built("FB15k-237")[2]["degree_groups"].values()) == 14541


def passages(mirror, entries, tmp_path, name):
    entry = entries["corpora"][name] | {"mirror": str(mirror)}
    fetch(entry, tmp_path / name / "raw")
    corpus(entry, tmp_path / name / "raw", tmp_path / name)
    return tmp_path / name


@pytest.mark.mirror
@pytest.mark.parametrize(("name", "unknown"), [("wikitext-103", 2492), ("wikitext-2", 15218), ("wikitext-2-raw", 0)])
def test_wikitext(mirror, entries, tmp_path, name, unknown):
    folder = passages(mirror, entries, tmp_path, name)
    text = (folder / "test.txt").read_text("utf-8")
    (raw,) = (path for path in (folder / "raw").iterdir() if path.name not in ("sources.json", MARK))
    content = raw.read_text("utf-8")
    tokens = content.split()
    assert len(tokens) + content.count("\n") == 245569
    assert tokens.count("<unk>") == unknown
    headings = [line for line in content.split("\n") if line.startswith(" = ") and line.endswith(" = ")]
    removed = len(tokens) - len(text.split())
    assert 0 < removed <= sum(len(line.split()) for line in headings)
    surname = "<unk>" if name == "wikitext-2" else "Boulter"
    assert text.startswith(f"Robert {surname} is an English film , television and theatre actor .")
    assert not any(not line.strip() for line in text.split("\n")[:-1])


@pytest.mark.mirror
def test_mmlu(mirror, entries, tmp_path):
    frame = read_parquet(passages(mirror, entries, tmp_path, "mmlu") / "questions.parquet", QUESTIONS)
    assert frame["split"].value_counts().to_dict() == {"test": 14042, "dev": 285}
    assert frame["subject"].nunique() == 57
    assert (frame[frame["split"] == "dev"]["subject"].value_counts() == 5).all()
    answers = frame[frame["split"] == "test"]["answer"].value_counts().sort_index()
    assert answers.tolist() == [3222, 3462, 3582, 3776]
    assert (frame["choices"].map(len) == 4).all()
    assert sum(choice == "None" for choices in frame["choices"] for choice in choices) == 10
    test = frame[frame["split"] == "test"]
    assert (test["question"].str.contains("\n")).sum() >= 1000
    assert frame["question"].str.contains("\r\n").sum() == 1

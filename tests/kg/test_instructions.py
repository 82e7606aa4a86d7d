import pytest

from kglm.artefacts import INSTRUCTIONS, read_parquet
from kglm.errors import InputError
from kglm.kg.instructions import TRIPLE_COMPLETION, instructions, prompt


def test_the_two_forms_of_the_template():
    # Taori et al. (2023), whose wording is the point
    assert prompt("Do it", "this, that") == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nDo it\n\n### Input:\nthis, that\n\n### Response:\n"
    )
    assert prompt("Do it") == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nDo it\n\n### Response:\n"
    )


def test_texts_with_braces_pass_through():
    assert "### Input:\n{x} {}\n" in prompt("i", "{x} {}")


def test_every_true_triple_and_its_inverse(build, tmp_path):
    built = build(inverse_texts={"likes": "is liked by"})
    instructions({}, tmp_path / "out", tmp_path / "instructions")
    for split in ("train", "valid", "test"):
        frame = read_parquet(tmp_path / "instructions" / f"{split}.parquet", INSTRUCTIONS)
        assert frame[["head", "relation", "tail"]].to_numpy().tolist() == built.split(split, inverse=True).tolist()
        assert set(frame["instruction"]) == {TRIPLE_COMPLETION}
    valid = read_parquet(tmp_path / "instructions" / "valid.parquet", INSTRUCTIONS)
    assert valid[["input", "output"]].to_numpy().tolist() == [["a, likes", "c"], ["c, is liked by", "a"]]


def test_options(build, tmp_path):
    build({"d.txt": "a\tthe first letter\n"}, descriptions=[{"file": "d.txt"}])
    spec = {"entity_text": "description", "inverse": False, "maximum_words": 2}
    instructions(spec, tmp_path / "out", tmp_path / "i")
    frame = read_parquet(tmp_path / "i" / "train.parquet", INSTRUCTIONS)
    assert frame["input"].tolist() == ["the first, likes", "b, likes", "c, likes"]
    assert frame["output"].tolist() == ["b", "c", "the first"]
    with pytest.raises(InputError, match="maximum_words: '5' is text, expected int"):
        instructions({"maximum_words": "5"}, tmp_path / "out", tmp_path / "i")


def test_batches_join(build, tmp_path, monkeypatch):
    monkeypatch.setattr("kglm.kg.instructions._ROWS", 2)
    build()
    instructions({}, tmp_path / "out", tmp_path / "i")
    assert len(read_parquet(tmp_path / "i" / "train.parquet", INSTRUCTIONS)) == 6

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.kg.parsers import read_columns, read_lines, read_triples


def write(tmp_path, content, name="train.tsv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(path, **options):
    triples = read_triples(path, **options)
    columns = (column.to_pylist() for column in (triples.head, triples.relation, triples.tail))
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize(
    "content",
    [
        "01\tr\t2\n03\tr\t4\n",
        "01\tr\t2\r\n03\tr\t4\r\n",  # FB15k-237
        "01\tr\t2\n03\tr\t4",  # no final newline
        "01\tr\t2\r\n03\tr\t4\r",
        "\ufeff01\tr\t2\n03\tr\t4\n",
        "01\tr\t2  \n\n \t \n03 \t r\t4\t\n\n",  # white space at ends, blank lines
    ],
)
def test_line_ends_white_space_and_leading_zeros(tmp_path, content):
    assert rows(write(tmp_path, content)) == [("01", "r", "2"), ("03", "r", "4")]


def test_stray_quotes_mean_nothing_in_tsv(tmp_path):
    assert rows(write(tmp_path, 'a\tsays\t"b\nc\tsays\td"e\n')) == [("a", "says", '"b'), ("c", "says", 'd"e')]


def test_quotes_mean_something_in_csv(tmp_path):
    path = write(tmp_path, 'head,relation,tail\n"a, b",r,"c ""d"""\n', "train.csv")
    assert rows(path, header=True) == [("a, b", "r", 'c "d"')]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.tsv", "a\tr\tb\n\na\tr\n", "train.tsv:3: 2 columns, expected 3"),
        ("train.tsv", "a\tr\tb\na\tr\tb\tc\n", "train.tsv:2: 4 columns, expected 3"),
        ("train.csv", "a,r,b\na,r\n", "train.csv:2: 2 columns, expected 3"),
        ("train.csv", 'a,r,b\n"a,r,b\n', "train.csv:2: not CSV"),
        ("train.tsv", "a\tr\tb\na\t\tb\n", "train.tsv:2: the relation is empty"),
        ("train.tsv", b"a\tr\tb\nc\tr\t\xe9\n", "train.tsv:2: byte 0xe9 is not UTF-8"),
        ("train.tsv", "", "train.tsv: holds no triples"),
        ("train.tsv", "\n \n", "train.tsv: holds no triples"),
        ("train.nt", "<http://x/a> <http://x/r> <http://x/b> .\nnonsense\n", "train.nt:2: not N-Triples"),
        ("train.ttl", "@prefix x: <http://x/> .\nx:a x:r x:b .\nx:a x:r ;;\n[", "not Turtle"),
    ],
)
def test_bad_files_are_refused_with_file_and_line(tmp_path, name, content, message):
    with pytest.raises(InputError) as error:
        read_triples(write(tmp_path, content, name))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_triples(tmp_path / "none.tsv")


def test_labels(tmp_path):
    path = write(tmp_path, "a\tr\tb\t1\na\tr\tc\t-1\n")
    assert read_triples(path, labelled=True).label.tolist() == [1, -1]
    with pytest.raises(InputError, match=r"train.tsv:2: the label is '0', expected 1 or -1"):
        read_triples(write(tmp_path, "a\tr\tb\t1\na\tr\tc\t0\n"), labelled=True)
    with pytest.raises(InputError, match="3 columns, expected 4"):
        read_triples(write(tmp_path, "a\tr\tb\n"), labelled=True)


def test_line_numbers_count_blank_lines(tmp_path):
    assert read_triples(write(tmp_path, "\na\tr\tb\n\nc\tr\td\n")).line.tolist() == [2, 4]


def test_loose_columns(tmp_path):
    path = write(tmp_path, "Q1\tone\tuno\nQ2\nQ3\tthree\n")
    _, (ids, texts) = read_columns(path, 2, loose=True)
    assert (ids.to_pylist(), texts.to_pylist()) == (["Q1", "Q2", "Q3"], ["one", "", "three"])


def test_an_empty_text_is_kept_as_a_column(tmp_path):
    _, (_, texts) = read_columns(write(tmp_path, "a\t\nb\ttext \n"), 2)
    assert texts.to_pylist() == ["", "text"]


def test_files_longer_than_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("kglm.kg.parsers._CHUNK", 3)
    expected = [(f"e{i % 4}", "r", f"e{i}") for i in range(10)]
    path = write(tmp_path, "".join("\t".join(row) + "\n" for row in expected))
    assert rows(path) == expected
    path = write(tmp_path, path.read_text() + "odd\n")
    with pytest.raises(InputError, match=r"train\.tsv:11: 1 columns"):
        read_triples(path)


def test_ntriples_keep_order_duplicates_and_blank_nodes(tmp_path):
    statement = "<http://x/b> <http://x/r> <http://x/a> .\n"
    lines = [
        "# a comment\n",
        statement,
        "_:n1 <http://x/r> <http://x/b> .\n",
        statement,
        '<http://x/a> <http://www.w3.org/2000/01/rdf-schema#label> "the letter \\u00E1"@en .\n',
        '<http://x/a> <http://www.w3.org/2000/01/rdf-schema#label> "Buchstabe"@de .\n',
        '<http://x/a> <http://www.w3.org/2000/01/rdf-schema#comment> "first" .\n',
        '<http://x/a> <http://x/born> "1900" .\n',
    ]
    path = write(tmp_path, "".join(lines), "train.nt")
    expected = ("http://x/b", "http://x/r", "http://x/a")
    assert rows(path) == [expected, ("_:n1", "http://x/r", "http://x/b"), expected]
    triples = read_triples(path)
    assert triples.line.tolist() == [2, 3, 4]
    assert triples.texts == [("http://x/a", "name", "the letter á"), ("http://x/a", "description", "first")]
    assert triples.literals == 2


def test_turtle_is_sorted_and_stable(tmp_path):
    text = "@prefix x: <http://x/> .\nx:b x:r x:a, [x:r x:c] .\nx:a x:r x:c ; x:year 1900 .\n"
    path = write(tmp_path, text, "train.ttl")
    first = rows(path)
    assert first == rows(path) == sorted(first)
    assert len(first) == 4
    assert ("http://x/a", "http://x/r", "http://x/c") in first


ID = st.text(
    st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8
)  # neither white space nor control characters
TRIPLES = st.lists(st.tuples(ID, ID, ID), min_size=1, max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(triples=TRIPLES, end=st.sampled_from(["\n", "\r\n"]), final=st.booleans())
def test_what_is_written_as_tsv_is_read_again(tmp_path, triples, end, final):
    text = end.join("\t".join(triple) for triple in triples) + (end if final else "")
    assert rows(write(tmp_path, text)) == triples


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(content=st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])))
def test_lines_are_those_of_split(tmp_path, content):
    expected = content.removeprefix("\ufeff").split("\n")
    expected = expected[:-1] if expected[-1] == "" else expected
    assert read_lines(write(tmp_path, content)).to_pylist() == expected

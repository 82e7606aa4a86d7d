import bz2
import gzip
import lzma
import time

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kglm.errors import InputError
from kglm.kg import compression
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
    assert rows(path) == [expected, ("_:train.nt/n1", "http://x/r", "http://x/b"), expected]
    triples = read_triples(path)
    assert triples.line.tolist() == [2, 3, 4]
    assert triples.texts == [("http://x/a", "name", "the letter á"), ("http://x/a", "description", "first")]
    assert triples.literals == 2


def test_turtle_keeps_its_order_and_names_blank_nodes_by_it(tmp_path):
    text = "@prefix x: <http://x/> .\nx:b x:r x:a, [x:r _:c] .\n_:c x:r x:c ; x:year 1900 .\nx:b x:r x:a .\n"
    expected = [
        ("http://x/b", "http://x/r", "http://x/a"),
        ("http://x/b", "http://x/r", "_:train.ttl/b0"),
        ("_:train.ttl/b0", "http://x/r", "_:train.ttl/b1"),
        ("_:train.ttl/b1", "http://x/r", "http://x/c"),
    ]
    assert sorted(rows(write(tmp_path, text, "train.ttl"))) == sorted(expected)


@pytest.mark.parametrize("ending", ["nt", "nq", "ttl"])
def test_a_blank_node_belongs_to_its_file(tmp_path, ending):
    statement = "_:b0 <http://x/r> <http://x/a> .\n"
    ids = {rows(write(tmp_path, statement, f"{part}.{ending}"))[0][0] for part in ("train", "test")}
    assert len(ids) == 2


def test_many_alike_blank_nodes_take_no_longer_than_others(tmp_path):
    people = "".join(f"x:e{i} x:address [x:city x:c], [x:city x:d] .\n" for i in range(2000))
    begun = time.monotonic()
    read = rows(write(tmp_path, f"@prefix x: <http://x/> .\n{people}", "train.ttl"))
    assert len(read) == 8000
    assert time.monotonic() - begun < 30  # a canonical form of forty such people took 31 seconds


def test_quads_are_triples_of_all_graphs(tmp_path):
    lines = [
        "<http://x/a> <http://x/r> <http://x/b> <http://x/graph> .\n",
        "<http://x/a> <http://x/r> <http://x/c> .\n",
        "# a comment\n",
        '<http://x/a> <http://www.w3.org/2000/01/rdf-schema#label> "A" <http://x/graph> .\n',
    ]
    path = write(tmp_path, "".join(lines), "train.nq")
    assert rows(path) == [("http://x/a", "http://x/r", "http://x/b"), ("http://x/a", "http://x/r", "http://x/c")]
    triples = read_triples(path)
    assert (triples.line.tolist(), triples.texts) == ([1, 2], [("http://x/a", "name", "A")])
    with pytest.raises(InputError, match=r"train\.nq:1: not N-Quads"):
        read_triples(write(tmp_path, "<http://x/a> <http://x/r> .\n", "train.nq"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.nt", r'<a:a> <a:l> "\UFFFFFFFF" .'),
        ("train.nq", r'<a:\UFFFFFFFF> <a:l> "x" <a:g> .'),
        ("train.ttl", r"@prefix x: <http://x/\UFFFFFFFF> ."),
        ("train.ttl", 'x:a x:l "t"@e0n-GB .'),
        ("train.ttl", "@prefix x: <http://x/> .\nx:a x:r x:b .@prefix"),
        ("train.ttl", "@base <http:\t//y/> .\n<z> a <w> ."),
        ("train.ttl", '@prefix x: <http://x/> .\nx:a x:l "x"^^x'),
        ("train.ttl", "@prefix x: <http://x/> .\n" + "[ x:r " * 5000),
    ],
)
def test_what_an_rdf_parser_stumbles_over_is_told_in_one_line(tmp_path, name, content):
    with pytest.raises(InputError, match=r"train\.\w+(:\d+)?: (not|holds no triples)"):
        read_triples(write(tmp_path, content, name))


LABELS = {
    '"Venice"@EN, "Venedig"@de': "Venice",
    '"Venice"@en-GB, "Venedig"@de': "Venice",
    '"威尼斯"@zh': "威尼斯",
    '"威尼斯"@ZH-Hans, "Venedig"@de': "Venedig",
    '"Venedig"@de, "Venezia"': "Venezia",
}


@pytest.mark.parametrize(("labels", "expected"), LABELS.items())
@pytest.mark.parametrize("ending", ["nt", "ttl"])
def test_labels_in_any_language(tmp_path, labels, expected, ending):
    label = "<http://x/v> <http://www.w3.org/2000/01/rdf-schema#label>"
    statements = [f"{label} {text} .\n" for text in labels.split(", ")]
    path = write(tmp_path, "<http://x/v> <http://x/in> <http://x/i> .\n" + "".join(statements), f"train.{ending}")
    triples = read_triples(path)
    assert triples.texts == [("http://x/v", "name", expected)]
    assert triples.literals == len(statements) - 1


@pytest.mark.parametrize("ending", ["nt", "nq", "ttl"])
@pytest.mark.parametrize(
    ("written", "expected"), [(r"\ud83d\ude00", "😀"), (r"a\ud83d b", "a\ufffd b"), ("é😀", "é😀")]
)
def test_halves_of_characters_in_rdf(tmp_path, ending, written, expected):
    label = f'<http://x/v> <http://www.w3.org/2000/01/rdf-schema#label> "{written}" .\n'
    path = write(tmp_path, "<http://x/v> <http://x/in> <http://x/i> .\n" + label, f"train.{ending}")
    assert read_triples(path).texts == [("http://x/v", "name", expected)]


@pytest.mark.parametrize(
    "titles", ["head,relation,tail", "Subject,Predicate,Object", "h,r,t", "source_id, rel ,target_id"]
)
def test_a_header_that_nobody_told_of_is_refused(tmp_path, titles):
    path = write(tmp_path, f"{titles}\na,r,b\n", "train.csv")
    with pytest.raises(InputError, match=r"train\.csv:1: .*`header: true`"):
        read_triples(path)
    assert rows(path, header=True) == [("a", "r", "b")]
    assert len(rows(path, header=False)) == 2


def test_spaces_around_quotes_in_csv(tmp_path):
    lines = ['a, "likes", b', '"a" ,likes , "b"', '"a"\t,"likes","b" ', 'a,likes,"b, ""c"" , d"']
    path = write(tmp_path, "\n".join(lines), "train.csv")
    assert rows(path) == [("a", "likes", "b")] * 3 + [("a", "likes", 'b, "c" , d')]


def test_a_long_cell_in_csv(tmp_path):
    text = "word " * 100_000
    _, columns = read_columns(write(tmp_path, f'a,"{text}"\n', "texts.csv"), 2, format="csv")
    assert columns[1].to_pylist() == [text.strip()]


def test_an_unclosed_quote_is_told_where_it_opens(tmp_path):
    path = write(tmp_path, 'a,r,b\nc,r,"d\ne,r,f\n', "train.csv")
    with pytest.raises(InputError, match=r"train\.csv:2: .*close the quote"):
        read_triples(path)


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": pa.Codec("zstd").compress}
CONTENTS = {
    "train.tsv": "a\tr\tb\n",
    "train.TXT": "a\tr\tb\n",
    "train.CSV": 'a, "r", b\n',
    "train.nt": "<a:a> <a:r> <a:b> .\n",
    "train.NQ": "<a:a> <a:r> <a:b> <a:g> .\n",
    "train.ttl": "@prefix a: <a:> . a:a a:r a:b .\n",
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("ending", ["", *PACKED, ".GZ"])
def test_every_format_compressed_or_not(tmp_path, name, ending):
    content = CONTENTS[name].encode()
    packed = bytes(PACKED.get(ending.lower(), lambda plain: plain)(content))
    read = rows(write(tmp_path, packed, name + ending))
    assert [[cell.removeprefix("a:") for cell in row] for row in read] == [["a", "r", "b"]]


@pytest.mark.parametrize("ending", PACKED)
def test_a_compressed_file_that_is_cut_short(tmp_path, ending):
    content = "".join(f"e{i}\tr\te{i * i}\n" for i in range(3000)).encode()
    packed = bytes(PACKED[ending](content))
    with pytest.raises(InputError, match=r"train\.tsv.*damaged or cut short"):
        read_triples(write(tmp_path, packed[: len(packed) // 2], f"train.tsv{ending}"))


@pytest.mark.parametrize("ending", PACKED)
def test_a_compressed_file_that_grows_without_end(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(compression, "_UNPACKED", 1000)
    path = write(tmp_path, bytes(PACKED[ending](b"a\tr\tb\n" * 1_000_000)), f"train.tsv{ending}")
    with pytest.raises(InputError, match=r"train\.tsv.*has more than"):
        read_triples(path)


def test_further_columns_of_a_text_table(tmp_path):
    path = write(tmp_path, "a\ttext\tmore\n", "texts.tsv")
    with pytest.raises(InputError, match=r"texts\.tsv:1: 3 columns, expected 2; say `columns: 3`.*`columns: any`"):
        read_columns(path, 2)


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

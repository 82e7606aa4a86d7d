"""filtered_ranks and filtered_ranks_by against the definition, PyKEEN and themselves."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from kglm.errors import InputError
from kglm.ranking import filtered_ranks, filtered_ranks_by, inner_product, open_embeddings, scorer

from .oracle import NONE, csr, naive_ranks, problems, pykeen_ranks


def by_callable(queries, entities, targets, known, **options):
    return filtered_ranks_by(lambda q, e: queries[q] @ entities[e].T, len(entities), targets, known, **options)


def table(ranks):
    return np.stack(ranks, axis=1)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def draw(random, queries, entities, width, known=3):
    """A problem with real numbers and `known` filtered answers a query."""
    vectors = random.standard_normal((queries + entities, width), np.float32)
    filtered = random.integers(entities, size=(queries, known)).tolist()
    return vectors[:queries], vectors[queries:], random.integers(entities, size=queries), filtered


@settings(max_examples=150, deadline=None)
@given(problems(), st.sampled_from([filtered_ranks, by_callable]))
def test_equals_the_definition_and_pykeen(problem, rank):
    queries, entities, targets, known = problem
    ranks = table(rank(queries, entities, targets, csr(known)))
    scores = queries @ entities.T
    np.testing.assert_array_equal(ranks, naive_ranks(scores, targets, known))
    np.testing.assert_array_equal(ranks, pykeen_ranks(scores, targets, known))


def test_equals_pykeen_on_the_scores_of_a_callable_to_the_last_bit(random):
    scores = random.standard_normal((70, 900)).astype(np.float16).astype(np.float32)  # few values, so ties
    targets, known = random.integers(900, size=70), random.integers(900, size=(70, 40)).tolist()
    ranks = filtered_ranks_by(lambda q, e: scores[q, e], 900, targets, csr(known), tile=(32, 128))
    assert (ranks.pessimistic > ranks.optimistic).any()
    np.testing.assert_array_equal(table(ranks), pykeen_ranks(scores, targets, known))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 481, 3), (257, 480, 17), (300, 1000, 384), (600, 500, 769)])
def test_equals_the_definition_over_several_tiles(random, shape):
    queries, entities, targets, known = draw(random, *shape)
    entities = np.round(entities * 8) / 8  # with queries of ±1 every sum is exact in fp32
    queries = np.sign(queries)
    ranks = filtered_ranks(queries, entities, targets, csr(known))
    np.testing.assert_array_equal(table(ranks), pykeen_ranks(queries @ entities.T, targets, known))


@pytest.mark.parametrize("width", [1, 5, 64, 384, 777])
@pytest.mark.parametrize("product", [inner_product.blas_product, inner_product.slow_product])
def test_equal_vectors_tie_exactly_wherever_they_stand(random, monkeypatch, width, product):
    entities = random.standard_normal((1100, width), np.float32)
    copies = np.concatenate([[0, 15, 16, 479, 480, 481, 959, 960, 1098, 1099], random.integers(1100, size=10)])
    copies = np.unique(copies)
    entities[copies] = random.standard_normal(width)
    queries = random.standard_normal((270, width), np.float32)
    queries[::7] = queries[0]
    if product is inner_product.slow_product:
        monkeypatch.setattr(inner_product, "_product", lambda _, query_rows, __: (product, np.arange(query_rows)))
    targets = np.resize(copies, 270)
    ranks = filtered_ranks(queries, entities, targets, csr([[]] * 270))
    ties = ranks.pessimistic - ranks.optimistic + 1
    if width > 1:
        np.testing.assert_array_equal(ties, len(copies))
    same = np.unique(table(ranks)[::7], axis=0)
    assert len(same) == 1, "equal queries have equal ranks, whichever copy they ask for"


def test_this_blas_needs_no_slow_product():
    for width in (1, 32, 384, 768, 4096):
        product, columns = inner_product._product(inner_product.TILE_ENTITIES, inner_product.TILE_QUERIES, width)
        assert product is inner_product.blas_product
        assert len(columns) > 0.9 * inner_product.TILE_QUERIES


def rounding_apart(rows, columns):
    """A product whose scores at some places are off by a bit."""

    def product(entities, queries, out):
        inner_product.slow_product(entities, queries, out)
        out[rows, columns] = np.nextafter(out[rows, columns], np.inf)

    return product


@pytest.mark.parametrize("odd", [slice(0, 5), slice(-3, None), slice(2, None, 4)])
def test_columns_that_round_apart_are_left_empty(random, monkeypatch, odd):
    monkeypatch.setattr(inner_product, "blas_product", rounding_apart(slice(3, 400, 2), odd))
    monkeypatch.setattr(inner_product, "_product", inner_product._product.__wrapped__)
    product, columns = inner_product._product(480, 256, 8)
    assert product is inner_product.blas_product
    assert columns.tolist() == sorted({*range(256)} - {*range(256)[odd]})
    queries, entities, targets, known = draw(random, 600, 1100, 8)
    entities[::3] = entities[0]
    targets[:] = 3 * (targets // 3)
    ranks = filtered_ranks(queries, entities, targets, csr(known))
    monkeypatch.setattr(inner_product, "blas_product", inner_product.slow_product)
    expected = filtered_ranks(queries, entities, targets, csr(known))
    np.testing.assert_array_equal(table(ranks), table(expected))


@pytest.mark.parametrize(("rows", "columns"), [(slice(-3, None), slice(None)), (7, slice(None, None, 2))])
def test_a_blas_that_rounds_apart_too_often_is_not_used(monkeypatch, rows, columns):
    monkeypatch.setattr(inner_product, "blas_product", rounding_apart(rows, columns))
    with pytest.warns(UserWarning, match="slow"):
        product, columns = inner_product._product.__wrapped__(32, 16, 8)
    assert product is inner_product.slow_product and len(columns) == 16


def test_neither_tile_sizes_nor_threads_nor_neighbours_matter(random, monkeypatch):
    queries, entities, targets, known = draw(random, 530, 1300, 24, known=200)
    queries, entities = np.round(queries), np.round(entities)
    expected = table(filtered_ranks(queries, entities, targets, csr(known)))
    np.testing.assert_array_equal(expected, pykeen_ranks(queries @ entities.T, targets, known))
    for sizes, threads in itertools.product([(16, 16), (1024, 16), (2048, 64), (320, 272)], [1, 3]):
        monkeypatch.setattr(inner_product, "TILE_ENTITIES", sizes[0])
        monkeypatch.setattr(inner_product, "TILE_QUERIES", sizes[1])
        ranks = filtered_ranks(queries, entities, targets, csr(known), threads=threads)
        np.testing.assert_array_equal(table(ranks), expected)
    for tile in [(1, 1300), (530, 1), (7, 100), (1000, 5000)]:
        np.testing.assert_array_equal(table(by_callable(queries, entities, targets, csr(known), tile=tile)), expected)


def test_the_same_query_has_the_same_rank_in_any_company(random):
    queries, entities, targets, known = draw(random, 300, 2000, 96)
    ranks = table(filtered_ranks(queries, entities, targets, csr(known)))
    for chosen in (slice(0, 1), slice(255, 258), slice(299, None, -1)):
        some = filtered_ranks(queries[chosen], entities, targets[chosen], csr(known[chosen]))
        np.testing.assert_array_equal(table(some), ranks[chosen])
    order = random.permutation(2000)
    place = np.argsort(order)
    moved = filtered_ranks(queries, entities[order], place[targets], csr([place[row].tolist() for row in known]))
    np.testing.assert_array_equal(table(moved), ranks)


def test_strips_of_scores_stay_within_their_bound(random, monkeypatch):
    queries, entities, targets, known = draw(random, 40, 500, 8)
    entities, queries = np.round(entities), np.round(queries)
    expected = table(filtered_ranks(queries, entities, targets, csr(known)))
    monkeypatch.setattr(scorer, "_STRIP_BYTES", 3 * 500 * 4)
    seen = []

    def score(q, e):
        seen.append((q.stop - q.start, e.stop - e.start))
        return queries[q] @ entities[e].T

    ranks = filtered_ranks_by(score, 500, targets, csr(known), tile=(64, 200))
    np.testing.assert_array_equal(table(ranks), expected)
    assert max(seen) == (3, 200) and sum(q * e for q, e in seen) == 40 * 500, "each pair is scored once"


def test_a_constant_scorer_is_at_chance():
    targets = np.arange(1000) % 100
    for ranks in (
        filtered_ranks(np.ones((1000, 4)), np.ones((100, 4)), targets, csr([[]] * 1000)),
        filtered_ranks_by(lambda q, e: np.zeros((q.stop - q.start, e.stop - e.start)), 100, targets, csr([[]] * 1000)),
    ):
        assert (ranks.optimistic == 1).all() and (ranks.pessimistic == 100).all()
        assert (ranks.realistic == 50.5).all() and (ranks.candidates == 100).all()


def test_known_answers_are_left_out_and_the_target_never():
    queries, entities = np.ones((4, 1)), np.array([[3.0], [2.0], [1.0], [2.0]])
    known = csr([[], [0], [3, 1, 0, 3, 0], [0, 1, 2, 3]])
    ranks = filtered_ranks(queries, entities, np.array([1, 1, 1, 2]), known)
    assert ranks.optimistic.tolist() == [2, 1, 1, 1]
    assert ranks.realistic.tolist() == [2.5, 1.5, 1.0, 1.0]
    assert ranks.pessimistic.tolist() == [3, 2, 1, 1]
    assert ranks.candidates.tolist() == [4, 3, 2, 1]


def test_no_queries_give_no_ranks():
    empty = (np.zeros(1, np.int64), NONE)
    for entities in (0, 5):
        for ranks in (
            filtered_ranks(np.zeros((0, 3)), np.zeros((entities, 3)), NONE, empty),
            filtered_ranks_by(lambda q, e: pytest.fail("nothing to score"), entities, NONE, empty),
        ):
            assert [len(column) for column in ranks] == [0, 0, 0, 0]
            assert ranks.realistic.dtype == np.float64 and ranks.candidates.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4", np.int8])
def test_other_number_types_are_ranked_as_float32(random, dtype):
    queries, entities, targets, known = draw(random, 9, 700, 6)
    queries, entities = (queries * 4).astype(dtype), (entities * 4).astype(dtype)
    ranks = filtered_ranks(queries, entities, targets, csr(known))
    expected = filtered_ranks(queries.astype(np.float32), entities.astype(np.float32), targets, csr(known))
    np.testing.assert_array_equal(table(ranks), table(expected))


def test_arrays_in_other_layouts_rank_alike(random):
    queries, entities, targets, known = draw(random, 9, 700, 6)
    expected = table(filtered_ranks(queries, entities, targets, csr(known)))
    wide = np.repeat(entities, 2, axis=0)
    for other in (np.asfortranarray(entities), wide[::2], entities.tolist()):
        np.testing.assert_array_equal(table(filtered_ranks(queries, other, targets, csr(known))), expected)


def test_entities_on_disk_rank_as_in_memory(random, tmp_path):
    queries, entities, targets, known = draw(random, 300, 1500, 40)
    expected = table(filtered_ranks(queries, entities, targets, csr(known)))
    save_file({"embeddings": entities, "other": entities[:3]}, tmp_path / "e.safetensors")
    np.save(tmp_path / "e.npy", entities)
    entities.tofile(tmp_path / "e.bin")
    on_disk = np.memmap(tmp_path / "e.bin", np.float32, "r", shape=entities.shape)
    opened = open_embeddings(tmp_path / "e.safetensors")
    for source in (opened, tmp_path / "e.safetensors", str(tmp_path / "e.npy"), on_disk):
        np.testing.assert_array_equal(table(filtered_ranks(queries, source, targets, csr(known))), expected)
    assert opened.shape == (1500, 40)
    half = tmp_path / "half.safetensors"
    save_file({"embeddings": entities.astype(np.float16)}, half)
    ranks = filtered_ranks(queries, half, targets, csr(known))
    in_memory = filtered_ranks(queries, entities.astype(np.float16), targets, csr(known))
    np.testing.assert_array_equal(table(ranks), table(in_memory))


def test_unreadable_embeddings_are_told(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    (tmp_path / "bad.npy").write_bytes(b"nonsense")
    save_file({"other": np.zeros((2, 2), np.float32)}, tmp_path / "other.safetensors")
    save_file({"embeddings": np.zeros((2, 2), bool)}, tmp_path / "bool.safetensors")
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    for name in (
        "bad.safetensors",
        "bad.npy",
        "other.safetensors",
        "bool.safetensors",
        "pickle.npy",
        "none.npy",
        "none.safetensors",
    ):
        with pytest.raises(InputError, match=name):
            open_embeddings(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 600])
def test_nan_and_infinity_are_refused_by_place(random, value, row):
    queries, entities, targets, known = draw(random, 700, 601, 5)
    entities[row, 2] = value
    with pytest.raises(InputError, match=rf"entities: row {row} "):
        filtered_ranks(queries, entities, targets, csr(known))
    with pytest.raises(InputError, match=rf"entities: row {row} "):
        filtered_ranks(queries, entities, np.where(targets == row, 1, targets), csr(known))
    entities[row, 2] = 0
    queries[row, 4] = value
    with pytest.raises(InputError, match=rf"queries: row {row} "):
        filtered_ranks(queries, entities, targets, csr(known))


def test_scores_beyond_fp32_are_refused():
    huge, empty = np.full((2, 4), 1e20), csr([[], []])
    with pytest.raises(InputError, match="exceed"):
        filtered_ranks(huge, huge, [0, 1], empty)
    with pytest.raises(InputError, match="row 0 holds NaN or infinity"):
        filtered_ranks(np.full((2, 4), 1e200), huge, [0, 1], empty)


def test_a_scorer_may_be_infinite_but_not_nan():
    scores = np.zeros((3, 7))
    scores[1] = [-np.inf, 0, np.inf, 1, -np.inf, 2, 1e300]
    ranks = filtered_ranks_by(lambda q, e: scores[q, e], 7, [0, 0, 0], csr([[], [2], []]), tile=(2, 3))
    assert [column[1] for column in ranks] == [5, 5.5, 6, 6]
    scores[2, 4] = np.nan
    with pytest.raises(InputError, match="NaN for query 2 and entity 4"):
        filtered_ranks_by(lambda q, e: scores[q, e], 7, [0, 0, 0], csr([[]] * 3), tile=(2, 3))
    with pytest.raises(InputError, match=r"expected \(2, 3\)"):
        filtered_ranks_by(lambda q, e: scores[q], 7, [0, 0, 0], csr([[]] * 3), tile=(2, 3))


GOOD = {
    "queries": np.ones((2, 3)),
    "entities": np.ones((4, 3)),
    "targets": np.array([0, 3]),
    "known": (np.array([0, 1, 2]), np.array([1, 2])),
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"queries": np.ones((2, 2))},
        {"queries": np.ones(3)},
        {"queries": np.ones((2, 0)), "entities": np.ones((4, 0))},
        {"queries": np.ones((2, 3), complex)},
        {"queries": np.array([["a"] * 3] * 2)},
        {"entities": np.ones((0, 3))},
        {"targets": np.array([0, 4])},
        {"targets": np.array([-1, 0])},
        {"targets": np.array([0.0, 1.0])},
        {"targets": np.array([0])},
        {"known": (np.array([0, 1]), np.array([1]))},
        {"known": (np.array([0, 2, 1]), np.array([1]))},
        {"known": (np.array([0, 1, 3]), np.array([1, 2]))},
        {"known": (np.array([1, 1, 2]), np.array([1, 2]))},
        {"known": (np.array([0, 1, 2]), np.array([1, 4]))},
        {"known": (np.array([0, 1, 2]), np.array([-1, 2]))},
        {"known": (np.array([]), np.array([]))},
    ],
    ids=lambda wrong: " ".join(wrong),
)
def test_input_that_does_not_fit_is_refused(wrong):
    assert filtered_ranks(**GOOD).candidates.tolist() == [3, 3]
    with pytest.raises(InputError):
        filtered_ranks(**GOOD | wrong)


def test_the_score_matrix_is_never_held(random):
    import tracemalloc

    queries, entities, targets, known = draw(random, 3000, 20000, 4)
    filtered_ranks(queries[:1], entities, targets[:1], csr(known[:1]))
    pair = csr(known)
    tracemalloc.start()
    filtered_ranks(queries, entities, targets, pair, threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 20000 * 4 / 8


def test_ranking_imports_no_torch():
    import subprocess

    code = "import sys, kglm.ranking.stages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

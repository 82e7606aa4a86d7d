"""C-LMKE's matching function: the factored form against the paper's, in bounded memory, and its file."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from kglm.errors import InputError
from kglm.ranking import (
    filtered_ranks_by,
    matching,
    matching_scorer,
    open_embeddings,
    pair_scores,
    read_interaction,
    write_interaction,
)

from . import unfactored
from .oracle import csr


def problem(random, queries=7, entities=60, width=5, hidden=9):
    """Layers, vectors of queries and entities, and degrees of given entities, candidates and answers."""
    vectors = random.standard_normal((queries + entities, width), np.float32)
    of_queries, of_entities = random.integers(0, 50, queries), random.integers(0, 50, entities)
    targets = random.integers(entities, size=queries)
    layers = unfactored.draw(random, width, hidden)
    return layers, vectors[:queries], vectors[queries:], of_queries, of_entities, targets


def expected(degree, layers, queries, entities, of_queries, of_entities, targets):
    """Scores (n, m) by the paper's form; where the degree is leaked, dk is that of the entity asked for."""
    if degree == "none":
        return unfactored.scores(layers, queries, entities, None)
    pairs = np.empty((len(queries), len(entities), 2))
    pairs[..., 0] = of_queries[:, None]
    pairs[..., 1] = of_entities if degree == "train" else of_entities[targets][:, None]
    return unfactored.scores(layers, queries, entities, pairs)


def scorer_of(degree, layers, queries, entities, of_queries, of_entities, targets, **options):
    asked = of_entities[targets] if degree == "leaked" else None
    mlp = unfactored.factored(layers, degree)
    return matching_scorer(mlp, queries, entities, of_queries, of_entities, asked, **options)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    degree=st.sampled_from(matching.DEGREES),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 70), st.integers(1, 6), st.integers(1, 8)),
    tile=st.tuples(st.integers(1, 9), st.integers(1, 70)),
)
def test_equals_the_papers_form(seed, degree, sizes, tile):
    case = problem(np.random.default_rng(seed), *sizes)
    whole, score = expected(degree, *case), scorer_of(degree, *case)
    for q in range(0, sizes[0], tile[0]):
        for e in range(0, sizes[1], tile[1]):
            rows, columns = slice(q, min(q + tile[0], sizes[0])), slice(e, min(e + tile[1], sizes[1]))
            found = score(rows, columns)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, whole[rows, columns], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("degree", matching.DEGREES)
def test_a_pair_scores_what_its_place_in_the_tile_does(degree, monkeypatch):
    layers, queries, entities, of_queries, of_entities, _ = problem(np.random.default_rng(1), 11, 40)
    monkeypatch.setattr(matching, "_PAIRS", 4)
    chosen = np.arange(11) * 3
    pairs = (queries, entities[chosen], of_queries, of_entities[chosen])
    found = pair_scores(unfactored.factored(layers, degree), *pairs)
    whole = expected(degree, layers, queries, entities, of_queries, of_entities, chosen)
    np.testing.assert_allclose(found, whole[np.arange(11), chosen], rtol=1e-4, atol=1e-4)


def test_a_degree_counts_where_it_should():
    layers, queries, entities, of_queries, of_entities, targets = problem(np.random.default_rng(2))
    everything = slice(0, 7), slice(0, 60)
    more = of_entities + 5

    def change(degree, **changed):
        case = {"of_queries": of_queries, "of_entities": of_entities, "targets": targets}
        before, after = (scorer_of(degree, layers, queries, entities, **(case | new)) for new in ({}, changed))
        return np.abs(after(*everything) - before(*everything)).max()

    other = np.roll(targets, 1)
    assert change("none", of_queries=of_queries + 5, of_entities=more) == 0
    assert change("train", of_queries=of_queries + 5) > 0.01 and change("train", of_entities=more) > 0.01
    assert change("train", targets=other) == 0, "only a leaked degree depends on the answer"
    assert change("leaked", targets=other) > 0.01


@pytest.mark.parametrize("degree", ["none", "train"])
def test_degrees_of_the_answers_are_refused_but_where_they_leak(degree):
    case = problem(np.random.default_rng(2))
    mlp, (queries, entities, of_queries, of_entities, targets) = unfactored.factored(case[0], degree), case[1:]
    with pytest.raises(InputError, match="do not go together"):
        matching_scorer(mlp, queries, entities, of_queries, of_entities, of_entities[targets])
    with pytest.raises(InputError, match="do not go together"):
        matching_scorer(mlp._replace(degree="leaked"), queries, entities, of_queries, of_entities)


@pytest.mark.parametrize("sizes", [(40, 700, 16, 24), (5, 1300, 33, 17), (3, 481, 64, 64), (4, 100, 7, 20)])
def test_equal_entities_tie_exactly_wherever_they_stand(sizes):
    case = problem(np.random.default_rng(0), *sizes)
    _, _, entities, _, of_entities, targets = case
    copies = np.unique(np.concatenate([[0, 1, 47, sizes[1] - 1], np.random.default_rng(1).integers(sizes[1], size=9)]))
    entities[copies], of_entities[copies] = entities[0], of_entities[0]
    targets[:] = np.resize(copies, len(targets))
    for degree in matching.DEGREES:
        score, known = scorer_of(degree, *case), csr([[]] * len(targets))
        ranks = filtered_ranks_by(score, sizes[1], targets, known, matching.TILE)
        np.testing.assert_array_equal(ranks.pessimistic - ranks.optimistic + 1, len(copies))


def test_a_blas_that_rounds_apart_is_not_used(monkeypatch):
    def apart(rows, columns, out):
        matching.slow_product(rows, columns, out)
        out[-1] = np.nextafter(out[-1], np.inf)

    monkeypatch.setattr(matching, "_product", matching._product.__wrapped__)
    monkeypatch.setattr(matching, "blas_product", apart)
    case = problem(np.random.default_rng(3))
    with pytest.warns(UserWarning, match="slow"):
        found = scorer_of("train", *case)(slice(0, 7), slice(0, 60))
    np.testing.assert_allclose(found, expected("train", *case), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("degree", matching.DEGREES)
def test_equal_queries_are_scored_once_and_alike(monkeypatch, degree):
    layers, queries, entities, of_queries, of_entities, targets = problem(np.random.default_rng(4), 9)
    queries[1:4], of_queries[1:4] = queries[0], of_queries[0]
    queries[6], of_queries[6] = queries[5], of_queries[5] + 1  # only its degree differs
    targets[:] = [0, 0, 1, 1, 2, 3, 3, 4, 5]
    of_entities[:2] = [3, 4]
    case = (layers, queries, entities, of_queries, of_entities, targets)
    score = scorer_of(degree, *case)
    scored, one = [], score._score
    monkeypatch.setattr(score, "_score", lambda query, *rest: (scored.append(query), one(query, *rest)))
    found = np.concatenate([score(slice(0, 3), slice(0, 60)), score(slice(3, 9), slice(0, 60))])
    np.testing.assert_allclose(found, expected(degree, *case), rtol=1e-4, atol=1e-4)
    assert sorted(scored) == [0, *([2] if degree == "leaked" else []), 3, 4, 5, 6, 7, 8]


def test_neither_threads_nor_the_company_matter():
    case = problem(np.random.default_rng(5), 20, 1000, 12, 10)
    whole = scorer_of("train", *case, threads=1)(slice(0, 20), slice(0, 1000))
    np.testing.assert_array_equal(scorer_of("train", *case, threads=3)(slice(0, 20), slice(0, 1000)), whole)
    np.testing.assert_array_equal(scorer_of("train", *case)(slice(3, 5), slice(480, 1000)), whole[3:5, 480:])


def test_entities_on_disk_score_as_in_memory(tmp_path):
    layers, queries, entities, *rest = problem(np.random.default_rng(6), 4, 1000)
    save_file({"embeddings": entities}, tmp_path / "entities.safetensors")
    tile = slice(0, 4), slice(240, 1000)
    in_memory = scorer_of("train", layers, queries, entities, *rest)(*tile)
    for source in (tmp_path / "entities.safetensors", open_embeddings(tmp_path / "entities.safetensors")):
        np.testing.assert_array_equal(scorer_of("train", layers, queries, source, *rest)(*tile), in_memory)


def test_the_hidden_units_of_all_pairs_are_never_held():
    queries, entities, hidden = 64, 3840, 64
    case = problem(np.random.default_rng(7), queries, entities, 16, hidden)
    score = scorer_of("train", *case, threads=2)
    score(slice(0, 1), slice(0, 1))
    tracemalloc.start()
    score(slice(0, queries), slice(0, entities))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = 4 * (queries * entities + entities * 18 + 2 * 480 * hidden)  # scores, entities, a block for each thread
    assert peak < 1.5 * held < 4 * queries * entities * hidden / 10


@pytest.mark.parametrize("degree", matching.DEGREES)
def test_what_is_written_is_read(tmp_path, degree):
    mlp = unfactored.factored(unfactored.draw(np.random.default_rng(0), 3, 4), degree)
    path = tmp_path / "embeddings" / "interaction.safetensors"
    write_interaction(path, mlp)
    read = read_interaction(path)
    assert read.degree == degree
    for ours, theirs in zip(read[:-1], mlp[:-1], strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)
    first = path.read_bytes()
    for _ in range(20):
        write_interaction(path, mlp)
        assert path.read_bytes() == first
    write_interaction(path, None)
    assert read_interaction(path) is None


def test_interactions_that_are_none_are_told(tmp_path):
    path = tmp_path / "interaction.safetensors"
    mlp = unfactored.factored(unfactored.draw(np.random.default_rng(0), 3, 4), "none")
    tensors = {name: value for name, value in mlp._asdict().items() if name != "degree"}
    kind = {"kind": "matching_mlp none"}
    with pytest.raises(InputError, match="no such file"):
        read_interaction(path)
    for written, metadata, message in (
        (tensors, None, "unknown kind ''"),
        (tensors, {"kind": "bilinear"}, "unknown kind 'bilinear'"),
        (tensors, {"kind": "matching_mlp"}, "unknown degree ''"),
        (tensors, {"kind": "matching_mlp test"}, "unknown degree 'test'"),
        ({"query": mlp.query}, kind, "make no MLP"),
        (tensors | {"product": mlp.product[:, :2].copy()}, kind, "do not fit"),
        (tensors | {"bias": mlp.bias.astype(np.float64)}, kind, "bias is no finite float32"),
        (tensors | {"output": mlp.output * np.float32(np.nan)}, kind, "output is no finite float32"),
    ):
        save_file(written, path, metadata)
        with pytest.raises(InputError, match=message):
            read_interaction(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no readable interaction"):
        read_interaction(path)
    with pytest.raises(InputError, match="unknown degree"):
        write_interaction(path, mlp._replace(degree="all"))
    assert path.read_bytes() == b"nonsense", "nothing is written by halves"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"queries": np.zeros((7, 4), np.float32)}, "width 5"),
        ({"entities": np.zeros((60, 6), np.float32)}, "width 5"),
        ({"of_queries": np.zeros(6)}, "one degree each"),
        ({"of_entities": np.zeros(61)}, "one degree each"),
        ({"queries": np.full((7, 5), np.nan, np.float32)}, "queries: row 0 holds NaN"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    layers, queries, entities, of_queries, of_entities, targets = problem(np.random.default_rng(8))
    good = {"queries": queries, "entities": entities, "of_queries": of_queries, "of_entities": of_entities}
    with pytest.raises(InputError, match=message):
        scorer_of("train", layers, targets=targets, **(good | wrong))
    entities[49] = np.inf
    score = scorer_of("train", layers, targets=targets, **good)
    with pytest.raises(InputError, match="entities: row 49 holds NaN or infinity"):
        score(slice(0, 2), slice(40, 60))

"""How fast the filtered ranking is: beside the bare matrix product, and beside PyKEEN's evaluator.

The sizes are WN18RR's: 6,268 queries (3,134 triples, both directions) × 40,943 entities of width 384, and
93,003 true triples to filter. PyKEEN evaluates its own DistMult, whose score is an inner product; and, to set
its scoring apart, scores that NumPy has made. It is timed on some test triples and drawn out, unless --full
is given. --large ranks 10,000 queries against 4.6 million entities of width 256 that are read from disk, in a
process of its own, and prints its peak memory.
"""

import argparse
import functools
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from pykeen.evaluation import RankBasedEvaluator
from pykeen.models import DistMult
from pykeen.triples import CoreTriplesFactory

from kglm.ranking import filtered_ranks, open_embeddings

ENTITIES, RELATIONS, WIDTH = 40_943, 11, 384
TEST, TRUE = 3_134, 93_003
SAMPLES = 32, 96
LARGE_QUERIES, LARGE_ENTITIES, LARGE_WIDTH = 10_000, 4_600_000, 256


def triples_of(random: np.random.Generator, count: int) -> np.ndarray:
    """Distinct triples (count, 3), some entities far more frequent than others, as in a real graph."""
    ends = (ENTITIES * random.random((2 * count, 2)) ** 3).astype(np.int64)
    relations = random.integers(RELATIONS, size=(2 * count, 1))
    triples = np.unique(np.concatenate([ends[:, :1], relations, ends[:, 1:]], axis=1), axis=0)
    return random.permutation(triples)[:count]


def known_answers(heads: np.ndarray, relations: np.ndarray, triples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True tails of (heads, relations) among `triples` as a CSR pair."""
    keys = triples[:, 0] * 2 * RELATIONS + triples[:, 1]
    order = np.argsort(keys, kind="stable")
    keys, tails = keys[order], triples[order, 2]
    wanted = heads * 2 * RELATIONS + relations
    start, stop = (np.searchsorted(keys, wanted, side) for side in ("left", "right"))
    indptr = np.concatenate([[0], np.cumsum(stop - start)])
    return indptr, tails[np.arange(indptr[-1]) + np.repeat(start - indptr[:-1], stop - start)]


class Problem:
    """A benchmark of WN18RR's size; the score is DistMult's: (entity · relation) times entity, summed.

    The first half of the queries asks for the tails of the test triples, the second for their heads.
    """

    def __init__(self):
        random = np.random.default_rng(0)
        self.true = triples_of(random, TRUE)
        self.test = self.true[:TEST]
        inverse = [self.true[:, 2], self.true[:, 1] + RELATIONS, self.true[:, 0]]
        both = np.concatenate([self.true, np.stack(inverse, axis=1)])
        asked = np.concatenate([both[:TEST], both[TRUE : TRUE + TEST]])
        self.targets = asked[:, 2]
        self.known = known_answers(asked[:, 0], asked[:, 1], both)
        self.entities = random.standard_normal((ENTITIES, WIDTH), np.float32)
        self.relations = random.standard_normal((RELATIONS, WIDTH), np.float32)
        self.queries = self.entities[asked[:, 0]] * self.relations[asked[:, 1] % RELATIONS]


class ReadyScores:
    """What PyKEEN's evaluator asks of a model; the scores are those that the ranking takes, made by NumPy."""

    num_entities = ENTITIES

    def __init__(self, problem: Problem):
        self.device, self._problem = torch.device("cpu"), problem
        self._row = {tuple(triple): row for row, triple in enumerate(problem.test.tolist())}

    def eval(self):
        return self

    def to(self, device):
        return self

    def predict(self, hrt_batch, target, slice_size=None, mode=None):
        rows = np.array([self._row[tuple(triple)] for triple in hrt_batch.tolist()])
        queries = self._problem.queries[rows if target == "tail" else TEST + rows]
        return torch.from_numpy(queries @ self._problem.entities.T)


def pykeen_model(problem: Problem) -> DistMult:
    """PyKEEN's own model of the same scores."""
    triples = CoreTriplesFactory(torch.from_numpy(problem.true), ENTITIES, RELATIONS)
    model = DistMult(triples_factory=triples, embedding_dim=WIDTH)
    weights = (
        (model.entity_representations, problem.entities),
        (model.relation_representations, problem.relations),
    )
    for representations, values in weights:
        representations[0]._embeddings.weight.data.copy_(torch.from_numpy(values))
    return model


def pykeen_ranks(problem: Problem, model, sample: int) -> np.ndarray:
    """Realistic ranks of the first `sample` test triples by PyKEEN: their tails, then their heads."""
    evaluator = RankBasedEvaluator(clear_on_finalize=False)
    filters = torch.from_numpy(problem.true)
    test = torch.from_numpy(problem.test[:sample].copy())
    evaluator.evaluate(model, test, additional_filter_triples=filters, use_tqdm=False)
    return np.concatenate([*evaluator.ranks["tail", "realistic"], *evaluator.ranks["head", "realistic"]])


def seconds(function) -> tuple[float, object]:
    """Wall time of a call, and what it returns."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def pykeen_seconds(problem: Problem, model, full: bool) -> tuple[float, np.ndarray]:
    """Time for all test triples, and the ranks found: measured if `full`, else drawn out from two samples."""
    if full:
        return seconds(lambda: pykeen_ranks(problem, model, TEST))
    few, _ = seconds(lambda: pykeen_ranks(problem, model, SAMPLES[0]))
    more, ranks = seconds(lambda: pykeen_ranks(problem, model, SAMPLES[1]))
    return few + (more - few) * (TEST - SAMPLES[0]) / (SAMPLES[1] - SAMPLES[0]), ranks


def compare(problem: Problem, rounds: int, full: bool) -> None:
    """Print times and ratios: medians over rounds, in each of which all are timed one after the other."""
    models = {"PyKEEN, DistMult": pykeen_model(problem), "PyKEEN, ready scores": ReadyScores(problem)}
    times = {name: [] for name in ("matrix product alone", "filtered_ranks", *models)}
    differing = dict.fromkeys(models, 0)
    for warm in [False] + [True] * rounds:
        product, _ = seconds(lambda: problem.queries @ problem.entities.T)
        arguments = problem.queries, problem.entities, problem.targets, problem.known
        ours, ranks = seconds(functools.partial(filtered_ranks, *arguments))
        if not warm:
            continue
        times["matrix product alone"].append(product)
        times["filtered_ranks"].append(ours)
        for name, model in models.items():
            took, theirs = pykeen_seconds(problem, model, full)
            sample = len(theirs) // 2
            mine = np.concatenate([ranks.realistic[:sample], ranks.realistic[TEST : TEST + sample]])
            times[name].append(took)
            differing[name] = f"{np.count_nonzero(mine != theirs)} of {2 * sample}"
    report(times, differing, full)


def report(times: dict[str, list[float]], differing: dict[str, str], full: bool) -> None:
    """Print a line for each time and each ratio."""
    for name, column in times.items():
        scaled = "" if full or name not in differing else f", drawn out from {SAMPLES[1]} of {TEST} triples"
        print(f"{name:24s}{statistics.median(column):8.2f} s  (best {min(column):.2f}{scaled})")
    product, ours, distmult, ready = (np.array(column) for column in times.values())
    print(f"filtered_ranks takes {np.median(ours / product):.2f} times the product (wanted: at most 1.5)")
    print(f"PyKEEN takes {np.median(distmult / ours):.0f} times filtered_ranks (wanted: at least 50),")
    print(f"  and {np.median(ready / ours):.0f} times where its evaluator is handed NumPy's scores")
    for name, count in differing.items():
        print(f"ranks other than those of {name}: {count}")


def write_large(path: Path) -> None:
    """Random embeddings as safetensors, block by block: its header is a length and JSON."""
    shape, size = [LARGE_ENTITIES, LARGE_WIDTH], LARGE_ENTITIES * LARGE_WIDTH * 4
    header = json.dumps({"embeddings": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    random = np.random.default_rng(0)
    with open(path, "wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for start in range(0, LARGE_ENTITIES, 100_000):
            rows = min(100_000, LARGE_ENTITIES - start)
            stream.write(random.standard_normal((rows, LARGE_WIDTH), np.float32).tobytes())


def rank_large(path: Path) -> None:
    """Rank against the file, print time and peak memory, and check some ranks in double precision."""
    random = np.random.default_rng(1)
    queries = random.standard_normal((LARGE_QUERIES, LARGE_WIDTH), np.float32)
    targets = random.integers(LARGE_ENTITIES, size=LARGE_QUERIES)
    known = np.arange(LARGE_QUERIES + 1) * 20, random.integers(LARGE_ENTITIES, size=LARGE_QUERIES * 20)
    entities = open_embeddings(path)
    took, ranks = seconds(lambda: filtered_ranks(queries, entities, targets, known))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{LARGE_QUERIES} × {LARGE_ENTITIES} × {LARGE_WIDTH}, from disk  {took:8.0f} s")
    print(f"peak memory                     {peak:8.2f} GiB (wanted: at most 12)")
    check_large(queries, entities, targets, known, ranks)


def check_large(queries, entities, targets, known, ranks, sample: int = 8, margin: float = 1e-3) -> None:
    """Whether the first ranks stand when the other scores move by more than the error of fp32."""
    exact = queries[:sample].astype(np.float64)
    target_rows = np.concatenate([entities[target : target + 1] for target in targets[:sample].tolist()])
    target_scores = (exact * target_rows).sum(axis=1)
    left_out = [{*known[1][known[0][i] : known[0][i + 1]].tolist(), int(targets[i])} for i in range(sample)]
    above = np.ones((2, sample), np.int64)
    for start in range(0, LARGE_ENTITIES, 100_000):
        scores = entities[start : min(start + 100_000, LARGE_ENTITIES)] @ exact.T
        for query, numbers in enumerate(left_out):
            inside = [number - start for number in numbers if start <= number < start + len(scores)]
            scores[inside, query] = -np.inf
        above += [(scores > target_scores + shift).sum(axis=0) for shift in (margin, -margin)]
    within = (above[0] <= ranks.optimistic[:sample]) & (ranks.pessimistic[:sample] <= above[1])
    print(f"ranks within rounding of double precision: {within.sum()} of {sample}")


def large(folder: Path | None) -> None:
    """The large case in a process of its own, for its peak memory; the file of 4.7 GB is removed then."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "entities.safetensors"
        write_large(path)
        subprocess.run([sys.executable, __file__, "--rank-large", path], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed")
    parser.add_argument("--full", action="store_true", help="PyKEEN on all test triples (minutes)")
    parser.add_argument("--large", action="store_true", help="the large case only (4.7 GB of disk, minutes)")
    parser.add_argument("--folder", type=Path, help="where --large puts its file")
    parser.add_argument("--rank-large", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # PyKEEN tells its batch size at every call
    if options.rank_large:
        rank_large(options.rank_large)
    elif options.large:
        large(options.folder)
    else:
        print(f"{2 * TEST} queries × {ENTITIES} entities × {WIDTH}, {len(os.sched_getaffinity(0))} cores")
        compare(Problem(), options.rounds, options.full)


if __name__ == "__main__":
    main()

"""What training and link prediction cost as a graph grows: LMKE's Table 1, counted and timed."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from kglm.analysis.common import choose_options, identity
from kglm.errors import InputError
from kglm.files import write_json
from kglm.kg.graph import Graph
from kglm.methods._interface import LinkPredictor, Method, build_method
from kglm.options import Options, Seed, Size, Sizes
from kglm.training.options import Training
from kglm.training.schedule import Schedule
from kglm.training.specification import completed


@dataclass(frozen=True)
class Parameters(Options):
    """The options of the analysis."""

    triples: Sizes = (32, 64, 128)  # of train, each seen once
    negatives: Sizes = (1, 2, 4)  # for each triple, of a method with such a parameter; with the fewest of `triples`
    entities: Sizes = (8, 16, 32)  # candidates of link prediction
    # As many sizes as of `entities`, both: relations of a method that is published to encode all pairs of both, and
    # test triples, each asked for in both directions.
    relations: Sizes = (2, 4, 8)
    evaluated: Sizes = (2, 4, 8)
    repeats: Size = 3  # of each measurement, whose median counts
    seed: Seed = 0  # of the choice of triples and entities, and of the training steps


def cost(spec: dict, graph: Path, model: Path | None, weights: Path, out: Path) -> None:
    """Count the sequences that the language model encodes at several sizes, time them, and fit the exponents.

    "training" and "negatives": one epoch of steps as in training, nothing saved; not for a run that is not trained.
    "link_prediction": encoding entities and queries, or scoring every candidate of every query where a method reads
    whole triples; the matching of vectors is left out. "all_pairs": the same where a method's publication encodes
    each relation with each entity, whatever is asked.
    """
    options, run = choose_options(spec, Parameters), completed(spec["run"], "spec.run")
    knowledge, training = Graph.read(graph), Training.of(run["training"])
    train, test = (_drawn(knowledge.split(name), options["seed"]) for name in ("train", "test"))
    entities = _drawn(np.arange(knowledge.entity_count), options["seed"])
    _check("triples", options["triples"], train, "training triples")
    _check("entities", options["entities"], entities, "entities")
    _check("evaluated", options["evaluated"], test, "test triples")

    def build(**changes: int) -> Method:
        return _on_device(build_method(run["method"], run["parameters"] | changes, knowledge, model))

    method = build()
    method.specification = run
    method.load(weights)
    measured = {"link_prediction": measure_link_prediction(method, test, entities, training, options)}
    if isinstance(method, LinkPredictor) and method.published_with_all_pairs:
        _check("relations", options["relations"], np.arange(knowledge.relation_count), "relations")
        measured["all_pairs"] = measure_all_pairs(method, entities, training, options)
    if training.epochs:
        measured["training"] = measure_training(method, train, training, options)
        if "negatives" in {field.name for field in fields(method.Parameters)}:
            measured["negatives"] = measure_negatives(build, train, training, options)
    write_json(identity(spec) | measured | _machine() | {"options": options}, out)


def _drawn(rows: np.ndarray, seed: int) -> np.ndarray:
    return rows[np.random.default_rng(seed).permutation(len(rows))]


def _check(option: str, sizes: Sequence[int], rows: np.ndarray, name: str) -> None:
    if len(set(sizes)) < 2:
        raise InputError(f"{option} names fewer than two sizes", "cost", "an exponent takes two or more")
    if max(sizes) > len(rows):
        raise InputError(f"{max(sizes)} {name} are asked for and the graph has {len(rows)}", "cost", f"lower {option}")


# Tasks. Each returns how many sequences its language model was given.


def measure_training(method: Method, triples: np.ndarray, training: Training, options: dict) -> dict:
    """Counts and times by the number of training triples, of those that are given first."""
    sizes = options["triples"]
    tasks = [epoch_of(method, triples[:size], training, options["seed"]) for size in sizes]
    return {"triples": sizes, "batch_size": training.batch_size} | _measure(sizes, tasks, options["repeats"])


def measure_negatives(build: Callable[..., Method], triples: np.ndarray, training: Training, options: dict) -> dict:
    """Counts and times by the number of negatives, by methods that `build(negatives=…)` gives.

    A true triple has as many of them, so that the exponents are those of 1 + their number.
    """
    sizes, count = options["negatives"], min(options["triples"])
    tasks = [epoch_of(build(negatives=size), triples[:count], training, options["seed"]) for size in sizes]
    read = [1 + size for size in sizes]
    return {"negatives": sizes, "triples": count} | _measure(read, tasks, options["repeats"])


def measure_link_prediction(
    method: Method, triples: np.ndarray, entities: np.ndarray, training: Training, options: dict
) -> dict:
    """Counts and times by the numbers of candidates and of triples, which grow together.

    The exponents are those of the geometric mean of both numbers: 2 for a product, 1 for a sum.
    """
    candidates, evaluated = _growing_together(options, "entities", "evaluated")
    tasks = [
        link_prediction_of(method, triples[:some], np.sort(entities[:size]), training.encoding_batch_size)
        for size, some in zip(candidates, evaluated, strict=True)
    ]
    sizes = np.sqrt(np.multiply(candidates, evaluated)).tolist()
    return {"entities": candidates, "triples": evaluated} | _measure(sizes, tasks, options["repeats"])


def measure_all_pairs(method: LinkPredictor, entities: np.ndarray, training: Training, options: dict) -> dict:
    """Counts and times by the numbers of entities and relations, which grow together; the exponents as above."""
    candidates, relations = _growing_together(options, "entities", "relations")
    tasks = [
        all_pairs_of(method, np.sort(entities[:size]), some, training.encoding_batch_size)
        for size, some in zip(candidates, relations, strict=True)
    ]
    sizes = np.sqrt(np.multiply(candidates, relations)).tolist()
    return {"entities": candidates, "relations": relations} | _measure(sizes, tasks, options["repeats"])


def _growing_together(options: dict, one: str, other: str) -> tuple[list[int], list[int]]:
    if len(options[one]) != len(options[other]):
        what = f"{len(options[one])} sizes of {one} and {len(options[other])} of {other}"
        raise InputError(what, "cost", "they grow together: give as many of both")
    return options[one], options[other]


def epoch_of(method: Method, triples: np.ndarray, training: Training, seed: int) -> Callable[[], int]:
    """Training on triples (n, 3), once: collating, forward, backward and optimizer steps."""
    import torch
    from accelerate.utils import send_to_device

    if method.inverse_triples:
        triples = np.concatenate([triples, method.graph.inverse(triples)])
    schedule = Schedule(method, triples, replace(training, epochs=1, maximum_steps=0), seed)
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, training.learning_rate)
    device = trained[0].device

    def run() -> int:
        total = 0
        method.train()
        for step in range(len(schedule)):
            batch = send_to_device(schedule[step], device)
            # Not of the backward pass, where checkpointing encodes again.
            with counted(method) as encoded, torch.autocast(device.type, torch.bfloat16, training.precision == "bf16"):
                loss = method(**batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += sum(encoded)
        return total

    return run


def link_prediction_of(method: Method, triples: np.ndarray, entities: np.ndarray, batch_size: int) -> Callable[[], int]:
    """Asking for head and tail of triples (n, 3), with some entities as candidates."""
    asked = np.concatenate([triples, method.graph.inverse(triples)])[:, :2]

    def run() -> int:
        with counted(method) as encoded:
            if isinstance(method, LinkPredictor):
                heads, relations = np.ascontiguousarray(np.unique(asked, axis=0).T)
                method.encode_queries(heads, relations, batch_size)
                method.encode_entities(entities, batch_size)
            else:
                method.score_triples(candidates_of(triples, entities), batch_size)
        return sum(encoded)

    return run


def all_pairs_of(method: LinkPredictor, entities: np.ndarray, relations: int, batch_size: int) -> Callable[[], int]:
    """Encoding each of some entities with each of the first relations, and alone."""
    heads, numbers = np.repeat(entities, relations), np.tile(np.arange(relations), len(entities))

    def run() -> int:
        with counted(method) as encoded:
            method.encode_queries(heads, numbers, batch_size)
            method.encode_entities(entities, batch_size)
        return sum(encoded)

    return run


def candidates_of(triples: np.ndarray, entities: np.ndarray) -> np.ndarray:
    """Triples (n, 3) with each of m entities as tail, then as head: (2 n m, 3)."""
    tails, heads = (np.repeat(triples, len(entities), axis=0) for _ in range(2))
    tails[:, 2] = heads[:, 0] = np.tile(entities, len(triples))
    return np.concatenate([tails, heads])


@contextlib.contextmanager
def counted(method: Method) -> Iterator[list[int]]:
    """A list that receives the number of sequences of each batch that the method's language models are given.

    InputError for a method that has none.
    """
    from transformers import PreTrainedModel

    # Heads and adapters stand around these, which every way of asking goes through.
    models = [part for part in method.modules() if isinstance(part, PreTrainedModel) and part.base_model is part]
    if not models:
        raise InputError("has no language model", f"method {type(method).__module__}", "leave its cost out")
    batches: list[int] = []

    def note(module, positional, named) -> None:
        tokens = named.get("input_ids")
        tokens = named.get("inputs_embeds") if tokens is None else tokens
        batches.append(len(positional[0] if tokens is None else tokens))

    hooks = [part.register_forward_pre_hook(note, with_kwargs=True) for part in models]
    try:
        yield batches
    finally:
        for hook in hooks:
            hook.remove()


# Measuring


def _measure(sizes: Sequence[float], tasks: Sequence[Callable[[], int]], repeats: int) -> dict:
    """Counts, median times in seconds, and the exponents of both in the sizes; the first task warms up."""
    tasks[0]()
    encoded, seconds = zip(*(timed(task, repeats) for task in tasks), strict=True)
    exponents = {"encoded": exponent(sizes, encoded), "seconds": exponent(sizes, seconds)}
    return {"encoded": list(encoded), "seconds": list(seconds), "exponent": exponents}


def timed(task: Callable[[], int], repeats: int) -> tuple[int, float]:
    """What a task returns, and the median of its wall times in seconds."""
    import torch

    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        result = task()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return result, float(np.median(times))


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log values over log sizes by least squares: p of values ≈ c · sizes^p."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _on_device(method: Method) -> Method:
    import torch

    return method.to("cuda" if torch.cuda.is_available() else "cpu")


def _machine() -> dict:
    """What the seconds depend on beside the sizes."""
    import torch

    cuda = torch.cuda.is_available()
    return {"device": torch.cuda.get_device_name() if cuda else "cpu", "threads": torch.get_num_threads()}

"""Time and disk of a run.

A token costs two operations a parameter forwards, two for the gradients of what it came from, and two for those of the
weights that are trained; what is computed again, two more (Kaplan et al. 2020, Section 2.1; Chen et al. 2016): 6·N in
all, 8·N with checkpointing, 4·N and 6·N under LoRA. N are the parameters of the matrices, embeddings left out; the
attention's own products, below 5 % for these lengths, are not counted. Where throughputs.csv has a measured throughput
for hardware, model and method, that counts instead.
"""

import csv
import math
from pathlib import Path
from typing import NamedTuple

from kglm.plan import memory
from kglm.plan.memory import BYTES
from kglm.plan.models import Architecture
from kglm.plan.work import TOKENS_PER_WORD, Dataset, Pass, encoded, passes, run_size

MEASURED = Path(__file__).with_name("throughputs.csv")
SHARE = 0.35  # of a card's peak that trainings reach: 20 to 50 % are reported (Chowdhery et al. 2022, Table 3)
CORE = 0.03  # 10¹² operations a second of a CPU's thread: the demo's trainings had 0.03 to 0.06
STEP = 0.05  # seconds of a step that are there however small the model is
# Seconds that a layer takes at least in each pass of a step on a GPU, forwards and backwards: its operators are
# launched one by one. Measured on an H100, before operators were saved: 7.5 ms (KaLM, SmolLM2-135M, batch 24), 9 ms
# (C-LMKE, batch 12) and 7.8 ms (StAR, batch 16).
LAYER = 0.006
LONG = 100  # words of a description, where nothing is known of it
DISTINCT = 0.6  # of the queries; 0.38 (UMLS) to 0.88 (WN18RR) were seen
SMALL = 150_000  # bytes of metrics.json with its groups, log.jsonl, TensorBoard and the data of figures
UPDATE = 28  # bytes that Adam reads and writes for each number: weight, gradient, both moments


class Hours(NamedTuple):
    """Of the job that trains, and of all that encode or score: hours of their own time."""

    training: float
    encoding: float


class Device(NamedTuple):
    """One card, or a thread of a CPU."""

    name: str
    operations: float  # a second, at its peak
    share: float  # of it
    bandwidth: float  # bytes a second between it and its memory, about


def steps(spec: dict, graph: Dataset) -> tuple[int, int]:
    """Of a training (kglm.training.schedule), and of its epochs those that are reached."""
    options = spec["training"]
    both = 1 if spec["method"] in ("lmke", "kg_bert", "structural") else 2
    an_epoch = -(-both * graph.train // options["batch_size"])
    count = an_epoch * options["epochs"]
    if options["maximum_steps"]:
        count = min(count, options["maximum_steps"])
    return count, math.ceil(count / an_epoch)


def hours(
    spec: dict,
    graph: Dataset,
    model: Architecture | None,
    device: Device,
    processes: int,
    ranked: bool = True,
    top: int = 0,
) -> Hours:
    """Of one run; ranked: by all entities, or by the `top` candidates of another run; else only triples are told."""
    options, mean = spec["training"], encoded(spec, graph).mean
    count, epochs = steps(spec, graph)
    speed = device.operations * device.share
    update = run_size(spec, graph, model).trained * UPDATE / device.bandwidth
    if model is None:
        return Hours(count * (STEP / 5 + memory.vectors(spec, graph) / device.bandwidth + update) / 3600, 0.02)
    read = passes(spec, graph, model)
    operations, tokens = _step(spec, model, read)
    each = max(operations / (speed * processes), _launches(spec, model, read, device)) + update
    if measured := throughput(device.name, spec["model"], spec["method"]):
        each = tokens / (measured * processes)
    every = options["validate_every_epochs"]
    asked = 2 * (options["validation_triples"] or graph.valid)
    validation = _texts_read(spec, graph, asked, False, 0) * (math.ceil(epochs / every) if every else 0)
    at_end = _texts_read(spec, graph, graph.queries, ranked, top)
    text = mean * 2 * model.body / speed
    return Hours((count * each + validation * text) / 3600, at_end * text / 3600)


def _texts_read(spec: dict, graph: Dataset, queries: int, ranked: bool, top: int) -> int:
    """To rank so many queries, or to classify as many triples."""
    method, p = spec["method"], spec["parameters"]
    if method == "kg_bert" and ranked:
        return queries * (top or graph.entities)
    by_vectors = method in ("mem_kgc", "lmke", "kg_bert") or p.get("scoring") == "mask"
    return queries + (0 if by_vectors else graph.entities)


def needed_operations(spec: dict) -> int:
    """Operations that a training needs for each token and parameter of the body; what is computed again left out."""
    adapted = spec["method"] == "kalm" or spec["parameters"].get("lora_modules", "none") != "none"
    return 4 if adapted else 6


def _launches(spec: dict, model: Architecture, read: list[Pass], device: Device) -> float:
    """Seconds of a step however little each pass of the model computes."""
    if device.name == "CPU":
        return STEP
    parts = 0
    for one in read:
        at_once = one.chunk or one.sequences
        if one.tokens:
            at_once = min(at_once, max(one.tokens / one.texts.mean, 1))
        parts += math.ceil(one.sequences / at_once)
    again = sum(spec["parameters"].get(name) is True for name in ("gradient_checkpointing", "gradient_caching"))
    return LAYER * model.layers * parts * (1 + again / 3)


def _step(spec: dict, model: Architecture, read: list[Pass]) -> tuple[float, float]:
    """Operations and tokens of a step."""
    p = spec["parameters"]
    again = sum(p.get(name) is True for name in ("gradient_checkpointing", "gradient_caching"))
    tokens = sum(one.sequences * (one.texts.mean if one.chunk or one.tokens else one.texts.long) for one in read)
    predicted = sum(one.sequences * one.asked * one.choices for one in read)
    return (needed_operations(spec) + 2 * again) * model.body * tokens + 6 * model.width * predicted, tokens


def throughput(hardware: str, model: str, method: str) -> float | None:
    """Measured tokens of training a second and card, or None."""
    with MEASURED.open(encoding="utf-8") as stream:
        rows = {(row["hardware"], row["model"], row["method"]): row for row in csv.DictReader(stream)}
    row = rows.get((hardware, model, method))
    return float(row["tokens_per_second"]) if row else None


class Disk(NamedTuple):
    """Bytes that stay, and those of checkpoints, which are there while a run trains."""

    kept: int
    checkpoints: int


def run_disk(spec: dict, graph: Dataset, model: Architecture | None, own_weights: bool) -> Disk:
    """Of a run's folder: weights, those of each epoch, embeddings, ranks and small files.

    A checkpoint holds weights and Adam's moments; two of them lie there and the best weights.
    """
    p, options = spec["parameters"], spec["training"]
    number = max(BYTES[p.get("base_weights", "float32")], 2)
    weights = run_size(spec, graph, model).trained * (4 if spec["method"] == "kalm" else number) * own_weights
    epochs = options["epochs"] * options["keep_epochs"]
    kept = weights * (1 + epochs) + SMALL + _measured(spec, graph, model)
    trains = own_weights and options["epochs"] > 0
    return Disk(kept, (2 * 3 + 1 + epochs) * weights * trains)


def _measured(spec: dict, graph: Dataset, model: Architecture | None) -> int:
    """Embeddings in single precision and ranks; or scores."""
    ranks = 6 * graph.queries
    if model is None or spec["method"] in ("lmke", "kg_bert"):
        return ranks
    return round(graph.entities + DISTINCT * graph.queries) * (model.width + 4) * 4 + ranks


def model_disk(model: Architecture) -> int:
    """Of a base model's folder: weights as they are published, and a tokenizer."""
    return model.whole * BYTES.get(model.dtype, 4) + 60 * model.vocabulary


def graph_disk(graph: Dataset) -> int:
    """Raw files, parquet files and instructions, by what was seen with UMLS, WN18RR and FB15k-237."""
    triples = graph.train + graph.valid + graph.test
    words = min(graph.text("name_and_description").mean / TOKENS_PER_WORD, LONG)
    return round(triples * (80 + 9 * words) + 12 * graph.entities * words)

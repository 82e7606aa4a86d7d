"""GPU memory of one process in a training step, and while it encodes.

Weights, gradients and Adam's two moments are counted number by number (Rajbhandari et al. 2020, Section 3.1; in mixed
precision with weights in single precision the matrices' half-precision copies come on top). Activations are bytes a
token and layer, in the manner of Korthikanti et al. 2022 (Section 4.1); their coefficients here are what autograd was
seen to keep for the stock models with fused attention (tests/plan/test_memory.py measures them again). With
checkpointing each layer keeps its input, and one layer at a time is computed again (Chen et al. 2016).
"""

from typing import NamedTuple

from kglm.plan.models import Architecture
from kglm.plan.work import Dataset, Pass, Size, Texts, encoded, passes, run_size

# Bytes for each token and layer: for each unit of the hidden and of the feed-forward width; in mixed precision, and
# in single precision. By family, and by what LoRA adapts ("none": all weights are trained).
ACTIVATIONS = {
    "llama": {
        "none": ((34, 8), (40, 16)),
        "ffn": ((34, 13), (42, 20)),
        "att": ((46, 6), (58, 12)),
        "att-ffn": ((64, 13), (74, 20)),
    },
    "bert": {
        "none": ((34, 4), (40, 8)),
        "ffn": ((30, 9), (37, 12)),
        "att": ((50, 2), (61, 4)),
        "att-ffn": ((60, 9), (70, 12)),
    },
    "gpt2": {
        "none": ((30, 10), (40, 20)),
        "ffn": ((30, 15), (37, 24)),
        "att": ((37, 8), (45, 16)),
        "att-ffn": ((46, 15), (54, 24)),
    },
}
ACTIVATIONS["mistral"] = ACTIVATIONS["llama"]
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
LOGIT = 18  # two copies in half precision, the logit and its logarithm in single, and the gradients of both kinds
OUTSIDE = 12  # bytes a token and hidden unit before the first and behind the last layer
HEAVY = 1.5  # a batch that is heavy for its kind, over the mean length
RESERVE = 1 << 30  # CUDA's context, and what its allocator can not use


class Memory(NamedTuple):
    """Bytes."""

    weights: int
    gradients: int
    optimiser: int
    entities: int  # vectors of entities and relations with their gradients and moments
    activations: int
    logits: int
    encoding: int  # activations while texts are encoded, when none of a training step are held
    reserve: int = RESERVE

    @property
    def total(self) -> int:
        """The most that is held at once."""
        step = self.gradients + self.activations + self.logits
        return self.weights + self.optimiser + self.entities + max(step, self.encoding) + self.reserve


def training(spec: dict, graph: Dataset, model: Architecture | None, processes: int = 1) -> Memory:
    """Of one of `processes`; each holds all weights and shares the sequences."""
    p, size = spec["parameters"], run_size(spec, graph, model)
    texts = encoded(spec, graph)
    kind = p.get("base_weights", "float32")
    number = max(BYTES[kind], 2) if kind != "float32" else 4
    lora = p.get("lora_modules", "none")
    adapters = 4 if spec["method"] == "kalm" or lora != "none" else number  # peft keeps them in single precision
    mixed = spec["training"]["precision"] == "bf16" and model is not None
    trained = size.base * number + size.added * adapters
    weights = _frozen(size, model, kind) + trained
    if mixed and number == 4:
        weights += 2 * model.body * size.copies
    if not spec["training"]["epochs"]:
        memory = Memory(weights, 0, 0, size.entities * 4, 0, 0, 0)
        return memory._replace(encoding=encoding(spec, model, texts))
    buckets = 2 if processes > 1 else 1  # those in which processes exchange gradients
    # A vector's gradient is as large as all vectors; a second one is there while it is added to the first. Where the
    # gradients hold the rows that were read alone, vectors and moments remain: in single precision, as they always are.
    gradients = 0 if p.get("sparse_gradients") else 1 + buckets
    entities = size.entities * 4 * (1 + gradients + 2) + _rows(spec, graph, model, processes)
    parts = [one.share(processes) for one in passes(spec, graph, model)]
    return Memory(
        weights=weights,
        gradients=buckets * trained,
        optimiser=2 * trained,
        entities=entities,
        activations=vectors(spec, graph) if model is None else activations(p, model, parts, mixed, number),
        logits=sum(round(one.sequences * one.asked) * one.choices * LOGIT for one in parts),
        encoding=encoding(spec, model, texts),
    )


def _rows(spec: dict, graph: Dataset, model: Architecture | None, processes: int) -> int:
    """The gradients of rows: a process's own, those of all that it gathers, and these sorted and added up."""
    p = spec["parameters"]
    if not p.get("sparse_gradients"):
        return 0
    sampled = p["sampled_entities"] if graph.entities > p["maximum_exact_entities"] else graph.entities
    around = 2 * p["context_walks"] * p["context_radius"] + 2
    read = sum(one.sequences for one in passes(spec, graph, model)) * around
    return round((processes * sampled + read) * model.width * 4 * 4)


def activations(p: dict, model: Architecture, parts: list[Pass], mixed: bool, number: int) -> int:
    """Of the passes of one process; `number`: bytes of a number of the stream between the layers."""
    hidden, inner = ACTIVATIONS[model.family][p.get("lora_modules", "none")][not mixed]
    layer = hidden * model.width + inner * model.inner
    checkpointing = p.get("gradient_checkpointing", False) is True
    kept, again = 0, 0
    for one in parts:
        at_once = min(one.chunk, one.sequences) if one.chunk else one.sequences
        largest = at_once * one.texts.long
        if one.tokens:
            largest = min(largest, max(one.tokens, one.texts.long))
        whole = one.sequences * (
            min(one.texts.long, HEAVY * one.texts.mean) if one.chunk or one.tokens else one.texts.long
        )
        tokens = largest if one.cached else max(whole, largest)
        kept_layer = number * model.width if checkpointing else layer
        bytes_ = tokens * (model.layers * kept_layer + OUTSIDE * model.width)
        masks = one.sequences * 8 * one.texts.long**2 * one.mask
        again = max(again, checkpointing * largest * layer, one.cached * bytes_)
        kept += (0 if one.cached else bytes_) + masks
    return round(kept + again)


def encoding(spec: dict, model: Architecture | None, texts: Texts) -> int:
    """Activations of one batch without gradients: some tensors of one layer at a time."""
    if model is None:
        return 0
    number = max(2, BYTES[spec["parameters"].get("base_weights", "float32")])
    tokens = spec["training"]["encoding_batch_size"] * texts.long
    return round(tokens * number * (8 * model.width + 3 * model.inner))


def _frozen(size: Size, model: Architecture | None, kind: str) -> int:
    if kind != "int8" or model is None:
        return size.frozen * BYTES[kind]
    return model.body + 2 * (size.frozen - model.body)  # bitsandbytes leaves embeddings and norms in half precision


def vectors(spec: dict, graph: Dataset) -> int:
    """Structure-based: scores of triples and their negatives, or of all tails, with gradients, in single precision.

    Times the vectors' width, what PyTorch was seen to hold at once for PyKEEN's models (its `score_hrt`).
    """
    p, batch = spec["parameters"], spec["training"]["batch_size"]
    if "interaction" not in p:  # counts alone
        return 0
    if p.get("loop") == "lcwa":
        return batch * graph.entities * 4 * 6
    held = {"transe": 6, "distmult": 6, "transh": 9, "rotate": 12, "quate": 77}.get(p["interaction"], 16)
    return batch * (p["negatives"] + 1) * p["dimension"] * 4 * held

"""Where the time of a training step goes, method by method, beside plain loops that do the same work.

    python benchmarks/training.py [--json] [--methods simkgc kalm] [--batch 64] [--steps 5] [--width 32]

A step is that of `kglm train`, at the settings of the medium scale on WN18RR: its milliseconds by part, the calls of
operators, triples and tokens a second, the share of what a bare matrix product reaches in the same precision. host_ms
is a whole step with the model's width cut to 32, where next to nothing is computed. Models have the shapes of
all-MiniLM-L6-v2 and SmolLM2-135M-Instruct with random weights and a tokenizer of their own; texts are WN18RR's, where
KGLM_MIRROR names a mirror, else drawn ones of like lengths. The parts of a step are told apart by waiting for the
device; triples a second are those of steps in which nobody waits.

The reference is a bare loop over the method's own classes, whose batches are made beforehand: one forward and backward
of each, fused AdamW, no Trainer. SimKGC's is a loop as in its released trainer, written anew: each batch is tokenised
when it is asked for, queries, tails and heads are encoded one after the other, each padded to its longest.

Runs from a checkout, without installing kglm, Snakemake or a network: Python, torch, transformers, peft, accelerate,
pandas, pyarrow, PyYAML and jsonschema are enough.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel, BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, TrainerCallback, set_seed
from transformers.utils import logging

from kglm import config as configuration
from kglm.kg.build import graph as build_graph
from kglm.kg.graph import Graph
from kglm.kg.sources import fetch
from kglm.lm.entries import Scratch
from kglm.lm.scratch import train_tokenizer
from kglm.methods._interface import Method, build_method
from kglm.plan.cost import needed_operations
from kglm.training.choice import choices
from kglm.training.options import Training
from kglm.training.provenance import processor
from kglm.training.schedule import Schedule
from kglm.training.stages import prepared
from kglm.training.trainer import MethodTrainer

DECODER, ENCODER = "smollm2-135m-instruct", "all-minilm-l6-v2"
MODELS = {
    **{"kalm": DECODER, "kg_bilm": DECODER},
    **dict.fromkeys(("simkgc", "c_lmke", "star", "lmke", "mem_kgc", "kg_bert"), ENCODER),
}
NARROW = 32
WARM = 2  # steps before the first that counts
PARTS = ("collate", "move", "forward", "backward", "optimizer")


def sizes(kind: str, width: int | None) -> dict:
    """The shape of a model; cut to `width` it keeps its layers."""
    whole = {
        DECODER: {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "intermediate_size": 1536},
        ENCODER: {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    }[kind]
    if width is None:
        return whole
    heads = max(count for count in (1, 2, 4) if width % (2 * count) == 0)
    return whole | {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 2 * width}


def write_model(kind: str, graph: Graph, width: int | None, folder: Path) -> Path:
    """A model of random weights with a tokenizer made of the graph's texts."""
    words, architecture = (49152, "llama") if kind == DECODER else (30522, "bert")
    shape = {"hidden_size": 32, "layers": 1, "heads": 1, "intermediate_size": 32, "positions": 2048, "steps": 1}
    learning = {"batch_size": 1, "sequence_length": 8, "learning_rate": 1.0}
    entry = Scratch(architecture, "", vocabulary_size=words, **shape, **learning)
    tokenizer = train_tokenizer(entry, graph.entity_texts() + graph.relation_texts())
    common = sizes(kind, width) | {"vocab_size": words, "pad_token_id": tokenizer.pad_token_id}
    set_seed(0)
    if kind == DECODER:
        grouped = {"num_key_value_heads": 3} if width is None else {}
        model = LlamaForCausalLM(LlamaConfig(**common, **grouped, tie_word_embeddings=True))
    else:
        model = BertModel(BertConfig(**common), add_pooling_layer=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def some_graph(config: dict, folder: Path) -> Graph:
    """WN18RR of the mirror, else a graph of drawn words of its size and lengths."""
    if Path(os.environ.get("KGLM_MIRROR", "/nowhere"), "WN18RR").is_dir():
        entry = configuration.spec(config, "dataset", "WN18RR")
        fetch(entry, folder / "raw")
        build_graph(entry, folder / "raw", folder / "graph")
        return Graph.read(folder / "graph")
    random, entities, triples = np.random.default_rng(0), 40_000, 90_000
    words = ["".join(map(chr, random.integers(97, 123, random.integers(2, 10)))) for _ in range(20_000)]

    def drawn(low: int, high: int) -> list[str]:
        counts = random.integers(low, high, entities)
        return [" ".join(words[int(20_000 * place**3)] for place in random.random(count)) for count in counts]

    relations = [f"relation {number}" for number in range(11)]
    ends = (entities * random.random((triples, 2)) ** 2).astype(np.int64)
    rows = np.column_stack([ends[:, 0], random.integers(11, size=triples), ends[:, 1]])
    frame = pd.DataFrame(np.unique(rows, axis=0), columns=["head", "relation", "tail"])
    names = {"id": [f"e{number}" for number in range(entities)], "name": drawn(1, 3), "description": drawn(4, 24)}
    return Graph(
        pd.DataFrame(names | {"in_train": True}),
        pd.DataFrame({"id": relations, "text": relations, "inverse": [f"inverse {text}" for text in relations]}),
        frame.sample(frac=1, random_state=0).assign(split="train", label=1)[
            ["split", "head", "relation", "tail", "label"]
        ],
    )


def run_of(config: dict, method: str, batch: int | None, steps: int) -> dict:
    """The specification of a few steps at the method's configured settings."""
    run = {"method": method, "dataset": "WN18RR", "model": MODELS[method]}
    spec = configuration.run_spec({**config, "runs": {method: run}}, method)
    few = {"epochs": 10**6, "maximum_steps": steps, "validate_every_epochs": 0, "save_every_steps": 10**9}
    spec["training"] |= few | {"keep_epochs": False} | ({"batch_size": batch} if batch else {})
    return spec


class Calls(TorchDispatchMode):
    """Counts the operators that are called."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += 1
        return function(*arguments, **(options or {}))


def settle() -> None:
    """Wait for the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Clock:
    """Milliseconds by part, one number each time."""

    def __init__(self, waits: bool):
        self.waits, self.parts = waits, defaultdict(list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add what passes here to a part."""
        if self.waits:
            settle()
        begun = time.perf_counter()
        yield
        if self.waits:
            settle()
        self.parts[name].append(1e3 * (time.perf_counter() - begun))

    def __getitem__(self, name: str) -> float:
        return statistics.median(self.parts[name][WARM:])


class Watched(MethodTrainer):
    """The trainer of kglm with a clock; `counted`: the step of which operators are counted."""

    clock: Clock
    counted = -1
    calls = 0

    def _prepare_inputs(self, inputs):
        with self.clock.part("move"):
            return super()._prepare_inputs(inputs)

    def compute_loss(self, *arguments, **options):
        with self.clock.part("forward"):
            return super().compute_loss(*arguments, **options)

    def training_step(self, *arguments, **options):
        if self.state.global_step == self.counted:
            self.mode = Calls()
            self.mode.__enter__()
        loss = super().training_step(*arguments, **options)
        if self.clock.waits:
            settle()
        self.stepped = time.perf_counter()
        return loss

    def watch(self, clock: Clock) -> None:
        """Begin."""
        self.clock = clock
        backward = self.accelerator.backward

        def timed(*arguments, **options):
            with clock.part("backward"):
                return backward(*arguments, **options)

        self.accelerator.backward = timed
        self.add_callback(_Ends(self))


class _Ends(TrainerCallback):
    """The end of each step."""

    def __init__(self, trainer: Watched):
        self.trainer, self.last = trainer, time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.trainer.counted + 1:
            self.trainer.mode.__exit__(None, None, None)
            self.trainer.calls = self.trainer.mode.count
        if self.trainer.clock.waits or state.global_step == args.max_steps:
            settle()
        now = time.perf_counter()
        self.trainer.clock.parts["optimizer"].append(1e3 * (now - self.trainer.stepped))
        self.trainer.clock.parts["step"].append(1e3 * (now - self.last))
        self.last = now


def trained(spec: dict, graph: Graph, model: Path, waits: bool) -> tuple[Clock, int]:
    """A few steps of `kglm train`: their times, and the calls of operators in the last one."""
    set_seed(0)
    options = Training.of(spec["training"])
    clock = Clock(waits)
    with tempfile.TemporaryDirectory() as folder:
        method = build_method(spec["method"], memory_chosen(spec, graph, model), graph, model)
        trainer = prepared(spec, options, method, graph, Path(folder), dict, Watched)
        trainer.counted = options.maximum_steps - 1 if waits else -1
        trainer.watch(clock)
        trainer.train()
    if waits:  # an uncounted step more is left for the clock
        clock.parts = {name: values[:-1] for name, values in clock.parts.items()}
    return clock, trainer.calls


def memory_chosen(spec: dict, graph: Graph, model: Path) -> dict:
    """The parameters with what the memory decides, as `kglm train` has them."""
    with tempfile.TemporaryDirectory() as folder:
        return spec["parameters"] | choices(spec, graph, Path(folder), model, Path(folder))


def batches_of(spec: dict, graph: Graph, method: Method) -> tuple[list[dict], float]:
    """The batches of a training, and the median of the milliseconds that one takes."""
    options = Training.of(spec["training"])
    triples = graph.split("train", inverse=method.inverse_triples)
    schedule, clock = Schedule(method, triples, options, spec["seed"]), Clock(False)
    batches = []
    for step in range(options.maximum_steps):
        with clock.part("collate"):
            batches.append(schedule[step])
    return batches, clock["collate"]


def on_device(batch, device: str):
    """A batch with its tensors on the device."""
    if isinstance(batch, dict):
        return {name: on_device(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return [on_device(value, device) for value in batch]
    return batch.to(device) if isinstance(batch, torch.Tensor) else batch


def stepped(method: Method, loss_of: Callable, batches: list, precision: str, rate: float) -> float:
    """Seconds a step of a bare loop."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    method.to(device).train()
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer, seconds = torch.optim.AdamW(trained, lr=rate, fused=True), []
    for batch in batches:
        settle()
        begun = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(batch, device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        settle()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[WARM:])


def bare(spec: dict, graph: Graph, model: Path) -> float:
    """Seconds a step of a bare loop over the method's own classes, with all of a batch in one piece."""
    parameters = dict(spec["parameters"])
    once = {"chunk_size": 0, "chunk_tokens": 0, "gradient_caching": False, "gradient_checkpointing": False}
    parameters |= {name: value for name, value in once.items() if name in parameters}
    set_seed(0)
    method = build_method(spec["method"], parameters, graph, model)
    batches, _ = batches_of(spec | {"parameters": parameters}, graph, method)
    options = spec["training"]

    def loss_of(batch: dict, device: str) -> torch.Tensor:
        return method(**on_device(batch, device))["loss"]

    return stepped(method, loss_of, batches, options["precision"], options["learning_rate"])


def like_simkgc(spec: dict, graph: Graph, model: Path) -> float:
    """Seconds a step of SimKGC trained as its authors' program does it: everything of a batch when it comes."""
    from kglm.lm.language_model import load_tokenizer
    from kglm.methods.simkgc import described

    set_seed(0)
    method = build_method("simkgc", spec["parameters"], graph, model)
    for name in ("query_encoder", "entity_encoder"):  # as transformers makes them
        setattr(method, name, AutoModel.from_pretrained(model, add_pooling_layer=False))
    tokenizer, p = load_tokenizer(model), method.parameters_
    texts, relations = described(graph, p.entity_text), graph.relation_texts(p.inverse_text)
    names, short = graph.entity_texts("name"), [len(text.split()) < p.short_description for text in texts]
    neighbours = defaultdict(list)
    for head, _, tail in graph.split("train", inverse=True).tolist():
        neighbours[head].append(tail)

    def text_of(entity: int, hidden: int) -> str:
        if not short[entity]:
            return texts[entity]
        near = [names[other] for other in sorted(neighbours[entity]) if other != hidden][: p.neighbour_names]
        return " ".join([texts[entity], *near])

    def encoded(encoder, device: str, *parts) -> torch.Tensor:
        rows = [tokenizer(*pair, truncation=True, max_length=p.maximum_length) for pair in zip(*parts, strict=True)]
        padded = tokenizer.pad({"input_ids": [row["input_ids"] for row in rows]}, return_tensors="pt").to(device)
        hidden = encoder(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).last_hidden_state
        real = padded["attention_mask"][:, :, None]
        return torch.nn.functional.normalize((hidden * real).sum(dim=1) / real.sum(dim=1), dim=-1)

    def loss_of(triples: np.ndarray, device: str) -> torch.Tensor:
        heads, kinds, tails = triples.T.tolist()
        of_heads = [text_of(h, t) for h, t in zip(heads, tails, strict=True)]
        query = encoded(method.query_encoder, device, of_heads, [relations[kind] for kind in kinds])
        tail = encoded(method.entity_encoder, device, [text_of(t, h) for h, t in zip(heads, tails, strict=True)])
        head = encoded(method.entity_encoder, device, of_heads)
        scale = method.log_temperature.exp()
        logits = (query @ tail.T - p.margin * torch.eye(len(query), device=device)) / scale
        known = method.known(torch.from_numpy(triples).to(device)) & ~torch.eye(
            len(query), dtype=torch.bool, device=device
        )
        logits = logits.masked_fill(known, -1e4)
        own = (query * head).sum(dim=1, keepdim=True) / scale
        targets, cross_entropy = torch.arange(len(query), device=device), torch.nn.functional.cross_entropy
        return cross_entropy(torch.cat([logits, own], dim=1), targets) + cross_entropy(logits.T, targets)

    options = Training.of(spec["training"])
    schedule = Schedule(method, graph.split("train", inverse=True), options, spec["seed"])
    batches = [np.ascontiguousarray(schedule.batch(step)) for step in range(options.maximum_steps)]
    return stepped(method, loss_of, batches, options.precision, options.learning_rate)


def peak(precision: str) -> float:
    """Operations a second of a large matrix product."""
    device, kind = ("cuda", 8192) if torch.cuda.is_available() else ("cpu", 2048)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    first = torch.ones(kind, kind, device=device, dtype=dtype)
    seconds = []
    for _ in range(5):
        settle()
        begun = time.perf_counter()
        first @ first
        settle()
        seconds.append(time.perf_counter() - begun)
    return 2 * kind**3 / min(seconds)


def report(spec: dict, graph: Graph, model: Path, narrow: Path | None) -> tuple[dict, dict]:
    """What is told of a method, and what is told beside it in words; narrow: the model of which host_ms is told."""
    batch = spec["training"]["batch_size"]
    clock, calls = trained(spec, graph, model, waits=True)
    seconds = clock["step"] / 1e3
    if torch.cuda.is_available():
        free, _ = trained(spec, graph, model, waits=False)
        seconds = sum(free.parts["step"][WARM:]) / len(free.parts["step"][WARM:]) / 1e3
    host = clock["step"] if narrow is None else trained(spec, graph, narrow, waits=True)[0]["step"]
    set_seed(0)
    method = build_method(spec["method"], memory_chosen(spec, graph, model), graph, model)
    batches, collate = batches_of(spec, graph, method)
    tokens = statistics.mean(method.tokens_read(one) for one in batches)
    body = sum(parameter.numel() for name, parameter in method.named_parameters() if "embed" not in name)
    copies = 2 if hasattr(method, "query_encoder") else 1
    plain = bare(spec, graph, model)
    reference = like_simkgc(spec, graph, model) if spec["method"] == "simkgc" else plain
    told = {"collate_ms": collate} | {f"{name}_ms": clock[name] for name in PARTS[1:]}
    told |= {"host_ms": host, "operators": calls, "triples_per_second": batch / seconds}
    told |= {"tokens_per_second": tokens / seconds, "reference_triples_per_second": batch / reference}
    performed = needed_operations(spec) * body / copies * tokens / seconds
    beside = {"share": performed / peak(spec["training"]["precision"]), "bare_triples_per_second": batch / plain}
    return {name: round(value, 3) for name, value in told.items()}, beside | {"step_ms": 1e3 * seconds}


def machine() -> dict:
    """Where this was measured, and with what."""
    import importlib.metadata

    packages = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft", "accelerate")}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"gpu": gpu, "processor": processor(), "threads": torch.get_num_threads(), "packages": packages}


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--methods", nargs="+", choices=sorted(MODELS), default=["kalm", "simkgc", "c_lmke", "star"])
    parser.add_argument("--batch", type=int, help="triples a step; without it, as configured")
    parser.add_argument("--steps", type=int, help="steps that count; without it 20 on a GPU, 3 on a CPU")
    parser.add_argument("--width", type=int, help="of the models; without it, their own")
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    steps = (options.steps or (20 if torch.cuda.is_available() else 3)) + WARM + 1
    scales = [ROOT / "config.yaml", ROOT / "workflow/scales/medium.yaml"]
    config, measured = configuration.read(*scales), {}
    with tempfile.TemporaryDirectory() as folder:
        graph = some_graph(config, Path(folder))
        widths = {options.width, NARROW}
        kinds = {MODELS[method] for method in options.methods}
        models = {
            (kind, width): write_model(kind, graph, width, Path(folder, f"{kind}-{width}"))
            for kind in kinds
            for width in widths
        }
        for name in options.methods:
            spec = run_of(config, name, options.batch, steps)
            narrow = None if options.width == NARROW else models[MODELS[name], NARROW]
            told, beside = report(spec, graph, models[MODELS[name], options.width], narrow)
            measured[name] = told
            if not options.json:
                print(f"{name}, {spec['training']['batch_size']} triples a step of {beside['step_ms']:,.0f} ms:")
                print("  " + ", ".join(f"{key} {value:,g}" for key, value in told.items()))
                print(f"  a bare loop: {beside['bare_triples_per_second']:,.0f} triples/s; ", end="")
                print(f"{beside['share']:.1%} of a matrix product", flush=True)
    if options.json:
        print(json.dumps(measured | {"machine": machine()}))


if __name__ == "__main__":
    main()

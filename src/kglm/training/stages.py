"""The stages `train`, `embed`, `score` and `rank_by_model`: those that need a method's model."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from kglm.artefacts import ANSWERS, RANKS, SCORES, read_parquet, write_parquet
from kglm.binding import claim_checkpoints, header
from kglm.errors import InputError
from kglm.files import (
    atomic_directory,
    atomic_file,
    check_files,
    check_replaceable,
    claim_directory,
    claim_files,
    run_identity,
    sha256,
    write_json,
)
from kglm.kg.graph import Graph
from kglm.methods._interface import REQUEUE, CandidateScorer, LinkPredictor, Method, build_method
from kglm.ranking.matching import write_interaction
from kglm.ranking.proposals import proposals, rank_proposals
from kglm.ranking.stages import BEST, Ranking, browsed, embeddings_scorer, write_ranks
from kglm.ranking.triples import answers_of, best_answers, rank_triples_by
from kglm.training.choice import choices
from kglm.training.options import Training
from kglm.training.provenance import environment, joules
from kglm.training.schedule import Schedule
from kglm.training.scorer import candidate_scorer
from kglm.training.specification import completed
from kglm.training.surroundings import process_timeout, trackers, workers, writes
from kglm.training.validation import validator

if TYPE_CHECKING:  # imported where they are used: torch is slow to load
    from transformers import TrainingArguments

    from kglm.training.trainer import MethodTrainer

RECORDS = ["log.jsonl", "run.json"]


def train(spec: dict, graph: Path, model: Path | None, checkpoints: Path, out: Path) -> None:
    """Train a run and write weights/, epochs/, log.jsonl and run.json under `out`; resumes from `checkpoints`.

    Ends with status 75 when SIGTERM or SIGUSR1 came: a checkpoint is saved, the same command goes on from it.
    """
    from accelerate.utils import set_seed

    started, energy, out = time.monotonic(), joules(), Path(out)
    spec = completed(spec)
    options = Training.of(spec["training"])
    check_files(out, RECORDS)
    for folder in ("weights", "epochs"):
        check_replaceable(out / folder)
    if options.epochs:
        claim_directory(checkpoints)
    set_seed(spec["seed"])
    loaded = Graph.read(graph)
    values = choices(spec, loaded, graph, model, checkpoints)
    method = build_method(spec["method"], spec["parameters"] | values, loaded, model)
    method.specification = spec
    if options.epochs:
        method.check_training(options)
    history = {"log": [], "best": None}
    if options.epochs:
        claim_checkpoints(checkpoints, method.made_of(), writes())
        history = _fit(spec, options, method, loaded, Path(checkpoints))
        if not writes():
            return
        method.load(Path(checkpoints) / ("best" if history["best"] else "last"))
    claim_files(out, RECORDS)
    with atomic_directory(out / "weights") as directory:
        method.save(directory)
    with atomic_directory(out / "epochs") as directory:
        if options.keep_epochs and options.epochs:
            shutil.copytree(Path(checkpoints) / "epochs", directory, dirs_exist_ok=True)
    with atomic_file(out / "log.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in history["log"]), "utf-8")
    parameters = sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad)
    sums = {str(path.relative_to(out)): sha256(path) for path in [*_files(out / "weights"), out / "log.jsonl"]}
    trained = {"best": history["best"], "trained_parameters": parameters, "sums": sums, "made_of": method.made_of()}
    trained["chosen"] = values
    write_json(
        {**run_identity(spec), "spec": spec, **trained, **environment(started, history, energy)}, out / "run.json"
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _fit(spec: dict, options: Training, method: Method, graph: Graph, checkpoints: Path) -> dict:
    validate = validator(method, graph, options)
    if history := method.fit(options, spec["seed"], checkpoints, validate):
        return history
    from kglm.training.trainer import Interrupted, last_checkpoint

    trainer = prepared(spec, options, method, graph, checkpoints, validate)
    latest = last_checkpoint(checkpoints)
    with contextlib.suppress(Interrupted):
        trainer.train(resume_from_checkpoint=str(latest) if latest else None)
    trainer.count_seconds()
    if trainer.state.global_step < trainer.train_dataset.steps or trainer.history["due"]:
        told = f"saved at step {trainer.state.global_step} of {trainer.train_dataset.steps}"
        print(f"{spec['name']}: {told}", file=sys.stderr)
        sys.exit(REQUEUE)
    if not options.validate_every_epochs:
        trainer.write_weights("last")
    return trainer.history


def prepared(
    spec: dict,
    options: Training,
    method: Method,
    graph: Graph,
    checkpoints: Path,
    validate: Callable[[], dict[str, float]],
    kind: "type[MethodTrainer] | None" = None,
) -> "MethodTrainer":
    """The trainer of a run, of the class `kind` where one is given; InputError for what cannot be trained so."""
    from kglm.training.optimiser import check_precision, leave_rows_out
    from kglm.training.trainer import MethodTrainer

    parts = int(os.environ.get("WORLD_SIZE", "1"))
    if options.batch_size % parts:
        raise InputError(f"batch_size {options.batch_size} cannot be shared by {parts} processes", spec["name"])
    check_precision(method, spec["name"])
    leave_rows_out(method)
    triples = graph.split("train", inverse=method.inverse_triples)
    schedule = Schedule(method, triples, options, spec["seed"], parts)
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(checkpoints / "tensorboard"))
    arguments = _arguments(spec, options, schedule, checkpoints)
    return (kind or MethodTrainer)(method, schedule, options, arguments, validate)


def _arguments(spec: dict, options: Training, schedule: Schedule, checkpoints: Path) -> "TrainingArguments":
    """The options in transformers' words, with what the machine decides."""
    import torch
    from transformers import TrainingArguments

    on_gpu = torch.cuda.is_available()
    ahead = workers(on_gpu)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=schedule.steps,
        per_device_train_batch_size=1,  # an item of the schedule is a whole batch
        learning_rate=options.learning_rate,
        # transformers' "constant" leaves the warm-up out.
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(options.scheduler, options.scheduler),
        warmup_steps=round(options.warmup_ratio * schedule.steps),
        weight_decay=options.weight_decay,
        adam_beta1=options.beta1,
        adam_beta2=options.beta2,
        max_grad_norm=options.maximum_gradient_norm,
        bf16=options.precision == "bf16",
        use_cpu=not on_gpu,
        seed=spec["seed"],
        save_strategy="steps",
        save_steps=options.save_every_steps or schedule.steps_per_epoch,
        save_total_limit=2,  # the one being written and the last whole one
        logging_steps=options.log_every_steps,
        report_to=trackers(),
        ddp_timeout=process_timeout(),
        disable_tqdm=True,
        remove_unused_columns=False,
        optim="adamw_torch_fused",
        logging_nan_inf_filter=False,  # it would wait for the loss of each step, and `MethodTrainer.sums` sees to it
        dataloader_num_workers=ahead,
        dataloader_prefetch_factor=2 if ahead else None,
        dataloader_pin_memory=on_gpu,
        accelerator_config={"non_blocking": on_gpu},
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # all are constants, the known triples among them: equal everywhere
    )
    # transformers would put the model on all GPUs it sees, and make the loader's batches, which are whole steps, larger
    # by their number: all but the first of each would be dropped. Several GPUs are several processes.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def embed(spec: dict, graph: Path, model: Path | None, weights: Path, out: Path, shard: str = "1/1") -> None:
    """Encode all entities and every query of valid and test, both directions, and how the two meet.

    Writes {entities,queries,interaction}.safetensors under `out`. With `shard` k/n only the k-th of n parts of the
    entities and of the queries: the stage `join` puts the parts together.
    """
    check_replaceable(out)
    spec = completed(spec)
    method, loaded = _loaded(spec, graph, model, weights)
    if not isinstance(method, LinkPredictor):
        raise InputError("has no embeddings of entities", f"method {spec['method']}", "run the stage score")
    size = Training.of(spec["training"]).encoding_batch_size
    triples = np.concatenate([loaded.split(name, inverse=True) for name in ("valid", "test")])
    queries = _part(np.unique(triples[:, :2], axis=0), shard)
    heads, relations = np.ascontiguousarray(queries[:, 0]), np.ascontiguousarray(queries[:, 1])
    encoded = {"heads": heads, "relations": relations}
    encoded["embeddings"] = method.encode_queries(heads, relations, size)
    entities = {"embeddings": method.encode_entities(_part(np.arange(loaded.entity_count), shard), size)}
    with atomic_directory(out) as directory:
        for name, arrays in (("entities", entities), ("queries", encoded)):
            arrays = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
            save_file(arrays, directory / f"{name}.safetensors", header(spec["name"], loaded))
        write_interaction(directory / "interaction.safetensors", method.interaction())


def score(spec: dict, graph: Path, model: Path | None, weights: Path, out: Path) -> None:
    """How plausible the method finds each labelled triple of valid and test."""
    spec = completed(spec)
    method, loaded = _loaded(spec, graph, model, weights)
    size, frames = Training.of(spec["training"]).encoding_batch_size, []
    for name in ("valid", "test"):
        triples, labels = loaded.labelled(name)
        columns = {"split": name, **dict(zip(("head", "relation", "tail"), triples.T, strict=True)), "label": labels}
        scores = method.score_triples(triples, size) if len(triples) else np.empty(0, np.float32)
        frames.append(pd.DataFrame(columns | {"score": scores}))
    write_parquet(pd.concat(frames, ignore_index=True), out, SCORES)


def rank_by_model(
    spec: dict,
    graph: Path,
    model: Path | None,
    weights: Path,
    out: Path,
    answers: Path,
    proposed: Path | None = None,
) -> None:
    """Ranks of valid and test in both directions, and the best answers, where the model scores candidates itself.

    spec: "run", and "answers" as of the stage `rank`. With spec["candidates"], its "top" candidates by another run
    are ordered anew; `proposed` is that run's folder, with its embeddings and ranks.
    """
    Ranking.of(spec)
    method, knowledge = _loaded(completed(spec["run"], "spec.run"), graph, model, weights)
    if not isinstance(method, CandidateScorer):
        raise InputError("ranks by embeddings", f"method {spec['run']['method']}", "run the stages embed and rank")
    size = Training.of(spec["run"]["training"]).encoding_batch_size
    shown = browsed(knowledge, spec.get("answers", 0))
    if "candidates" in spec:
        of = partial(_proposals, method, knowledge, size, Path(proposed), spec["candidates"]["top"])
        before = read_parquet(Path(proposed) / "ranks.parquet", RANKS)
        write_ranks(
            knowledge,
            lambda triples, split: rank_proposals(knowledge, triples, split, *of(triples, split), before),
            graph,
            out,
        )
        best = answers_of(shown, "test", *(part[:, :BEST] for part in of(shown, "test")))
    else:
        scorer_of = candidate_scorer(method, size)
        write_ranks(knowledge, lambda triples, split: rank_triples_by(knowledge, triples, scorer_of, split), graph, out)
        best = best_answers(knowledge, shown, scorer_of, "test", BEST)
    write_parquet(best, answers, ANSWERS)


def _proposals(method: CandidateScorer, graph: Graph, size: int, proposed: Path, count: int, triples, split) -> tuple:
    proposed_by = embeddings_scorer(graph, proposed / "embeddings")
    return proposals(graph, triples, split, proposed_by, count, lambda rows: method.score_triples(rows, size))


def _loaded(spec: dict, graph: Path, model: Path | None, weights: Path) -> tuple[Method, Graph]:
    loaded = Graph.read(graph)
    return loaded_method(spec, loaded, model, weights), loaded


def loaded_method(spec: dict, loaded: Graph, model: Path | None, weights: Path) -> Method:
    """A run's method with its weights, on the GPU where there is one."""
    import torch
    from accelerate.utils import set_seed

    set_seed(spec["seed"])
    method = build_method(spec["method"], spec["parameters"], loaded, model)
    method.specification = spec
    method.load(weights)
    return method.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _part(rows: np.ndarray, shard: str) -> np.ndarray:
    """The k-th of n consecutive parts of almost equal length, for "k/n" with k from 1."""
    try:
        number, count = map(int, shard.split("/"))
    except ValueError:
        number, count = 0, 0
    if not 1 <= number <= count:
        raise InputError(f"{shard!r} is no part of a whole", "option shard", "write k/n with k from 1 to n")
    return np.array_split(rows, count)[number - 1]

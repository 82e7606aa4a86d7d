"""What weights, checkpoints and embeddings were made of, and the refusal of what was made of something else.

A folder of weights holds made_of.json: the method with its parameters, the digests of graph and base model and, where a
run was trained, its name, seed and training options. A folder of checkpoints holds the same. Files of embeddings have
run and graph in their header. What an older version wrote says nothing of this, and is taken by its shapes alone.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kglm.errors import InputError
from kglm.files import read_json, write_json
from kglm.kg.graph import Graph

MADE_OF, SAID = "made_of.json", "made_of"
# What changes memory and time, and no result but for rounding: it may differ between training and use, and where a
# training goes on.
FREE = {
    "base_weights",
    "chunk_size",
    "chunk_tokens",
    "gradient_caching",
    "gradient_checkpointing",
    "encoding_batch_size",
}
# What only the training itself writes beside the weights.
UNUSED = {"log_every_steps", "save_every_steps", "keep_epochs"}
_BLOCK, _BLOCKS = 2**20, 32  # bytes of a file of weights that are read at once, and how many times


def made_of(method: str, parameters: Mapping, graph: Graph, model: Path | None, run: Mapping | None = None) -> dict:
    """What weights are made of; run: the specification of a training."""
    made: dict[str, Any] = {"method": method, "parameters": dict(parameters), "graph": graph_digest(graph)}
    made["model"] = None if model is None else model_digests(model)
    trained = {key: run[key] for key in ("name", "seed", "training")} if run else {}
    return json.loads(json.dumps(made | trained))  # tuples as what is read again


def claim_checkpoints(folder: Path, made: Mapping, writes: bool = True) -> None:
    """Bind a folder of checkpoints to a training; InputError where it holds those of another one.

    The name of the run plays no part. writes: of several processes the first one.
    """
    path = Path(folder) / MADE_OF
    if path.is_file():
        found = read_json(path)
        unlike = next(_unlike(*({**one, "name": ""} for one in (found, made)), left_out=FREE), None)
        if unlike:
            remedy = "name another folder with --checkpoints, or delete this one"
            raise InputError(f"holds the checkpoints of another training ({unlike})", folder, remedy)
    elif any(Path(folder).glob("checkpoint-*")) or any((Path(folder) / name).exists() for name in ("best", "last")):
        remedy = "name another folder with --checkpoints, or delete this one"
        raise InputError("holds checkpoints that do not say what they are of", folder, remedy)
    elif writes:
        write_json(made, path)


def check_weights(
    folder: Path, method: str, parameters: Mapping, graph: Graph | None, model: Path | None, run: Mapping | None = None
) -> None:
    """InputError where a folder of weights was made of another method, graph, base model or training.

    graph, model: None is not compared. run: the specification that is asked for. Weights of its own name have to be
    made with all its seed, parameters and training options; those of another name are ranked with its own ones, as far
    as the method's `of_weights` allow, which the caller gives as `parameters`.
    """
    path = Path(folder) / MADE_OF
    if not path.is_file():
        return
    found, remedy = read_json(path), "train this run again, or name the weights of this one"
    own = run is not None and found.get("name") == run["name"]
    wanted: dict[str, Any] = {"method": method, "parameters": run["parameters"] if own else parameters}
    if own:
        wanted |= {"seed": run["seed"], "training": run["training"]}
    if unlike := next(_unlike(found, wanted, FREE | UNUSED, every=own), None):
        raise InputError(f"holds weights of another run ({unlike})", folder, remedy)
    if graph is not None and found.get("graph") != graph_digest(graph):
        raise InputError("holds weights that were trained on another graph", folder, remedy)
    if model is not None and (others := _other_files(found.get("model") or {}, model_digests(model))):
        what = f"holds weights that were trained on another base model: {others} of {model} differ"
        raise InputError(what, folder, f"make the base model again, or {remedy}")


def differences(found: Mapping, wanted: Mapping) -> Iterator[str]:
    """In what two specifications of a training differ, but for what changes no result."""
    yield from _unlike(found, wanted, FREE)


def _unlike(found: Mapping, wanted: Mapping, left_out: set[str], every: bool = True, path: str = "") -> Iterator[str]:
    """The keys whose values differ, with both; every: those that only `found` has, too (of the innermost mappings)."""
    for key in [*wanted, *(key for key in found if every and path and key not in wanted)]:
        if key in left_out:
            continue
        one, other = found.get(key), wanted.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _unlike(one, other, left_out, every, f"{path}{key}.")
        elif one != other:
            yield f"{path}{key} {one}, here {other}"


# Embeddings


def header(name: str, graph: Graph) -> dict[str, str]:
    """What a safetensors file of a run's embeddings says of itself: one text, for several stand in no fixed order."""
    return {SAID: json.dumps({"run": name, "graph": graph_digest(graph)})}


def check_embeddings(folder: Path, graph: Graph, name: str | None = None) -> None:
    """InputError where a folder's embeddings are of another graph, or, with `name`, of another run."""
    for path in (Path(folder) / f"{part}.safetensors" for part in ("entities", "queries")):
        try:
            with safe_open(path, framework="numpy") as file:
                told = json.loads((file.metadata() or {}).get(SAID, "{}"))
        except (OSError, SafetensorError, ValueError):  # told by whoever reads it
            continue
        if told.get("graph", "") not in ("", graph_digest(graph)):
            raise InputError("holds the embeddings of another graph", path, "run the stage embed on this graph")
        if name and told.get("run", name) != name:
            raise InputError(f"holds the embeddings of the run {told['run']}", path, f"run the stage embed for {name}")


# Digests


def graph_digest(graph: Graph) -> str:
    """SHA-256 of a graph's entities, relations and triples with their texts, whatever files they came from."""
    if (known := graph.__dict__.get("digest")) is None:
        digest = hashlib.sha256()
        for frame in (graph.entities, graph.relations, graph.triples):
            for column in sorted(frame.columns):
                values = frame[column].tolist()
                digest.update(f"{column} {len(values)}\0".encode())
                for start in range(0, len(values), 10**5):
                    rows = map(str, values[start : start + 10**5])
                    digest.update("\0".join(rows).encode("utf-8", "surrogatepass") + b"\0")
        known = graph.__dict__["digest"] = digest.hexdigest()  # as functools.cached_property keeps it
    return known


def model_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a model folder that a model is read from; of large weights, of evenly spaced blocks."""
    if not Path(folder).is_dir():
        raise InputError("no such folder", folder, "run the stage model")
    read = (".json", ".safetensors", ".model", ".txt")
    paths = [path for path in sorted(Path(folder).iterdir()) if path.suffix in read and path.name != "provenance.json"]
    return {path.name: _sampled_digest(path) for path in paths}


def _sampled_digest(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}\0".encode())
    with path.open("rb") as stream:
        for number in range(_BLOCKS):
            if number * _BLOCK >= size:
                break
            stream.seek(max(number * _BLOCK, (size - _BLOCK) * number // (_BLOCKS - 1)))
            digest.update(stream.read(_BLOCK))
    return digest.hexdigest()


def _other_files(found: Mapping, here: Mapping) -> str:
    """The names of the files that differ between two base models."""
    return ", ".join(sorted(name for name in {*found, *here} if found.get(name) != here.get(name)))

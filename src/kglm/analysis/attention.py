"""What a query's tokens attend to under the knowledge mask (KG-BiLM, Figure 3)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from kglm.analysis.common import choose_options, find_entity, find_relation, identity
from kglm.analysis.loading import check_run
from kglm.errors import InputError
from kglm.files import atomic_file, write_json
from kglm.kg.graph import Graph
from kglm.options import Options


@dataclass(frozen=True)
class Parameters(Options):
    """The options of the analysis."""

    head: str = ""  # id or name of the query's entity; with no relation either: those of the first test triple
    relation: str = ""  # id or text
    layer: int = -1  # from 0; -1 is the last


def attention(spec: dict, graph: Path, model: Path, weights: Path, out: Path) -> None:
    """Write the tensors `weights` (s, s), the mean over a layer's heads, and `visible` (s, s) of one query's tokens.

    Rows attend to columns. The labels of the tokens and the query stand beside, with the ending .json.
    """
    import torch

    from kglm.methods._interface import build_method

    options, run, knowledge = choose_options(spec, Parameters), spec["run"], Graph.read(graph)
    head, relation = choose_query(knowledge, options["head"], options["relation"], spec["name"])
    method = build_method(run["method"], run["parameters"], knowledge, model)
    if not hasattr(method, "attention_weights"):
        raise InputError(f"{run['method']} has no knowledge mask", spec["name"], "choose a run of kg_bilm")
    check_run(run, weights, model, knowledge)
    method.load(weights)
    method.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    layers, visible = method.attention_weights(head, relation)
    if not -len(layers) <= options["layer"] < len(layers):
        raise InputError(f"there is no layer {options['layer']}", spec["name"], f"the model has {len(layers)}")
    layer = options["layer"] % len(layers)
    tokens, kinds = method.labels(method.query(head, relation).ids)
    result = identity(spec) | {
        "tokens": tokens,
        "kinds": kinds,
        "query": _query_label(knowledge, head, relation),
        "layer": layer,
        "options": options,
    }
    tensors = {"weights": np.ascontiguousarray(layers[layer], np.float32), "visible": np.ascontiguousarray(visible)}
    with atomic_file(out) as temporary:
        save_file(tensors, temporary)
    write_json(result, Path(out).with_suffix(".json"))


def choose_query(graph: Graph, head: str, relation: str, where: str) -> tuple[int, int]:
    """The numbers of a query's entity and relation, given by id or name; without both, of the first test triple."""
    if bool(head) != bool(relation):
        raise InputError("a query has a head and a relation", where, "give both options or neither")
    if head:
        return find_entity(graph, head), find_relation(graph, relation)
    test = graph.split("test")
    if not len(test):
        raise InputError("the graph has no test triple", where, "give the options head and relation")
    return int(test[0, 0]), int(test[0, 1])


def _query_label(graph: Graph, head: int, relation: int) -> dict:
    names = [graph.entity_texts("name")[head], graph.relation_texts()[relation]]
    return {"head": graph.entities["id"].iloc[head], "relation": graph.relations["id"].iloc[relation], "names": names}

"""What a run reads in a training step, and how large its model is, told from its specification alone."""

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from kglm.errors import InputError
from kglm.files import read_json
from kglm.plan.models import Architecture

KNOWN_TEXTS = Path(__file__).with_name("texts.csv")
TOKENS_PER_WORD = 1.5  # an upper value for English and the tokenizers of LLaMA, GPT-2 and BERT
UNKNOWN = 10**6  # tokens of a text of which nothing is known: the method's own cut decides
_ALONE = ("simkgc", "star", "kg_bert", "mem_kgc")  # their texts are cut to `maximum_length` as a whole


class Texts(NamedTuple):
    """Tokens of a text: the mean, and a length that 99 % do not exceed."""

    mean: float
    long: float

    def __add__(self, other: "Texts | float") -> "Texts":
        mean, long = other if isinstance(other, Texts) else (other, other)
        return Texts(self.mean + mean, self.long + long)

    def cut(self, length: float) -> "Texts":
        return Texts(min(self.mean, length), min(self.long, length))


@dataclass(frozen=True)
class Dataset:
    """A graph's counts and the lengths of its texts."""

    entities: int
    relations: int
    train: int
    valid: int
    test: int
    names: Texts
    descriptions: Texts
    relation: float

    @property
    def queries(self) -> int:
        """Of valid and test, both directions."""
        return 2 * (self.valid + self.test)

    def text(self, which: str) -> Texts:
        """Of an entity, as the option `entity_text` says."""
        if which == "none":
            return Texts(0, 0)
        parts = {"name": self.names, "description": self.descriptions}
        return parts[which] if which in parts else self.names + self.descriptions


def dataset(name: str, entry: dict, folder: Path) -> Dataset:
    """From the graph's statistics, or the `expect` of its entry where it is not built; InputError where neither is."""
    file = Path(folder) / "statistics.json"
    return counted(name, entry, read_json(file) if file.is_file() else entry.get("expect", {}))


def counted(name: str, entry: dict, counts: dict) -> Dataset:
    """From counts such as the stage `graph` writes; InputError where some are missing."""
    if "relations" not in counts:
        raise InputError("its numbers of entities and triples are not known", name, "build its graph or give `expect`")
    entities = counts.get("entities") or sum(counts["entities_in"].values())
    sizes = {key: counts[key] for key in ("relations", "train", "valid", "test")}
    return Dataset(entities=entities, **sizes, **_lengths(name, entry, counts))


def _lengths(name: str, entry: dict, counts: dict) -> dict:
    with KNOWN_TEXTS.open(encoding="utf-8") as stream:
        known = next((row for row in csv.DictReader(stream) if row["dataset"] == name), {})

    def tokens(kind: str, mean: float, long: float) -> Texts:
        values = float(known.get(f"{kind}_mean") or mean), float(known.get(f"{kind}_long") or long)
        return Texts(*(TOKENS_PER_WORD * value for value in values))

    described = counts.get("description_words") or (UNKNOWN if entry.get("descriptions") else 0)
    texts = {"names": tokens("name", 3, 8), "descriptions": tokens("description", described, UNKNOWN * (described > 0))}
    return {**texts, "relation": TOKENS_PER_WORD * float(known.get("relation_mean") or 4)}


@dataclass(frozen=True)
class Pass:
    """Sequences of one kind that a step reads, over all processes."""

    sequences: float
    texts: Texts
    chunk: int = 0  # sequences at a time, alike in length; 0: all at once, padded to the longest
    tokens: int = 0  # at a time, padding counted; 0: any number
    cached: bool = False  # gradient caching: nothing of a chunk is kept but its vectors
    asked: float = 0  # positions of a sequence that are predicted among `choices` words or entities
    choices: int = 0
    mask: bool = False  # with a mask of its own, (s, s) for each sequence

    def share(self, processes: int) -> "Pass":
        """That of one of several processes."""
        return replace(self, sequences=math.ceil(self.sequences / processes))


@dataclass(frozen=True)
class Size:
    """A run's model, in parameters."""

    frozen: int  # of the base model, not trained
    base: int  # of the base model, trained
    added: int  # LoRA, classifiers, temperatures
    entities: int  # vectors of entities and relations, with their biases
    copies: int = 1  # encoders: how often the base's matrices are there

    @property
    def trained(self) -> int:
        return self.base + self.added + self.entities

    @property
    def whole(self) -> int:
        return self.frozen + self.trained


def run_size(spec: dict, graph: Dataset, model: Architecture | None) -> Size:
    """Of a run's resolved specification; exact, as the tests have it."""
    method, p = spec["method"], spec["parameters"]
    if method == "popularity":
        return Size(0, 0, 0, 0)
    if model is None:
        return Size(0, 0, *_structural(p, graph))
    width, encoder = model.width, model.encoder
    tokens = (graph.entities + graph.relations) * width  # LMKE's
    if method == "base":
        return Size(model.whole, 0, 0, 0)
    if method == "kalm":
        return Size(model.whole, 0, model.lora(p["lora_modules"], p["lora_rank"]) + p["train_temperature"], 0)
    if method == "lmke":
        return Size(0, encoder, width + 1, tokens)
    if method == "c_lmke":
        features = 4 * width + 2 * (p["degrees"] != "none")
        added = (features + 1) * width + width + 1  # Equation 2's perceptron
        return Size(0, 2 * encoder - model.vocabulary * width, added, tokens, copies=2)
    if method == "kg_bilm":
        further = (graph.entities + 2 * graph.relations + 1) * width + graph.entities  # and b_P
        biased = p["masked_prediction_weight"] > 0
        fixed, own = 0, model.vocabulary * biased + 4 * width  # b_P of the words, four types
        further -= 0 if biased else graph.entities
        if p["lora_modules"] == "none":
            return Size(fixed, encoder, own, further)
        return Size(encoder, 0, own + model.lora(p["lora_modules"], p["lora_rank"]), further)
    if method == "simkgc":
        return Size(0, 2 * encoder, int(p["train_temperature"]), 0, copies=2)
    if method == "mem_kgc":
        return Size(0, encoder, 0, (width + 1) * graph.entities)
    if method in ("star", "kg_bert"):
        return Size(0, encoder, (4 * width if method == "star" else width) + 1, 0)
    raise InputError(f"the sizes of the method {method} are not known here", remedy="add them to kglm/plan/work.py")


def _structural(p: dict, graph: Dataset) -> tuple[int, int]:
    """Of interactions, and of vectors of entities and relations: real numbers as the models have them."""
    d, r = p["dimension"], p.get("relation_dimension") or p["dimension"]
    relations = graph.relations * (1 + p.get("inverse_relations", False))
    entity = {"complex": 2 * d, "rotate": 2 * d, "quate": 4 * d, "transd": 2 * d, "conve": d + 1}
    relation = {
        **{"complex": 2 * d, "quate": 4 * d, "transh": 2 * d},
        **{"transr": r + d * r, "transd": 2 * r, "tucker": r, "rescal": d * d},
    }
    own = {"tucker": d * r * d}.get(p["interaction"], 0)
    vectors = graph.entities * entity.get(p["interaction"], d) + relations * relation.get(p["interaction"], d)
    return own, vectors


def passes(spec: dict, graph: Dataset, model: Architecture | None) -> list[Pass]:
    """What a step reads, at most: equal queries, which are read once, count as different ones."""
    method, p, batch = spec["method"], spec["parameters"], spec["training"]["batch_size"]
    if model is None or method == "base":
        return []
    text = {"chunk": p.get("chunk_size", 0), "tokens": p.get("chunk_tokens", 0)}
    text["cached"] = p.get("gradient_caching", False) is True
    entity, relation = graph.text(p["entity_text"]), graph.relation
    if method in _ALONE:
        query = (entity + (relation + 3)).cut(p["maximum_length"])
        answer, both = (entity + 2).cut(p["maximum_length"]), batch * (1 + p.get("negatives", 0))
        if method == "simkgc":
            return [Pass(batch, query, **text), Pass(batch * (1 + p["self_negatives"]), answer, **text)]
        if method == "star":
            return [Pass(both, query, **text), Pass(min(both, graph.entities), answer, **text)]
        if method == "kg_bert":
            return [Pass(both, (entity + entity + (relation + 4)).cut(p["maximum_length"]), **text)]
        asked = {"asked": 1, "choices": graph.entities}
        read = [Pass(batch, query, **text, **asked)]
        return read + [Pass(batch, answer, **text, **asked)] * p["entity_prediction"]
    if method == "kg_bilm":
        return _dual_passes(p, batch, graph, model)
    described = entity.cut(p["maximum_description_length"])
    if method == "lmke":
        return [Pass(batch * (1 + p["negatives"]), described + described + (relation + 5), **text)]
    query, answer = described + (relation + 4), described + 3
    read = [Pass(batch, query, **text), Pass(min(batch, graph.entities), answer, **text)]
    if method == "kalm" and p["language_model_weight"] > 0:
        # the prompt's own words are about seventy tokens; each position has its logits
        completion = (described + described + 70).cut(p["maximum_language_model_length"])
        own = min(p["language_model_batch_size"], batch)
        read.append(Pass(own, completion, asked=completion.long, choices=model.vocabulary))
    return read


def _dual_passes(p: dict, batch: int, graph: Dataset, model: Architecture) -> list[Pass]:
    """KG-BiLM's: masked sequences, two views of entities, and queries with their answers."""
    text, limit = graph.text(p["entity_text"]), p["maximum_length"]
    around = 2 * p["context_walks"] * p["context_radius"]
    relation = graph.relation * p["relation_text"] + 1
    contrasted = min(p["contrastive_batch_size"], 2 * batch)
    kind = {"mask": True, "chunk": p["chunk_size"]}
    read = []
    if p["masked_prediction_weight"] > 0:
        query = (text + (around + relation + 3)).cut(limit)
        entities = graph.entities
        if entities > p["maximum_exact_entities"]:
            entities = p["sampled_entities"] + batch
        asked = max(1.0, p["mask_ratio"] * query.long)
        read.append(Pass(batch, query, asked=asked, choices=model.vocabulary + entities, **kind))
    if p["contrastive_weight"] > 0:
        read.append(Pass(2 * contrasted, (text + (around + 2)).cut(limit), **kind))
    if p["alignment_weight"] > 0:
        aligned = min(p["contrastive_batch_size"], batch)
        around *= p["pooled_view"] == "graph"
        read.append(Pass(aligned, (text + (around + relation + 3)).cut(limit), **kind))
        read.append(Pass(aligned, (text + (around + 2)).cut(limit), **kind))
    return read


def encoded(spec: dict, graph: Dataset) -> Texts:
    """A text of an entity or a query as it is encoded once training is over."""
    p = spec["parameters"]
    if "entity_text" not in p:
        return Texts(0, 0)
    text = graph.text(p["entity_text"]).cut(p.get("maximum_description_length", UNKNOWN))
    two = text + text if spec["method"] in ("lmke", "kg_bert") else text
    return (two + (graph.relation + 5)).cut(p.get("maximum_length", UNKNOWN))

"""Alpaca instructions for triple completion, from a graph's texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kglm.artefacts import INSTRUCTIONS
from kglm.errors import InputError
from kglm.files import atomic_directory
from kglm.kg.graph import SPLITS, Graph
from kglm.options import Options, Size

TRIPLE_COMPLETION = "Given the head entity and relation, write a tail entity that completes the triple"

_OPENING = "Below is an instruction that describes a task"
_RESPONSE = "Write a response that appropriately completes the request."
WITH_INPUT = (
    _OPENING + ", paired with an input that provides further context. " + _RESPONSE + "\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = _OPENING + ". " + _RESPONSE + "\n\n### Instruction:\n{instruction}\n\n### Response:\n"


@dataclass(frozen=True)
class Instructions(Options):
    """The options of the stage."""

    entity_text: Literal["name", "description", "name_and_description"] = "name_and_description"
    inverse: bool = True
    maximum_words: Size | None = None


_ROWS = 1 << 16  # rows written at once: the texts of a large graph's triples do not fit in memory together


def prompt(instruction: str, input: str = "") -> str:
    """The Alpaca template (Taori et al., 2023) up to the response; no input part where that is ""."""
    if input:
        return WITH_INPUT.format(instruction=instruction, input=input)
    return WITHOUT_INPUT.format(instruction=instruction)


def instructions(spec: dict, graph: Path, out: Path) -> None:
    """Write {train,valid,test}.parquet: triple completion (KaLM, Section 3.3) for each true triple.

    input is D_hr, the head's text, ", ", the relation's text; output is D_t, the tail's text. `spec` may hold
    entity_text (see Graph.entity_texts), inverse (default true: (t, r⁻¹, h) follows the triples of its split)
    and maximum_words (an entity's text is cut after so many words; default: never).
    """
    options = Instructions.of({key: spec[key] for key in spec if key != "name"}, "instructions")
    loaded = Graph.read(graph)
    entities = _shortened(loaded.entity_texts(options.entity_text), options.maximum_words)
    relations = np.array(loaded.relation_texts(), dtype=object)
    with atomic_directory(Path(out)) as folder:
        for split in SPLITS:
            triples = loaded.split(split, inverse=options.inverse)
            with pq.ParquetWriter(folder / f"{split}.parquet", INSTRUCTIONS, compression="zstd") as writer:
                for start in range(0, len(triples), _ROWS):
                    frame = completions(triples[start : start + _ROWS], entities, relations)
                    writer.write_table(pa.Table.from_pandas(frame, INSTRUCTIONS, preserve_index=False))


def completions(triples: np.ndarray, entities: np.ndarray, relations: np.ndarray) -> pd.DataFrame:
    """The INSTRUCTIONS columns for triples (n, 3); texts of entities and relations are object arrays."""
    head, relation, tail = triples.T
    return pd.DataFrame(
        {
            "instruction": TRIPLE_COMPLETION,
            "input": entities[head] + ", " + relations[relation],
            "output": entities[tail],
            "head": head.astype(np.int32),
            "relation": relation.astype(np.int32),
            "tail": tail.astype(np.int32),
        }
    )


def _shortened(texts: list[str], maximum_words: int | None) -> np.ndarray:
    if maximum_words is not None and (not isinstance(maximum_words, int) or maximum_words < 1):
        raise InputError(f"maximum_words is {maximum_words!r}", "instructions", "give a number of words, 1 or more")
    if maximum_words is not None:
        texts = [" ".join(text.split(" ")[:maximum_words]) for text in texts]
    return np.array(texts, dtype=object)

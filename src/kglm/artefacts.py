"""The columns of every Parquet artefact, in one place, and the functions that write and read artefacts."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from kglm.errors import InputError
from kglm.files import atomic_file

_TEXT = pa.string()
_REMEDY = "delete it and run the stage that writes it again"

# Row i is entity i. `name` and `description` are clean text, "" where the dataset has none; at least one is not "".
ENTITIES = pa.schema([("id", _TEXT), ("name", _TEXT), ("description", _TEXT), ("in_train", pa.bool_())])

# Row i is relation i; its inverse has the number i + (number of relations) and the text `inverse`.
RELATIONS = pa.schema([("id", _TEXT), ("text", _TEXT), ("inverse", _TEXT)])

# Numbers are rows of ENTITIES and RELATIONS; split is train, valid or test; label 1 is a true triple, -1 a false one
# (of a labelled benchmark, or drawn). The order is that of the source files; duplicates are kept. Drawn triples stand
# behind all others, valid's before test's, one for each true triple of the split and in the order of these.
TRIPLES = pa.schema(
    [
        ("split", _TEXT),
        ("head", pa.int32()),
        ("relation", pa.int32()),
        ("tail", pa.int32()),
        ("label", pa.int8()),
    ]
)

# The true triples only, each followed (behind all originals of its split) by its inverse.
TRIPLES_WITH_INVERSE = pa.schema(
    [
        ("split", _TEXT),
        ("head", pa.int32()),
        ("relation", pa.int32()),
        ("tail", pa.int32()),
        ("inverse", pa.bool_()),
    ]
)

# Alpaca's three fields and the triple they come from (relation numbers above the number of relations are inverses).
INSTRUCTIONS = pa.schema(
    [
        ("instruction", _TEXT),
        ("input", _TEXT),
        ("output", _TEXT),
        ("head", pa.int32()),
        ("relation", pa.int32()),
        ("tail", pa.int32()),
    ]
)

# A question of MMLU with its four choices and the number 0 to 3 of the right one; split is dev or test.
QUESTIONS = pa.schema(
    [
        ("subject", _TEXT),
        ("split", _TEXT),
        ("question", _TEXT),
        ("choices", pa.list_(_TEXT)),
        ("answer", pa.int8()),
    ]
)

# One row a query. head, relation, tail name the triple as it stands in its split; direction says which end was
# asked for: "tail" asks (head, relation, ?), "head" asks (?, relation, tail).
RANKS = pa.schema(
    [
        ("split", _TEXT),
        ("direction", _TEXT),
        ("head", pa.int32()),
        ("relation", pa.int32()),
        ("tail", pa.int32()),
        ("optimistic", pa.int32()),
        ("realistic", pa.float64()),
        ("pessimistic", pa.int32()),
        ("candidates", pa.int32()),
    ]
)

# The best candidates of some queries of test, known other answers left out: place 1 is the best. The first five columns
# are those of RANKS.
ANSWERS = pa.schema(
    [
        ("split", _TEXT),
        ("direction", _TEXT),
        ("head", pa.int32()),
        ("relation", pa.int32()),
        ("tail", pa.int32()),
        ("place", pa.int32()),
        ("entity", pa.int32()),
        ("score", pa.float32()),
    ]
)

# How plausible a method finds each labelled triple: the higher, the more so. Label as in TRIPLES.
SCORES = pa.schema(
    [
        ("split", _TEXT),
        ("head", pa.int32()),
        ("relation", pa.int32()),
        ("tail", pa.int32()),
        ("label", pa.int8()),
        ("score", pa.float32()),
    ]
)


def write_parquet(frame: pd.DataFrame, path: Path, schema: pa.Schema, level: int | None = None) -> None:
    """Write the columns of `schema` (ValueError or pa.ArrowInvalid where the frame does not fit it).

    level: of the compression by zstd, 1 to 22; None is the library's own.
    """
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    with atomic_file(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(None),
            temporary,
            compression="zstd",
            compression_level=level,
            write_page_checksum=True,
        )


def read_parquet(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """Read an artefact; InputError where it is missing, damaged or has other columns than `schema`."""
    try:
        table = pq.read_table(path, partitioning=None, page_checksum_verification=True)
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage that writes it") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable Parquet file ({error})", path, _REMEDY) from None
    if not table.schema.remove_metadata().equals(schema):
        raise InputError(f"has columns {table.schema.names}, expected {schema.names}", path, _REMEDY)
    return table.to_pandas()


def read_tensors(path: Path, framework: str = "numpy") -> dict[str, Any]:
    """All tensors of a safetensors file, as arrays of NumPy or of torch ("pt"); InputError where it is damaged."""
    try:
        with safe_open(path, framework) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage that writes it") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"not a readable safetensors file ({error})", path, _REMEDY) from None

"""The numbers that the papers report, each with its source: `reported.csv`, read and checked."""

import math
from pathlib import Path

import pandas as pd

from kglm.errors import InputError

COLUMNS = ["paper", "table", "dataset", "method", "citation", "metric", "unit", "value", "note"]
KEY = ["paper", "table", "dataset", "method", "metric"]
RANKING = {"MR", "MRR", "Hits@1", "Hits@3", "Hits@10"}
STATISTICS = {"entities", "relations", "train", "valid", "test", "description-words", "text"}
DEGREES = {"entities-of-degree-1", "entities-of-degree-at-most-3"}
COSTS = {"training", "link-prediction"}
HYPER_PARAMETERS = {
    "epochs",
    "max-description-length",
    "max-language-modeling-length",
    "explicit-alignment-batch-size",
    "implicit-alignment-batch-size",
    "lora-module",
    "lora-alpha",
    "lora-dropout",
    "lora-rank",
    "learning-rate",
    "lr-scheduler-type",
    "weight-decay",
    "gradient-checkpointing",
    "optimizer",
    "adamw-beta1",
    "adamw-beta2",
    "bf16",
}
ACCURACIES = {"accuracy", "accuracy/head", "accuracy/tail", "accuracy/relation", "accuracy/classification"}
METRICS = RANKING | STATISTICS | DEGREES | COSTS | HYPER_PARAMETERS | ACCURACIES
METRICS |= {"PPL", "MMLU", "anisotropy"}
# unit -> the closed interval in which its values lie; `text` holds no number.
UNITS = {
    "rank": (1, math.inf),
    "fraction": (0, 1),
    "percent": (0, 100),
    "count": (0, math.inf),
    "words": (0, math.inf),
    "perplexity": (1, math.inf),
    "cosine": (-1, 1),
    "real": (-math.inf, math.inf),
    "text": None,
}
CORRECTED = " (corrected)"  # behind a paper's name: numbers that its authors put in the place of withdrawn ones
LOWER_IS_BETTER = {"MR", "PPL", "anisotropy"}
_PER_ONE = {"fraction": 1.0, "percent": 100.0}


def reported(path: Path | None = None) -> pd.DataFrame:
    """The columns of `reported.csv` (or another file) as text, and `number` (NaN for text).

    InputError names the bad row. Numbers that cannot be are read as they stand: the audit tells them.
    """
    path = Path(path) if path else Path(__file__).with_name("reported.csv")
    frame = read_csv(path, COLUMNS)
    frame["number"] = [_number(row, f"{path}, row {index + 2}") for index, row in enumerate(frame.itertuples())]
    twice = frame[frame.duplicated(KEY)]
    if len(twice):
        key = " / ".join(twice.iloc[0][KEY])
        raise InputError(f"{key} stands there twice", f"{path}, row {twice.index[0] + 2}", "keep one of the two")
    return frame


def read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """A UTF-8 CSV file with just these columns, all as text; InputError where it is none."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError("no such file", path) from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"not a UTF-8 CSV file ({error})", path) from None
    if list(frame.columns) != columns:
        raise InputError(f"has the columns {list(frame.columns)}", path, f"they must be {columns}")
    return frame


def _number(row, where: str) -> float:
    """The value of one row as a number, after its unit and text columns have been checked."""
    if row.unit not in UNITS:
        raise InputError(f"unknown unit {row.unit!r}", where, f"one of {', '.join(UNITS)}")
    for column in (*KEY, "value"):
        if not getattr(row, column).strip():
            raise InputError(f"{column} is empty", where, "a missing number has no row")
    if row.unit == "text":
        return math.nan
    try:
        number = float(row.value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{row.value!r} is no number", where, "say in `note` how it was printed")
    return number


def converted(number: float, unit: str, wanted: str) -> float:
    """A number in another unit: some papers print percent where others print fractions."""
    return number if unit == wanted else number / _PER_ONE[unit] * _PER_ONE[wanted]

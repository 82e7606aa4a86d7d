"""The numbers that the papers report, each with its source: `reported.csv`, read and checked."""

import math
from pathlib import Path

import pandas as pd

from kglm.errors import InputError

COLUMNS = ["paper", "table", "dataset", "method", "citation", "metric", "unit", "value", "note"]
KEY = ["paper", "table", "dataset", "method", "metric"]
RANKING = {"MR", "MRR", "Hits@1", "Hits@3", "Hits@10"}
STATISTICS = {"entities", "relations", "train", "valid", "test"}
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
METRICS = RANKING | STATISTICS | HYPER_PARAMETERS | ACCURACIES | {"PPL", "anisotropy"}
# unit -> the closed interval in which its values lie; `text` holds no number.
UNITS = {
    "rank": (1, math.inf),
    "fraction": (0, 1),
    "percent": (0, 100),
    "count": (0, math.inf),
    "perplexity": (1, math.inf),
    "cosine": (-1, 1),
    "real": (-math.inf, math.inf),
    "text": None,
}
LOWER_IS_BETTER = {"MR", "PPL", "anisotropy"}


def reported(path: Path | None = None) -> pd.DataFrame:
    """The columns of `reported.csv` as text, and `number` (NaN for text). InputError names the bad row."""
    path = Path(path) if path else Path(__file__).with_name("reported.csv")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise InputError("no such file", path) from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"not a UTF-8 CSV file ({error})", path) from None
    if list(frame.columns) != COLUMNS:
        raise InputError(f"has the columns {list(frame.columns)}", path, f"they must be {COLUMNS}")
    frame["number"] = [_number(row, f"{path}, row {index + 2}") for index, row in enumerate(frame.itertuples())]
    twice = frame[frame.duplicated(KEY)]
    if len(twice):
        key = " / ".join(twice.iloc[0][KEY])
        raise InputError(f"{key} stands there twice", f"{path}, row {twice.index[0] + 2}", "keep one of the two")
    return frame


def _number(row, where: str) -> float:
    """The value of one row as a number, after its metric, unit and text columns have been checked."""
    if row.metric not in METRICS:
        raise InputError(f"unknown metric {row.metric!r}", where, f"one of {', '.join(sorted(METRICS))}")
    if row.unit not in UNITS:
        raise InputError(f"unknown unit {row.unit!r}", where, f"one of {', '.join(UNITS)}")
    for column in (*KEY, "citation", "value"):
        if not getattr(row, column).strip():
            raise InputError(f"{column} is empty", where, "a missing number has no row")
    if row.unit == "text":
        return math.nan
    low, high = UNITS[row.unit]
    try:
        number = float(row.value)
    except ValueError:
        raise InputError(f"{row.value!r} is no number", where, "say in `note` how it was printed") from None
    if not (low <= number <= high and math.isfinite(number)):
        raise InputError(f"{row.value} is no {row.unit}", where, f"it lies outside [{low}, {high}]")
    return number

"""Embeddings in memory or on disk, of which rows are read when they are asked for."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from kglm.errors import InputError

# NumPy has no bfloat16.
_READABLE = ("F16", "F32", "F64")


class EmbeddingFile:
    """One matrix of a safetensors file; `shape` is (rows, width) and [start:stop] reads these rows alone."""

    def __init__(self, path: Path, name: str):
        try:
            file = safe_open(path, framework="numpy")
            self._slice = file.get_slice(name)
        except FileNotFoundError:
            raise InputError("no such file", path, "run the stage that writes it") from None
        except (SafetensorError, OSError) as error:
            raise InputError(f"holds no readable tensor {name!r} ({error})", path, "write it again") from None
        if self._slice.get_dtype() not in _READABLE:
            what = f"tensor {name!r} has type {self._slice.get_dtype()}, not one of {', '.join(_READABLE)}"
            raise InputError(what, path, "write it as float32")
        self.shape = tuple(self._slice.get_shape())

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._slice[rows.start : rows.stop]


def open_embeddings(path: Path, name: str = "embeddings") -> "EmbeddingFile | np.ndarray":
    """Rows (m, d) of a .safetensors file (its tensor `name`) or of a .npy file, without reading them."""
    path = Path(path)
    if path.suffix != ".npy":
        return EmbeddingFile(path, name)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError("no such file", path, "run the stage that writes it") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"no readable NumPy file ({error})", path, "write it again") from None


def embedding_rows(entities: "np.ndarray | EmbeddingFile | Path") -> "np.ndarray | EmbeddingFile":
    """Entities in memory, or on disk if a path or an `EmbeddingFile` is given."""
    if isinstance(entities, str | Path):
        return open_embeddings(entities)
    return entities if isinstance(entities, EmbeddingFile) else np.asarray(entities)


def gather_rows(entities: "np.ndarray | EmbeddingFile", numbers: np.ndarray) -> np.ndarray:
    """The rows with these numbers, in their order; from disk, each run of consecutive ones is read at once."""
    if isinstance(entities, np.ndarray) or not len(numbers):
        return entities[numbers] if len(numbers) else entities[:0]
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return np.concatenate([entities[int(run[0]) : int(run[-1]) + 1] for run in runs])


def float32_rows(rows: np.ndarray, name: str, numbers: np.ndarray | None = None) -> np.ndarray:
    """Rows as contiguous float32; InputError where one, by its place or its number, is not finite."""
    with np.errstate(over="ignore"):
        rows = np.require(rows, np.float32, ["C", "ALIGNED"])
    if not np.isfinite(largest(rows)):
        row = np.flatnonzero(~np.isfinite(rows).all(axis=1))[0]
        row = row if numbers is None else numbers[row]
        what = f"row {row} holds NaN or infinity (in fp32)"
        raise InputError(what, name, "see whether the training diverged")
    return rows


def largest(rows: np.ndarray) -> float:
    """The largest absolute value; NaN or infinite where one element is."""
    return float(np.maximum(rows.max(), -rows.min())) if rows.size else 0.0

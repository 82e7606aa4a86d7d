"""Embeddings that stay on disk: rows are read when they are asked for."""

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

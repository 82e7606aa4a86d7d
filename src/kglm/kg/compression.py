"""Compressed files: told by the ending of a name or by the first bytes, read whole, and never without a limit."""

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import IO

import pyarrow as pa

from kglm.errors import InputError


def _open_zstd(path: Path, _mode: str) -> IO[bytes]:
    """As the others; through Arrow, which brings its own zstd: Python has one from 3.14 on."""
    return pa.input_stream(str(path), compression="zstd")


COMPRESSED = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open, ".zst": _open_zstd}
DAMAGE = (EOFError, lzma.LZMAError, gzip.BadGzipFile, zlib.error)
_BEGINNINGS = {
    ".xz": re.compile(rb"\xfd7zXZ\x00"),
    ".gz": re.compile(rb"\x1f\x8b"),
    ".bz2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),  # a block, or, of nothing, the end
    ".zst": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}
_UNPACKED, _RATIO = 10**8, 200  # a small file may grow to 100 MB, a larger one to 200 times its size
_BLOCK = 1 << 20


def plain_name(name: str) -> str:
    """A file's name in small letters, without the ending that tells of a compression."""
    lower = PurePath(name).name.lower()
    return lower.removesuffix(compression_of(name))


def compression_of(name: str) -> str:
    """The ending of a name that tells of a compression (.gz, .xz, .bz2, .zst), or ""."""
    ending = PurePath(name).suffix.lower()
    return ending if ending in COMPRESSED else ""


def unpacked_limit(path: Path) -> int:
    """How many bytes a file may unpack to where its entry does not tell: texts shrink to a hundredth at most."""
    return max(_UNPACKED, _RATIO * Path(path).stat().st_size)


def blocks(stream: IO[bytes], most: int) -> Iterator[bytes]:
    """What a stream holds, in pieces; InputError as soon as there are more than `most` bytes."""
    read = 0
    while block := stream.read(_BLOCK):
        read += len(block)
        if read > most:
            what = f"has more than {most:,} bytes when it is unpacked"
            raise InputError(what, remedy="if that is right, tell how many in its entry (`bytes`)")
        yield block


def unpacked(path: Path) -> bytes | None:
    """The content of a file that begins as a compressed one does, whatever its name; None for any other.

    InputError where it is damaged or larger than `unpacked_limit`.
    """
    with open(path, "rb") as file:
        first = file.read(10)
    for ending, beginning in _BEGINNINGS.items():
        if beginning.match(first):
            try:
                with COMPRESSED[ending](path, "rb") as stream:
                    return b"".join(blocks(stream, unpacked_limit(path)))
            except InputError as error:
                remedy = "name it without the ending in `files`; then it is unpacked when it is fetched"
                raise InputError(str(error), path, remedy) from None
            except (*DAMAGE, OSError) as error:  # bz2 and Arrow have nothing better than OSError
                raise InputError(f"damaged or cut short ({error})", path, "get the file again") from None
    return None

"""Raw files of a dataset or corpus, from mirror, package, path or public address. The SHA-256 decides."""

import hashlib
import importlib.util
import os
import posixpath
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from kglm.errors import InputError
from kglm.files import atomic_directory, read_json, sha256, write_json
from kglm.kg.compression import COMPRESSED, DAMAGE, blocks, compression_of, unpacked_limit
from kglm.kg.configuration import check
from kglm.kg.download import download, shown

_DAMAGE = (*DAMAGE, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True)
class _Source:
    """A place where a file may be had; `member` is its name inside an archive, `sha256` the archive's sum."""

    kind: str
    location: str
    path: Path | None = None
    member: str | None = None
    sha256: str | None = None


@dataclass
class _Downloads:
    """Files already fetched in this run, so that an archive with several wanted members is fetched once."""

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)

    def get(self, source: _Source) -> Path:
        if source.location not in self.files:
            target = self.folder / str(len(self.files))
            print(f"fetching {shown(source.location)}", file=sys.stderr)
            download(source.location, target)
            _expect_sum(target, source.sha256, "the archive")
            self.files[source.location] = target
        return self.files[source.location]


def fetch(spec: dict, out: Path) -> None:
    """Write every file of a dataset or corpus entry into the folder `out`, uncompressed, and `sources.json`.

    Sources are tried in order: mirror (KGLM_MIRROR, `spec["mirror"]`), installed package, local path,
    public addresses. `sources.json` records for each file where it came from, its size and its SHA-256, and
    whether the entry knew that sum beforehand. InputError where no source has the right content.
    """
    check(spec, "dataset" if "splits" in spec else "corpus")
    with atomic_directory(Path(out)) as folder, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        downloads = _Downloads(Path(scratch))
        record = {name: _fetch_file(spec, name, folder / name, downloads) for name in spec["files"]}
        write_json(record, folder / "sources.json")


def check_fetched(raw: Path) -> None:
    """InputError for a file of the folder that is no longer what `fetch` wrote and noted in sources.json.

    A folder without this note was filled by hand: nothing is known of its files.
    """
    record = Path(raw) / "sources.json"
    for name, entry in (read_json(record) if record.is_file() else {}).items():
        file = Path(raw) / name
        if not file.is_file() or sha256(file) != entry["sha256"]:
            raise InputError(
                "is not the file that was fetched", file, "delete the folder and run the stage fetch again"
            )


def _fetch_file(spec: Mapping, name: str, target: Path, downloads: _Downloads) -> dict:
    entry = spec["files"][name]
    entry = {"path": entry} if isinstance(entry, str) else entry
    wanted = entry.get("sha256")
    failures = []
    for source in _sources(spec, name, entry):
        try:
            origin = source.path or downloads.get(source)
            _place(origin, source, target, entry.get("bytes"))
            found = _expect_sum(target, wanted, "the content", entry.get("git_blob"))
        except InputError as error:
            failures.append(f"{source.kind} {shown(source.location)}: {error}")
            target.unlink(missing_ok=True)
            continue
        for failure in failures:
            print(f"warning: {name}: {failure}; another source served", file=sys.stderr)
        return {
            "source": source.kind,
            "location": shown(source.location),
            "bytes": target.stat().st_size,
            "sha256": found,
            "sha256_was_known": wanted is not None or "git_blob" in entry,
        }
    dataset = spec.get("name", "")
    remedy = "set KGLM_MIRROR or the key `mirror` to a folder that has it, or correct its entry under `files`"
    raise InputError(f"no source has this file ({'; '.join(failures) or 'none is named'})", f"{dataset}/{name}", remedy)


def _sources(spec: Mapping, name: str, entry: Mapping) -> Iterator[_Source]:
    if "path" in entry:
        yield _Source("path", entry["path"], Path(entry["path"]).expanduser(), entry.get("member"))
        if "sha256" not in entry:  # what the user wrote, and nothing else: no sum tells other content from it
            return
    folder = entry.get("mirror_folder", spec.get("mirror_folder", spec.get("name", "")))
    for mirror in filter(None, (os.environ.get("KGLM_MIRROR"), spec.get("mirror"))):
        for suffix in ("", *COMPRESSED):
            path = Path(mirror).expanduser() / folder / (name + suffix)
            if path.is_file():
                yield _Source("mirror", f"{folder}/{name}{suffix}", path)
    if "package" in entry:
        yield _Source("package", entry["package"], _in_package(entry["package"]), entry.get("member"))
    addresses = entry.get("url", spec["base_url"] + name if "base_url" in spec and "path" not in entry else [])
    for address in [addresses] if isinstance(addresses, str | Mapping) else addresses:
        address = {"url": address} if isinstance(address, str) else address
        yield _Source("url", address["url"], None, address.get("member"), address.get("sha256"))


def _in_package(location: str) -> Path:
    """`package/path/in/it` as a path, found without importing the package."""
    package, _, inside = location.partition("/")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return Path(location)
    root = Path(found.submodule_search_locations[0])
    _refuse_climbing(inside, location)
    return root / inside


def _place(origin: Path, source: _Source, target: Path, size: int | None = None) -> None:
    """Copy, uncompress or unpack `origin` to `target`; InputError where it is missing, damaged or too large.

    size: how many bytes the content has at most; by default as many as `unpacked_limit` allows.
    """
    if origin.exists() and not origin.is_file():
        raise InputError("is no plain file")
    name = PurePosixPath(source.location.partition("?")[0]).name
    try:
        if source.member is not None:
            return _unpack(origin, name, source.member, target, size)
        ending = compression_of(name)
        opener = COMPRESSED[ending] if ending and compression_of(target.name) != ending else open
        with opener(origin, "rb") as stream:
            copy_within(stream, target, size or unpacked_limit(origin))
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError("there is no such file" if not origin.is_file() else str(error.strerror)) from None
    except (RuntimeError, NotImplementedError) as error:  # zipfile's words for what it can not read
        raise InputError(f"can not be unpacked ({error}); pack it again, without a password, by `zip`") from None
    except _DAMAGE as error:
        raise InputError(f"damaged or cut short ({error})") from None
    except OSError as error:
        if error.errno is not None:  # bz2's own complaints have none
            raise
        raise InputError(f"damaged or cut short ({error})") from None


def copy_within(stream: IO[bytes], target: Path, most: int) -> None:
    """Write a stream to `target`; InputError where it has more bytes than `most`."""
    with open(target, "wb") as sink:
        for block in blocks(stream, most):
            sink.write(block)


def _unpack(origin: Path, name: str, member: str, target: Path, size: int | None) -> None:
    """The one named member of a tar or zip archive; every member's name is looked at first."""
    _refuse_climbing(member, name)
    most = size or unpacked_limit(origin)
    if name.endswith(".zip"):
        with zipfile.ZipFile(origin) as archive:
            for info in archive.infolist():
                _refuse_climbing(info.filename, name)
            if member not in archive.namelist():
                raise InputError(f"the archive has no member {member}")
            if (archive.getinfo(member).external_attr >> 16) & 0o170000 == 0o120000:
                raise InputError(f"the archive's member {member} is no plain file")
            with archive.open(member) as stream:
                copy_within(stream, target, most)
        return
    found = False
    with tarfile.open(origin, "r:*") as archive:
        for info in archive:
            refuse_unsafe(info, name)
            if PurePosixPath(info.name) == PurePosixPath(member):
                if not info.isreg():
                    raise InputError(f"the archive's member {member} is no plain file")
                with archive.extractfile(info) as stream:
                    copy_within(stream, target, most)
                found = True
    if not found:
        raise InputError(f"the archive has no member {member}")


def refuse_unsafe(info: tarfile.TarInfo, archive: object) -> None:
    """InputError for a tar member whose name, or whose target as a link, lies outside the archive."""
    _refuse_climbing(info.name, archive)
    if info.issym():
        _refuse_climbing(posixpath.join(posixpath.dirname(info.name), info.linkname), archive, info.name)
    if info.islnk():
        _refuse_climbing(info.linkname, archive, info.name)


def _refuse_climbing(name: str, archive: object, member: str | None = None) -> None:
    plain = posixpath.normpath(name.replace("\\", "/"))
    if plain.startswith(("/", "../")) or plain == ".." or plain[1:2] == ":":
        raise InputError(f"the member {member or name!r} climbs out of its folder", archive, "do not use this archive")


def _expect_sum(path: Path, wanted: str | list[str] | None, what: str, blobs: str | list[str] | None = None) -> str:
    """The SHA-256 of a file; InputError where it is none of those wanted, nor its content one of git's `blobs`."""
    found, allowed, listed = sha256(path), _several(wanted), _several(blobs)
    if (allowed or listed) and found not in allowed and not (listed and git_blob(path) in listed):
        expected = [*allowed, *(f"git blob {blob}" for blob in listed)]
        raise InputError(f"{what} has sha256 {found}, expected {' or '.join(expected)}")
    return found


def _several(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def git_blob(path: Path) -> str:
    """The name that git gives a file's content: of many public files it is the only sum that is known."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

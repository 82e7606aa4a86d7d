"""A base model on disk, in memory: loading, last-token pooling, and texts as vectors."""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from kglm.artefacts import read_tensors
from kglm.errors import InputError
from kglm.files import read_json
from kglm.lm.folder import check_whole
from kglm.lm.speed import quicken

_SAFELY = {"local_files_only": True, "trust_remote_code": False}
_ATTENTION = "sdpa"  # PyTorch's own: a model's configuration must not choose it, for it may name a kernel of the hub


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder; its padding side is right, and padding is the end token where it has none."""
    folder = _folder(directory)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **_SAFELY)
    except (
        ValueError,
        OSError,
    ):  # transformers' words for a missing file are several lines on what else could be there
        raise InputError(
            "its tokenizer is not whole", folder, "delete the folder and run the stage model again"
        ) from None
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_causal(directory: Path, weights: Path | None = None, dtype: str = "float32") -> PreTrainedModel:
    """The causal language model of a folder, in eval mode, with the LoRA adapter in `weights` merged if it holds one.

    dtype: float32, bfloat16, or int8 (through bitsandbytes, on a GPU). Only safetensors are read and no remote code
    runs; InputError where the folder holds no model.
    """
    model = AutoModelForCausalLM.from_pretrained(
        _folder(directory), **_precision(dtype), **_SAFELY, use_safetensors=True, attn_implementation=_ATTENTION
    )
    if weights is not None and any(Path(weights).glob("adapter_*")):
        from peft import PeftModel

        # peft names no file when it stumbles over one.
        read_json(Path(weights) / "adapter_config.json")
        read_tensors(Path(weights) / "adapter_model.safetensors", "pt")
        model = PeftModel.from_pretrained(model, str(weights)).merge_and_unload()
    return model.eval()


def load_encoder(directory: Path, dtype: str = "float32") -> PreTrainedModel:
    """The BERT of a folder without its pooler and heads, in eval mode; folders of BERT for masked words do as well.

    It is quickened (`kglm.lm.speed`).
    dtype: float32 or bfloat16. InputError where the folder holds no model, or one of another kind.
    """
    folder = _folder(directory)
    family = AutoConfig.from_pretrained(folder, **_SAFELY).model_type
    if family != "bert":
        raise InputError(f"is a model of type {family}", directory, "give an encoder: a model of type bert")
    options = {"use_safetensors": True, "add_pooling_layer": False, **_precision(dtype)}
    options |= {"attn_implementation": _ATTENTION, "output_loading_info": True}
    model, loaded = AutoModel.from_pretrained(folder, **_SAFELY, **options)
    if loaded["missing_keys"]:
        raise InputError(f"has no weights {min(loaded['missing_keys'])}", directory, "give a whole model")
    return quicken(model).eval()


def last_token_pool(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The hidden state of each sequence's last real token, whatever side the padding is on.

    hidden: (b, s, d), attention_mask: (b, s) of 0 and 1 -> (b, d).
    """
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    last = (attention_mask * positions).argmax(dim=1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def pad(sequences: Sequence[Sequence[int]], padding: int) -> dict[str, torch.Tensor]:
    """Token sequences as `input_ids` and `attention_mask`, int64 (b, longest), padded on the right."""
    length = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), length), padding, dtype=torch.long)
    mask = torch.zeros((len(sequences), length), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask[row, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def batches_by_length(sequences: Sequence[Sequence[int]], batch_size: int) -> Iterator[list[int]]:
    """Row numbers in batches of like length, longest first, so that little is padded and memory peaks at once."""
    order = sorted(range(len(sequences)), key=lambda row: -len(sequences[row]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def text_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], maximum_length: int, pooling: str
) -> list[list[int]]:
    """The tokens of texts, the last of which is pooled; a text is cut first, so that it never loses that one.

    pooling: "bracket" for `{text}` without special tokens, as KaLM's encoder reads a text (Section 3.2), or
    "last_token" for the text as the tokenizer gives it, whatever token comes last.
    """
    if pooling == "last_token":
        return [ids[:maximum_length] for ids in tokenizer(list(texts))["input_ids"]]
    if pooling != "bracket":
        raise InputError(f"pooling is {pooling!r}", "analysis", "choose bracket or last_token")
    before, after = tokenizer(["{", "}"], add_special_tokens=False)["input_ids"]
    inside = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [before + ids[:maximum_length] + after for ids in inside]


@torch.inference_mode()
def encode_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    maximum_length: int,
    batch_size: int,
    pooling: str = "bracket",
    layers: bool = False,
) -> np.ndarray:
    """Texts as L2-normalised vectors, float32 (n, d); with `layers` (layers + 1, n, d), embeddings first.

    maximum_length: tokens of a text, brackets not counted; pooling: as of `text_tokens`.
    """
    sequences = text_tokens(tokenizer, texts, maximum_length, pooling)
    if empty := [row for row, ids in enumerate(sequences) if not ids]:
        raise InputError(f"text {empty[0]} has no token", remedy="leave empty texts out")
    rows = [None] * len(sequences)
    for batch in batches_by_length(sequences, batch_size):
        inputs = {k: v.to(model.device) for k, v in pad([sequences[i] for i in batch], tokenizer.pad_token_id).items()}
        output = model.base_model(**inputs, output_hidden_states=layers, use_cache=False)
        states = output.hidden_states if layers else (output.last_hidden_state,)
        pooled = torch.stack([last_token_pool(state, inputs["attention_mask"]) for state in states], dim=1)
        pooled = torch.nn.functional.normalize(pooled.float(), dim=-1).cpu().numpy()
        for row, vectors in zip(batch, pooled, strict=True):
            rows[row] = vectors
    stacked = np.stack(rows, axis=1)
    return stacked if layers else stacked[0]


def _precision(dtype: str) -> dict:
    if dtype != "int8":
        return {"dtype": getattr(torch, dtype)}
    if importlib.util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise InputError("8-bit base weights need a GPU and bitsandbytes", remedy="or set base_weights: bfloat16")
    from transformers import BitsAndBytesConfig

    # Each process of a training its own GPU: the current one is the first until the trainer has chosen.
    device = int(os.environ.get("LOCAL_RANK", "0"))
    options = {"dtype": torch.bfloat16, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    return options | {"device_map": {"": device}}


def _folder(directory: Path) -> str:
    if not (Path(directory) / "config.json").is_file():
        raise InputError("is no model folder (config.json is missing)", directory, "run the stage `model` first")
    check_whole(directory)
    return str(directory)

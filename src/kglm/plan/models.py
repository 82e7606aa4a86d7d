"""A base model's numbers, counted on the meta device: no weights, no network."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from kglm.errors import InputError
from kglm.files import read_json
from kglm.lm.entries import Hub, Local, Scratch, Wheel, read_entry

PUBLISHED = Path(__file__).with_name("architectures.json")
_TASKS = {"bert": "AutoModelForMaskedLM"}  # the head with which a model of a family is kept; else that of a decoder
_PARTS = ("ffn", "att", "att-ffn")


@dataclass(frozen=True)
class Architecture:
    """What memory, time and disk depend on; all counts are of parameters."""

    family: str
    width: int
    inner: int  # of the feed-forward part
    layers: int
    vocabulary: int
    whole: int  # with its head, as it is kept on disk
    encoder: int  # without head and pooler
    body: int  # of the matrices that every token is multiplied with, head and embeddings left out
    dtype: str  # on disk
    projections: dict[str, int]  # by part of LoRA: the sum of inputs and outputs of the adapted matrices

    def lora(self, part: str, rank: int) -> int:
        """Parameters of LoRA's matrices (Hu et al. 2021, Section 4.1): rank · (inputs + outputs) of each."""
        return rank * self.projections[part]


def architecture(entry: dict, built: Path) -> Architecture:
    """Of a model entry; `built` is the model's folder, whose config.json counts where it is there.

    InputError where neither the folder nor the table of published architectures tells the sizes.
    """
    import torch
    import transformers

    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # the checks of token ids that play no part here
    try:
        with torch.device("meta"):
            return _counted(*_model(entry, built))
    finally:
        logging.set_verbosity(before)


def _model(entry: dict, built: Path):
    """The model on the present device, with its head, and the type of its weights on disk."""
    import transformers

    known, sizes = read_entry(entry), _sizes(entry, built)
    if sizes is None and isinstance(known, Scratch):
        from kglm.lm.scratch import untrained_model

        return untrained_model(known, _Vocabulary(known.vocabulary_size)), "float32"
    if sizes is None:
        remedy = f"add its config.json to {PUBLISHED.name} or let `kglm model` fetch it first"
        raise InputError("the sizes of the model are not known", getattr(known, "id", built), remedy)
    dtype = sizes.get("dtype") or sizes.get("torch_dtype") or "float32"
    left_out = ("source", "model_type", "dtype", "torch_dtype", "architectures", "transformers_version")
    given = {key: value for key, value in sizes.items() if key not in left_out}
    try:
        config = transformers.AutoConfig.for_model(sizes["model_type"], **given)
        task = getattr(transformers, _TASKS.get(config.model_type, "AutoModelForCausalLM"))
        return task.from_config(config), dtype
    except (KeyError, TypeError, ValueError) as error:  # of a type that transformers does not know, or no decoder
        raise InputError(f"no model can be made of its config.json ({error})", built) from None


def _sizes(entry: dict, built: Path) -> dict | None:
    known = read_entry(entry)
    folder = Path(known.path) if isinstance(known, Local) else Path(built)
    if (folder / "config.json").is_file():
        return read_json(folder / "config.json")
    published = json.loads(PUBLISHED.read_text("utf-8"))
    if isinstance(known, Hub):
        return published.get(known.id)
    return published.get(known.requirement.partition("==")[0]) if isinstance(known, Wheel) else None


def _counted(model, dtype: str) -> Architecture:
    from kglm.lm.lora import target_modules

    config, embeddings = model.config, model.get_input_embeddings().weight
    backbone = model.base_model
    matrices = {name: module.weight for name, module in backbone.named_modules() if _is_matrix(module)}
    body = sum(weight.numel() for weight in matrices.values())
    projections = {}
    for part in _PARTS:
        wanted = re.compile(target_modules(config.model_type, part))
        adapted = [weight for name, weight in matrices.items() if wanted.fullmatch(f"model.{name}")]
        projections[part] = sum(sum(weight.shape) for weight in adapted)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
    return Architecture(
        family=config.model_type,
        width=config.hidden_size,
        inner=inner,
        layers=config.num_hidden_layers,
        vocabulary=len(embeddings),
        whole=_count(model),
        encoder=_count(backbone),
        body=body,
        dtype=dtype,
        projections=projections,
    )


def _is_matrix(module) -> bool:
    return type(module).__name__ in ("Linear", "Conv1D")


def _count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class _Vocabulary:
    """All that a model from scratch asks of its tokenizer before it is trained."""

    bos_token_id, eos_token_id, pad_token_id = 0, 1, 2

    def __init__(self, size: int):
        self._size = size

    def __len__(self) -> int:
        return self._size

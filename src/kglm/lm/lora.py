"""Low-rank adapters (Hu et al. 2021) on the feed-forward or attention part of a decoder or encoder, through peft."""

import contextlib
from collections.abc import Iterator

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from kglm.errors import InputError

# Which projections make up the two parts, by model family: regular expressions that match a module's whole name.
_FEED_FORWARD = {
    "llama": r".*\.mlp\.(gate_proj|up_proj|down_proj)",
    "mistral": r".*\.mlp\.(gate_proj|up_proj|down_proj)",
    "gpt2": r".*\.mlp\.(c_fc|c_proj)",
    "bert": r".*\.layer\.\d+\.(intermediate|output)\.dense",
}
_ATTENTION = {
    "llama": r".*\.self_attn\.(q_proj|k_proj|v_proj|o_proj)",
    "mistral": r".*\.self_attn\.(q_proj|k_proj|v_proj|o_proj)",
    "gpt2": r".*\.attn\.(c_attn|c_proj)",
    "bert": r".*\.attention\.(self\.(query|key|value)|output\.dense)",
}


def target_modules(family: str, part: str) -> str:
    """The regular expression of the modules that `part` (ffn, att or att-ffn) means in a model family."""
    if family not in _FEED_FORWARD:
        raise InputError(
            f"no LoRA targets known for model type {family!r}", remedy=f"known: {', '.join(_FEED_FORWARD)}"
        )
    parts = {"ffn": [_FEED_FORWARD], "att": [_ATTENTION], "att-ffn": [_ATTENTION, _FEED_FORWARD]}
    if part not in parts:
        raise InputError(f"unknown LoRA part {part!r}", remedy=f"choose one of {', '.join(parts)}")
    return "|".join(f"({expressions[family]})" for expressions in parts[part])


def add_lora(model: PreTrainedModel, part: str, rank: int, alpha: float, dropout: float) -> PeftModel:
    """Freeze `model` and add trainable low-rank adapters to the modules of `part`."""
    configuration = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=target_modules(model.config.model_type, part),
        # The folder of the base model differs between machines; run.json says which model it was.
        base_model_name_or_path=None,
    )
    adapted = get_peft_model(model, configuration)
    for module in adapted.modules():
        if hasattr(module, "lora_A"):
            module.cast_input_dtype_enabled = False  # the adapter's own matrices look after it
            for matrix in (*module.lora_A.values(), *module.lora_B.values()):
                matrix.__class__ = Matrix
    return adapted


class Matrix(torch.nn.Linear):
    """A matrix of an adapter, in single precision; `low` is a copy of it in the type of what it is multiplied with."""

    low: torch.Tensor | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, n) -> (…, m)."""
        if self.low is not None:
            return torch.nn.functional.linear(input, self.low)
        return super().forward(input.to(self.weight.dtype))


@contextlib.contextmanager
def in_low_precision(adapted: PeftModel, kind: torch.dtype) -> Iterator[None]:
    """Outside autocast, with copies of all adapters that are made at once, and not in each layer.

    The gradients are those of the adapters in single precision. What is computed again backwards finds no copies there.
    """
    matrices = [module for module in adapted.modules() if isinstance(module, Matrix)]
    copies = _Cast.apply(kind, *(matrix.weight for matrix in matrices))
    for matrix, copy in zip(matrices, copies, strict=True):
        matrix.low = copy
    try:
        with torch.autocast(copies[0].device.type, enabled=False):
            yield
    finally:
        for matrix in matrices:
            matrix.low = None


class _Cast(torch.autograd.Function):
    """Several tensors as another type, by one operator for all, and their gradients as theirs."""

    @staticmethod
    def forward(context, kind: torch.dtype, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        context.kind = tensors[0].dtype
        return _as_type(tensors, kind)

    @staticmethod
    def backward(context, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (None, *_as_type(gradients, context.kind))


def _as_type(tensors: tuple[torch.Tensor, ...], kind: torch.dtype) -> tuple[torch.Tensor, ...]:
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(kind)
    parts = flat.split([tensor.numel() for tensor in tensors])
    return tuple(part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True))

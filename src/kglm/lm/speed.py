"""Stock models made as fast as the machine: what PyTorch and transformers compute slowly, computed otherwise.

Nothing here changes what is computed but for rounding, and dropout's drawing. Measured on a core of an AMD EPYC with
shapes of all-MiniLM-L6-v2: PyTorch's dropout draws a number in 16 ns, the one here in 2; its attention with dropout
takes a third longer than plain products; its attention in bfloat16 takes three times as long backwards as in float32.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from kglm.lm.versions import check_transformers

check_transformers()

ATTENTION = "kglm"
_LEVELS = 1 << 16


class Dropout(torch.nn.Dropout):
    """As PyTorch's, whose numbers are drawn one by one on a CPU; the rate is a multiple of 1/65,536."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        if not self.training or not self.p or input.device.type != "cpu":
            return super().forward(input)
        return input * kept(input, self.p)


def kept(like: torch.Tensor, rate: float) -> torch.Tensor:
    """What dropout multiplies a tensor of this shape and type with: 0, or 1 over the share that is kept."""
    dropped = round(rate * _LEVELS)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    drawn = words.view(torch.int16)[: like.numel()].view(like.shape)
    scale = _LEVELS / max(_LEVELS - dropped, 1)
    return (drawn >= dropped - _LEVELS // 2).to(like.dtype).mul_(scale)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options,
) -> tuple[torch.Tensor, None]:
    """PyTorch's attention as transformers calls it; on a CPU, where gradients are needed, in float32.

    query (b, h, s, d), key and value (b, h or fewer, s, d); attention_mask: None or what is added to the logits,
    broadcast to (b, h, s, s) -> (b, s, h, d).
    """
    if query.device.type != "cpu" or not torch.is_grad_enabled():
        how = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, **options}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **how)
    kind, groups = query.dtype, query.shape[1] // key.shape[1]
    query, key, value = query.float(), key.float(), value.float()
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    mask = None if attention_mask is None else attention_mask.float()
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    causal = causal and mask is None and query.shape[2] > 1
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast("cpu", enabled=False):
        if not dropout:
            read = scaled_dot_product_attention(query, key, value, mask, scale=scale, is_causal=causal)
        else:
            logits = (query * scale) @ key.transpose(2, 3)
            if causal:
                after = torch.ones(logits.shape[2:], dtype=torch.bool).triu(1)
                logits = logits.masked_fill(after, float("-inf"))
            weights = (logits if mask is None else logits + mask).softmax(dim=-1)
            read = (weights * kept(weights, dropout)) @ value
    return read.transpose(1, 2).contiguous().to(kind), None


AttentionInterface.register(ATTENTION, attention)


class RmsNorm(torch.nn.Module):
    """The norm of LLaMA and Mistral in one operator instead of six, two of which are casts."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(…, d)."""
        kind = self.weight.dtype
        return torch.nn.functional.rms_norm(
            hidden_states.to(kind), self.weight.shape, self.weight, self.variance_epsilon
        )


def quicken(model: torch.nn.Module) -> torch.nn.Module:
    """Let a model, or what was added to one, compute as this module does; in place.

    Padding is marked by a mask (b, s), as usual. A decoder does not get the mask, because no token of it sees what
    follows: padding must be on the right. An encoder gets what is added to its logits, made here: transformers would
    ask the device whether there is any padding, and wait.
    """
    for module in model.modules():
        if type(module) is torch.nn.Dropout:
            module.__class__ = Dropout
        elif type(module).__name__ in ("LlamaRMSNorm", "MistralRMSNorm"):
            module.__class__ = RmsNorm
    if isinstance(model, PreTrainedModel):
        model.set_attn_implementation(ATTENTION)
        if model.config.model_type == "bert":
            model.base_model.register_forward_pre_hook(_with_logits, with_kwargs=True)
    return model


def _with_logits(module: torch.nn.Module, arguments: tuple, options: dict) -> tuple[tuple, dict]:
    """The mask of an encoder, (b, s), as 0 where a token is real and the least number elsewhere, (b, 1, 1, s)."""
    mask = options.get("attention_mask")
    if mask is None or mask.ndim != 2:
        return arguments, options
    added = (1 - mask[:, None, None].float()) * torch.finfo(torch.float32).min
    return arguments, {**options, "attention_mask": added}


def checkpoint_layers(model: PreTrainedModel) -> None:
    """Keep of each layer its input, and compute the rest again backwards (Chen et al. 2016)."""
    # The older name is the only one in transformers 5.17, and leaves with 6.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})

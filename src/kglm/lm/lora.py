"""Low-rank adapters (Hu et al. 2021) on the feed-forward or attention part of a decoder or encoder, through peft."""

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
    return get_peft_model(model, configuration)

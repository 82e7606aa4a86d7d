"""The language model of a run, ready to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kglm.binding import MADE_OF, check_weights
from kglm.kg.graph import Graph
from kglm.methods._interface import method_class
from kglm.training.specification import completed

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def check_run(run: dict, weights: Path, model: Path, graph: Graph | None = None) -> None:
    """InputError where weights are not those that a run's specification, base model and graph ask for."""
    if not (Path(weights) / MADE_OF).is_file():  # an older version wrote them
        return
    run = completed(run, "spec.run")
    parameters = {key: run["parameters"][key] for key in method_class(run["method"]).of_weights}
    check_weights(weights, run["method"], parameters, graph, model, run)


def load_pair(
    model: Path, weights: Path | None, dtype: str = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model with the run's weights, on the GPU where there is one, and its tokenizer."""
    import torch

    from kglm.lm.language_model import load_causal, load_tokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_causal(model, weights, dtype=dtype).to(device), load_tokenizer(model)


def cut_texts(texts: list[str], tokenizer: PreTrainedTokenizerBase, maximum_tokens: int) -> list[str]:
    """Each text as far as its first tokens reach, special ones not counted."""
    cut = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        kept = tokenizer.decode(ids[:maximum_tokens], clean_up_tokenization_spaces=False)
        cut.append(text if len(ids) <= maximum_tokens else kept.strip())
    return cut


def context_length(model: PreTrainedModel, wanted: int | None = None) -> int:
    """How many tokens the model takes, or `wanted` where that is fewer."""
    longest = model.config.get_text_config().max_position_embeddings
    return longest if wanted is None else min(wanted, longest)


def harness_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    batch_size: int,
    add_bos_token: bool | None = None,
) -> HFLM:
    """The loaded model as lm-evaluation-harness sees it, its remarks on not having loaded it left out."""
    import logging

    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        max_length=context,
        batch_size=batch_size,
        add_bos_token=add_bos_token,
        softmax_dtype="float32",
    )

"""Perplexity of a run's language model on a corpus, by lm-evaluation-harness: what training has cost."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kglm.analysis.common import choose_options, identity, read_passages
from kglm.analysis.loading import check_run, context_length, harness_model, load_pair
from kglm.files import write_json
from kglm.options import Options, Size


@dataclass(frozen=True)
class Parameters(Options):
    """The options of the analysis."""

    passages: Size | None = None  # the first so many of the test set; None: all
    documents: Literal["joined", "passages"] = "joined"  # one of all passages, or each its own
    context: Size = 2048  # tokens that are scored in one window; fewer where the model takes fewer
    detokenise: bool = False  # undo WikiText's tokenisation as the harness' own task wikitext does
    batch_size: Size = 4
    dtype: Literal["float32", "bfloat16"] = "float32"


def perplexity(spec: dict, model: Path, weights: Path, corpus: Path, out: Path) -> None:
    """Write token, word and byte perplexity of a corpus' test set; the first is the PPL of KaLM's Table 5.

    The harness scores each token once, in windows of `context` tokens: the first of a document behind the
    begin token (the end token where there is none), the last filled up with the text before it.
    """
    options = choose_options(spec, Parameters)
    check_run(spec["run"], weights, model)
    documents = _documents(read_passages(corpus)[: options["passages"]], options["documents"])
    loaded, tokenizer = load_pair(model, weights, options["dtype"])
    context = context_length(loaded, options["context"])
    # Special tokens would be scored as if they were text: the window's own prefix token is enough.
    harness = harness_model(loaded, tokenizer, context, options["batch_size"], add_bos_token=False)
    texts = [_detokenise(text) for text in documents] if options["detokenise"] else documents
    measured = score(harness, documents, texts)
    result = {"corpus": Path(corpus).name, **measured, "context": context, "documents": len(documents)}
    write_json(identity(spec) | result | {"options": options}, out)


def score(harness, documents: list[str], texts: list[str]) -> dict:
    """Perplexities of `texts` and the counts they are taken over; words and bytes are `documents`'."""
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood_rolling", {}, (text,), number) for number, text in enumerate(texts)]
    loss = -sum(harness.loglikelihood_rolling(requests, disable_tqdm=True))
    counts = {
        "tokens": sum(len(harness.tok_encode(text)) for text in texts),
        "words": sum(len(text.split()) for text in documents),
        "bytes": sum(len(text.encode()) for text in documents),
    }
    singular = {"tokens": "token", "words": "word", "bytes": "byte"}
    return {f"{singular[unit]}_perplexity": math.exp(loss / count) for unit, count in counts.items()} | counts


def _documents(passages: list[str], kind: str) -> list[str]:
    return ["\n".join(passages)] if kind == "joined" else passages


def _detokenise(text: str) -> str:
    from lm_eval.tasks.wikitext.preprocess_wikitext import wikitext_detokenizer

    return wikitext_detokenizer({"page": text})

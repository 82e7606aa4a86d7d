import math
import re

import pytest
import torch

from kglm.analysis.loading import harness_model, load_pair
from kglm.analysis.perplexity import perplexity
from kglm.errors import InputError
from kglm.files import read_json
from kglm.lm.language_model import load_causal, load_tokenizer

from .conftest import IDENTITY, SPEC, packaged_task


def by_hand(model_folder, documents: list[str], context: int) -> tuple[float, int]:
    """Sum of the negative log-likelihoods of all tokens, window by window, and their number."""
    model, tokenizer = load_causal(model_folder), load_tokenizer(model_folder)
    loss, count = 0.0, 0
    for document in documents:
        ids = tokenizer(document, add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids), context):
            window = ids[start : start + context]
            end = start + len(window)
            read = ids[end - context - 1 : end - 1] if start else [tokenizer.bos_token_id, *window[:-1]]
            with torch.no_grad():
                logits = model(torch.tensor([read])).logits[0, -len(window) :].double()
            loss += torch.nn.functional.cross_entropy(logits, torch.tensor(window), reduction="sum").item()
            count += len(window)
    return loss, count


@pytest.mark.parametrize("kind", ["joined", "passages"])
def test_the_harness_agrees_with_cross_entropy(model_folder, weights_folder, corpus_folder, tmp_path, kind):
    spec = SPEC | {"options": {"documents": kind, "context": 48, "batch_size": 3}}
    perplexity(spec, model_folder, weights_folder, corpus_folder, tmp_path / "perplexity.json")
    result = read_json(tmp_path / "perplexity.json")
    passages = (corpus_folder / "test.txt").read_text("utf-8").splitlines()
    documents = passages if kind == "passages" else ["\n".join(passages)]
    loss, tokens = by_hand(model_folder, documents, 48)
    words, octets = (
        sum(len(text.split()) for text in documents),
        sum(len(text.encode()) for text in documents),
    )
    assert result.items() >= (IDENTITY | {"corpus": corpus_folder.name, "context": 48, "tokens": tokens}).items()
    assert (result["words"], result["bytes"], result["documents"]) == (words, octets, len(documents))
    assert result["token_perplexity"] == pytest.approx(math.exp(loss / tokens), rel=1e-4)
    assert result["word_perplexity"] == pytest.approx(math.exp(loss / words), rel=1e-3)
    assert result["byte_perplexity"] == pytest.approx(math.exp(loss / octets), rel=1e-4)


def test_it_is_what_the_packaged_wikitext_task_reports(model_folder, weights_folder, corpus_folder, tmp_path):
    """The harness' own task and evaluator, on a page that is our file, detokenised by both."""
    from lm_eval.evaluator import evaluate

    page = "\n".join((corpus_folder / "test.txt").read_text("utf-8").splitlines())
    task = packaged_task("wikitext/wikitext.yaml", {"test": [{"page": page}]})
    harness = harness_model(*load_pair(model_folder, None), 64, 2, add_bos_token=False)
    theirs = evaluate(harness, {"wikitext": task}, bootstrap_iters=0, log_samples=False)["results"]["wikitext"]
    spec = SPEC | {"options": {"context": 64, "detokenise": True}}
    perplexity(spec, model_folder, weights_folder, corpus_folder, tmp_path / "a.json")
    ours = read_json(tmp_path / "a.json")
    assert ours["word_perplexity"] == pytest.approx(theirs["word_perplexity,none"], rel=1e-6)
    assert ours["byte_perplexity"] == pytest.approx(theirs["byte_perplexity,none"], rel=1e-6)


def test_options_cut_the_corpus_and_the_context(model_folder, weights_folder, corpus_folder, tmp_path):
    spec = SPEC | {"options": {"passages": 2, "context": 10**6, "detokenise": True}}
    perplexity(spec, model_folder, weights_folder, corpus_folder, tmp_path / "a.json")
    result = read_json(tmp_path / "a.json")
    first = (corpus_folder / "test.txt").read_text("utf-8").splitlines()[:2]
    assert result["words"] == len(re.findall(r"\S+", "\n".join(first)))
    assert result["context"] == 2048
    assert result["options"]["detokenise"] is True
    with pytest.raises(InputError, match="documents: 'x' is not known"):
        perplexity(
            SPEC | {"options": {"documents": "x"}},
            model_folder,
            weights_folder,
            corpus_folder,
            tmp_path / "b",
        )
    assert not (tmp_path / "b").exists()

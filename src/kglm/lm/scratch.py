"""Small models from scratch: tokenizer and LLaMA, BERT or GPT-2 from a graph's texts and triples."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    set_seed,
)

from kglm.kg.graph import Graph
from kglm.kg.parsers import read_lines
from kglm.lm.entries import Scratch

_TOKENS = {
    "causal": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"},
    "bert": {
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
    },
}

# Of BERT's tokens, so many are masked: on few steps the usual 15 % give too few targets to learn from (Wettig et al.
# 2023 find 40 % better also for long training).
_MASKED = 0.4


def train_scratch(entry: Scratch, graph: Path, corpora: list[Path], folder: Path) -> dict:
    """Train tokenizer and model, save both into `folder`, and return what the provenance says of them.

    Trained on the CPU, so that a seed gives the same bytes again (same machine, same number of threads).
    """
    knowledge, passages = Graph.read(graph), corpus_passages(corpora)
    texts = training_sentences(knowledge) + passages
    tokenizer = train_tokenizer(entry, knowledge.entity_texts() + knowledge.relation_texts() + passages)
    rows = token_rows(tokenizer, texts, entry.sequence_length, entry.seed)
    set_seed(entry.seed)
    model = untrained_model(entry, tokenizer)
    loss = _train(model, tokenizer, rows, entry)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {
        "architecture": entry.architecture,
        "dataset": entry.dataset,
        "corpora": [Path(corpus).name for corpus in corpora],
        "sentences": len(texts),
        "tokens": rows.size,
        "steps": entry.steps,
        "seed": entry.seed,
        "threads": torch.get_num_threads(),
        "training_loss": loss,
    }


def corpus_passages(corpora: list[Path]) -> list[str]:
    """The passages of the training parts of corpora, none where a corpus has no such part."""
    files = [Path(corpus) / "train.txt" for corpus in corpora]
    lines = [line for file in files if file.is_file() for line in read_lines(file).to_pylist()]
    return [line for line in lines if line.strip()]


def training_sentences(graph: Graph) -> list[str]:
    """Each distinct entity text, and each training triple as "head relation tail"; none of valid or test."""
    names, relations = graph.entity_texts("name"), graph.relation_texts()
    triples = [f"{names[h]} {relations[r]} {names[t]}" for h, r, t in graph.split("train")]
    return list(dict.fromkeys(graph.entity_texts())) + triples


def train_tokenizer(entry: Scratch, texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; it puts bos before a text, for BERT [CLS] before and [SEP] behind it."""
    special = _TOKENS["bert" if entry.architecture == "bert" else "causal"]
    first, last = special["bos_token"], special["eos_token"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entry.vocabulary_size,
        special_tokens=list(dict.fromkeys(special.values())),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    bert = entry.architecture == "bert"
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}" if bert else f"{first} $A",
        pair=f"{first} $A {last} $B:1 {last}:1" if bert else f"{first} $A $B:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (first, last)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=entry.positions, **special)


def untrained_model(entry: Scratch, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """The model of an entry with random weights (from torch's global generator)."""
    width, depth, heads, inner = entry.hidden_size, entry.layers, entry.heads, entry.intermediate_size
    common = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }
    if entry.architecture == "gpt2":
        sizes = {"n_embd": width, "n_layer": depth, "n_head": heads, "n_inner": inner}
        return GPT2LMHeadModel(GPT2Config(**sizes, n_positions=entry.positions, **common))
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": entry.positions,
    }
    if entry.architecture == "bert":
        # As LLaMA, without dropout: models that see each text a few times are far from learning them by heart.
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return BertForMaskedLM(BertConfig(**sizes, **common, **still))
    return LlamaForCausalLM(LlamaConfig(**sizes, **common))


def token_rows(tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int, seed: int) -> np.ndarray:
    """Texts in seeded order, each closed by eos, as int64 (n, length); the first texts fill up the last."""
    order = np.random.default_rng(seed).permutation(len(texts))
    encoded = tokenizer([texts[i] for i in order], verbose=False)["input_ids"]
    eos = tokenizer.eos_token_id
    closed = [ids if ids[-1] == eos else [*ids, eos] for ids in encoded]
    stream = np.concatenate([np.asarray(ids, np.int64) for ids in closed])
    return np.resize(stream, (-(-len(stream) // length), length))


class _MaskedTexts:
    """Rows of texts as a batch for masked language modelling; each text sees itself alone, from position 0 on.

    A causal model reads past the texts before its own. One that reads both ways hardly learns where a text may stand
    anywhere in a row of others: its loss stays near that of the words' frequencies.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self._mask = DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=_MASKED)
        self._end = tokenizer.eos_token_id

    def __call__(self, examples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        texts, positions = text_numbers(torch.stack([example["input_ids"] for example in examples]), self._end)
        visible = (texts[:, :, None] == texts[:, None, :])[:, None]
        # Additive: a boolean mask of four dimensions is not applied everywhere.
        hidden = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
        return {**self._mask(examples), "attention_mask": hidden, "position_ids": positions}


def text_numbers(rows: torch.Tensor, end: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each token in rows (b, s) of texts that `end` closes: the number of its text in the row, its place in it."""
    closed = (rows == end).long()
    texts = closed.cumsum(dim=1) - closed
    places = torch.arange(rows.shape[1]).expand_as(rows)
    starts = torch.cat([torch.ones_like(texts[:, :1]), texts[:, 1:] - texts[:, :-1]], dim=1)
    return texts, places - (places * starts).cummax(dim=1).values


def _train(model: PreTrainedModel, tokenizer, rows: np.ndarray, entry: Scratch) -> float:
    """Causal (BERT: masked) language modelling with AdamW, warm-up and cosine; mean training loss."""
    if entry.architecture == "bert":
        collator = _MaskedTexts(tokenizer)
    else:
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=entry.steps,
            per_device_train_batch_size=entry.batch_size,
            learning_rate=entry.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, entry.steps // 10),
            weight_decay=0.01,
            seed=entry.seed,
            data_seed=entry.seed,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        examples = [{"input_ids": torch.from_numpy(row)} for row in rows]
        trainer = Trainer(model, arguments, data_collator=collator, train_dataset=examples)
        return float(trainer.train().training_loss)

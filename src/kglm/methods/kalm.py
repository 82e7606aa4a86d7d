"""KaLM: dual-view contrastive alignment plus triple-completion language modelling of a decoder with LoRA.

Equations 1 to 4 of the paper. The fields of `Parameters` are the options; the variants `as_described` and
`as_released` are sets of their values, in config.yaml.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from kglm.artefacts import read_tensors
from kglm.errors import InputError
from kglm.files import read_json
from kglm.kg.graph import Graph
from kglm.kg.instructions import TRIPLE_COMPLETION, prompt
from kglm.lm.language_model import load_causal, load_tokenizer
from kglm.lm.lora import add_lora, in_low_precision
from kglm.lm.speed import checkpoint_layers, quicken
from kglm.lm.tokens import Ragged, following, joined, of_lists, stacked, tokenised
from kglm.methods import _interface
from kglm.methods._contrastive import (
    KnownTriples,
    as_tensor,
    gather,
    info_nce,
    mean_over_processes,
    same_tail,
    similarities,
)
from kglm.methods._dual_view import DualViewEncoder, DualViewTexts, pooled
from kglm.methods._encoding import Chunk, distinct_chunks, encode_chunks, padded
from kglm.methods._interface import FOREIGN
from kglm.options import Automatic, Count, Options, Positive, Rate, Size, Weight

IGNORED = -100  # the label that the cross-entropy leaves out
# Tokens of padding that are worth a pass of the model less: of a GPU, the launches of a pass; a CPU computes them.
TOGETHER = {"cuda": 1 << 15}
_INPUTS = ("input_ids", "attention_mask")
_INPUT = "<input>"


@dataclass(frozen=True)
class Parameters(Options):
    """KaLM's options, with the paper's values for WN18RR (Table 3) where it gives them."""

    entity_text: Literal["name", "description", "name_and_description"] = "name_and_description"
    # The dataset's own, "inverse" before the relation's, or a Freebase path turned round.
    inverse_text: Literal["dataset", "prefix", "path"] = "dataset"
    maximum_description_length: Size = 50  # tokens
    temperature: Positive = 0.05  # at the start
    train_temperature: bool = True
    margin: float = 0.02  # of Equation 1; the paper names no value, this is the released one
    mask_known_tails: Literal["all", "same_tail"] = "all"  # no negatives: all known true pairs, or repeated tails
    gather_negatives: bool = True  # over all processes
    negative_group: Count = 0  # negatives are among so many triples of a batch that follow each other; 0: among all
    language_model_weight: Weight = 0.1  # λ of Equation 4
    language_model_batch_size: Size = 4  # M of Equation 3
    language_model_batch: Literal["own", "subset"] = "own"  # drawn from all training triples, or from the batch
    maximum_language_model_length: Size = 256  # tokens
    cut_completion_texts: bool = True  # to maximum_description_length, as where they are encoded
    lora_modules: Literal["ffn", "att", "att-ffn"] = "ffn"
    lora_rank: Size = 8
    lora_alpha: Positive = 16.0
    lora_dropout: Rate = 0.05
    base_weights: Literal["float32", "bfloat16", "int8"] = "float32"
    gradient_checkpointing: Automatic = "auto"  # where a step does not fit
    chunk_tokens: Count = 0  # tokens encoded at once, padding counted; 0: what the machine takes well
    chunk_size: Count = 0  # texts encoded at once; 0: no limit but that
    gradient_caching: Automatic = "auto"  # keep of each chunk its vectors only: batches larger than memory


class Completions(NamedTuple):
    """Tokens of instructions (Section 3.3) in pieces, so that each text is tokenised once."""

    pieces: Ragged  # what stands before the input, and behind it
    descriptions: Ragged  # of the entities, as they stand in an instruction, with the comma behind
    relations: Ragged
    answers: Ragged  # the entities' descriptions, as answers

    @classmethod
    def of(
        cls,
        graph: Graph,
        tokenizer: PreTrainedTokenizerBase,
        texts: DualViewTexts,
        texts_of: tuple[str, str],
        cut: bool,
    ) -> "Completions":
        """texts_of: the options `entity_text` and `inverse_text`; cut: descriptions as they are encoded, or whole."""
        entities = graph.entity_texts(texts_of[0])
        if cut:
            decoded = tokenizer.batch_decode(texts.descriptions.rows(), skip_special_tokens=True)
            entities = [text.strip() for text in decoded]
        before, after = prompt(TRIPLE_COMPLETION, _INPUT).split(_INPUT)
        relations = [f" {text}" for text in graph.relation_texts(texts_of[1])]
        begin, (end,) = tokenizer(before)["input_ids"], following("a", [after], tokenizer).rows()
        return cls(
            of_lists([begin, end]),
            following("\n", [f"{text}," for text in entities], tokenizer),
            following(",", relations, tokenizer),
            tokenised(entities, tokenizer),
        )

    def prompts(self, heads: np.ndarray, relations: np.ndarray) -> Ragged:
        """The instruction of each query (n,) up to the response."""
        begin, end = (self.pieces.take(np.full(len(heads), place)) for place in (0, 1))
        return joined(len(heads), begin, self.descriptions.take(heads), self.relations.take(relations), end)


class Method(DualViewEncoder, _interface.LinkPredictor):
    """See the module."""

    Parameters = Parameters
    reads_new_entities = True
    base_model = "causal"
    of_weights = ("lora_modules", "lora_rank", "lora_alpha")

    def __init__(self, parameters: Parameters, graph: Graph, model: Path):
        super().__init__(parameters, graph, model)
        p = self.parameters_ = parameters
        self.tokenizer = load_tokenizer(model)
        self.texts = DualViewTexts.of(
            graph, self.tokenizer, p.entity_text, p.inverse_text, p.maximum_description_length
        )
        if p.language_model_weight > 0:
            texts_of = p.entity_text, p.inverse_text
            self.completions = Completions.of(graph, self.tokenizer, self.texts, texts_of, p.cut_completion_texts)
        self.train_triples = graph.split("train", inverse=True)
        causal = quicken(load_causal(model, dtype=p.base_weights))
        if causal.config.model_type == "bert":
            what = "is a BERT, which reads both ways: its completion would see the answer"
            raise InputError(what, model, "give kalm a decoder (LLaMA, Mistral, GPT-2)")
        self.checkpointed = p.gradient_checkpointing is True
        if self.checkpointed:
            checkpoint_layers(causal)
            causal.enable_input_require_grads()
        self.adapted = quicken(add_lora(causal, p.lora_modules, p.lora_rank, p.lora_alpha, p.lora_dropout))
        self.known = KnownTriples(graph)
        # The logarithm keeps the temperature positive without a bound.
        start = torch.tensor(p.temperature).log()
        self.log_temperature = torch.nn.Parameter(start, requires_grad=p.train_temperature)

    @property
    def backbone(self):
        return self.adapted.get_base_model().base_model

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """See Method; each distinct text of the batch stands in it once."""
        mine = triples[part::parts]
        texts = stacked(self.texts.queries(mine[:, 0], mine[:, 1]), self.texts.answers(mine[:, 2]))
        p = self.parameters_
        encoder, rows = distinct_chunks(texts, self.texts.padding, p.chunk_size, p.chunk_tokens)
        query_rows, answer_rows = rows.chunk(2)
        batch = {"encoder": encoder, "query_rows": query_rows, "answer_rows": answer_rows, "triples": as_tensor(mine)}
        if self.parameters_.language_model_weight > 0:
            chosen = self._language_model_triples(triples, generator)
            # With more processes than completions a process has none: it reads the first one, without a label.
            own = chosen[part::parts]
            completions = self._completions(own if len(own) else chosen[:1])
            if not len(own):
                completions["labels"].fill_(IGNORED)
            batch["language_model"] = completions
        return batch

    def _language_model_triples(self, triples: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        source = self.train_triples if self.parameters_.language_model_batch == "own" else triples
        size = min(self.parameters_.language_model_batch_size, len(source))
        return source[generator.choice(len(source), size, replace=False)]

    def _completions(self, triples: np.ndarray) -> dict[str, torch.Tensor]:
        """Alpaca prompts and answers; only the answers (and the end token) are labelled.

        Too long a sequence loses the beginning of its prompt, never its answer (unless that alone is too long).
        """
        limit, (heads, relations, tails) = self.parameters_.maximum_language_model_length, triples.T
        end = self.tokenizer.eos_token_id
        answers = joined(len(triples), self.completions.answers.take(tails), end).cut(limit - 1)
        prompts = self.completions.prompts(heads, relations)
        over = (prompts.sizes + answers.sizes - limit).clip(min=0)
        prompts = prompts._replace(starts=prompts.starts + over, lengths=prompts.lengths - over)
        batch = padded(joined(len(triples), prompts, answers), self.texts.padding)
        places = torch.arange(batch["input_ids"].shape[1])
        labelled = (places >= torch.from_numpy(prompts.sizes)[:, None]) & (batch["attention_mask"] == 1)
        labels = batch["input_ids"].masked_fill(~labelled, IGNORED)
        return {**batch, "labels": labels, "asked": labelled.flatten().nonzero()[:, 0] - 1}

    def forward(self, encoder, query_rows, answer_rows, triples, language_model=None) -> dict[str, torch.Tensor]:
        """Equation 4. encoder: padded chunks of distinct texts; *_rows: (b,) rows of the encoded; triples: (b, 3)."""
        vectors, states = self._read(encoder, language_model)
        contrastive = self._contrastive(vectors[query_rows], vectors[answer_rows], triples)
        if language_model is None:
            return {"loss": contrastive, "contrastive": contrastive}
        completion = self._completion_loss(states, language_model["labels"], language_model["asked"])
        loss = contrastive + self.parameters_.language_model_weight * completion
        return {"loss": loss, "contrastive": contrastive, "language_model": completion}

    def _read(self, encoder: list[Chunk], completions: Chunk | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Vectors of texts (n, d), states of completions (m, s, d); by one pass where the padding is cheap."""
        caching = self.parameters_.gradient_caching is True
        if completions is not None and len(encoder) == 1 and not caching:
            (texts,) = encoder
            shapes = [part["input_ids"].shape for part in (texts, completions)]
            length = max(length for _, length in shapes)
            further = sum(count * (length - own) for count, own in shapes)
            if further <= TOGETHER.get(texts["input_ids"].device.type, 0):
                states = self._states({name: _side_by_side(texts[name], completions[name], length) for name in _INPUTS})
                (count, own), (_, other) = shapes
                return pooled(states[:count, :own], texts["attention_mask"]), states[count:, :other]
        vectors = encode_chunks(self._vectors, encoder, caching)
        return vectors, None if completions is None else self._states({name: completions[name] for name in _INPUTS})

    def _vectors(self, inputs: Chunk) -> torch.Tensor:
        return pooled(self._states(inputs), inputs["attention_mask"])

    def _states(self, inputs: Chunk) -> torch.Tensor:
        """The last hidden states (b, s, d) in training."""
        kind, device = next(self.backbone.parameters()).dtype, inputs["input_ids"].device.type
        low = torch.is_autocast_enabled(device) and kind == torch.get_autocast_dtype(device)
        # What is computed again backwards, layer by layer, would look for the adapters' copies in vain.
        quick = low and self.parameters_.base_weights == "bfloat16" and not self.checkpointed
        with in_low_precision(self.adapted, kind) if quick else contextlib.nullcontext():
            return self.backbone(**inputs, use_cache=False).last_hidden_state

    def _contrastive(self, queries: torch.Tensor, answers: torch.Tensor, triples: torch.Tensor) -> torch.Tensor:
        """Equation 2."""
        p = self.parameters_
        if p.gather_negatives:
            queries, answers, triples = gather(queries), gather(answers), gather(triples)
        excluded = self.known(triples) if p.mask_known_tails == "all" else same_tail(triples)
        if p.negative_group:
            group = torch.arange(len(triples), device=triples.device) // p.negative_group
            excluded = excluded | (group[:, None] != group)
        return info_nce(similarities(queries, answers), excluded, self.log_temperature.exp(), p.margin)

    def _completion_loss(self, states: torch.Tensor, labels: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        """Equation 3 as the mean over the answers' tokens; asked: the places in (b · s) that these are told from."""
        head = self.adapted.get_base_model().lm_head
        predicted, expected = head(states.flatten(0, 1)[asked]).float(), labels.flatten()[asked + 1]
        total = torch.nn.functional.cross_entropy(predicted, expected, ignore_index=IGNORED, reduction="sum")
        return mean_over_processes(total, (expected != IGNORED).sum().float())

    def write(self, directory: Path) -> None:
        """A peft adapter folder, and the temperature beside it in method.safetensors."""
        self.adapted.save_pretrained(str(directory), safe_serialization=True, save_embedding_layers=False)
        (Path(directory) / "README.md").unlink(missing_ok=True)  # peft's empty model card
        save_file({"log_temperature": self.log_temperature.detach().cpu()}, Path(directory) / "method.safetensors")

    def read(self, directory: Path) -> None:
        """Read what `write` wrote; InputError for an adapter of other modules, rank or alpha."""
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        file = Path(directory) / "adapter_model.safetensors"
        state, own = read_tensors(file, "pt"), get_peft_model_state_dict(self.adapted, save_embedding_layers=False)
        # peft takes the tensors that it finds, and scales them by its own alpha.
        if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in own.items()}:
            raise InputError(FOREIGN, file, "its LoRA has other modules or another rank: train this run again")
        alpha = read_json(Path(directory) / "adapter_config.json").get("lora_alpha")
        if alpha != self.parameters_.lora_alpha:
            what = f"its LoRA was trained with lora_alpha {alpha}, this run has {self.parameters_.lora_alpha}"
            raise InputError(what, file, "give both the same")
        set_peft_model_state_dict(self.adapted, state)
        with torch.no_grad():
            own = read_tensors(Path(directory) / "method.safetensors", "pt")
            self.log_temperature.copy_(own["log_temperature"])


def _side_by_side(first: torch.Tensor, second: torch.Tensor, length: int) -> torch.Tensor:
    """Rows (n, s) and (m, t) filled up to one length; 0, a word like others, where the mask is 0 as well."""
    return torch.cat([torch.nn.functional.pad(part, (0, length - part.shape[1])) for part in (first, second)])

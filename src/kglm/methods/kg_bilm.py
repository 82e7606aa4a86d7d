"""KG-BiLM: a decoder that reads in both directions, predicts masked words and entities, and aligns views of the graph.

Sections 3.3 to 3.5 and Appendix C of the paper: bidirectional knowledge attention (`kglm.lm.knowledge_mask`),
knowledge-masked prediction and contrastive graph semantic aggregation. The fields of `Parameters` are the options.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch

from kglm.errors import InputError
from kglm.kg.graph import Graph
from kglm.kg.neighbourhood import Neighbourhood
from kglm.kg.subgraphs import NO_WALKS, Subgraphs
from kglm.lm.entity_tokens import ExtendedEmbedding, initialise
from kglm.lm.knowledge_mask import PADDING, knowledge_mask
from kglm.lm.language_model import batches_by_length, last_token_pool, load_causal, load_tokenizer
from kglm.lm.lora import add_lora
from kglm.lm.speed import checkpoint_layers, quicken
from kglm.lm.tokens import tokenised
from kglm.methods import _interface
from kglm.methods._contrastive import KnownTriples, as_tensor, gather, info_nce, similarities
from kglm.methods._masked_prediction import candidate_entities, draw_masks, masked_prediction_loss
from kglm.methods._units import (
    ENTITY,
    KINDS,
    MASK,
    RELATION,
    WORD,
    Augmentation,
    Importance,
    Padded,
    Tokens,
    Units,
    Vocabulary,
    distinct,
    model_inputs,
)
from kglm.options import Automatic, Count, Options, Positive, Range, Rate, Size, Weight

PIECE = 65_536  # entities whose sequences are built at once


@dataclass(frozen=True)
class Parameters(Options):
    """KG-BiLM's options, with the paper's values (Appendix E) where it gives them."""

    attention: Literal["knowledge", "causal", "bidirectional"] = "knowledge"
    hops: Count = 2  # h
    window: Count = 2  # δ
    language_model_mode: bool = True  # all words and relations see each other
    entity_text: Literal["none", "name", "description", "name_and_description"] = "name_and_description"
    inverse_text: Literal["dataset", "prefix"] = "dataset"  # the dataset's own, or "inverse" before the relation's
    relation_text: bool = True
    context_walks: Count = 8  # along training triples from the entity of a sequence, at most: its sub-graph
    context_radius: Size = 2  # steps of a walk, at most
    parents: Literal["none", "words", "words_and_relations"] = "words_and_relations"  # see what their entity sees
    entity_initialisation: Literal["random", "text"] = "text"  # at random, or the mean of the name's words
    masked_prediction_weight: Weight = 1.0
    mask_ratio: Annotated[float, Range(above=0, below=1)] = 0.15  # γ
    importance_exponent: Weight = 0.5  # of PageRank and of entropy: 1 as they are, 0 all alike
    mask_head: bool = False  # may the query's own entity be masked
    maximum_exact_entities: Count = 50_000  # in the softmax; above it some are drawn
    sampled_entities: Size = 8192
    sparse_gradients: bool = False  # of the entities' and relations' vectors: of millions, all rows fit no GPU
    contrastive_weight: Weight = 0.1
    contrastive_batch_size: Size = 256  # entities of a step whose views are compared, and triples aligned
    entity_dropping: Rate = 0.2  # share of the entity tokens
    span_deletion: Rate = 0.1  # share of a text
    order_shuffling: bool = True
    alignment_weight: Weight = 1.0  # of queries' and answers' pooled vectors
    pooling: Literal["mean", "max", "last"] = "mean"
    temperature: Positive = 0.07  # τ
    scoring: Literal["mask", "pooled"] = "mask"  # by the masked position, or by pooled descriptions
    pooled_view: Literal["text", "graph"] = "text"  # what is pooled: texts alone, or with entity tokens and context
    dropout: Rate = 0.1
    maximum_length: Size = 512  # tokens
    lora_modules: Literal["none", "ffn", "att", "att-ffn"] = "none"  # none: all weights are trained
    lora_rank: Size = 8
    lora_alpha: Positive = 16.0
    lora_dropout: Rate = 0.05
    base_weights: Literal["float32", "bfloat16"] = "float32"
    chunk_size: Count = 64  # sequences that are padded to one length; 0: all of a step
    gradient_checkpointing: Automatic = "auto"  # where a step does not fit

    def __post_init__(self):
        super().__post_init__()
        if not self.masked_prediction_weight and self.scoring == "mask":
            remedy = "set scoring: pooled"
            raise InputError("without masked prediction the masked position learns nothing", "method kg_bilm", remedy)


class Method(_interface.LinkPredictor):
    """See the module."""

    Parameters = Parameters
    of_weights = ("lora_modules", "lora_rank", "lora_alpha")

    def __init__(self, parameters: Parameters, graph: Graph, model: Path):
        super().__init__(parameters, graph, model)
        p = self.parameters_ = parameters
        self.tokenizer = load_tokenizer(model)
        causal = quicken(load_causal(model, dtype=p.base_weights))
        _check_length(p.maximum_length, causal.config.max_position_embeddings)
        backbone = causal.base_model
        _set_dropout(backbone, p.dropout)
        words = backbone.get_input_embeddings()
        self.vocabulary = Vocabulary(words.num_embeddings, graph.entity_count, 2 * graph.relation_count)
        if p.gradient_checkpointing is True:
            checkpoint_layers(backbone)
        if p.lora_modules != "none":
            backbone = quicken(add_lora(backbone, p.lora_modules, p.lora_rank, p.lora_alpha, p.lora_dropout))
        self.backbone = backbone
        self.embedding = ExtendedEmbedding(words, self.vocabulary.further, p.sparse_gradients)
        self.types = torch.nn.Embedding(len(KINDS), words.embedding_dim)
        torch.nn.init.zeros_(self.types.weight)  # at the start the model reads what it has always read
        bias = torch.zeros(self.vocabulary.words + graph.entity_count)
        self.bias = torch.nn.Parameter(bias, requires_grad=p.masked_prediction_weight > 0)  # b_P
        self._prepare(graph)
        self.known = KnownTriples(graph)

    def _prepare(self, graph: Graph) -> None:
        """What sequences are made of: texts and sub-graphs; and the first vectors of the tokens."""
        p = self.parameters_
        relations = graph.relation_texts(p.inverse_text)
        if p.entity_initialisation == "text":
            initialise(self.embedding, [*graph.entity_texts("name"), *relations], self.tokenizer)
        relation_texts = self.tokenizer(relations, add_special_tokens=False)["input_ids"]
        texts = graph.entity_texts(p.entity_text) if p.entity_text != "none" else [""] * graph.entity_count
        begin = self.tokenizer.bos_token_id
        begin = self.tokenizer.eos_token_id if begin is None else begin
        self.units = Units(
            self.vocabulary,
            [begin],
            tokenised(texts, self.tokenizer).cut(p.maximum_length),
            relation_texts if p.relation_text else [[] for _ in relations],
            p.maximum_length,
            p.parents,
        )
        self.importance = Importance(graph, p.importance_exponent)
        self.subgraphs = Subgraphs(graph)
        self.augmentation = Augmentation(p.entity_dropping, p.span_deletion, p.order_shuffling, p.hops)

    @cached_property
    def neighbourhood(self) -> Neighbourhood:
        """Of the whole training graph, made when somebody asks."""
        return Neighbourhood.of(self.graph, self.parameters_.hops)

    def near(self, members: np.ndarray, without: np.ndarray) -> np.ndarray:
        """As that of the neighbourhood, which is not asked where the answer is known or the mask does not read it."""
        p = self.parameters_
        if p.attention != "knowledge" or 2 * p.context_radius <= p.hops or members.shape[1] == 1:
            shown = members >= 0
            return shown[:, :, None] & shown[:, None, :]
        return self.neighbourhood.near(members, without)

    def language_model(self) -> list[torch.nn.Module]:
        """See Method: the decoder, its words included; the vectors of entities and relations are not its own."""
        return [self.backbone]

    def sparse_parameters(self) -> list[torch.nn.Parameter]:
        """See Method."""
        return [self.embedding.further.weight] if self.parameters_.sparse_gradients else []

    def tokens_read(self, batch: Any) -> int:
        """See Method; entities and relations are tokens, too."""
        if isinstance(batch, dict) and "classes" in batch:
            return int((batch["classes"] != PADDING).sum())
        return super().tokens_read(batch)

    # Training

    def collate(self, triples: np.ndarray, generator: np.random.Generator, part: int, parts: int) -> dict[str, Any]:
        """See Method; every row has its own chance, so that it does not depend on how rows are shared."""
        p = self.parameters_
        seeds = generator.integers(2**63, size=len(triples))[part::parts].tolist()
        chosen = self._contrasted(triples, generator, parts)[part::parts]
        mine = triples[part::parts]
        batch = {}
        if p.contrastive_weight > 0:
            batch["views"] = self._views(chosen)
        if p.alignment_weight > 0:
            share = -(-p.contrastive_batch_size // parts)
            batch["alignment"] = self._alignment(mine[:share], seeds[:share])
        if p.masked_prediction_weight > 0:
            batch["masked"] = self._masked(mine, seeds, generator)
        return batch

    def _masked(self, triples: np.ndarray, seeds: list[int], generator: np.random.Generator) -> dict[str, Any]:
        """Masked sequences of triples (b, 3), whose last position is the answer, and what stands there."""
        p, vocabulary = self.parameters_, self.vocabulary
        rows, noise = [], []
        for (head, relation, tail), seed in zip(triples.tolist(), seeds, strict=True):
            own = np.random.default_rng(seed)
            walks = self.subgraphs.drawn(head, p.context_walks, p.context_radius, own, (head, relation, tail))
            query = self.units.query(head, relation, walks)
            without = self.subgraphs.joint(head, relation, tail)
            rows.append(query._replace(ids=(*query.ids[:-1], vocabulary.entity(tail)), without=without))
            noise.append(own.exponential(size=len(query.ids)))
        whole = Padded.of(rows)
        ids, real, *_ = whole
        waiting = np.zeros(ids.shape)
        waiting[real] = np.concatenate(noise)
        masked = draw_masks(real, self._mask_weights(ids, triples[:, 1]), p.mask_ratio, waiting)
        hidden_words = masked & (vocabulary.kinds(ids) == WORD)
        shown = whole._replace(ids=np.where(masked, vocabulary.mask, ids), masked_words=hidden_words)
        parts = self._row_groups(rows)
        labels = np.concatenate([ids[part][masked[part]] for part in parts])
        batch = {
            "parts": [self._model_inputs(shown.rows(part)) for part in parts],
            "positions": [torch.from_numpy(np.argwhere(masked[part])) for part in parts],
            "targets": torch.from_numpy(labels),
        }
        if vocabulary.entities > p.maximum_exact_entities:
            batch |= self._sampled(labels, generator)
        return batch

    def _mask_weights(self, ids: np.ndarray, relations: np.ndarray) -> np.ndarray:
        """How readily each position (b, s) is masked: 1 for words, `importance` for entities, 0 for all else.

        An entity of the context stands in the relation before it, the head in the one that is asked for.
        """
        vocabulary = self.vocabulary
        kinds = vocabulary.kinds(ids)
        before = np.roll(ids, 1, axis=1)
        numbers = np.where(vocabulary.kinds(before) == RELATION, before - vocabulary.relation(0), relations[:, None])
        entities = np.where(kinds == ENTITY, ids - vocabulary.words, 0)
        weights = np.where(kinds == ENTITY, self.importance(entities, numbers), kinds == WORD)
        weights[:, 0] = 0  # nothing stands before the begin token to predict it from
        if not self.parameters_.mask_head:
            weights[:, 1] = 0
        return weights

    def _sampled(self, labels: np.ndarray, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        """A sample of the entities, and the targets as rows of the words and of these."""
        words = self.vocabulary.words
        asked = labels[labels >= words] - words
        candidates, log_weights = candidate_entities(
            asked, self.vocabulary.entities, self.parameters_.sampled_entities, generator
        )
        places = words + np.searchsorted(candidates, labels - words)
        return {
            "candidates": torch.from_numpy(candidates),
            "log_weights": torch.from_numpy(log_weights),
            "targets": torch.from_numpy(np.where(labels >= words, places, labels)),
        }

    def _contrasted(self, triples: np.ndarray, generator: np.random.Generator, parts: int) -> list[tuple[int, int]]:
        """Entities of a step and a seed for each; all differ, so that none is a negative of itself."""
        entities = generator.permutation(np.unique(triples[:, [0, 2]]))
        count = min(len(entities), self.parameters_.contrastive_batch_size) // parts * parts
        seeds = generator.integers(2**63, size=len(entities))
        return list(zip(entities[:count].tolist(), seeds[:count].tolist(), strict=True))

    def _views(self, chosen: list[tuple[int, int]]) -> dict[str, torch.Tensor]:
        """Two views (2u sequences: first all first ones) of the sub-graph of each entity."""
        p, pairs = self.parameters_, []
        for entity, seed in chosen:
            own = np.random.default_rng(seed)
            walks = self.subgraphs.drawn(entity, p.context_walks, p.context_radius, own)
            pairs.append([self.units.view(entity, walks, self.augmentation, own) for _ in range(2)])
        return self._chunks([pair[side] for side in range(2) for pair in pairs])

    def _alignment(self, triples: np.ndarray, seeds: list[int]) -> dict[str, Any]:
        """Queries and answers as they are pooled when they are scored; none sees the triple that joins them."""
        p = self.parameters_
        count = p.context_walks if p.pooled_view == "graph" else 0
        queries, answers = [], []
        for (head, relation, tail), seed in zip(triples.tolist(), seeds, strict=True):
            own, asked = np.random.default_rng([seed, 1]), (head, relation, tail)
            around_head = self.subgraphs.drawn(head, count, p.context_radius, own, asked)
            around_tail = self.subgraphs.drawn(tail, count, p.context_radius, own, asked)
            without = self.subgraphs.joint(*asked) if count else (-1, -1)
            queries.append(self.units.query(head, relation, around_head, token=count > 0)._replace(without=without))
            answers.append(self.units.entity(tail, around_tail, token=count > 0)._replace(without=without))
        (queries, query_rows), (answers, answer_rows) = distinct(queries), distinct(answers)
        return {
            "queries": self._chunks(queries),
            "answers": self._chunks(answers),
            "query_rows": torch.from_numpy(query_rows),
            "answer_rows": torch.from_numpy(answer_rows),
            "triples": as_tensor(triples),
        }

    def forward(self, masked=None, views=None, alignment=None) -> dict[str, torch.Tensor]:
        """The weighted sum of the losses whose batch is there, and each of them."""
        p, losses = self.parameters_, {}
        if masked is not None:
            losses["masked_prediction"] = self._masked_prediction(**masked)
        if views is not None:
            losses["contrastive"] = self._contrastive(views)
        if alignment is not None:
            losses["alignment"] = self._aligned(**alignment)
        weights = {
            "masked_prediction": p.masked_prediction_weight,
            "contrastive": p.contrastive_weight,
            "alignment": p.alignment_weight,
        }
        return {"loss": sum(weights[name] * loss for name, loss in losses.items()), **losses}

    def _masked_prediction(self, parts, positions, targets, candidates=None, log_weights=None) -> torch.Tensor:
        """Equations 8 to 10; positions: (n, 2) row and column of what is masked, predicted from the column before."""
        hidden = torch.cat(
            [self.states(**part)[places[:, 0], places[:, 1] - 1] for part, places in zip(parts, positions, strict=True)]
        )
        words, entities = self.embedding.words.weight, self._entity_vectors(candidates)
        bias = self.bias
        if candidates is not None:
            bias = torch.cat([bias[: len(words)], bias[len(words) + candidates]])
        return masked_prediction_loss(hidden, words, entities, bias, log_weights, targets)

    def _entity_vectors(self, entities: torch.Tensor | None) -> torch.Tensor:
        further = self.embedding.further
        if entities is None and self.parameters_.sparse_gradients:
            entities = torch.arange(self.vocabulary.entities, device=self.bias.device)
        return further.weight[: self.vocabulary.entities] if entities is None else further(entities)

    def _contrastive(self, views: dict[str, Any]) -> torch.Tensor:
        """Equation 12, as the mean over the units."""
        first, second = (gather(half) for half in self.pooled_chunks(**views).chunk(2))
        targets = torch.arange(len(first), device=first.device)
        logits = similarities(first, second) / self.parameters_.temperature
        return torch.nn.functional.cross_entropy(logits, targets)

    def _aligned(self, queries, answers, query_rows, answer_rows, triples) -> torch.Tensor:
        """InfoNCE of pooled queries and the pooled descriptions of their answers; known answers are no negatives."""
        q = gather(self.pooled_chunks(**queries)[query_rows])
        k = gather(self.pooled_chunks(**answers)[answer_rows])
        return info_nce(similarities(q, k), self.known(gather(triples)), self.parameters_.temperature, 0.0)

    # The model

    def states(self, ids, kinds, classes, near, **options) -> torch.Tensor:
        """Inputs as of `model_inputs` -> final hidden states (b, s, d)."""
        return self.run(ids, kinds, classes, near, **options).last_hidden_state

    def run(self, ids, kinds, classes, near, **options):
        """The stock model's output on words, entities and relations with their types, under the knowledge mask."""
        words = self.embedding(ids)
        embedded = words + self.types(kinds).to(words.dtype)
        mask = self.mask(classes, near, embedded.dtype)
        return self.backbone(inputs_embeds=embedded, attention_mask=mask, use_cache=False, **options)

    def mask(self, classes: torch.Tensor, near: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The knowledge mask (b, 1, s, s) of this run's options."""
        p = self.parameters_
        return knowledge_mask(classes, near, p.attention, p.window, p.language_model_mode, dtype)

    def pooled(self, ids, kinds, classes, near) -> torch.Tensor:
        """Equation 11, of unit length: float32 (b, d)."""
        real = classes != PADDING
        hidden = self.states(ids, kinds, classes, near).float()
        return torch.nn.functional.normalize(_pool(hidden, real, self.parameters_.pooling), dim=-1)

    def pooled_chunks(self, parts: list[dict[str, torch.Tensor]], order: torch.Tensor) -> torch.Tensor:
        """As `pooled`, of what `_chunks` made of sequences: float32 (n, d) in their order."""
        return torch.cat([self.pooled(**part) for part in parts])[order]

    def _row_groups(self, sequences: Sequence[Tokens]) -> list[list[int]]:
        """The numbers of sequences in groups that are padded to one length: alike in length, so that little is."""
        size = self.parameters_.chunk_size or len(sequences)
        if len(sequences) <= size:
            return [list(range(len(sequences)))]
        return list(batches_by_length([sequence.ids for sequence in sequences], size))

    def _chunks(self, sequences: Sequence[Tokens]) -> dict[str, Any]:
        """The inputs of sequences, group by group, and where each of them went."""
        groups = self._row_groups(sequences)
        order = torch.from_numpy(np.argsort(np.concatenate(groups), kind="stable"))
        return {"parts": [self._inputs([sequences[row] for row in group]) for group in groups], "order": order}

    def _inputs(self, sequences: Sequence[Tokens]) -> dict[str, torch.Tensor]:
        return self._model_inputs(Padded.of(sequences))

    def _model_inputs(self, sequences: Padded) -> dict[str, torch.Tensor]:
        return model_inputs(sequences, self.vocabulary, self.near)

    def _here(self, sequences: Sequence[Tokens]) -> dict[str, torch.Tensor]:
        """Their inputs on the model's device."""
        return {name: value.to(self.bias.device) for name, value in self._inputs(sequences).items()}

    # Scoring

    def encode_queries(self, heads: np.ndarray, relations: np.ndarray, batch_size: int) -> np.ndarray:
        """See LinkPredictor; by mask: the state before the masked answer and a 1 behind it (for b_P)."""
        pairs = list(zip(heads.tolist(), relations.tolist(), strict=True))
        sequences = [self.query(head, relation) for head, relation in pairs]
        if self.parameters_.scoring == "pooled":
            return self._encode(sequences, batch_size, self.pooled)
        return self._encode(sequences, batch_size, self._asked)

    def encode_entities(self, entities: np.ndarray, batch_size: int) -> np.ndarray:
        """See LinkPredictor; by mask: the rows of W_P with b_P behind them, without any encoding."""
        if self.parameters_.scoring == "mask":
            return self._projection(entities)
        parts = [entities[at : at + PIECE].tolist() for at in range(0, len(entities), PIECE)]
        encoded = [self._encode(self._descriptions(part), batch_size, self.pooled) for part in parts]
        return np.concatenate(encoded)

    def query(self, head: int, relation: int) -> Tokens:
        """The tokens of (h, r, ?) when it is scored: with the same sub-graph of h every time."""
        walks, token = self._around(head)
        return self.units.query(head, relation, walks, token)

    @torch.inference_mode()
    def attention_weights(self, head: int, relation: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the tokens of a query: weights (layers, s, s), the mean over the heads, and what is visible (s, s)."""
        inputs = self._here([self.query(head, relation)])
        stock = self.backbone.get_base_model() if self.parameters_.lora_modules != "none" else self.backbone
        usual = stock.config._attn_implementation
        stock.set_attn_implementation("eager")  # the others compute no weights
        layers = self.run(**inputs, output_attentions=True).attentions
        stock.set_attn_implementation(usual)
        weights = torch.stack([layer[0].float().mean(dim=0) for layer in layers])
        visible = self.mask(inputs["classes"], inputs["near"], torch.float32)[0, 0] == 0
        return weights.cpu().numpy(), visible.cpu().numpy()

    def labels(self, ids: Sequence[int]) -> tuple[list[str], list[str]]:
        """What tokens are called, and their kinds: words as the tokenizer writes them, else names and texts."""
        v, graph = self.vocabulary, self.graph
        names = {ENTITY: graph.entity_texts("name"), RELATION: graph.relation_texts(self.parameters_.inverse_text)}
        first = {ENTITY: v.entity(0), RELATION: v.relation(0)}
        kinds = v.kinds(np.asarray(ids)).tolist()
        written = []
        for token, kind in zip(ids, kinds, strict=True):
            if kind == WORD:
                written.append(self.tokenizer.convert_ids_to_tokens(token))
            else:
                written.append("<mask>" if kind == MASK else names[kind][token - first[kind]])
        return written, [KINDS[kind] for kind in kinds]

    def _descriptions(self, entities: list[int]) -> list[Tokens]:
        return [self.units.entity(entity, *self._around(entity)) for entity in entities]

    def _around(self, entity: int) -> tuple[np.ndarray, bool]:
        """The walks from an entity that is scored, and whether its own token stands there.

        Texts alone are pooled: the token of an entity that was not trained on tells nothing, and it has no triples.
        """
        p = self.parameters_
        if p.scoring == "pooled" and p.pooled_view == "text":
            return NO_WALKS, False
        return self.subgraphs.fixed(entity, p.context_walks, p.context_radius), True

    @torch.inference_mode()
    def _projection(self, entities: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(np.ascontiguousarray(entities, np.int64)).to(self.bias.device)
        vectors = self.embedding.further.weight[rows].float()
        return torch.cat([vectors, self.bias[self.vocabulary.words + rows, None]], dim=1).cpu().numpy()

    def _asked(self, ids, kinds, classes, near) -> torch.Tensor:
        """The states before the last position, which is masked, and a 1: float32 (b, d + 1)."""
        last = (classes != PADDING).sum(dim=1) - 1
        hidden = self.states(ids, kinds, classes, near)
        hidden = hidden[torch.arange(len(hidden), device=hidden.device), last - 1].float()
        return torch.cat([hidden, torch.ones_like(hidden[:, :1])], dim=1)

    @torch.inference_mode()
    def _encode(self, sequences: list[Tokens], batch_size: int, encode: Callable) -> np.ndarray:
        """Token sequences -> vectors float32 (n, d); equal sequences are encoded once."""
        training = self.training
        self.eval()
        unique, rows = distinct(sequences)
        vectors = [None] * len(unique)
        for batch in batches_by_length([sequence.ids for sequence in unique], batch_size):
            encoded = encode(**self._here([unique[row] for row in batch]))
            for row, vector in zip(batch, encoded.cpu().numpy(), strict=True):
                vectors[row] = vector
        self.train(training)
        return np.stack(vectors)[rows]


def _pool(hidden: torch.Tensor, real: torch.Tensor, pooling: str) -> torch.Tensor:
    """(b, s, d) -> (b, d) over the real positions (b, s)."""
    if pooling == "last":
        return last_token_pool(hidden, real.long())
    if pooling == "max":
        return hidden.masked_fill(~real[:, :, None], float("-inf")).amax(dim=1)
    return (hidden * real[:, :, None]).sum(dim=1) / real.sum(dim=1, keepdim=True)


def _set_dropout(model: torch.nn.Module, rate: float) -> None:
    """The rate wherever the stock model drops; LLaMA has no other place than the attention weights."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
        elif hasattr(module, "attention_dropout"):
            module.attention_dropout = rate


def _check_length(length: int, positions: int) -> None:
    if length > positions:
        raise InputError(f"maximum_length is {length}", "method kg_bilm", f"the model has {positions} positions")

"""Entities and relations as tokens with learned vectors in the space of the words (LMKE, Section 3.2; KG-BiLM)."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase

_TEXTS = 1024  # whose word vectors are averaged at a time


class ExtendedEmbedding(torch.nn.Module):
    """The word vectors of a model, followed by `count` further ones: token n + i is further token i of n words.

    The model stays the stock one: `model.set_input_embeddings(ExtendedEmbedding(model.get_input_embeddings(), count))`.
    `words` is the model's own embedding, so that what is tied to it stays tied. The further vectors are float32
    whatever the words are: they are trained, and in bfloat16 most of Adam's steps would be rounded to none. sparse:
    their gradients hold the rows that were read alone.
    """

    def __init__(self, words: torch.nn.Embedding, count: int, sparse: bool = False):
        super().__init__()
        self.words = words
        kind = {"dtype": torch.float32, "device": words.weight.device}
        self.further = torch.nn.Embedding(count, words.embedding_dim, sparse=sparse, **kind)
        initialise(self)

    @property
    def weight(self) -> torch.Tensor:
        """The word vectors (n, d), which is what libraries mean by an input embedding's weight."""
        return self.words.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids, of any shape -> vectors, of that shape and (d,)."""
        first = self.words.num_embeddings
        further = self.further((ids - first).clamp(min=0)).to(self.words.weight.dtype)
        return torch.where((ids >= first)[..., None], further, self.words(ids.clamp(max=first - 1)))


@torch.no_grad()
def initialise(
    extended: ExtendedEmbedding,
    texts: Sequence[str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Start the further vectors at random, or each at the mean of the word vectors of its text (if it has any).

    Random is normal, around zero, with the word vectors' standard deviation: the new tokens are as long as words are.
    """
    words, further = extended.words.weight, extended.further.weight
    further.normal_(std=words.float().std().item())
    for start in range(0, len(texts or ()), _TEXTS):
        tokens = tokenizer(list(texts[start : start + _TEXTS]), add_special_tokens=False)["input_ids"]
        for row, ids in enumerate(tokens, start):
            if ids:
                further[row] = words[ids].float().mean(dim=0)


def stock_modules(model: torch.nn.Module, extended: ExtendedEmbedding) -> list[torch.nn.Module]:
    """The modules of a model that hold its own parameters: all but the further vectors."""
    return [module for module in model.modules() if not list(module.children()) and module is not extended.further]

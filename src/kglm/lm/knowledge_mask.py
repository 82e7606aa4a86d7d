"""The knowledge mask: who attends to whom in a sequence of words and entities (KG-BiLM, Section 3.3, Appendix C.1).

The mask is a float tensor that is added to the attention scores of the stock model. It is never boolean: `eager`
attention silently ignores a boolean mask of four dimensions.
"""

import torch

# What stands at a position; entities, and texts that belong to one, have numbers from 0 instead.
TEXT, UNKNOWN, PADDING = -3, -2, -1
_OTHERS = 3  # these three


def knowledge_mask(
    classes: torch.Tensor,
    near: torch.Tensor,
    attention: str = "knowledge",
    window: int = 2,
    language_model: bool = True,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """The additive mask (b, 1, s, s): 0 where position i (row) sees position j (column), else the type's minimum.

    classes: int64 (b, s): of an entity its slot, 0 to m - 1; of a word or relation m + the slot of its parent entity,
    or TEXT where it has none; UNKNOWN of an entity that is masked; PADDING. near: bool (b, m, m), which slots hold
    entities within the threshold of hops.

    With `knowledge` (Equation 2, Appendix C.1.2), i sees j iff |i - j| <= window, or both are text in the
    language-model mode, or the entities that they are or belong to are near. An unknown entity sees all and is seen
    by all: its neighbourhood would tell who it is. `causal` (j <= i) and `bidirectional` (all) are the two ends that
    Appendix C.1 names. Padding is seen by nobody else; every position sees itself, so that no row is empty.
    """
    real = classes != PADDING
    hidden = torch.finfo(dtype).min
    if attention == "knowledge":
        mask = _by_class(classes, near, language_model, dtype)
        _show_window(mask, real, window)
    else:
        mask = torch.full((*classes.shape, classes.shape[1]), hidden, dtype=dtype, device=classes.device)
        mask.masked_fill_(real[:, None, :], 0)
        if attention == "causal":
            length = classes.shape[1]
            later = torch.ones((length, length), dtype=torch.bool, device=classes.device).triu(1)
            mask.masked_fill_(later, hidden)
    mask.diagonal(dim1=1, dim2=2).zero_()
    return mask[:, None]


def _by_class(classes: torch.Tensor, near: torch.Tensor, language_model: bool, dtype: torch.dtype) -> torch.Tensor:
    """The mask (b, s, s) before the window: a small table of classes, spread over the positions by two gathers."""
    batch, length = classes.shape
    slots = 2 * near.shape[1]  # entities, and behind them the texts that belong to each
    size = slots + _OTHERS
    hidden = torch.finfo(dtype).min
    table = torch.full((batch, size, size), hidden, dtype=dtype, device=classes.device)
    table[:, :slots, :slots].masked_fill_(near.repeat(1, 2, 2), 0)
    if language_model:
        texts = slice(near.shape[1], size + TEXT + 1)  # TEXT stands right behind them
        table[:, texts, texts] = 0
    table[:, UNKNOWN, :] = 0
    table[:, :, UNKNOWN] = 0
    table[:, :, PADDING] = hidden
    index = classes.remainder(size)  # TEXT, UNKNOWN and PADDING are the last rows and columns
    rows = table.gather(1, index[:, :, None].expand(batch, length, size))
    return rows.gather(2, index[:, None, :].expand(batch, length, length))


def _show_window(mask: torch.Tensor, real: torch.Tensor, window: int) -> None:
    """Set the mask (b, s, s) to 0 on the 2 · window + 1 diagonals around the main one, where the column is real."""
    length = mask.shape[1]
    for offset in range(-min(window, length - 1), min(window, length - 1) + 1):
        columns = real[:, max(offset, 0) : length + min(offset, 0)]
        mask.diagonal(offset, dim1=1, dim2=2).masked_fill_(columns, 0)

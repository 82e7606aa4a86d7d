"""Parameters of which a step reads a few rows: their gradients hold these rows alone, and Adam moves no others.

A table of millions of vectors in single precision, with a gradient of its own size, a second one while the first is
added up and a third one to exchange, fits no GPU. In bfloat16 it would fit, and hardly move: a weight has 8 bits, and
Adam's steps are far smaller.
"""

from collections.abc import Callable, Iterable

import torch
import torch.distributed as distributed

from kglm.errors import InputError
from kglm.methods._interface import Method


class Together(torch.optim.Optimizer):
    """Several optimisers that step as one."""

    def __init__(self, *parts: torch.optim.Optimizer):
        self.parts, self.defaults = parts, {}

    @property
    def param_groups(self) -> list[dict]:
        """Those of all parts, in their order."""
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict:
        """That of all parts."""
        return {parameter: state for part in self.parts for parameter, state in part.state.items()}

    def step(self, closure: Callable | None = None) -> None:
        """A step of each."""
        for part in self.parts:
            part.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """See torch.optim.Optimizer."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict:
        """Those of the parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict) -> None:
        """What `state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)


def with_rows(optimizer: torch.optim.Optimizer, sparse: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer, with `sparse` parameters left to Adam on rows (no weight decay), each group at its own rate.

    A row's moments stand still while it has no gradient, as if it had an optimiser of its own.
    """
    of_rows = {id(parameter) for parameter in sparse}
    parts = []
    for group in optimizer.param_groups:
        rows = [parameter for parameter in group["params"] if id(parameter) in of_rows]
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in of_rows]
        if rows:
            parts.append(torch.optim.SparseAdam(rows, group["lr"], group["betas"], group["eps"]))
    return Together(optimizer, *parts) if parts else optimizer


def check_precision(method: Method, where: str) -> None:
    """InputError where a parameter that is trained is not float32."""
    remedy = "set base_weights: float32, or train LoRA adapters; precision: bf16 saves memory and keeps the weights"
    for name, parameter in method.named_parameters():  # not what a method keeps beside them, such as numbers
        if parameter.requires_grad and parameter.dtype != torch.float32:
            raise InputError(f"{name} would hardly move: most steps are rounded to none in 16 bits", where, remedy)


def leave_rows_out(method: Method) -> None:
    """Keep data-parallel training from exchanging sparse gradients, as all of their table: see `average_rows`."""
    sparse = {id(parameter) for parameter in method.sparse_parameters()}
    names = [name for name, parameter in method.named_parameters() if id(parameter) in sparse]
    torch.nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(method, names)


def average_rows(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Make sparse gradients the means over all processes, each of which has read other rows."""
    for parameter in parameters:
        gradient = parameter.grad.coalesce()
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            gradient = _mean(gradient)
        parameter.grad = gradient


def _mean(gradient: torch.Tensor) -> torch.Tensor:
    rows, values = gradient.indices()[0], gradient.values()
    processes = distributed.get_world_size()
    counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(processes)]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    largest = max(int(count) for count in counts)
    all_rows = _gathered(rows, largest)
    all_values = _gathered(values, largest)
    kept = [slice(0, int(count)) for count in counts]
    rows = torch.cat([part[own] for part, own in zip(all_rows, kept, strict=True)])
    values = torch.cat([part[own] for part, own in zip(all_values, kept, strict=True)]) / processes
    return torch.sparse_coo_tensor(rows[None], values, gradient.shape).coalesce()


def _gathered(rows: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Every process's rows, which are filled up to `count`."""
    padded = rows.new_zeros((count, *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, padded)
    return parts


def clip(parameters: Iterable[torch.nn.Parameter], maximum: float) -> torch.Tensor:
    """As PyTorch's clip_grad_norm_, which knows no sparse gradients: the norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    values = [gradient.values() if gradient.is_sparse else gradient for gradient in gradients]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(value) for value in values]))
    factor = (maximum / (norm + 1e-6)).clamp(max=1.0)
    for value in values:
        value.mul_(factor)
    return norm

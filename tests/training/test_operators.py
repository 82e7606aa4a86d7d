"""How many operators a step of a training calls, which no machine changes, and that it waits for none of them."""

from collections import Counter

import pytest
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback

from kglm.methods._interface import build_method
from kglm.training.options import Training
from kglm.training.stages import prepared

KALM = {"base_weights": "bfloat16", "language_model_batch_size": 2, "maximum_language_model_length": 64}
# Of models with two layers in mixed precision: method -> fixture of the model, parameters, operators at most.
BOUNDS = {
    "kalm": ("model_folder", KALM | {"gradient_checkpointing": False}, 1410),
    "kg_bilm": ("model_folder", {"maximum_length": 64, "context_walks": 2}, 3070),
    "simkgc": ("encoder_folder", {}, 1000),
    "c_lmke": ("encoder_folder", {}, 1050),
    "star": ("encoder_folder", {}, 520),
    "lmke": ("encoder_folder", {}, 470),
    "mem_kgc": ("encoder_folder", {}, 850),
    "kg_bert": ("encoder_folder", {"maximum_length": 64}, 460),
}


# Reading a number of the device waits for it; so does asking how many elements are set, or differ.
WAITING = ("local_scalar", "nonzero", "unique", "masked_select")


class Calls(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.counts[str(function)] += 1
        return function(*arguments, **(options or {}))


class Watch(TrainerCallback):
    """Counts those of the fourth step, from beginning to end."""

    def __init__(self):
        self.calls = Calls()

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            self.calls.__enter__()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 4:
            self.calls.__exit__(None, None, None)


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_a_step_calls_few_operators_and_waits_for_none(name, ring_graph, request, tmp_path):
    fixture, parameters, most = BOUNDS[name]
    options = {"epochs": 9, "maximum_steps": 6, "batch_size": 8, "log_every_steps": 6, "validate_every_epochs": 0}
    spec = {"name": name, "seed": 0, "training": options | {"save_every_steps": 6, "maximum_gradient_norm": 1.0}}
    method = build_method(name, parameters, ring_graph, request.getfixturevalue(fixture))
    trainer = prepared(spec, Training.of(spec["training"]), method, ring_graph, tmp_path, dict)
    watch = Watch()
    trainer.add_callback(watch)
    trainer.train()
    counts = watch.calls.counts
    waits = [operator for operator in counts if any(word in operator for word in WAITING)]
    assert not waits, counts
    assert sum(counts.values()) <= most

"""A run's specification, checked and completed, as a configuration resolves it or as it is written by hand."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kglm.methods._interface import method_class
from kglm.options import Options, Seed
from kglm.training.options import Training


@dataclass(frozen=True)
class Run(Options):
    """The keys of a run's specification; parameters and training have checks of their own."""

    name: str
    method: str
    dataset: str
    model: str | None
    seed: Seed
    parameters: dict
    training: dict


def completed(spec: Any, where: str = "spec") -> dict:
    """A run's specification with the defaults of its method and of the training; further keys are left out.

    Of the record run.json that a training wrote, the specification in it. InputError names a key that is missing, or
    that is not known or has no value it may have.
    """
    if isinstance(spec, Mapping) and isinstance(spec.get("spec"), Mapping):
        spec = spec["spec"]
    if isinstance(spec, Mapping):
        spec = {key: value for key, value in spec.items() if key in Run.__dataclass_fields__}
    run = asdict(Run.of(spec, where))
    of = {"parameters": method_class(run["method"]).Parameters, "training": Training}
    return run | {key: asdict(options.of(run[key], f"{where}.{key}")) for key, options in of.items()}

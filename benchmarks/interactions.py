"""How fast our DistMult and RotatE are beside PyKEEN's, whose formulas they have (RotatE: by the norm 2).

Trained (forwards and backwards, single precision) are DistMult, 256 queries beside all 14,541 entities of FB15k-237,
and RotatE, 1,024 triples with 64 false ones each. Ranked are four queries beside all 40,943 entities of WN18RR, in
double precision. The dimension is 100; the times of a pair are taken in turn.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from kglm.methods._pykeen_scores import MatrixProduct, Rotation

from pykeen.nn.modules import DistMultInteraction, Interaction, RotatEInteraction  # isort: skip; as in the module

DIMENSION, QUERIES, FREEBASE, WORDNET, PAIRS = 100, 256, 14_541, 40_943, 1_024 * 65


def vectors(shapes: list[tuple[int, ...]], dtype: torch.dtype) -> list[torch.Tensor]:
    """Heads, relations and tails."""
    return [torch.randn(*shape, DIMENSION, dtype=dtype, requires_grad=True) for shape in shapes]


def step(interaction: Interaction, given: list[torch.Tensor]) -> Callable[[], None]:
    """A forward and a backward pass."""
    return lambda: torch.autograd.grad(interaction(*given).sum(), given)


def scoring(interaction: Interaction, given: list[torch.Tensor]) -> Callable[[], None]:
    """A forward pass without gradients."""

    def run() -> None:
        with torch.inference_mode():
            interaction(*given)

    return run


def tell(name: str, mine: Callable[[], None], pykeens: Callable[[], None], repeats: int) -> None:
    """Print the median times of a pair and the median ratio."""
    times = []
    for _ in range(repeats + 1):
        pair = []
        for function in (mine, pykeens):
            start = time.perf_counter()
            function()
            pair.append(time.perf_counter() - start)
        times.append(pair)
    times = times[1:]  # the first one warms up
    ratio = statistics.median(theirs / own for own, theirs in times)
    own, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{name}: {own:.3f} s, PyKEEN {theirs:.3f} s, {ratio:.1f} times as long")


def main() -> None:
    """Print a line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    product = vectors([(QUERIES, 1), (QUERIES, 1), (1, FREEBASE)], torch.float32)
    tell("DistMult, trained", *(step(one, product) for one in (MatrixProduct(), DistMultInteraction())), repeats)
    pairs = vectors([(PAIRS,)] * 3, torch.cfloat)
    ranked = vectors([(4, 1), (4, 1), (1, WORDNET)], torch.cdouble)
    for norm in (1, 2):
        for name, how, given in (("trained", step, pairs), ("ranked", scoring, ranked)):
            both = (how(one, given) for one in (Rotation(norm), RotatEInteraction()))
            tell(f"RotatE by norm {norm}, {name}", *both, repeats)


if __name__ == "__main__":
    main()

import numpy as np
import pytest
import torch

from kglm.methods._pykeen_scores import PIECE, MatrixProduct, Rotation, rotations

from pykeen.nn.modules import DistMultInteraction, RotatEInteraction  # isort: skip; as in the module

# Of heads, relations and tails: queries with all entities as tails or as heads, and triples.
SHAPES = [((5, 1), (5, 1), (1, 7)), ((1, 7), (5, 1), (5, 1)), ((4,), (4,), (4,))]


@pytest.mark.parametrize("shapes", SHAPES)
def test_distmult_gives_pykeens_scores_and_gradients(shapes):
    torch.manual_seed(0)
    vectors = [torch.randn(*shape, 16, dtype=torch.double, requires_grad=True) for shape in shapes]
    results = []
    for interaction in (MatrixProduct(), DistMultInteraction()):
        scores = interaction(*vectors)
        results.append([scores, *torch.autograd.grad((scores**2).sum(), vectors)])
    for ours, pykeens in zip(*results, strict=True):
        torch.testing.assert_close(ours, pykeens)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("piece", [1, 2**11, 2**20])
@pytest.mark.parametrize("norm", [1, 2])
def test_rotate_gives_pykeens_scores_by_norm_2_and_sums_moduli_by_norm_1(norm, piece, shapes, monkeypatch):
    """The gradients, too."""
    monkeypatch.setitem(PIECE, "cpu", piece)
    torch.manual_seed(0)
    h, t = (torch.randn(*shapes[end], 16, dtype=torch.cdouble, requires_grad=True) for end in (0, 2))
    phases = torch.rand(*shapes[1], 16, dtype=torch.double, requires_grad=True)
    r = torch.complex(phases.cos(), phases.sin())
    references = {
        1: lambda h, r, t: -((h * r - t).real ** 2 + (h * r - t).imag ** 2).sqrt().sum(-1),
        2: RotatEInteraction(),
    }
    results = []
    for interaction in (Rotation(norm), references[norm]):
        scores = interaction(h, r, t)
        results.append([scores, *torch.autograd.grad((scores**2).sum(), (h, phases, t), retain_graph=True)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)
    with torch.no_grad():
        torch.testing.assert_close(Rotation(norm)(h, r, t), results[1][0])


def test_rotate_has_a_gradient_where_the_distance_is_0():
    vector = torch.ones(1, 4, dtype=torch.cfloat, requires_grad=True)
    Rotation(1)(vector, *torch.ones(2, 1, 4, dtype=torch.cfloat)).sum().backward()
    assert torch.isfinite(torch.view_as_real(vector.grad)).all()


def test_rotates_relations_are_phases_that_start_all_around():
    relations = rotations(2, 500, 0.016)
    (phases,) = (parameter.detach() * np.pi / 0.016 for parameter in relations.parameters())
    assert -np.pi <= phases.min() < -3 and 3 < phases.max() <= np.pi
    indices = torch.tensor([1, 0, 1])
    torch.testing.assert_close(relations(indices), torch.complex(phases.cos(), phases.sin())[indices])

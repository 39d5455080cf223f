"""The instance norm by modes is torch's, on the whole field and on kept modes alone."""

import pytest
import torch
import torch.nn.functional as F

from pdesurrogate.layers import (
    kept_multiplicity,
    normalise_kept,
    normalise_modes,
    spectral_analysis,
    spectral_synthesis,
)


def instance_norm(v, order):
    """Over points and elements, ``(batch, *layout, element · channel)``."""
    u = v.unflatten(-1, (order, -1)).movedim(-1, 1)
    return F.instance_norm(u.flatten(2)).view_as(u).movedim(1, -1).flatten(-2)


@pytest.mark.parametrize("grid", [(8, 9), (9, 8), (8, 6, 5)])
def test_kept_modes_of_a_normalised_field_and_norm_of_kept_modes(grid):
    torch.manual_seed(0)
    v = 3 + torch.randn(2, grid[-1], *grid[:-1], 6, dtype=torch.float64)
    modes = tuple(min(5, n) for n in grid)
    kept = spectral_analysis(v, modes)
    found = normalise_modes(kept, v, 3)
    torch.testing.assert_close(found, spectral_analysis(instance_norm(v, 3), modes), rtol=1e-10, atol=1e-12)
    low = spectral_synthesis(kept, modes, grid)
    again = spectral_synthesis(normalise_kept(kept, kept_multiplicity(modes), 3), modes, grid)
    torch.testing.assert_close(again, instance_norm(low, 3), rtol=1e-10, atol=1e-12)


def test_a_mean_much_larger_than_the_deviations_costs_no_accuracy():
    v = 100 + torch.randn(1, 8, 8, 4, dtype=torch.float64)
    wide = normalise_modes(spectral_analysis(v, (5, 5)), v, 2)
    narrow = normalise_modes(spectral_analysis(v.float(), (5, 5)), v.float(), 2)
    assert (narrow - wide).norm() < 1e-4 * wide.norm()


def test_spectra_in_planes_are_normalised_alike():
    v = torch.randn(2, 8, 8, 4)
    kept = spectral_analysis(v, (5, 5))
    planes = torch.stack([kept.real, kept.imag])
    for found, whole in (
        (normalise_modes(planes, v, 2), normalise_modes(kept, v, 2)),
        (
            normalise_kept(planes, kept_multiplicity((5, 5)), 2),
            normalise_kept(kept, kept_multiplicity((5, 5)), 2),
        ),
    ):
        torch.testing.assert_close(torch.complex(*found), whole)


def of_a_field(v):
    return normalise_modes(spectral_analysis(v, (5, 5)), v, 2)


def of_kept_modes(v):
    return normalise_kept(spectral_analysis(v, (5, 5)), kept_multiplicity((5, 5)), 2)


def kept_alone(v):
    return spectral_synthesis(spectral_analysis(v, (5, 5)), (5, 5), (6, 6))


@pytest.mark.parametrize(("found", "field"), [(of_a_field, lambda v: v), (of_kept_modes, kept_alone)])
def test_first_and_second_derivatives_are_those_of_torchs_norm(found, field):
    v = (2 + torch.randn(2, 6, 6, 4, dtype=torch.float64)).requires_grad_()

    def expected(v):
        return spectral_analysis(instance_norm(field(v), 2), (5, 5))

    gradients, curvatures = [], []
    for modes in (found, expected):
        (gradient,) = torch.autograd.grad(modes(v).abs().pow(3).sum(), v, create_graph=True)
        gradients.append(gradient)
        curvatures.append(torch.autograd.grad(gradient.pow(3).sum(), v)[0])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(*curvatures, rtol=1e-9, atol=1e-11)

"""Spherical convolution: what its weights do to harmonics, and which rotations it commutes with."""

from __future__ import annotations

import math

import pytest
import torch

from pdesurrogate.fields.spherical.grid import SphericalGrid
from pdesurrogate.fields.spherical.transforms import SphericalTransform
from pdesurrogate.layers import SphericalConv

GRID = SphericalGrid(16, 32)


def channels_last(u):
    return u.permute(0, 3, 2, 1)


def smooth(grid, degree, channels=2, seed=0):
    """The same random fields of degrees up to ``degree`` on any grid, (batch, channel, lat, lon)."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.randn(1, channels, degree + 1, degree + 1, dtype=torch.complex128, generator=generator)
    spectrum[..., 0] = spectrum[..., 0].real.to(torch.complex128)
    return SphericalTransform(grid, degree, dtype=torch.float64).synthesise(spectrum.tril())


def test_a_degree_is_multiplied_by_its_own_matrix_whatever_its_order():
    conv = SphericalConv(2, 2, 6).double()
    transform = SphericalTransform(GRID, 6, dtype=torch.float64)
    field = smooth(GRID, 6)
    expected = torch.einsum(
        "bilm,lio->bolm", transform.analyse(field), conv.weight[..., 0].to(torch.complex128)
    )
    found = conv(channels_last(field), GRID)
    torch.testing.assert_close(transform.analyse(channels_last(found)), expected, rtol=0, atol=1e-12)


def test_an_imaginary_weight_shifts_waves_eastward_by_a_quarter_of_their_length():
    conv = SphericalConv(1, 1, 6, isotropic=False).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([0.0, -1.0]))
    lon, lat = torch.tensor(GRID.longitudes)[:, None], torch.tensor(GRID.latitudes)
    for order in (1, 2, 3):
        wave = (lat.cos() ** order * (order * lon).cos())[None, :, :, None]
        shifted = (lat.cos() ** order * (order * lon - math.pi / 2).cos())[None, :, :, None]
        torch.testing.assert_close(conv(wave, GRID), shifted, rtol=0, atol=1e-12)
    zonal = lat.sin().expand(1, 32, 16)[..., None]
    assert conv(zonal, GRID).abs().max() < 1e-12


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("max_order", [None, 3])
def test_real_weights_commute_with_all_rotations_and_complex_ones_or_fewer_orders_do_not(
    isotropic, max_order, turned
):
    conv = SphericalConv(2, 2, 7, isotropic=isotropic, max_order=max_order).double()
    field = smooth(GRID, 7)

    def convolve(field):
        return channels_last(conv(channels_last(field), GRID)).detach()

    first = convolve(turned(field, GRID, 7))
    then = turned(convolve(field), GRID, 7)
    error = ((first - then).norm() / then.norm()).item()
    assert error < 1e-12 if isotropic and max_order is None else error > 0.1


@pytest.mark.parametrize("isotropic", [True, False])
def test_turns_about_the_axis_are_symmetries_of_all(isotropic):
    conv = SphericalConv(2, 3, 9, isotropic=isotropic).double()
    u = torch.randn(2, 32, 16, 2, dtype=torch.float64)
    torch.testing.assert_close(conv(u.roll(5, 1), GRID), conv(u, GRID).roll(5, 1), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(
    "grid",
    [
        SphericalGrid(24, 47),
        SphericalGrid(33, 64, "equiangular"),
        SphericalGrid(40, 36, "cell-centred", False),
    ],
    ids=str,
)
def test_the_same_weights_are_the_same_operator_on_every_grid(grid):
    conv = SphericalConv(2, 2, 8, isotropic=False).double()
    coarse, fine = (channels_last(smooth(g, 11)) for g in (GRID, grid))
    expected = conv(coarse, GRID, grid)
    torch.testing.assert_close(conv(fine, grid), expected, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("isotropic", [True, False])
def test_fresh_weights_keep_the_variance_of_what_they_convolve(isotropic):
    conv = SphericalConv(64, 64, 15, isotropic=isotropic)
    u = conv(torch.randn(4, 32, 16, 64), GRID)
    assert conv(u, GRID).var().item() == pytest.approx(u.var().item(), rel=0.1)


def test_every_weight_acts_but_the_imaginary_part_of_the_mean():
    conv = SphericalConv(2, 2, 5, isotropic=False)
    conv(torch.randn(2, 32, 16, 2), GRID).square().sum().backward()
    touched = conv.weight.grad.abs().amin((1, 2)) > 0
    assert not touched[0, 1]
    assert touched.sum() == touched.numel() - 1


def test_gradients_are_those_of_finite_differences():
    grid = SphericalGrid(6, 8)
    conv = SphericalConv(2, 1, 3, isotropic=False).double()
    u = torch.randn(1, 8, 6, 2, dtype=torch.float64, requires_grad=True)

    def convolve(u, weight):
        return torch.func.functional_call(conv, {"weight": weight}, (u, grid))

    assert torch.autograd.gradcheck(convolve, (u, conv.weight), fast_mode=True)


def test_a_degree_beyond_the_grid_is_refused_with_the_grid_that_would_do():
    conv = SphericalConv(1, 1, 20)
    with pytest.raises(ValueError, match=r"T = 20 .*exactly up to T = 15.*at least 21 x 41 points"):
        conv(torch.randn(1, 32, 16, 1), GRID)

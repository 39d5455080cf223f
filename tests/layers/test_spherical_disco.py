"""Local integral operators on the sphere: sums over points, constants, symmetries, other grids, refinement."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pdesurrogate.fields.spherical.grid import SphericalGrid
from pdesurrogate.layers import SphericalDisco
from pdesurrogate.layers.filter_basis import filter_basis
from pdesurrogate.layers.spherical_filters import polar_offsets

GRIDS = [
    SphericalGrid(16, 33),
    SphericalGrid(17, 32, "equiangular"),
    SphericalGrid(14, 28, "cell-centred", north_first=False),
    SphericalGrid(12, 260),  # long rows, analysed by FFTs
]
BASES = [("piecewise_linear", (3, 4)), ("piecewise_linear", (4, 3)), ("morlet", (3, 3)), ("zernike", (3,))]


def analytic(grid, tilt=0.0):
    """A smooth function of position as (batch, lon, lat, channel)."""
    theta, lon = torch.tensor(grid.colatitudes), torch.tensor(grid.longitudes)[:, None]
    x, y, z = theta.sin() * lon.cos(), theta.sin() * lon.sin(), theta.cos().expand(len(lon), -1)
    z, x = math.cos(tilt) * z - math.sin(tilt) * x, math.cos(tilt) * x + math.sin(tilt) * z
    return torch.stack([(2 * x + z).sin() + y * z, (1.5 * y - x).cos() * z], -1)[None]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("channels", [(3, 2), (2, 3)], ids=str)  # both orders of filtering and mixing
def test_it_is_the_sum_over_points_that_its_definition_says(grid, channels):
    cutoff, shape = 0.6, (3, 4)
    disco = SphericalDisco(*channels, cutoff, basis_shape=shape).double()
    u = torch.randn(2, grid.num_lon, grid.num_lat, channels[0], dtype=torch.float64)
    found = disco(u, grid)
    for row in range(0, grid.num_lat, 3):
        radius, angle = polar_offsets(grid.colatitudes[row], grid.colatitudes, grid.longitudes)
        filters = filter_basis("piecewise_linear", 2, shape).on_disc(radius / cutoff, angle)
        filters = filters * torch.tensor(grid.weights)[:, None]
        filters = filters / filters.abs().sum((1, 2), keepdim=True)
        for column in (0, 5):
            seen = u.roll(-column, 1)
            expected = torch.einsum("kjm,bmjc,kco->bo", filters, seen, disco.weight)
            torch.testing.assert_close(found[:, column, row], expected, rtol=0, atol=1e-13)


def test_directions_are_counted_from_south_towards_east():
    theta, step = 1.0, 1e-3
    for there, lon, direction in (
        (theta + step, 0.0, 0.0),
        (theta, step, math.pi / 2),
        (theta - step, 0.0, math.pi),
    ):
        radius, angle = polar_offsets(theta, np.array([there]), np.array([lon]))
        assert angle.item() == pytest.approx(direction, abs=1e-3)
        expected = step * (math.sin(theta) if lon else 1.0)
        assert radius.item() == pytest.approx(expected, rel=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_constants_become_the_sum_of_the_weights_at_every_point_the_poles_among_them(grid):
    disco = SphericalDisco(2, 2, 0.6).double()
    found = disco(torch.ones(1, grid.num_lon, grid.num_lat, 2, dtype=torch.float64), grid)
    torch.testing.assert_close(found, disco.weight.sum((0, 1)).expand_as(found), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(("basis", "shape"), BASES)
@pytest.mark.parametrize("grid", GRIDS[:3], ids=str)
def test_turns_about_the_axis_commute_with_it_and_every_row_is_finite(grid, basis, shape):
    disco = SphericalDisco(2, 2, 0.7, basis=basis, basis_shape=shape).double()
    u = torch.randn(1, grid.num_lon, grid.num_lat, 2, dtype=torch.float64)
    out = disco(u, grid)
    assert out.isfinite().all()
    torch.testing.assert_close(disco(u.roll(3, 1), grid), out.roll(3, 1), rtol=0, atol=1e-12)


@torch.no_grad()
def test_rings_commute_with_rotations_up_to_quadrature_and_filters_with_directions_do_not(turned):
    grid, degree = SphericalGrid(48, 96), 20
    field = turned(analytic(grid).permute(0, 3, 2, 1), grid, degree)  # of degrees up to 20 now
    errors = {}
    for angles in (1, 4):
        disco = SphericalDisco(2, 1, 0.5, basis_shape=(4, angles)).double()
        out = disco(field.permute(0, 3, 2, 1), grid).permute(0, 3, 2, 1)
        out_of_turned = disco(turned(field, grid, degree).permute(0, 3, 2, 1), grid).permute(0, 3, 2, 1)
        errors[angles] = ((out_of_turned - turned(out, grid, 40)).norm() / out.norm()).item()
    assert errors[1] < 0.01, errors
    assert errors[4] > 0.1, errors


@torch.no_grad()
@pytest.mark.parametrize(("basis", "shape"), BASES)
def test_refinement_converges_to_an_integral_at_second_order(basis, shape):
    disco = SphericalDisco(2, 1, 0.8, basis=basis, basis_shape=shape).double()
    reading = SphericalGrid(8, 16)

    def on(size):
        grid = SphericalGrid(size, 2 * size)
        return disco(analytic(grid), grid, reading)

    reference = on(160)
    errors = [((on(size) - reference).norm() / reference.norm()).item() for size in (20, 40, 80)]
    assert errors[-1] < 4e-3, errors
    assert math.log2(errors[0] / errors[-1]) / 2 > 1.5, errors


@torch.no_grad()
def test_on_a_grid_twice_as_fine_it_is_the_operator_built_for_that_grid():
    coarse, fine = SphericalGrid(24, 48), SphericalGrid(48, 96)
    disco = SphericalDisco(2, 2, 0.6).double()
    met = disco(analytic(coarse), coarse), disco(analytic(fine), fine)
    other = SphericalDisco(2, 2, 0.6).double()
    other.load_state_dict(disco.state_dict())
    assert torch.equal(other(analytic(fine), fine), met[1])
    # ... and the same function: the fine output, read on the coarse points, is the coarse output.
    read = disco(analytic(fine), fine, coarse)
    assert (read - met[0]).norm() < 0.02 * read.norm()


@torch.no_grad()
def test_a_coarser_output_is_the_fine_one_on_its_latitudes_without_waves_that_it_cannot_carry():
    fine, coarse = SphericalGrid(24, 48), SphericalGrid(12, 24)
    disco = SphericalDisco(2, 2, 0.6).double()
    same_rows = SphericalGrid(24, 24)
    few_waves = analytic(fine)
    expected = disco(few_waves, fine)[:, ::2]
    torch.testing.assert_close(disco(few_waves, fine, same_rows), expected, rtol=0, atol=1e-8)
    assert disco(few_waves, fine, coarse).shape == (1, 24, 12, 2)


def test_gradients_are_those_of_finite_differences_and_can_be_taken_twice():
    grid = SphericalGrid(6, 8)
    disco = SphericalDisco(2, 2, 1.0, basis_shape=(3, 2)).double()
    u = torch.randn(1, 8, 6, 2, dtype=torch.float64, requires_grad=True)

    def operate(u, weight):
        return torch.func.functional_call(disco, {"weight": weight}, (u, grid)).square()

    assert torch.autograd.gradcheck(operate, (u, disco.weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(operate, (u, disco.weight), fast_mode=True)


def test_per_sample_gradients_and_single_precision_agree_with_the_plain_ones():
    grid = SphericalGrid(8, 16)
    disco = SphericalDisco(2, 2, 0.9)
    u = torch.randn(3, 1, 16, 8, 2)

    def loss(weight, u):
        return torch.func.functional_call(disco, {"weight": weight}, (u, grid)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(disco.weight.detach(), u)
    for sample, gradient in zip(u, each, strict=True):
        (expected,) = torch.autograd.grad(loss(disco.weight, sample), disco.weight)
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
    double = disco.double()(u[0].double(), grid)
    torch.testing.assert_close(disco.float()(u[0], grid).double(), double, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("cutoff", "message"),
    [
        (
            0.1,
            r"cutoff is 0\.1 rad and the latitudes of the grid \(16, 33\) lie 0\.19\d+ rad apart.*at least 0\.2",
        ),
        (3.5, r"cutoff is 3\.5; it is an angle in radians, above 0 and at most π"),
        (-0.3, "above 0"),
    ],
)
def test_cutoffs_that_no_point_or_no_sphere_has_are_refused(cutoff, message):
    disco = SphericalDisco(1, 1, cutoff)
    with pytest.raises(ValueError, match=message):
        disco(torch.randn(1, 33, 16, 1), GRIDS[0])


def test_filters_between_the_points_are_refused_with_their_numbers():
    disco = SphericalDisco(1, 1, 0.25, basis_shape=(9, 12))
    with pytest.raises(ValueError, match=r"filters \[.*\] of a basis of 49 hold no point.*larger cutoff"):
        disco(torch.randn(1, 33, 16, 1), GRIDS[0])

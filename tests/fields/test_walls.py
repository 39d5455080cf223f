"""Truncated transforms of boxes with walls on some or all sides."""

from __future__ import annotations

import cmath
import math

import pytest
import torch

from pdesurrogate.fields.fourier import (
    DFTPlan,
    DFTTransform,
    FFTTransform,
    ReferenceTransform,
    cosine_transform,
    kept_shape,
    pruned_forward,
)

P, W = "periodic", "wall"
ROUTES = [DFTTransform, FFTTransform, ReferenceTransform]
CASES = [  # grid, num_modes, boundaries: every place of a wall, even and odd sizes, up to all modes
    ((16,), (5,), (W,)),
    ((15,), (15,), (W,)),
    ((150,), (20,), (W,)),
    ((12, 16), (5, 6), (W, W)),
    ((13, 9), (13, 9), (W, W)),
    ((12, 16), (5, 6), (W, P)),
    ((12, 16), (5, 6), (P, W)),
    ((9, 11), (9, 11), (W, P)),
    ((9, 11), (9, 11), (P, W)),
    ((8, 8), (8, 8), (P, W)),
    ((6, 7, 8), (3, 4, 5), (W, W, W)),
    ((6, 7, 8), (3, 4, 5), (W, P, P)),
    ((6, 7, 8), (3, 4, 5), (P, W, P)),
    ((6, 7, 8), (6, 7, 8), (P, P, W)),
    ((6, 7, 8), (6, 7, 8), (P, W, W)),
    ((6, 5, 4), (3, 4, 3), (W, P, W)),
    ((6, 5, 4), (3, 4, 3), (W, W, P)),
]


def field(grid, batch=2, channels=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, grid[-1], *grid[:-1], channels, dtype=dtype, generator=generator)


def spectrum_like(transform, batch=2, channels=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    dtype = dtype.to_complex() if P in transform.boundaries else dtype
    return torch.randn(transform.num_kept, batch, channels, dtype=dtype, generator=generator)


def inner(a, b):
    return float((a.conj() * b).sum().real)


def waves(grid, boundaries, numbers, phases):
    """A product of one wave an axis: ``cos(2πkx/L + φ)`` at points, ``cos(πkx/L)`` at cell centres."""
    product = torch.ones(grid, dtype=torch.float64)
    for axis, (n, boundary) in enumerate(zip(grid, boundaries, strict=True)):
        j = torch.arange(n, dtype=torch.float64)
        if boundary == W:
            wave = torch.cos(math.pi * numbers[axis] * (j + 0.5) / n)
        else:
            wave = torch.cos(2 * math.pi * numbers[axis] * j / n + phases[axis])
        product = product * wave.view(-1, *[1] * (len(grid) - axis - 1))
    return product


@pytest.mark.parametrize(("grid", "num_modes", "boundaries"), CASES)
def test_all_routes_give_the_same_modes_and_the_same_field(grid, num_modes, boundaries):
    u = field(grid)
    reference = ReferenceTransform(grid, num_modes, torch.float64, "cpu", boundaries)
    u_hat = reference.analyse(u)
    assert u_hat.shape == (math.prod(kept_shape(num_modes, boundaries)), 2, 3)
    assert u_hat.is_complex() == (P in boundaries)
    v_hat = spectrum_like(reference)
    for route in (DFTTransform, FFTTransform):
        transform = route(grid, num_modes, torch.float64, "cpu", boundaries)
        torch.testing.assert_close(transform.analyse(u), u_hat, atol=1e-13, rtol=0)
        torch.testing.assert_close(
            transform.synthesise(v_hat), reference.synthesise(v_hat), atol=1e-11, rtol=1e-12
        )
        base = torch.randn_like(u)
        total = transform.synthesise(v_hat, accumulate=base.clone())
        torch.testing.assert_close(total, base + reference.synthesise(v_hat), atol=1e-11, rtol=1e-12)
        out = torch.empty_like(u_hat)
        assert transform.analyse(u, out=out) is out
        torch.testing.assert_close(out, u_hat, atol=1e-13, rtol=0)


@pytest.mark.parametrize("route", [DFTTransform, FFTTransform])
@pytest.mark.parametrize(("grid", "num_modes", "boundaries"), CASES)
def test_single_precision_is_exact_to_1e_5(grid, num_modes, boundaries, route):
    reference = ReferenceTransform(grid, num_modes, torch.float64, "cpu", boundaries)
    transform = route(grid, num_modes, torch.float32, "cpu", boundaries)
    u, v_hat = field(grid), spectrum_like(reference)
    small = torch.complex64 if v_hat.is_complex() else torch.float32
    for found, exact in (
        (transform.analyse(u.float()), reference.analyse(u)),
        (transform.synthesise(v_hat.to(small)), reference.synthesise(v_hat)),
    ):
        assert found.dtype == (small if found.is_complex() else torch.float32)
        assert float((found.to(exact.dtype) - exact).norm()) < 1e-6 * float(exact.norm())


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("grid", "num_modes", "boundaries"), CASES)
def test_the_adjoints_are_true_adjoints(grid, num_modes, boundaries, route):
    transform = route(grid, num_modes, torch.float64, "cpu", boundaries)
    u, u_hat = field(grid), spectrum_like(transform)
    for forward, adjoint, x, y in (
        (transform.analyse, transform.analyse_adjoint, u, u_hat),
        (transform.synthesise, transform.synthesise_adjoint, u_hat, u),
    ):
        image = forward(x)
        scale = float(image.abs().square().sum().sqrt() * y.abs().square().sum().sqrt())
        assert abs(inner(image, y) - inner(x, adjoint(y))) < 1e-13 * scale


@pytest.mark.parametrize("boundaries", [(W, W), (W, P), (P, W)])
def test_a_product_of_single_waves_goes_in_and_its_amplitude_is_read_out(boundaries):
    grid, num_modes, numbers, phases = (12, 15), (7, 9), (3, 2), (0.4, 0.7)
    u = 3.0 * waves(grid, boundaries, numbers, phases)
    transform = DFTTransform(grid, num_modes, torch.float64, "cpu", boundaries)
    modes = transform.analyse(u.T[None, ..., None])[:, 0, 0]
    kept = kept_shape(num_modes, boundaries)
    found = modes.view(kept[1], kept[0]).T
    expected = torch.zeros_like(found)
    periodic = [axis for axis in range(2) if boundaries[axis] == P]
    # A wave on a periodic axis is a pair of modes of half its amplitude, of which the half axis holds one.
    expected[numbers] = 3.0 * math.prod([0.5 * cmath.exp(1j * phases[a]) for a in periodic] or [1.0])
    torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("boundaries", [(W, W), (W, P), (P, W)])
def test_modes_of_a_function_do_not_depend_on_the_grid_and_give_it_back_on_any(boundaries, route):
    def function(grid):
        u = waves(grid, boundaries, (2, 1), (0.3, 0.1)) - 0.5 * waves(grid, boundaries, (3, 2), (0.9, 2.0))
        return u.T[None, ..., None].contiguous()

    num_modes = (7, 6)
    coarse = route((8, 7), num_modes, torch.float64, "cpu", boundaries).analyse(function((8, 7)))
    for grid in ((9, 12), (32, 33), (150, 13)):
        transform = route(grid, num_modes, torch.float64, "cpu", boundaries)
        torch.testing.assert_close(transform.analyse(function(grid)), coarse, atol=1e-13, rtol=0)
        torch.testing.assert_close(transform.synthesise(coarse), function(grid), atol=1e-12, rtol=0)


def test_walls_on_all_sides_keep_the_first_cosines_of_each_axis():
    u = field((20, 24), channels=1)
    modes = DFTTransform((20, 24), (6, 5), torch.float64, "cpu", (W, W)).analyse(u)
    whole = cosine_transform(u[..., 0], (1, 2))
    expected = whole[:, :5, :6].flatten(1).T[..., None]
    torch.testing.assert_close(modes, expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("boundaries", [(P, P), None])
def test_without_walls_the_plan_is_the_periodic_one(boundaries):
    u = field((9, 12))
    planes = DFTPlan((9, 12), (4, 5), torch.float64, "cpu", boundaries).analyse(u)
    expected = pruned_forward(u.permute(0, 3, 2, 1), (4, 5)).permute(3, 2, 0, 1).flatten(0, 1)
    torch.testing.assert_close(torch.complex(planes[:, :, 0], planes[:, :, 1]).mT.permute(2, 0, 1), expected)


def test_half_precision_tables_act_on_half_precision_fields():
    transform = DFTTransform((16, 16), (6, 6), torch.bfloat16, "cpu", (W, W))
    u = field((16, 16))
    modes = transform.analyse(u.to(torch.bfloat16))
    assert modes.dtype == torch.float32
    exact = DFTTransform((16, 16), (6, 6), torch.float64, "cpu", (W, W)).analyse(u)
    assert float((modes - exact).norm()) < 1e-2 * float(exact.norm())


@pytest.mark.parametrize("boundaries", [("open", P), (W, "walls")])
def test_a_boundary_without_waves_of_its_own_is_refused(boundaries):
    with pytest.raises(ValueError, match=r"may be periodic and wall; there is none for 'open|walls'"):
        DFTPlan((8, 8), (4, 4), boundaries=boundaries)


def test_more_cosines_than_points_are_refused():
    with pytest.raises(ValueError, match="num_modes of at most 8"):
        DFTPlan((8, 8), (4, 9), boundaries=(W, W))

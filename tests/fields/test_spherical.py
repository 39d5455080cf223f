"""Spherical harmonics: quadrature, single modes in and out, vector calculus, derivatives by autograd."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.spherical.grid import SphericalGrid, spherical_axes, spherical_grid
from pdesurrogate.fields.spherical.transforms import SphericalTransform

GRIDS = [
    SphericalGrid(16, 33),
    SphericalGrid(17, 32, "gauss-legendre", north_first=False),
    SphericalGrid(33, 40, "equiangular"),
    SphericalGrid(32, 41, "cell-centred"),
    SphericalGrid(12, 300),  # more longitudes than the tables of cosines and sines are used for
]
EARTH_RADIUS = 6.37122e6


def spectrum_of(transform: SphericalTransform, *lead: int) -> torch.Tensor:
    """Random coefficients of real fields within the truncation."""
    size = transform.truncation + 1
    draws = torch.randn(*lead, size, size, dtype=torch.complex128, generator=torch.Generator().manual_seed(3))
    draws[..., 0] = draws[..., 0].real.to(torch.complex128)
    return draws.tril()


def angles(grid: SphericalGrid) -> tuple[torch.Tensor, torch.Tensor]:
    """Colatitude and longitude of a grid, ready to broadcast."""
    return torch.tensor(grid.colatitudes)[:, None], torch.tensor(grid.longitudes)[None]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_spectra_survive_the_way_to_the_grid_and_back(grid: SphericalGrid) -> None:
    transform = SphericalTransform(grid, dtype=torch.float64)
    spectrum = spectrum_of(transform, 2, 3)
    field = transform.synthesise(spectrum)
    assert field.shape == (2, 3, *grid.shape)
    torch.testing.assert_close(transform.analyse(field), spectrum, rtol=0, atol=2e-13)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_vorticity_and_divergence_survive_the_way_to_winds_and_back(grid: SphericalGrid) -> None:
    radius = 2.5
    # The equiangular grid has rows at the poles, where the components turn with longitude.
    transform = SphericalTransform(grid, radius=radius, dtype=torch.float64)
    spectrum = spectrum_of(transform, 3, 2)
    spectrum[..., 0, 0] = 0
    back = transform.vorticity_divergence(transform.velocity(spectrum))
    torch.testing.assert_close(back, spectrum, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_weights_integrate_what_a_grid_promises_and_no_more(grid: SphericalGrid) -> None:
    mu, weights = np.cos(grid.colatitudes), grid.weights
    degree = 2 * grid.num_lat - 1 if grid.nodes == "gauss-legendre" else 2 * ((grid.num_lat - 1) // 2) + 1
    even = np.arange(0, degree + 1, 2)
    np.testing.assert_allclose([(weights * mu**k).sum() for k in even], 2 / (even + 1), rtol=1e-13)
    # The first degree beyond, as an orthogonal polynomial: the sum is an integral of 0.
    beyond = np.polynomial.legendre.Legendre.basis(degree + 1)
    assert abs((weights * beyond(mu)).sum()) > 1e-5


def test_harmonics_are_orthonormal_on_the_sphere() -> None:
    grid = SphericalGrid(9, 17)
    transform = SphericalTransform(grid, dtype=torch.float64)
    modes = torch.tril_indices(9, 9)
    spectra = torch.zeros(modes.shape[1], 9, 9, dtype=torch.complex128)
    spectra[torch.arange(modes.shape[1]), modes[0], modes[1]] = 1
    harmonics = transform.synthesise(spectra)
    area = torch.tensor(grid.weights)[:, None] * 2 * math.pi / grid.num_lon
    gram = torch.einsum("ayx,byx,yx->ab", harmonics, harmonics, area.expand(grid.shape))
    # A real field is Y_lm and its conjugate together: twice the norm where m > 0.
    torch.testing.assert_close(gram, torch.diag(torch.where(modes[1] > 0, 2.0, 1.0).double()))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_written_out_harmonics_have_one_coefficient_each(grid: SphericalGrid) -> None:
    transform = SphericalTransform(grid, dtype=torch.float64)
    theta, phi = angles(grid)
    sine, cosine = theta.sin(), theta.cos()
    fields = {
        (1, 1): -math.sqrt(3 / (8 * math.pi)) * sine * phi.cos(),
        (2, 0): math.sqrt(5 / (16 * math.pi)) * (3 * cosine**2 - 1),
        (3, 2): math.sqrt(105 / (32 * math.pi)) * sine**2 * cosine * (2 * phi).cos(),
    }
    for (degree, order), real_part in fields.items():
        expected = torch.zeros(transform.truncation + 1, transform.truncation + 1, dtype=torch.complex128)
        expected[degree, order] = 1.0 if order == 0 else 0.5
        found = transform.analyse(real_part.expand(grid.shape))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_the_divergence_of_a_gradient_is_the_laplacian_of_every_degree() -> None:
    transform = SphericalTransform(SphericalGrid(24, 48), radius=3.0, dtype=torch.float64)
    spectrum = spectrum_of(transform)
    curl, divergence = transform.vorticity_divergence(transform.gradient(spectrum))
    degrees = torch.arange(transform.truncation + 1, dtype=torch.float64)[:, None]
    torch.testing.assert_close(divergence, -degrees * (degrees + 1) / 9 * spectrum, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(transform.laplacian[:, None] * spectrum, divergence, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(curl, torch.zeros_like(curl), rtol=0, atol=1e-11)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_gradients_point_east_and_north_as_written_out(grid: SphericalGrid) -> None:
    radius = 2.0
    transform = SphericalTransform(grid, radius=radius, dtype=torch.float64)
    theta, phi = angles(grid)
    field = (theta.sin() * phi.cos()).expand(grid.shape)
    east, north = transform.gradient(transform.analyse(field))
    torch.testing.assert_close(east, (-phi.sin() / radius).expand(grid.shape), rtol=0, atol=1e-12)
    torch.testing.assert_close(north, -theta.cos() * phi.cos() / radius, rtol=0, atol=1e-12)


def test_solid_rotation_has_the_vorticity_of_twice_its_angular_velocity() -> None:
    omega, radius = 7.292e-5, EARTH_RADIUS
    grid = SphericalGrid(10, 20)
    transform = SphericalTransform(grid, radius=radius, dtype=torch.float64)
    theta, _ = angles(grid)
    east = (omega * radius * theta.sin()).expand(grid.shape)
    spectra = transform.vorticity_divergence(torch.stack([east, torch.zeros_like(east)]))
    vorticity, divergence = transform.synthesise(spectra)
    expected = (2 * omega * theta.cos()).expand(grid.shape)
    torch.testing.assert_close(vorticity, expected, rtol=0, atol=1e-12 * omega)
    assert divergence.abs().max() < 1e-12 * omega


@pytest.mark.parametrize("grid", [SphericalGrid(6, 11), SphericalGrid(7, 8, "equiangular")], ids=str)
def test_transforms_have_the_gradients_of_finite_differences(grid: SphericalGrid) -> None:
    transform = SphericalTransform(grid, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(2, *grid.shape, dtype=torch.float64, generator=generator, requires_grad=True)
    spectrum = spectrum_of(transform, 2).requires_grad_()

    def there_and_back(winds: torch.Tensor) -> torch.Tensor:
        return transform.velocity(transform.vorticity_divergence(winds))

    assert torch.autograd.gradcheck(lambda f: torch.view_as_real(transform.analyse(f)), field)
    assert torch.autograd.gradcheck(there_and_back, field)
    assert torch.autograd.gradcheck(transform.synthesise, spectrum)
    assert torch.autograd.gradcheck(transform.gradient, spectrum)


def test_long_rows_go_through_ffts_to_the_same_numbers_as_through_tables() -> None:
    by_table = SphericalTransform(SphericalGrid(12, 150), 8, dtype=torch.float64)
    by_fft = SphericalTransform(SphericalGrid(12, 300), 8, dtype=torch.float64)
    spectrum = spectrum_of(by_table)
    fine = by_fft.synthesise(spectrum)
    torch.testing.assert_close(fine[:, ::2], by_table.synthesise(spectrum), rtol=0, atol=1e-12)
    torch.testing.assert_close(by_fft.analyse(fine), by_table.analyse(fine[:, ::2]), rtol=0, atol=1e-12)


def test_single_precision_keeps_seven_digits_at_truncation_170() -> None:
    grid = SphericalGrid(171, 342)
    double = SphericalTransform(grid, dtype=torch.float64)
    single = SphericalTransform(grid, dtype=torch.float32)
    spectrum = spectrum_of(double)
    field = double.synthesise(spectrum)
    error = single.synthesise(spectrum.to(torch.complex64)).double() - field
    assert error.norm() / field.norm() < 1e-6
    torch.testing.assert_close(double.analyse(field), spectrum, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("folder", "grid", "tolerance"),
    [
        # Files in float32. Quadrature on the regular grid of 73 latitudes is exact up to T36, while the files hold
        # fields up to T72: what lies beyond is missing there.
        ("gaussian", SphericalGrid(72, 144), 1e-6),
        ("regular", SphericalGrid(73, 144, "equiangular"), 2e-2),
    ],
    ids=["gaussian", "regular"],
)
def test_vector_calculus_of_observed_winds_agrees_with_windspharm(
    folder: str, grid: SphericalGrid, tolerance: float, shared_data: Path
) -> None:
    def file(name: str) -> torch.Tensor:
        return (
            torch.from_numpy(np.load(shared_data / f"windspharm/{folder}/{name}.ref.npy")).squeeze().double()
        )

    def error(found: torch.Tensor, name: str) -> float:
        return float((found - file(name)).norm() / file(name).norm())

    transform = SphericalTransform(grid, radius=EARTH_RADIUS, dtype=torch.float64)
    winds = torch.stack([file("uwnd"), file("vwnd")])
    spectra = transform.vorticity_divergence(winds)
    inverse = torch.where(transform.degrees == 0, 0.0, 1 / transform.laplacian)[:, None]
    nothing = torch.zeros_like(spectra[0])
    rotational = transform.velocity(torch.stack([spectra[0], nothing]))
    divergent = transform.velocity(torch.stack([nothing, spectra[1]]))
    scalars = {"vrt": spectra[0], "div": spectra[1], "psi": inverse * spectra[0], "chi": inverse * spectra[1]}
    found = {name: transform.synthesise(spectrum) for name, spectrum in scalars.items()}
    found |= dict(zip(("upsi", "vpsi", "uchi", "vchi"), (*rotational, *divergent), strict=True))
    found |= dict(zip(("uwnd", "vwnd"), rotational + divergent, strict=True))
    errors = {name: error(field, name) for name, field in found.items()}
    assert max(errors.values()) < tolerance, errors
    # Up to T21 the quadrature of both grids is exact for what the files hold.
    coarse = SphericalTransform(grid, 21, radius=EARTH_RADIUS, dtype=torch.float64)
    truncated = coarse.synthesise(coarse.vorticity_divergence(winds)[0])
    assert error(truncated, "vrt_trunc") < 2e-7


def test_a_truncation_beyond_the_grid_is_refused_with_the_grid_that_would_do() -> None:
    with pytest.raises(ValueError, match=r"exactly up to T = 15.*at least 22 x 43 points"):
        SphericalTransform(SphericalGrid(16, 33), 21)
    with pytest.raises(ValueError, match="products of 2 fields exactly up to T = 10"):
        SphericalGrid(16, 33).require(15, product=2)


def test_the_grid_that_a_refusal_names_is_just_large_enough() -> None:
    for nodes, num_lat in (("gauss-legendre", 22), ("equiangular", 43), ("cell-centred", 43)):
        SphericalGrid(num_lat, 43, nodes).require(21)
        with pytest.raises(ValueError, match=f"at least {num_lat} x 43"):
            SphericalGrid(num_lat - 1, 43, nodes).require(21)


def test_bad_grids_and_options_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"latitudes are 'gauss'; allowed: 'gauss-legendre'"):
        SphericalGrid(8, 16, "gauss")
    with pytest.raises(ValueError, match="at least 2"):
        SphericalGrid(1, 16)
    with pytest.raises(ValueError, match="at least 1"):
        SphericalGrid(8, 0)
    grid = SphericalGrid(8, 16)
    with pytest.raises(ValueError, match=r"radius is -1\.0"):
        SphericalTransform(grid, radius=-1.0)
    with pytest.raises(ValueError, match=r"dtype is torch\.float16"):
        SphericalTransform(grid, dtype=torch.float16)
    transform = SphericalTransform(grid)
    with pytest.raises(ValueError, match=r"a field on \(16, 8\) points .* grid \(8, 16\)"):
        transform.analyse(torch.zeros(16, 8))
    with pytest.raises(ValueError, match="truncation T = 7 has 8 degrees"):
        transform.synthesise(torch.zeros(7, 7, dtype=torch.complex64))


@pytest.mark.parametrize("north_first", [True, False])
@pytest.mark.parametrize("nodes", ["gauss-legendre", "equiangular", "cell-centred"])
def test_a_spec_of_a_sphere_knows_its_grid(nodes: str, north_first: bool) -> None:
    axes = spherical_axes(nodes, north_first=north_first)
    spec = DataSpec((Field("height", "m"),), axes, 1.0, geometry="sphere")
    grid = spherical_grid(DataSpec.from_dict(spec.to_dict()), (9, 16))
    assert grid == SphericalGrid(9, 16, nodes, north_first)
    for axis, angle in zip(axes, (grid.latitudes, grid.longitudes), strict=True):
        np.testing.assert_allclose(axis.coordinates(len(angle)), np.rad2deg(angle), rtol=0, atol=1e-12)


def test_a_grid_is_not_made_up_where_the_spec_does_not_say_it(as_users_run: None) -> None:
    lat, lon = spherical_axes()
    fields = (Field("height"),)
    for axes, geometry in (
        ((lat, lon), "plane"),
        ((Axis("lat", 180.0, "open"), lon), "sphere"),
        ((lon, lat), "sphere"),
    ):
        with pytest.raises(ValueError, match="a rule"):
            spherical_grid(DataSpec(fields, axes, 1.0, geometry=geometry), (8, 16))
    with pytest.raises(ValueError, match="run eastwards from the first column"):
        spherical_grid(
            DataSpec(fields, (lat, Axis("lon", 360.0, offset=0.5)), 1.0, geometry="sphere"), (8, 16)
        )
    with pytest.raises(ValueError, match="two sizes"):
        spherical_grid(DataSpec(fields, (lat, lon), 1.0, geometry="sphere"), (8,))

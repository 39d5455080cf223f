from __future__ import annotations

import itertools
import math

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.spherical.grid import SphericalGrid, spherical_axes
from pdesurrogate.fields.spherical.transforms import SphericalTransform
from pdesurrogate.metrics import error_spectrum, relative_l2
from pdesurrogate.metrics.norms import spatial_means
from pdesurrogate.metrics.scales import energies_by_band
from pdesurrogate.metrics.spectral_errors import nmse_spectrum

WIND = Field("wind", kind="vector", components=("lon", "lat"))


@pytest.mark.parametrize(("ky", "kx"), list(itertools.product((-3, 0, 3), (-4, 0, 4))))
@pytest.mark.parametrize("grid", [(16, 16), (15, 17)])
def test_a_mode_of_any_sign_shows_up_in_its_own_band_with_its_energy(square, wave, grid, ky, kx):
    target = 2.0 * wave(grid, ky, kx, phase=0.0)[None, None, None]
    spectra = error_spectrum(0.5 * target, target, square)
    band = round((ky**2 + kx**2) ** 0.5)
    energy = 2.0 if band else 4.0
    for name, factor in (("target", 1.0), ("prediction", 0.25), ("error", 0.25)):
        bands = getattr(spectra, name)[0, 0, 0]
        assert bands[band].item() == pytest.approx(energy * factor)
        assert bands.sum().item() == pytest.approx(energy * factor)
    assert spectra.wavenumber[band].item() == pytest.approx(band)


def test_bands_add_up_to_the_mean_square_and_components_are_added(vorticity_and_velocity):
    torch.manual_seed(0)
    target, prediction = torch.randn(2, 2, 3, 3, 12, 10, dtype=torch.float64).unbind()
    spectra = error_spectrum(prediction, target, vorticity_and_velocity)
    assert spectra.target.shape[:3] == (2, 3, 2)
    power = target.square().mean((-1, -2))
    torch.testing.assert_close(spectra.target.sum(-1)[..., 0], power[:, :, 0])
    torch.testing.assert_close(spectra.target.sum(-1)[..., 1], power[:, :, 1] + power[:, :, 2])
    wrong = (prediction - target).square().mean((-1, -2))
    torch.testing.assert_close(spectra.error.sum(-1)[..., 0], wrong[:, :, 0])


@pytest.mark.parametrize(("ky", "kx"), list(itertools.product((0, 1, 6), (-2, 0, 2))))
def test_between_walls_a_cosine_shows_up_in_its_own_band_with_its_energy(ky, kx):
    channel = DataSpec((Field("u"),), (Axis("y", 1.0, "wall", offset=0.5), Axis("x", 2.0)), dt=1.0)
    y, x = (torch.arange(16) + 0.5) / 16, torch.arange(12) / 12
    target = torch.cos(torch.pi * ky * y)[:, None] * torch.cos(2 * torch.pi * kx * x)
    target = target.double()[None, None, None]
    found = energies_by_band(target, channel, centred=False)[0, 0, 0]
    # Half waves of the side of length 1 and whole ones of that of 2, in waves of the longest side.
    band = math.floor(math.hypot(ky / 2 / 1.0, kx / 2.0) * 2.0 + 1e-9)
    assert found[band].item() == pytest.approx(target.square().mean().item(), rel=1e-6)
    assert found.sum().item() == pytest.approx(target.square().mean().item())


def test_cosines_leak_less_than_waves_where_a_field_has_ends():
    ramp = (torch.arange(64) + 0.5).double().div(64).expand(1, 1, 1, 64, 64)
    line = DataSpec((Field("u"),), (Axis("y", 1.0), Axis("x", 1.0)), dt=1.0)
    walls = line.replace(axes=tuple(Axis(name, 1.0, "wall", offset=0.5) for name in "yx"))
    small = [energies_by_band(ramp, spec, centred=True)[0, 0, 0, 8:].sum() for spec in (line, walls)]
    assert small[1] < 0.02 * small[0]


SPHERE = DataSpec((Field("height"), WIND), spherical_axes("cell-centred"), dt=1.0, geometry="sphere")


def harmonic(degree, order):
    """A height and a wind of one harmonic each, and the mean squares of both by their analytic norms."""
    grid = SphericalGrid(24, 36, "cell-centred")
    transform = SphericalTransform(grid, dtype=torch.float64)
    modes = torch.zeros(2, transform.truncation + 1, transform.truncation + 1, dtype=torch.complex128)
    modes[0, degree, order] = 2.0
    height, wind = transform.synthesise(modes[0]), transform.velocity(modes)
    square = 4.0 * (2 if order else 1) / (4 * math.pi)
    return torch.cat([height[None], wind])[None, None], square, square / (degree * (degree + 1))


@pytest.mark.parametrize(("degree", "order"), [(1, 0), (3, 2), (5, 5), (8, 1)])
def test_on_a_sphere_a_harmonic_shows_up_in_its_degree_with_its_energy(degree, order):
    target, of_height, of_wind = harmonic(degree, order)
    spectra = error_spectrum(0.5 * target, target, SPHERE)
    for field, energy in enumerate((of_height, of_wind)):
        for bands, factor in ((spectra.target, 1.0), (spectra.prediction, 0.25), (spectra.error, 0.25)):
            assert bands[0, 0, field, degree].item() == pytest.approx(energy * factor)
            assert bands[0, 0, field].sum().item() == pytest.approx(energy * factor)
    assert spectra.wavenumber[degree] == degree
    nmse = nmse_spectrum(0.9 * target, target, SPHERE)
    torch.testing.assert_close(nmse.sum(-1), relative_l2(0.9 * target, target, SPHERE).square())


def test_what_a_sphere_cannot_analyse_is_in_the_last_band():
    torch.manual_seed(0)
    noise = torch.randn(1, 1, 3, 24, 36, dtype=torch.float64)
    bands = energies_by_band(noise, SPHERE, centred=True)
    power = spatial_means(noise.square(), SPHERE)[0, 0, :, 0, 0]
    torch.testing.assert_close(bands[0, 0].sum(-1), torch.stack([power[0], power[1] + power[2]]))
    assert (bands[..., -1] > 0.1).all()

from __future__ import annotations

import itertools

import pytest
import torch

from pdesurrogate.fields import Axis
from pdesurrogate.metrics import error_spectrum


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


def test_a_domain_with_walls_has_no_radial_spectrum(square):
    walls = square.replace(axes=(Axis("y", 1.0, "wall"), Axis("x", 1.0)))
    with pytest.raises(ValueError, match="periodic box"):
        error_spectrum(torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 1, 1, 8, 8), walls)

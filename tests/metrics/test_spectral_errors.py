"""Errors by scale are exact: Parseval on every grid, one mode in one band, a share of energy in the fewest modes."""

from __future__ import annotations

import pytest
import torch

from pdesurrogate.fields import Axis
from pdesurrogate.metrics import relative_l2
from pdesurrogate.metrics.spectral_errors import (
    DominantModes,
    SpectralErrors,
    band_ranges,
    energy_spectrum,
    modes_of_fields,
    nmse_spectrum,
    pdebench_frmse,
)

GRIDS = [(16, 16), (15, 15), (12, 18), (9, 16)]


def fields(grid, batch=3, channels=1):
    return torch.randn(2, batch, 2, channels, *grid, dtype=torch.float64).unbind(0)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_bands_of_the_nmse_spectrum_add_up_to_the_squared_relative_error(square, grid):
    prediction, target = fields(grid)
    total = nmse_spectrum(prediction, target, square).sum(-1)
    torch.testing.assert_close(
        total, relative_l2(prediction, target, square).square(), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("grid", GRIDS)
def test_modes_of_the_half_spectrum_add_up_to_the_mean_square(square, grid):
    u, _ = fields(grid)
    total = modes_of_fields(u, square).flatten(3).sum(-1)
    torch.testing.assert_close(total[..., 0], u.square().mean((-2, -1))[..., 0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("phase", [0.0, 1.1])
@pytest.mark.parametrize("turned", [False, True])
def test_the_wave_3_4_has_all_its_energy_in_band_5_wherever_it_is_and_however_it_is_turned(
    square, wave, phase, turned
):
    u = wave((16, 16), 3, 4, phase=phase)
    u = u.rot90() if turned else u
    spectrum = energy_spectrum(u[None, None, None], square)[0, 0, 0]
    assert spectrum[5].item() == pytest.approx(0.5, rel=1e-12)
    assert spectrum.sum().item() == pytest.approx(0.5, rel=1e-12)


def test_the_corners_of_the_spectrum_are_a_band_of_their_own(square, wave):
    n = 16
    u = wave((n, n), n // 2 - 1, n // 2 - 1)
    spectrum = energy_spectrum(u[None, None, None], square)[0, 0, 0]
    assert len(spectrum) == n // 2 + 1
    assert spectrum[-1].item() == pytest.approx(0.5, rel=1e-12)


def test_the_nmse_spectrum_grows_with_the_square_of_the_error(square):
    prediction, target = fields((16, 16))
    once = nmse_spectrum(prediction, target, square)
    thrice = nmse_spectrum(target + 3 * (prediction - target), target, square)
    torch.testing.assert_close(thrice, 9 * once)


def test_predicting_zero_has_a_relative_error_of_one_in_every_band(square):
    _, target = fields((15, 16))
    errors = SpectralErrors((15, 16), square)
    errors.add(torch.zeros_like(target), target)
    torch.testing.assert_close(errors.relative, torch.ones_like(errors.relative))
    assert errors.nmse.sum().item() == pytest.approx(1)


def test_white_noise_has_as_much_energy_in_a_ring_as_there_are_modes(square):
    n = 32
    noise = torch.randn(400, 1, 1, n, n, dtype=torch.float64)
    found = energy_spectrum(noise, square).mean((0, 1, 2)) * n * n
    k = torch.arange(n) - n // 2
    kappa = (k[:, None].square() + k.square()).double().sqrt().floor().clamp(max=n // 2).long()
    counts = torch.bincount(kappa.flatten(), minlength=n // 2 + 1).double()
    # The mean of 400 samples of a chi-squared energy; ring by ring within five standard errors.
    assert ((found - counts).abs() <= 5 * (2 * counts / 400).sqrt()).all()


def test_the_dominant_modes_of_white_noise_are_nearly_all_of_them(square):
    n = 16
    noise = torch.randn(2000, 1, 1, n, n, dtype=torch.float64)
    dominant = DominantModes.of(modes_of_fields(noise, square).sum((0, 1)), (n, n), share=0.99)
    counted_twice = torch.full((n // 2 + 1,), 2.0)
    counted_twice[[0, -1]] = 1.0
    share = (dominant.mask * counted_twice).sum() / n**2
    assert 0.985 < share < 0.995


def test_the_dominant_modes_of_one_wave_are_itself_alone(square, wave):
    u = wave((16, 16), 2, 5)[None, None, None]
    dominant = DominantModes.of(modes_of_fields(u, square).sum((0, 1)), (16, 16))
    assert torch.nonzero(dominant.mask).tolist() == [[0, 2, 5]]
    again = DominantModes.from_dict(dominant.to_dict())
    assert torch.equal(again.mask, dominant.mask)


def test_errors_of_dominant_and_other_modes_are_told_apart(square, wave):
    big, small = wave((16, 16), 1, 0), 0.01 * wave((16, 16), 3, 4)
    target = (big + small)[None, None, None]
    dominant = DominantModes.of(modes_of_fields(target, square).sum((0, 1)), (16, 16), share=0.99)
    errors = SpectralErrors((16, 16), square, dominant)
    errors.add(target - 0.1 * big - 0.5 * small, target)
    assert errors.split["dominant"].item() == pytest.approx(0.01)
    assert errors.split["non_dominant"].item() == pytest.approx(0.25)
    with pytest.raises(ValueError, match=r"dominant modes are those of the grid \(16, 16\)"):
        SpectralErrors((8, 8), square, dominant)


def test_components_of_a_vector_are_added_and_sides_of_a_box_count_in_physical_units(vorticity_and_velocity):
    spec = vorticity_and_velocity
    prediction, target = fields((12, 18), channels=3)
    total = nmse_spectrum(prediction, target, spec).sum(-1)
    torch.testing.assert_close(total, relative_l2(prediction, target, spec).square(), rtol=1e-10, atol=1e-12)
    x = torch.arange(18, dtype=torch.float64) / 18
    along = torch.cos(2 * torch.pi * 2 * x).expand(
        1, 1, 3, 12, 18
    )  # 2 waves on a side of 2: one per unit length
    assert energy_spectrum(along, spec)[0, 0, 0].argmax() == 2  # bands count waves on the longest side


def test_ranges_scale_with_the_grid_and_those_of_pdebench_do_not(square, wave):
    ranges = band_ranges((64, 64), square)
    assert [ranges[name].start for name in ("low", "middle", "high")] == [0, 8, 24]
    assert band_ranges((32, 32), square)["middle"] == slice(4, 12)
    error = wave((64, 64), 3, 4)[None, None, None]
    found = pdebench_frmse(error, torch.zeros_like(error), square)
    assert found["middle"].item() == pytest.approx(0.5**0.5 / 8)  # bands 5 to 12
    assert found["low"].item() == pytest.approx(0, abs=1e-12)
    errors = SpectralErrors((64, 64), square)
    errors.add(error + wave((64, 64), 0, 30), wave((64, 64), 0, 1)[None, None, None] + error)
    assert errors.by_range["nmse"]["high"].item() == pytest.approx(0.5)


def test_ranges_of_pdebench_are_of_waves_alone(square):
    walls = square.replace(axes=(Axis("y", 1.0, "wall", offset=0.5), Axis("x", 1.0)))
    prediction, target = fields((16, 16))
    with pytest.raises(ValueError, match="needs a periodic box"):
        pdebench_frmse(prediction, target, walls)


def test_a_band_with_nothing_but_rounding_of_the_truth_is_told_from_the_others(square):
    x = torch.arange(16) / 16
    target = torch.sin(2 * torch.pi * x).expand(1, 1, 1, 16, 16)  # single precision, of mean zero
    errors = SpectralErrors((16, 16), square)
    errors.add(target + 0.1, target)
    assert errors.has_energy.nonzero().tolist() == [[0, 1]]
    assert errors.relative[0, 0] > 1e6

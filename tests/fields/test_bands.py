from __future__ import annotations

import itertools
import math

import pytest
import torch

from pdesurrogate.fields.fourier import RadialBands

SIGNS = list(itertools.product((1, -1), (1, -1)))
BOXES = [
    ((16, 16), (1.0, 1.0)),
    ((15, 15), (1.0, 1.0)),
    ((16, 15), (2.0, 2.0)),
    ((15, 24), (1.0, 3.0)),
    ((24, 10), (3.0, 1.3)),
    ((32,), (5.0,)),
    ((8, 9, 10), (1.0, 1.5, 2.0)),
]


@pytest.mark.parametrize(("sign_y", "sign_x"), SIGNS)
@pytest.mark.parametrize("grid", [(16, 16), (15, 15), (16, 15), (15, 16)])
def test_a_single_mode_lands_with_its_full_energy_in_the_band_of_its_wavenumber(grid, sign_y, sign_x, mode):
    bands = RadialBands(grid, (2.0, 2.0))
    spectrum = bands.spectrum(mode(grid, (3 * sign_y, -5 * sign_x), amplitude=2.0, phase=0.4))
    expected = torch.zeros_like(spectrum)
    expected[6] = 2.0  # sqrt(9 + 25) = 5.83 lies in [5.5, 6.5); the mean square of 2 cos is 2
    torch.testing.assert_close(spectrum, expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize(("sign_y", "sign_x"), SIGNS)
def test_bands_measure_physical_wavenumber_on_unequal_lengths(sign_y, sign_x, mode):
    grid, lengths = (16, 48), (1.0, 3.0)
    bands = RadialBands(grid, lengths)
    assert bands.spacing == pytest.approx(2 * math.pi / 3)
    spectrum = bands.spectrum(mode(grid, (2 * sign_y, 4 * sign_x), phase=0.4))
    # In units of the spacing the wavenumber is (2·3, 4): |κ| = sqrt(52) = 7.21.
    assert int(spectrum.argmax()) == 7
    assert float(spectrum[7]) == pytest.approx(0.5)


@pytest.mark.parametrize(("grid", "lengths"), BOXES)
def test_the_bands_add_up_to_the_mean_square_of_white_noise(grid, lengths):
    u = torch.randn(2, 3, *grid, dtype=torch.float64)
    spectrum = RadialBands(grid, lengths).spectrum(u)
    mean_square = u.square().flatten(2).mean(-1)
    torch.testing.assert_close(spectrum.sum(-1), mean_square, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("grid", "lengths"), BOXES)
def test_bands_agree_with_a_count_over_the_full_complex_spectrum(grid, lengths):
    bands = RadialBands(grid, lengths)
    u = torch.randn(grid, dtype=torch.float64)
    expected = torch.zeros(bands.num_bands, dtype=torch.float64)
    points = torch.cartesian_prod(*[torch.arange(n) for n in grid]).view(-1, len(grid)).to(torch.float64)
    for k in itertools.product(*[range(-(n // 2), (n + 1) // 2) for n in grid]):
        turns = sum(points[:, i] * k[i] / grid[i] for i in range(len(grid)))
        amplitude = (u.flatten() * torch.exp(-2j * math.pi * turns)).mean()
        radius = math.sqrt(sum((k[i] / lengths[i]) ** 2 for i in range(len(grid)))) * max(lengths)
        band = min(math.floor(radius + 0.5 + 1e-9), bands.num_complete)
        expected[band] += float(amplitude.abs() ** 2)
    torch.testing.assert_close(bands.spectrum(u), expected, rtol=1e-11, atol=1e-15)


def test_the_mean_is_band_zero_alone():
    spectrum = RadialBands((8, 8), (1.0, 1.0)).spectrum(torch.full((8, 8), 3.0))
    assert spectrum[0] == pytest.approx(9.0)
    assert float(spectrum[1:].abs().max()) < 1e-28


@pytest.mark.parametrize("k", [(7, 7), (-7, 7), (8, 8), (8, 3)])
def test_modes_beyond_the_last_complete_shell_share_the_corner_bin(k, mode):
    bands = RadialBands((16, 16), (1.0, 1.0))
    spectrum = bands.spectrum(mode((16, 16), k))
    assert bands.num_complete == 9
    expected_band = 9 if math.hypot(*k) >= 8.5 else 8
    assert int(spectrum.argmax()) == expected_band
    assert float(spectrum[expected_band] / spectrum.sum()) == pytest.approx(1.0, rel=1e-12)


def test_the_spectrum_of_a_function_does_not_depend_on_the_grid(band_limited):
    coarse = RadialBands((16, 16), (1.0, 1.0)).spectrum(band_limited((16, 16), cutoff=5))
    fine = RadialBands((33, 48), (1.0, 1.0)).spectrum(band_limited((33, 48), cutoff=5))
    torch.testing.assert_close(coarse[:8], fine[:8], rtol=1e-10, atol=0)


@pytest.mark.parametrize(("grid", "complete"), [((16, 16), 9), ((15, 15), 8), ((16, 8), 5), ((33,), 17)])
def test_shells_are_complete_up_to_the_smallest_nyquist_wavenumber(grid, complete):
    bands = RadialBands(grid, (1.0,) * len(grid))
    assert bands.num_complete == complete
    assert bands.num_bands == complete + 1
    assert bands.centres.tolist() == pytest.approx([2 * math.pi * b for b in range(complete)])


@pytest.mark.parametrize("sizes", [(1.0, 0.1), (1.0, 0.3), (0.7, 2.1), (1.0, math.pi)])
def test_a_shell_is_complete_on_long_boxes_too(sizes, mode):
    """Every complete shell holds the longest axis' own mode, whatever the ratio of lengths."""
    grid = (24, 24)
    bands = RadialBands(grid, sizes)
    axis = sizes.index(max(sizes))
    for number in range(1, bands.num_complete):
        k = [0, 0]
        k[axis] = number
        assert int(bands.spectrum(mode(grid, k, phase=0.1)).argmax()) == number


def test_a_field_on_another_grid_is_refused():
    with pytest.raises(ValueError, match="does not end in the grid"):
        RadialBands((8, 8), (1.0, 1.0)).spectrum(torch.zeros(8, 9))


@pytest.mark.parametrize(
    ("grid", "lengths"), [((8, 8), (1.0,)), ((), ()), ((0, 8), (1.0, 1.0)), ((8,), (0.0,))]
)
def test_an_impossible_box_is_refused(grid, lengths):
    with pytest.raises(ValueError, match=r"grid .* lengths"):
        RadialBands(grid, lengths)

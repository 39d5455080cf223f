from __future__ import annotations

import itertools
import math

import pytest
import torch

from pdesurrogate.fields.fourier import (
    forward_transform,
    inverse_transform,
    mode_numbers,
    multiplicity,
    wavenumbers,
)

SIGNS = list(itertools.product((1, -1), (1, -1)))
GRIDS = [(16, 16), (15, 15), (16, 15), (15, 16), (12, 20)]


@pytest.mark.parametrize("size", [1, 2, 5, 6, 31, 32])
def test_mode_numbers_are_those_of_numpy(size):
    import numpy as np

    full = np.rint(np.fft.fftfreq(size) * size).astype(int)
    half = np.rint(np.fft.rfftfreq(size) * size).astype(int)
    assert mode_numbers(size).tolist() == full.tolist()
    assert mode_numbers(size, half=True).tolist() == half.tolist()


def test_wavenumbers_are_angular_and_scale_with_the_length_of_the_axis():
    assert wavenumbers(8, 2 * math.pi).tolist() == pytest.approx([0, 1, 2, 3, -4, -3, -2, -1])
    assert wavenumbers(8, 1.0, half=True).tolist() == pytest.approx([2 * math.pi * k for k in range(5)])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("sign_y", "sign_x"), SIGNS)
def test_a_single_mode_has_half_its_amplitude_at_its_own_place_and_nowhere_else(grid, sign_y, sign_x, mode):
    k_y, k_x, phase = 3 * sign_y, 5 * sign_x, 0.7
    u_hat = forward_transform(mode(grid, (k_y, k_x), amplitude=3.0, phase=phase), 2)
    expected = torch.zeros_like(u_hat)
    # The half axis holds k_x >= 0, so a mode with k_x < 0 is seen through its conjugate.
    row = k_y if k_x > 0 else -k_y
    angle = phase if k_x > 0 else -phase
    expected[row, abs(k_x)] = 1.5 * complex(math.cos(angle), math.sin(angle))
    torch.testing.assert_close(u_hat, expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("grid", [(9,), (8,), (6, 7), (7, 6), (5, 6, 8), (4, 6, 5)])
def test_inverse_undoes_forward_on_white_noise(grid):
    u = torch.randn(2, 3, *grid, dtype=torch.float64)
    torch.testing.assert_close(inverse_transform(forward_transform(u, len(grid)), grid), u)


@pytest.mark.parametrize("grid", [(1,), (2,), (9,), (8,), (6, 7), (7, 6), (4, 6, 5), (5, 4, 6)])
def test_parseval_holds_on_the_half_spectrum_with_multiplicity(grid):
    u = torch.randn(grid, dtype=torch.float64)
    power = forward_transform(u, len(grid)).abs().square()
    assert float((power * multiplicity(grid)).sum()) == pytest.approx(float(u.square().mean()), rel=1e-13)


def test_amplitudes_do_not_depend_on_the_grid(mode):
    values = [forward_transform(mode((n, n), (2, -3), amplitude=0.5), 2)[-2, 3] for n in (8, 9, 32, 33)]
    torch.testing.assert_close(torch.stack(values), torch.full((4,), 0.25, dtype=torch.complex128))

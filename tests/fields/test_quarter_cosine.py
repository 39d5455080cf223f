from __future__ import annotations

import math

import pytest
import scipy.fft
import torch

from pdesurrogate.fields.fourier import (
    inverse_quarter_cosine_transform,
    quarter_cosine_transform,
    quarter_cosine_wavenumbers,
)

SIZES = [1, 2, 3, 16, 33, 64, 65, 178]  # both sides of the change of route, at 64 | 65


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_amplitudes_equal_those_of_scipy_along_every_axis_and_come_back(size, dim):
    shape = [2, 3, 4]
    shape[dim] = size
    u = torch.randn(shape, dtype=torch.float64)
    amplitudes = quarter_cosine_transform(u, dim)
    expected = torch.from_numpy(scipy.fft.dct(u.numpy(), type=4, axis=dim)) / size
    torch.testing.assert_close(amplitudes, expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(inverse_quarter_cosine_transform(amplitudes, dim), u, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("size", "k"), [(8, 0), (9, 8), (200, 117)])
def test_one_quarter_wave_goes_in_and_its_amplitude_is_read_out(size, k):
    x = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    amplitudes = quarter_cosine_transform(3.0 * torch.cos((k + 0.5) * math.pi * x), 0)
    expected = torch.zeros(size, dtype=torch.float64)
    expected[k] = 3.0
    torch.testing.assert_close(amplitudes, expected, atol=1e-12, rtol=0)


def test_wavenumbers_are_the_square_roots_of_the_eigenvalues_of_the_laplacian():
    size, length, k = 4096, 2.5, 3
    kappa = float(quarter_cosine_wavenumbers(size, length)[k])
    dx = length / size
    u = torch.cos(kappa * (torch.arange(size, dtype=torch.float64) + 0.5) * dx)
    padded = torch.cat([u[:1], u, -u[-1:]])  # a mirror at the wall, the opposite sign beyond the open end
    second_difference = (padded[2:] - 2 * u + padded[:-2]) / dx**2
    torch.testing.assert_close(second_difference, -(kappa**2) * u, rtol=0, atol=1e-5 * kappa**2)


@pytest.mark.usefixtures("as_users_run")
def test_fields_that_are_not_real_and_of_full_precision_are_refused():
    with pytest.raises(TypeError, match="real fields in float32 or float64"):
        quarter_cosine_transform(torch.ones(4, dtype=torch.int64), 0)

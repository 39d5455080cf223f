from __future__ import annotations

import itertools
import math

import pytest
import torch

from pdesurrogate.fields.fourier import derivative, gradient, laplacian

SIGNS = list(itertools.product((1, -1), (1, -1)))
LENGTHS = (2.0, 3.5)


@pytest.mark.parametrize("grid", [(16, 16), (15, 15), (16, 15), (15, 16)])
@pytest.mark.parametrize(("sign_y", "sign_x"), SIGNS)
@pytest.mark.parametrize("order", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("axis", [0, 1])
def test_each_derivative_of_a_single_mode_shifts_its_phase_by_a_quarter_turn(
    grid, sign_y, sign_x, order, axis, mode
):
    k = (3 * sign_y, 5 * sign_x)
    kappa = 2 * math.pi * k[axis] / LENGTHS[axis]
    u = mode(grid, k, amplitude=2.0, phase=0.2)
    expected = mode(grid, k, amplitude=2.0 * kappa**order, phase=0.2 + order * math.pi / 2)
    for dim in (axis, axis - 2):
        result = derivative(u, dim, LENGTHS[axis], order)
        torch.testing.assert_close(result, expected, atol=1e-11 * abs(kappa) ** order, rtol=0)


def test_the_nyquist_cosine_has_no_odd_derivative_and_the_right_even_one():
    cosine = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    kappa = 2 * math.pi * 4 / 3.0
    for order in (1, 3):
        torch.testing.assert_close(derivative(cosine, 0, 3.0, order), torch.zeros_like(cosine))
    torch.testing.assert_close(derivative(cosine, 0, 3.0, 2), -(kappa**2) * cosine)
    torch.testing.assert_close(derivative(cosine, 0, 3.0, 4), kappa**4 * cosine)


@pytest.mark.parametrize(("sign_y", "sign_x"), SIGNS)
def test_the_gradient_stacks_one_component_per_axis_before_space(sign_y, sign_x, mode):
    k = (2 * sign_y, 3 * sign_x)
    u = mode((12, 10), k, phase=0.1).expand(4, 2, 12, 10)
    grad = gradient(u, LENGTHS)
    assert grad.shape == (4, 2, 2, 12, 10)
    for axis in (0, 1):
        kappa = 2 * math.pi * k[axis] / LENGTHS[axis]
        expected = mode((12, 10), k, amplitude=-kappa, phase=0.1 - math.pi / 2)
        torch.testing.assert_close(grad[3, 1, axis], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("grid", [(16,), (12, 15), (15, 12), (8, 9, 10)])
def test_a_mode_is_an_eigenfunction_of_the_laplacian(grid, mode):
    lengths = (2.0, 3.5, 1.0)[: len(grid)]
    k = (3, -2, 4)[: len(grid)]
    u = mode(grid, k, phase=0.6)
    eigenvalue = -sum((2 * math.pi * n / length) ** 2 for n, length in zip(k, lengths, strict=True))
    torch.testing.assert_close(laplacian(u, lengths), eigenvalue * u, atol=1e-11 * abs(eigenvalue), rtol=0)


def test_a_derivative_stays_accurate_in_single_precision(mode):
    u = mode((64,), (7,)).to(torch.float32)
    expected = mode((64,), (7,), amplitude=-7.0, phase=-math.pi / 2).to(torch.float32)
    result = derivative(u, 0, 2 * math.pi)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected, atol=2e-5, rtol=0)


def test_a_negative_order_is_refused():
    with pytest.raises(ValueError, match="order is -1"):
        derivative(torch.zeros(4), 0, 1.0, order=-1)

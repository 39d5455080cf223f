from __future__ import annotations

import math

import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pdesurrogate.fields.fourier import (
    cosine_multiplicity,
    cosine_transform,
    cosine_wavenumbers,
    inverse_cosine_transform,
)
from pdesurrogate.fields.fourier.cosine import LONGEST_PRODUCT

SHORT = [1, 2, 3, 4, 9, 16, 33, 64]
LONG = [LONGEST_PRODUCT + 1, LONGEST_PRODUCT + 2, 255, 256, 1000]


def cosine(size, k, amplitude=1.0):
    """``a cos(πk x / L)`` at the cell centres of ``L``, with the phase reduced exactly before it becomes an angle."""
    phase = (k * (2 * torch.arange(size) + 1)) % (4 * size)
    return amplitude * torch.cos(phase.double() * math.pi / (2 * size))


def amplitudes_by_scipy(u, dims):
    """scipy's DCT-II sums ``2 u cos``; the mean counts once and every other cosine twice in our amplitudes."""
    expected = scipy.fft.dctn(u.numpy(), type=2, axes=dims)
    for dim in dims:
        size = u.shape[dim]
        weight = (cosine_multiplicity(size) / (2 * size)).view(-1, *[1] * (u.ndim - dim - 1))
        expected = expected * weight.numpy()
    return torch.from_numpy(expected)


@pytest.mark.parametrize("size", SHORT + LONG)
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_amplitudes_equal_those_of_scipy_along_every_axis(size, dim):
    shape = [2, 3, 4]
    shape[dim] = size
    u = torch.randn(shape, dtype=torch.float64)
    expected = amplitudes_by_scipy(u, (dim,))
    torch.testing.assert_close(cosine_transform(u, dim), expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(cosine_transform(u, dim - 3), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("shape", [(16, 12), (15, 130), (131, 9), (8, 9, 10)])
def test_several_axes_at_once_equal_scipy_in_any_order(shape):
    u = torch.randn(2, *shape, dtype=torch.float64)
    dims = tuple(range(1, u.ndim))
    expected = amplitudes_by_scipy(u, dims)
    torch.testing.assert_close(cosine_transform(u, dims), expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(cosine_transform(u, dims[::-1]), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize(("size", "k"), [(8, 0), (8, 3), (9, 8), (200, 0), (200, 117), (201, 200)])
def test_one_cosine_goes_in_and_its_amplitude_is_read_out(size, k):
    amplitudes = cosine_transform(cosine(size, k, amplitude=3.0), 0)
    expected = torch.zeros(size, dtype=torch.float64)
    expected[k] = 3.0
    torch.testing.assert_close(amplitudes, expected, atol=1e-13, rtol=0)
    torch.testing.assert_close(
        inverse_cosine_transform(expected, 0), cosine(size, k, 3.0), atol=1e-12, rtol=0
    )


def test_amplitudes_of_a_function_do_not_depend_on_the_grid():
    def field(size):
        return cosine(size, 0, 0.5) + cosine(size, 3, 2.0) - cosine(size, 6, 1.5)

    coarse = cosine_transform(field(8), 0)
    for size in (9, 64, 129, 300):
        fine = cosine_transform(field(size), 0)
        torch.testing.assert_close(fine[:8], coarse, atol=1e-13, rtol=0)
        assert float(fine[8:].abs().max()) < 1e-13


@pytest.mark.parametrize("size", SHORT + LONG)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back_is_the_identity(size, dtype):
    u = torch.randn(2, size, 3, size, dtype=dtype) if size < 100 else torch.randn(3, size, 2, dtype=dtype)
    dims = (1, -1) if size < 100 else 1
    back = inverse_cosine_transform(cosine_transform(u, dims), dims)
    assert back.dtype == dtype
    torch.testing.assert_close(back, u, atol=1e-5 if dtype == torch.float32 else 1e-12, rtol=0)


@pytest.mark.parametrize("size", [16, 33, 200, 333])
def test_the_mean_square_is_the_sum_over_the_amplitudes(size):
    u = torch.randn(size, dtype=torch.float64)
    total = (cosine_transform(u, 0).square() / cosine_multiplicity(size)).sum()
    torch.testing.assert_close(total, u.square().mean(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("size", [LONGEST_PRODUCT, LONGEST_PRODUCT + 1])
def test_single_precision_is_accurate_on_both_sides_of_the_change_of_route(size):
    u = torch.randn(4, size, 5, dtype=torch.float64)
    for transform in (cosine_transform, inverse_cosine_transform):
        exact = transform(u, 1)
        error = (transform(u.float(), 1).double() - exact).norm() / exact.norm()
        assert float(error) < 1e-6


@pytest.mark.parametrize(
    ("shape", "dims"), [((2, 5), 1), ((4, 3), (0, 1)), ((1, 131), 1), ((132,), 0), ((2, 3, 2), (2, 0))]
)
def test_gradients_are_exact(shape, dims):
    u = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    for transform in (cosine_transform, inverse_cosine_transform):
        assert torch.autograd.gradcheck(lambda v, f=transform: f(v, dims), (u,))
        assert torch.autograd.gradgradcheck(lambda v, f=transform: f(v, dims), (u,))


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 300), batch=st.integers(0, 3), rest=st.integers(1, 3), seed=st.integers(0, 99))
def test_any_size_equals_scipy_and_comes_back(size, batch, rest, seed):
    u = torch.randn(batch, size, rest, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    amplitudes = cosine_transform(u, 1)
    if batch:
        torch.testing.assert_close(amplitudes, amplitudes_by_scipy(u, (1,)), atol=1e-13, rtol=0)
    torch.testing.assert_close(inverse_cosine_transform(amplitudes, 1), u, atol=1e-12, rtol=0)


@pytest.mark.parametrize("size", [12, 200])
def test_strides_do_not_matter(size):
    u = torch.randn(4, size, 6, dtype=torch.float64)
    expected = cosine_transform(u, 1)
    turned = u.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    torch.testing.assert_close(cosine_transform(turned, 1), expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(cosine_transform(turned.transpose(1, 2), 2), expected.mT, rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [24, 200])
def test_a_sample_does_not_depend_on_its_neighbours_in_the_batch(size):
    u = torch.randn(5, size, size, dtype=torch.float64)
    together = cosine_transform(u, (1, 2))
    alone = torch.cat([cosine_transform(u[i : i + 1], (1, 2)) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-16)


def test_wavenumbers_are_the_square_roots_of_the_eigenvalues_of_the_laplacian():
    size, length, k = 4096, 2.5, 3
    u, dx = cosine(size, k), length / size
    second_difference = (u[2:] - 2 * u[1:-1] + u[:-2]) / dx**2
    kappa = float(cosine_wavenumbers(size, length)[k])
    torch.testing.assert_close(second_difference, -(kappa**2) * u[1:-1], rtol=0, atol=1e-5 * kappa**2)
    assert cosine_wavenumbers(4, 1.0, dtype=torch.float32).dtype == torch.float32


def test_tables_first_made_in_inference_mode_carry_gradients_later():
    for size in (37, 171):
        with torch.inference_mode():
            cosine_transform(torch.randn(2, size), 1)
        u = torch.randn(2, size, requires_grad=True)
        cosine_transform(u, 1).square().sum().backward()
        assert u.grad is not None
        assert float(u.grad.abs().max()) > 0


def test_where_products_of_float32_may_be_rounded_the_transform_is_not():
    u = torch.randn(3, 64, dtype=torch.float64)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = cosine_transform(u.float(), 1).double()
    finally:
        torch.set_float32_matmul_precision(before)
    torch.testing.assert_close(found, cosine_transform(u, 1), rtol=0, atol=1e-6)


def test_under_autocast_the_transform_keeps_its_digits_and_its_dtype():
    u = torch.randn(3, 64, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cosine_transform(u.float(), 1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), cosine_transform(u, 1), rtol=0, atol=1e-6)


def test_a_traced_program_holds_products_and_no_fft():
    class Smooth(torch.nn.Module):
        def forward(self, u):
            return inverse_cosine_transform(0.5 * cosine_transform(u, (1, 2)), (1, 2))

    u = torch.randn(2, 9, 200)
    exported = torch.export.export(Smooth(), (u,), strict=False)
    assert "fft" not in str(exported.graph)
    torch.testing.assert_close(exported.module()(u), 0.5 * u, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.float16])
def test_fields_that_are_not_real_and_of_full_precision_are_refused(dtype):
    with pytest.raises(TypeError, match="real fields in float32 or float64"):
        cosine_transform(torch.ones(4, 4, dtype=dtype), 0)


@pytest.mark.parametrize("dims", [(0, 0), (1, -1), (2,), (-3,)])
def test_axes_that_repeat_or_do_not_exist_are_refused(dims):
    with pytest.raises(ValueError, match=r"axes .* (do not all exist|may be given)|each may be given once"):
        cosine_transform(torch.zeros(4, 4), dims)


def test_an_empty_axis_is_refused_and_an_empty_batch_is_not():
    with pytest.raises(ValueError, match="at least one point"):
        inverse_cosine_transform(torch.zeros(4, 0), 1)
    assert cosine_transform(torch.zeros(0, 200), 1).shape == (0, 200)
    assert inverse_cosine_transform(torch.zeros(0, 20, 3), 1).shape == (0, 20, 3)

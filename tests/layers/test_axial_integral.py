"""The integral operator with one kernel an axis, against the sum over all pairs of points."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pdesurrogate.layers import axial_integral
from pdesurrogate.layers.axial_integral import EPS

BATCH, HEADS, HEAD_DIM, CHANNELS, OUT = 2, 2, 3, 4, 5
SPACES = {"line": (5,), "plane": (4, 6), "box": (3, 4, 2)}


def operator(space, rank=None, dtype=torch.float64):
    """A field, kernels of every axis (factors of a rank if one is given), and the matrices into and out of heads."""
    kernels = [
        (torch.randn(BATCH, HEADS, n, n, dtype=dtype),)
        if rank is None
        else (
            torch.randn(BATCH, HEADS, n, rank, dtype=dtype),
            torch.randn(BATCH, HEADS, rank, n, dtype=dtype),
        )
        for n in space
    ]
    u = torch.randn(BATCH, *space, CHANNELS, dtype=dtype)
    inward = torch.randn(HEADS * HEAD_DIM, CHANNELS, dtype=dtype)
    return u, kernels, inward, torch.randn(OUT, HEADS * HEAD_DIM, dtype=dtype)


def dense(u, kernels, inward, outward):
    """The integral as a sum over all pairs of points, one kernel of ``N²`` entries for every head of a sample."""
    y = u.new_zeros(*u.shape[:-1], outward.shape[0])
    for b in range(BATCH):
        points = u[b].reshape(-1, CHANNELS)
        for h in range(HEADS):
            channels = slice(h * HEAD_DIM, (h + 1) * HEAD_DIM)
            kernel = torch.ones(1, 1, dtype=u.dtype)
            for factors in kernels:
                matrices = [factor[b, h] for factor in factors]
                kernel = torch.kron(kernel, matrices[0] if len(matrices) == 1 else matrices[0] @ matrices[1])
            z = torch.einsum("xs,sc->xc", kernel, points @ inward[channels].T)
            z = (z - z.mean()) / (z.var(correction=0) + EPS).sqrt()
            y[b] += (z @ outward[:, channels].T).view(*u.shape[1:-1], -1)
    return y


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_it_is_the_sum_over_all_pairs_of_points(space, rank):
    parts = operator(space, rank)
    torch.testing.assert_close(axial_integral(*parts), dense(*parts), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_its_gradients_are_those_of_the_sum_over_all_pairs(space, rank, keep):
    u, kernels, inward, outward = operator(space, rank)
    leaves = [u, inward, outward, *(matrix for kernel in kernels for matrix in kernel)]
    for leaf in leaves:
        leaf.requires_grad_()
    weights = torch.randn(BATCH, *space, OUT, dtype=u.dtype)
    found = torch.autograd.grad(
        (axial_integral(u, kernels, inward, outward, keep=keep) * weights).sum(), leaves
    )
    expected = torch.autograd.grad((dense(u, kernels, inward, outward) * weights).sum(), leaves)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_its_second_derivatives_are_those_of_the_sum_over_all_pairs():
    parts = operator(SPACES["plane"])

    def curvature(function):
        u = parts[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(function(u, *parts[1:]).pow(3).sum(), u, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), u)[0]

    torch.testing.assert_close(curvature(axial_integral), curvature(dense), rtol=1e-9, atol=1e-9)


def test_bfloat16_stays_within_its_rounding_and_returns_float32():
    parts = operator((8, 8), dtype=torch.float32)
    u = parts[0].requires_grad_()
    reference = axial_integral(*parts)
    (expected,) = torch.autograd.grad(reference.square().sum(), u)
    rounded = axial_integral(*parts, precision="bf16")
    (found,) = torch.autograd.grad(rounded.square().sum(), u)
    assert rounded.dtype == torch.float32
    assert 1e-4 < (rounded - reference).norm() / reference.norm() < 2e-2
    assert (found - expected).norm() < 3e-2 * expected.norm()


def test_a_kernel_of_another_number_of_points_is_refused():
    u, kernels, inward, outward = operator((4, 6))
    with pytest.raises(ValueError, match=r"\(4, 6\) points; one an axis is needed"):
        axial_integral(u, kernels[::-1], inward, outward)
    with pytest.raises(ValueError, match="one an axis is needed"):
        axial_integral(u, kernels[:1], inward, outward)


@torch.no_grad()
def test_products_follow_the_sum_of_the_axes_and_with_factors_the_number_of_points():
    def per_point(n, rank):
        parts = operator((n, n), rank, torch.float32)
        with FlopCounterMode(display=False) as counter:
            axial_integral(*parts)
        return counter.get_total_flops() / (BATCH * n * n)

    channels = HEADS * HEAD_DIM
    around = (
        2 * channels * CHANNELS
    )  # products out of heads are added in place, which the counter does not see
    for n in (16, 32):
        assert per_point(n, None) == around + 2 * channels * 2 * n
        assert per_point(n, 4) == around + 2 * channels * 2 * (4 + 4)

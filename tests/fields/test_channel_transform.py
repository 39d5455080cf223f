"""The spherical transform of networks agrees with the one of solvers, in values and in gradients."""

from __future__ import annotations

import pytest
import torch

from pdesurrogate.fields.spherical.channel_transform import ChannelTransform, channel_transform
from pdesurrogate.fields.spherical.grid import SphericalGrid
from pdesurrogate.fields.spherical.transforms import SphericalTransform

CASES = [
    (SphericalGrid(16, 33), 15, None),
    (SphericalGrid(17, 32, "gauss-legendre", north_first=False), 15, 3),
    (SphericalGrid(33, 40, "equiangular"), 16, 16),
    (SphericalGrid(20, 300), 19, None),  # more longitudes than the tables of cosines and sines are used for
    (SphericalGrid(40, 80), 36, 17),  # several groups of orders and of degrees
    (SphericalGrid(2, 3), 1, 0),
]


@pytest.mark.parametrize(("grid", "truncation", "max_order"), CASES, ids=str)
def test_it_keeps_the_same_modes_as_the_transform_of_solvers_with_the_same_adjoint(
    grid: SphericalGrid, truncation: int, max_order: int | None
) -> None:
    mine = ChannelTransform(grid, truncation, max_order, torch.float64, "cpu")
    reference = SphericalTransform(grid, truncation, dtype=torch.float64)
    kept = torch.arange(truncation + 1) <= (truncation if max_order is None else max_order)
    u = torch.randn(2, 3, *grid.shape, dtype=torch.float64, requires_grad=True)
    expected = reference.synthesise(reference.analyse(u) * kept)
    found = mine.synthesise(mine.analyse(u.permute(0, 3, 2, 1))).permute(0, 3, 2, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(found)
    gradients = [torch.autograd.grad(y, u, cotangent)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_rows_of_a_spectrum_hold_the_degrees_that_their_groups_say() -> None:
    grid = SphericalGrid(24, 48)
    transform = ChannelTransform(grid, 20, None, torch.float64, "cpu")
    reference = SphericalTransform(grid, 20, dtype=torch.float64)
    field = torch.randn(1, 1, 24, 48, dtype=torch.float64)
    spectrum = torch.view_as_complex(transform.analyse(field.permute(0, 3, 2, 1))[:, :, 0, 0].contiguous())
    expected = reference.analyse(field)[0, 0]
    for group in transform.groups:
        rows = spectrum[group.rows].view(group.count, group.orders)
        part = expected[group.first : group.first + group.count, : group.orders]
        torch.testing.assert_close(rows, part, rtol=0, atol=1e-13)


def test_single_precision_is_as_good_as_its_numbers() -> None:
    grid = SphericalGrid(86, 172)
    single, double = (channel_transform(grid, 85, None, t, "cpu") for t in (torch.float32, torch.float64))
    u = torch.randn(1, 172, 86, 2, dtype=torch.float64)
    spectrum = double.analyse(u)
    assert (single.analyse(u.float()) - spectrum).norm() < 1e-6 * spectrum.norm()
    field = double.synthesise(spectrum)
    assert (single.synthesise(spectrum.float()) - field).norm() < 1e-6 * field.norm()
    torch.testing.assert_close(double.analyse(field), spectrum, rtol=0, atol=1e-12)


def test_a_backward_pass_keeps_nothing_of_the_fields() -> None:
    transform = channel_transform(SphericalGrid(16, 32), 15, None, torch.float32, "cpu")
    kept = []
    u = torch.randn(3, 32, 16, 5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        transform.synthesise(transform.analyse(u))
    assert all(not t.requires_grad and t.grad_fn is None for t in kept)
    # Only the tables, which do not know how many samples and channels there are.
    more = []
    u = torch.randn(6, 32, 16, 10, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: more.append(t) or t, lambda t: t):
        transform.synthesise(transform.analyse(u))
    tables = {t.untyped_storage().data_ptr() for t in kept}
    assert {t.untyped_storage().data_ptr() for t in more} == tables


def test_first_and_second_derivatives_are_those_of_finite_differences() -> None:
    transform = channel_transform(SphericalGrid(7, 8, "equiangular"), 3, 2, torch.float64, "cpu")
    u = torch.randn(2, 8, 7, 2, dtype=torch.float64, requires_grad=True)

    def square(u: torch.Tensor) -> torch.Tensor:
        return transform.synthesise(transform.analyse(u).square())

    assert torch.autograd.gradcheck(square, u, fast_mode=True)
    assert torch.autograd.gradgradcheck(square, u, fast_mode=True)


def test_orders_beyond_the_degrees_are_refused() -> None:
    with pytest.raises(ValueError, match="max_order is 9; orders go from 0 to the largest degree, 8"):
        channel_transform(SphericalGrid(16, 32), 8, 9, torch.float32, "cpu")

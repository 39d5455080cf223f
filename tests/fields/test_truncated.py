from __future__ import annotations

import math

import pytest
import torch

from pdesurrogate.fields.fourier import (
    DFTPlan,
    dft_plan,
    forward_transform,
    inverse_transform,
    kept_modes,
    kept_shape,
    mode_numbers,
    pruned_forward,
    pruned_inverse,
    require_resolved,
)

CASES = [  # grid, num_modes: 1-D to 3-D, even and odd, well below Nyquist and up to it
    ((16,), (6,)),
    ((16,), (16,)),
    ((15,), (15,)),
    ((12, 16), (4, 6)),
    ((12, 15), (5, 7)),
    ((13, 16), (13, 16)),
    ((16, 16), (16, 16)),
    ((9, 15), (8, 15)),
    ((8, 10, 12), (4, 5, 6)),
    ((7, 8, 9), (7, 8, 9)),
    ((2, 1), (2, 1)),
]


def kept_of_full(u_hat, grid, num_modes):
    """The kept modes cut out of the full half spectrum, by mode number."""
    for i, (n, k) in enumerate(zip(grid, num_modes, strict=True)):
        half = i == len(grid) - 1
        numbers = mode_numbers(n, half=half).tolist()
        # An even axis has one Nyquist mode, which is called -N/2 on a full and +N/2 on a half axis.
        places = [numbers.index(m) for m in kept_modes(k, half=half)]
        u_hat = u_hat.index_select(u_hat.ndim - len(grid) + i, torch.tensor(places))
    return u_hat


def to_layout(u, ndim):
    """(batch, channel, N_1..N_d) to (batch, N_d, N_1, .., channel)."""
    return u.movedim(1, -1).movedim(ndim, 1)


def planes_of(u_hat, ndim):
    """Complex (batch, channel, k_1..k_d) to real (batch, modes, 2, channel)."""
    leading = to_layout(u_hat, ndim)
    return torch.view_as_real(leading).movedim(-1, -2).flatten(1, ndim)


@pytest.mark.parametrize(("num_modes", "numbers"), [(1, [0]), (4, [0, 1, -2, -1]), (5, [0, 1, 2, -2, -1])])
def test_a_full_axis_keeps_the_modes_nearest_zero(num_modes, numbers):
    assert kept_modes(num_modes, half=False) == numbers


@pytest.mark.parametrize(("num_modes", "numbers"), [(1, [0]), (4, [0, 1, 2]), (5, [0, 1, 2])])
def test_a_half_axis_keeps_zero_to_half_the_number(num_modes, numbers):
    assert kept_modes(num_modes, half=True) == numbers


@pytest.mark.parametrize(("grid", "num_modes"), CASES)
def test_the_pruned_forward_equals_cutting_the_full_transform(grid, num_modes):
    u = torch.randn(2, 3, *grid, dtype=torch.float64)
    expected = kept_of_full(forward_transform(u, len(grid)), grid, num_modes)
    result = pruned_forward(u, num_modes)
    assert result.shape[2:] == kept_shape(num_modes)
    torch.testing.assert_close(result, expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize(("grid", "num_modes"), CASES)
def test_the_pruned_inverse_equals_filling_the_full_spectrum_with_zeros(grid, num_modes):
    ndim = len(grid)
    u_hat = torch.randn(2, 3, *kept_shape(num_modes), dtype=torch.complex128)
    full = torch.zeros(2, 3, *grid[:-1], grid[-1] // 2 + 1, dtype=torch.complex128)
    places = []
    for i, (n, k) in enumerate(zip(grid, num_modes, strict=True)):
        numbers = mode_numbers(n, half=i == ndim - 1).tolist()
        places.append(torch.tensor([numbers.index(m) for m in kept_modes(k, half=i == ndim - 1)]))
    full[(slice(None), slice(None), *torch.meshgrid(*places, indexing="ij"))] = u_hat
    torch.testing.assert_close(
        pruned_inverse(u_hat, grid), inverse_transform(full, grid), atol=1e-12, rtol=1e-12
    )


@pytest.mark.parametrize(("grid", "num_modes"), CASES)
def test_the_matrix_route_gives_the_same_modes_as_the_fft_route(grid, num_modes):
    ndim = len(grid)
    u = torch.randn(2, 3, *grid, dtype=torch.float64)
    planes = DFTPlan(grid, num_modes, torch.float64).analyse(to_layout(u, ndim))
    torch.testing.assert_close(planes, planes_of(pruned_forward(u, num_modes), ndim), atol=1e-13, rtol=0)


@pytest.mark.parametrize(("grid", "num_modes"), CASES)
def test_the_matrix_route_gives_the_same_field_as_the_fft_route(grid, num_modes):
    ndim = len(grid)
    u_hat = torch.randn(2, 3, *kept_shape(num_modes), dtype=torch.complex128)
    field = DFTPlan(grid, num_modes, torch.float64).synthesise(planes_of(u_hat, ndim))
    expected = to_layout(pruned_inverse(u_hat, grid), ndim)
    torch.testing.assert_close(field, expected, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize(("grid", "num_modes"), CASES)
def test_the_adjoints_are_true_adjoints(grid, num_modes):
    plan = DFTPlan(grid, num_modes, torch.float64)
    u = torch.randn(2, *plan.layout_grid, 3, dtype=torch.float64)
    planes = torch.randn(2, plan.num_kept, 2, 3, dtype=torch.float64)
    for forward, adjoint, x, y in (
        (plan.analyse, plan.analyse_adjoint, u, planes),
        (plan.synthesise, plan.synthesise_adjoint, planes, u),
    ):
        left, right = float((forward(x) * y).sum()), float((x * adjoint(y)).sum())
        scale = float(forward(x).norm() * y.norm())
        assert abs(left - right) < 1e-13 * scale


@pytest.mark.parametrize(("grid", "num_modes"), [((16,), (8,)), ((12, 16), (5, 8)), ((8, 9, 10), (5, 5, 6))])
def test_truncation_keeps_a_resolved_field_and_drops_the_rest(grid, num_modes, band_limited, mode):
    resolved = band_limited(grid, cutoff=2)
    fast = mode(grid, tuple((n - 1) // 2 for n in grid), phase=0.3)
    back = pruned_inverse(pruned_forward(resolved + fast, num_modes), grid)
    torch.testing.assert_close(back, resolved, atol=1e-11, rtol=0)


def test_kept_modes_of_a_function_do_not_depend_on_the_grid(band_limited):
    values = [pruned_forward(band_limited((n, m), cutoff=3), (7, 6)) for n, m in ((9, 8), (32, 33), (48, 65))]
    torch.testing.assert_close(values[1], values[0], atol=1e-12, rtol=0)
    torch.testing.assert_close(values[2], values[0], atol=1e-12, rtol=0)


def test_the_pruned_inverse_evaluates_the_modes_on_any_finer_grid(band_limited):
    u_hat = pruned_forward(band_limited((16, 16), cutoff=3), (7, 7))
    for grid in ((8, 7), (33, 48)):
        expected = band_limited(grid, cutoff=3)
        torch.testing.assert_close(pruned_inverse(u_hat, grid), expected, atol=1e-11, rtol=0)


def test_single_precision_tables_are_accurate_on_long_axes(mode):
    plan = DFTPlan((1024,), (512,), torch.float32)
    u = mode((1024,), (255,), amplitude=2.0, phase=0.3).to(torch.float32)
    planes = plan.analyse(u.view(1, 1024, 1))[0, :, :, 0]
    expected = torch.zeros_like(planes)
    expected[255] = torch.tensor([math.cos(0.3), math.sin(0.3)])
    torch.testing.assert_close(planes, expected, atol=1e-6, rtol=0)


def test_plans_are_cached_and_usable_for_gradients_when_first_made_in_inference_mode():
    key = ((10, 14), (3, 4), torch.float32, "cpu")
    with torch.inference_mode():
        plan = dft_plan(*key)
    assert dft_plan(*key) is plan
    u = torch.randn(1, *plan.layout_grid, 2, requires_grad=True)
    plan.analyse(u).square().sum().backward()
    assert u.grad is not None
    assert float(u.grad.abs().max()) > 0


def test_exporting_a_program_leaves_no_symbolic_tables_behind():
    class Truncation(torch.nn.Module):
        def forward(self, u):
            plan = dft_plan((12, 18), (5, 4), u.dtype, "cpu")
            return plan.synthesise(plan.analyse(u))

    u = torch.randn(2, 18, 12, 3)
    exported = torch.export.export(Truncation(), (u,), strict=False).module()
    eager = Truncation()(u)
    assert type(eager) is torch.Tensor
    torch.testing.assert_close(exported(u), eager)
    torch.testing.assert_close(torch.export.export(Truncation(), (u,), strict=False).module()(u), eager)


@pytest.mark.parametrize(("num_modes", "grid"), [((9, 4), (8, 8)), ((0, 4), (8, 8)), ((4, 10), (8, 8))])
def test_modes_beyond_nyquist_are_refused_by_axis_and_with_a_way_out(num_modes, grid):
    axis = "'y'" if num_modes[1] == 4 else "'x'"
    with pytest.raises(ValueError, match=rf"modes on axis {axis} .* grid has 8. Use num_modes of at most 8"):
        require_resolved(num_modes, grid, ("y", "x"))
    with pytest.raises(ValueError, match="modes on axis"):
        pruned_forward(torch.zeros(grid), num_modes)
    with pytest.raises(ValueError, match="modes on axis"):
        DFTPlan(grid, num_modes)


def test_modes_and_grid_of_different_dimension_are_refused():
    with pytest.raises(ValueError, match="differ in dimension"):
        require_resolved((4, 4), (8, 8, 8))


@pytest.mark.parametrize("grid", [(4, 16), (16, 6)])
def test_modes_do_not_go_back_to_a_grid_that_cannot_carry_them(grid):
    with pytest.raises(ValueError, match="do not fit on the grid"):
        pruned_inverse(torch.zeros(8, 5, dtype=torch.complex64), grid)

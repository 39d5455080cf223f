"""Differential and integral kernels: exact actions, measured orders, symmetries, and grids of every shape."""

import math

import pytest
import torch

from pdesurrogate.layers import DifferentialKernel, IntegralKernel, PlainKernel, apply_kernels, filter_basis

TORUS = ("periodic", "periodic")
BASES = [("piecewise_linear", (3, 4)), ("piecewise_linear", (5, 6)), ("morlet", 3), ("zernike", 3)]


def layout(field):
    """One sample and channel, half axis first, channels last, from ``(y, x)``."""
    return field.movedim(-1, 0)[None, ..., None]


def space(field):
    return field[0, ..., 0].movedim(0, -1)


def torus(grid, lengths):
    axes = [torch.arange(n).double() * (length / n) for n, length in zip(grid, lengths, strict=True)]
    return torch.meshgrid(*axes, indexing="ij")


def spacings_of(grid, lengths):
    return tuple(length / n for n, length in zip(grid, lengths, strict=True))


def limit_vector(kernel):
    """``b = Σ_j K_j z_j`` over all points of the stencil."""
    offsets = torch.tensor(kernel.stencil.offsets).double()
    pairs = 2 if kernel.stencil.antisymmetric else 1
    return pairs * torch.einsum("jio,ja->aio", kernel.weight.detach().double(), offsets)


def slope(errors):
    return math.log2(errors[0] / errors[-1]) / (len(errors) - 1)


@torch.no_grad()
@pytest.mark.parametrize("boundary", ["periodic", "wall", "open"])
@pytest.mark.parametrize("antisymmetric", [False, True])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_differential_kernel_sends_constants_to_zero_exactly(boundary, antisymmetric, size, dtype):
    options = {"size": size, "antisymmetric": antisymmetric}
    kernel = DifferentialKernel(3, 4, [boundary] * 2, (0.1, 0.2), **options).to(dtype)
    v = torch.randn(3, dtype=dtype).expand(2, 9, 7, 3)
    assert (kernel(v, (0.3, 0.017)) == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("antisymmetric", [False, True])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_differential_kernel_is_exact_on_linear_functions_whatever_the_spacings(ndim, antisymmetric):
    reference, grid = (0.1, 0.2, 0.3)[:ndim], (9, 8, 7)[:ndim]
    kernel = DifferentialKernel(1, 1, ["open"] * ndim, reference, antisymmetric=antisymmetric).double()
    b = limit_vector(kernel)[:, 0, 0]
    slopes = torch.tensor([0.7, -1.1, 0.4][:ndim]).double()
    for spacings in ((0.1, 0.2, 0.3), (0.05, 0.4, 0.01)):
        axes = [torch.arange(n).double() * h for n, h in zip(grid, spacings, strict=False)]
        v = sum(s * x for s, x in zip(slopes, torch.meshgrid(*axes, indexing="ij"), strict=True))
        found = space(kernel(layout(v), spacings[:ndim]))[(slice(1, -1),) * ndim]
        expected = (b * torch.tensor(reference).double() * slopes).sum()
        torch.testing.assert_close(found, expected.expand_as(found))


@torch.no_grad()
@pytest.mark.parametrize(("antisymmetric", "lowest"), [(False, 0.9), (True, 1.9)])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(("shape", "coarsest"), [((1, 1), 64), ((3, 2), 32)])
def test_a_differential_kernel_converges_to_a_derivative(antisymmetric, lowest, size, shape, coarsest):
    lengths = (2 * math.pi, 4 * math.pi)
    kernel = DifferentialKernel(1, 1, TORUS, (0.3, 0.5), size=size, antisymmetric=antisymmetric).double()
    b = limit_vector(kernel)[:, 0, 0] * torch.tensor([0.3, 0.5]).double()
    errors = []
    for n in (coarsest, 2 * coarsest, 4 * coarsest):
        grid = (n * shape[0] // 2 * 2, n * shape[1])
        y, x = torus(grid, lengths)
        found = space(kernel(layout(torch.sin(x) * torch.cos(2 * y)), spacings_of(grid, lengths)))
        exact = b[0] * -2 * torch.sin(x) * torch.sin(2 * y) + b[1] * torch.cos(x) * torch.cos(2 * y)
        errors.append((found - exact).norm().item() / n)
    assert lowest < slope(errors) < lowest + 0.2, errors


@torch.no_grad()
def test_only_one_axis_refined_leaves_the_limit_where_it_is():
    """Diagonal taps must not turn towards the axis of the larger spacing."""
    lengths = (1.0, 1.0)
    kernel = DifferentialKernel(1, 1, TORUS, (0.02, 0.02), antisymmetric=True).double()
    fields = []
    for grid in ((256, 256), (256, 64), (64, 256)):
        y, x = torus(grid, lengths)
        v = torch.sin(2 * math.pi * x + 0.4) * torch.cos(2 * math.pi * y)
        found = space(kernel(layout(v), spacings_of(grid, lengths)))
        fields.append(found[:: grid[0] // 64, :: grid[1] // 64])
    for other in fields[1:]:
        assert (other - fields[0]).norm() < 1e-2 * fields[0].norm()


@torch.no_grad()
@pytest.mark.parametrize("antisymmetric", [False, True])
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_differential_kernel_equals_its_formula_written_out(depthwise, antisymmetric):
    options = {"depthwise": depthwise, "antisymmetric": antisymmetric}
    kernel = DifferentialKernel(3, 3 if depthwise else 4, TORUS, (0.2, 0.2), **options).double()
    v = torch.randn(2, 6, 5, 3, dtype=torch.float64)
    expected = 0
    for matrix, (dy, dx) in zip(kernel.weight, kernel.stencil.offsets, strict=True):
        base = v.roll((dx, dy), (1, 2)) if antisymmetric else v
        step = v.roll((-dx, -dy), (1, 2)) - base
        expected = expected + torch.einsum("bxyi,i->bxyi" if depthwise else "bxyi,io->bxyo", step, matrix)
    torch.testing.assert_close(kernel(v, (0.05, 0.05)), expected * 0.2 / 0.05)


@torch.no_grad()
def test_at_the_reference_spacing_a_differential_kernel_is_no_larger_than_a_convolution():
    """Whatever grid is met later: the draw does not know it, and the gain grows as one over the spacing."""
    kernel = DifferentialKernel(16, 16, TORUS, (1 / 64, 1 / 64))
    v = torch.randn(2, 64, 64, 16)
    at_reference = kernel(v, (1 / 64, 1 / 64)).std()
    assert 0.3 < at_reference < 1.5
    torch.testing.assert_close(kernel(v, (1 / 256, 1 / 256)).std(), 4 * at_reference)


@torch.no_grad()
def test_a_plain_kernel_is_the_convolution_and_becomes_pointwise_as_the_grid_is_refined():
    kernel = PlainKernel(2, 3, TORUS).double()
    v = torch.randn(1, 8, 6, 2, dtype=torch.float64)
    taps = kernel.weight.view(3, 3, 2, 3).permute(3, 2, 1, 0)  # (out, in, x, y) from taps in the order (y, x)
    wrapped = torch.nn.functional.pad(v.movedim(-1, 1), (1, 1, 1, 1), mode="circular")
    expected = torch.nn.functional.conv2d(wrapped, taps).movedim(1, -1)
    torch.testing.assert_close(kernel(v, (0.1, 0.3)), expected)
    distance = []
    for n in (16, 64, 256):
        y, x = torus((n, n), (1.0, 1.0))
        v = layout(torch.sin(2 * math.pi * (x + y))).expand(-1, -1, -1, 2)
        distance.append((kernel(v, (1 / n, 1 / n)) - v @ kernel.weight.sum(0)).norm().item() / n)
    assert slope(distance) > 1.5  # factors of 4 in n: at least first order


@torch.no_grad()
@pytest.mark.parametrize("boundary", ["periodic", "wall", "open"])
@pytest.mark.parametrize(("ndim", "shape"), [(1, (3, 2)), (2, (3, 4)), (2, (4, 5)), (3, (3, 1))])
def test_an_integral_kernel_of_hats_multiplies_constants_by_the_sum_of_its_weights(ndim, shape, boundary):
    basis = filter_basis("piecewise_linear", ndim, shape)
    kernel = IntegralKernel(3, 2, [boundary] * ndim, basis, 0.31).double()
    v = torch.randn(3).double().expand(2, *(9, 8, 10)[:ndim], 3)
    found = kernel(v, (0.08, 0.09, 0.1)[:ndim])
    torch.testing.assert_close(found, (v @ kernel.weight.sum(0)).expand_as(found))


@torch.no_grad()
@pytest.mark.parametrize(("name", "shape"), BASES)
def test_an_integral_kernel_of_fixed_radius_converges_with_the_second_order(name, shape):
    lengths = (2.0, 2.0)
    kernel = IntegralKernel(1, 1, TORUS, filter_basis(name, 2, shape), 0.35).double()

    def on(n):
        grid = (n, n * 3 // 2)
        y, x = torus(grid, lengths)
        v = torch.sin(math.pi * x + 0.3) * torch.cos(2 * math.pi * y) + torch.cos(3 * math.pi * x)
        return space(kernel(layout(v), spacings_of(grid, lengths)))[:: n // 16, :: n // 16]

    exact = on(256)
    errors = [((on(n) - exact).norm() / exact.norm()).item() for n in (16, 32, 64)]
    assert slope(errors) > 1.7, errors
    assert errors[-1] < 1e-2


@torch.no_grad()
@pytest.mark.parametrize(("name", "shape"), BASES)
def test_kernels_commute_with_shifts_of_periodic_axes(name, shape):
    kernel = IntegralKernel(2, 2, TORUS, filter_basis(name, 2, shape), 0.25)
    derivative = DifferentialKernel(2, 2, TORUS, (0.1, 0.1))
    v = torch.randn(1, 24, 20, 2)
    for k in (kernel, derivative):
        y = k(v, (0.05, 0.04))
        moved = k(v.roll((5, 7), (1, 2)), (0.05, 0.04))
        assert (moved - y.roll((5, 7), (1, 2))).norm() <= 1e-6 * y.norm()
    walled = IntegralKernel(2, 2, ("wall", "periodic"), kernel.basis, 0.25)
    walled.load_state_dict(kernel.state_dict())
    y = walled(v, (0.05, 0.04))
    torch.testing.assert_close(walled(v.roll(5, 1), (0.05, 0.04)), y.roll(5, 1))
    assert (walled(v.roll(7, 2), (0.05, 0.04)) - y.roll(7, 2)).norm() > 0.01 * y.norm()


@torch.no_grad()
def test_on_a_finer_grid_an_integral_kernel_is_the_one_that_is_built_there():
    """Not the same taps on twice as many points, which would halve the radius."""
    torch.manual_seed(0)
    met_both = IntegralKernel(2, 2, TORUS, filter_basis("piecewise_linear", 2), 0.2)
    coarse, fine = torch.randn(1, 16, 16, 2), torch.randn(1, 32, 32, 2)
    met_both(coarse, (1 / 16, 1 / 16))
    torch.manual_seed(0)
    fresh = IntegralKernel(2, 2, TORUS, filter_basis("piecewise_linear", 2), 0.2)
    assert torch.equal(met_both(fine, (1 / 32, 1 / 32)), fresh(fine, (1 / 32, 1 / 32)))
    widths = [met_both.filters((h, h)).widths for h in (1 / 16, 1 / 32)]
    assert widths == [(3, 3), (6, 6)]


@torch.no_grad()
@pytest.mark.parametrize("radius", [0.1001, 0.125, 0.15, 0.17, 0.2, 0.25, 0.3, 0.4999, 0.5])
@pytest.mark.parametrize("grid", [(16, 16), (20, 31), (33, 12)])
def test_any_radius_keeps_the_shape_and_no_filter_reaches_beyond_it(radius, grid):
    basis = filter_basis("piecewise_linear", 2)
    kernel = IntegralKernel(1, 1, TORUS, basis, radius)
    spacings = spacings_of(grid, (1.0, 1.0))
    assert kernel(torch.randn(1, grid[1], grid[0], 1), spacings).shape == (1, grid[1], grid[0], 1)
    filters = kernel.filters(spacings).filters
    _, along_x, along_y = filters.nonzero().T
    width_x, width_y = (n // 2 for n in filters.shape[1:])
    distance = torch.hypot((along_y - width_y) * spacings[0], (along_x - width_x) * spacings[1])
    assert distance.max() <= radius
    assert (filters.flatten(1).abs().sum(1) - 1).abs().max() < 1e-12
    assert len(filters) == basis.size
    # Spacings differ along the axes and so do the numbers of points: the support is a disc all the same.
    assert distance.max() > radius - max(spacings)


@torch.no_grad()
def test_a_mirror_at_a_wall_makes_a_symmetric_field_and_its_half_agree():
    basis = filter_basis("morlet", 1, 3)
    half = IntegralKernel(1, 1, ("wall",), basis, 0.2).double()
    whole = IntegralKernel(1, 1, ("periodic",), basis, 0.2).double()
    whole.load_state_dict(half.state_dict())
    v = torch.randn(1, 16, 1, dtype=torch.float64)
    mirrored = torch.cat([v, v.flip(1)], 1)
    torch.testing.assert_close(half(v, (1 / 16,)), whole(mirrored, (1 / 16,))[:, :16])


@torch.no_grad()
def test_kernels_together_are_the_sum_of_kernels_alone():
    basis = filter_basis("zernike", 2)
    kernels = [
        DifferentialKernel(3, 3, TORUS, (0.1, 0.1)),
        IntegralKernel(3, 3, TORUS, basis, 0.4),
        PlainKernel(3, 3, TORUS, size=5),
    ]
    u = torch.randn(2, 12, 10, 3)
    together = apply_kernels(kernels, u, (0.1, 0.12), activate=True)
    alone = sum(kernel(torch.nn.functional.gelu(u), (0.1, 0.12)) for kernel in kernels)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_filters_are_kept_for_a_bounded_number_of_grids():
    from pdesurrogate.layers.integral_filters import _cached_filters

    kernel = IntegralKernel(1, 1, TORUS, filter_basis("piecewise_linear", 2), 0.2)
    assert kernel.filters((0.05, 0.04)) is kernel.filters((0.05, 0.04))
    assert _cached_filters.cache_info().maxsize is not None


def test_kernels_first_met_in_inference_mode_can_be_trained_later():
    kernel = IntegralKernel(2, 2, TORUS, filter_basis("piecewise_linear", 2), 0.233).double()
    derivative = DifferentialKernel(2, 2, TORUS, (0.1, 0.1), size=7).double()
    v = torch.randn(1, 16, 16, 2, dtype=torch.float64)
    with torch.inference_mode():
        apply_kernels([kernel, derivative], v, (0.05, 0.07))
    apply_kernels([kernel, derivative], v, (0.05, 0.07)).sum().backward()
    assert kernel.weight.grad.isfinite().all()
    torch.autograd.functional.hvp(
        lambda u: apply_kernels([kernel, derivative], u, (0.05, 0.07)).square().sum(), v, v
    )


def disco(radius=0.2, **options):
    return IntegralKernel(1, 1, TORUS, filter_basis("piecewise_linear", 2, (3, 4)), radius, **options)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: disco(0.1).filters((0.1, 0.05)),
            "radius 0.1 does not reach the next point.*pointwise layer.*above 0.1",
        ),
        (lambda: disco(-1.0), "radius is -1.0"),
        (lambda: disco(float("nan")), "radius is nan"),
        (lambda: disco().filters((0.1,)), "one positive length for each of 2 axes"),
        (lambda: disco().filters((0.1, 0.0)), "one positive length for each of 2 axes"),
        (
            lambda: IntegralKernel(1, 1, TORUS, filter_basis("piecewise_linear", 2, (9, 8)), 0.15).filters(
                (0.1, 0.1)
            ),
            "of the 33 functions of the basis vanish at every point.*dead.*basis_shape",
        ),
        (lambda: DifferentialKernel(1, 1, TORUS, (0.1, 0.1), size=4), "stencil is 4.*odd"),
        (lambda: DifferentialKernel(1, 1, TORUS, (0.1, 0.1), size=1), "at least 3"),
        (lambda: DifferentialKernel(1, 1, TORUS, (0.1,)), "reference.*each of 2 axes"),
        (lambda: PlainKernel(1, 1, TORUS, size=2), "stencil is 2"),
        (lambda: PlainKernel(2, 3, TORUS, depthwise=True), "keeps channels apart.*from 2 to 3"),
    ],
)
def test_kernels_that_cannot_be_are_refused_in_a_sentence(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@torch.no_grad()
@pytest.mark.parametrize(("grid", "size"), [((8, 6), 3), ((9, 8), 5), ((7,), 3), ((4, 5, 6), 3)])
def test_a_generic_differential_kernel_equals_the_layer_of_neuraloperator(grid, size):
    from neuralop.layers.differential_conv import FiniteDifferenceConvolution

    peer = FiniteDifferenceConvolution(2, 3, len(grid), size)
    kernel = DifferentialKernel(2, 3, ["periodic"] * len(grid), [0.1] * len(grid), size=size)
    taps = peer.weight.flatten(2).permute(2, 1, 0)
    centre = len(taps) // 2
    kernel.weight.copy_(torch.cat([taps[:centre], taps[centre + 1 :]]))
    v = torch.randn(2, 2, *grid)
    ours = kernel(v.movedim(1, -1).movedim(-2, 1), [0.05] * len(grid))
    expected = peer(v, 0.5)
    torch.testing.assert_close(ours.movedim(-1, 1).movedim(2, -1), expected, rtol=1e-4, atol=1e-5)

import dataclasses
import math

import pytest
import torch

from pdesurrogate.layers import BACKENDS, SpectralConv, available_backends, spectral_conv
from pdesurrogate.layers.native import native_library
from pdesurrogate.layers.spectral_backends import choose_backend
from pdesurrogate.layers.spectral_cost import COSTS, calibrate

EVERYWHERE = available_backends(torch.device("cpu"), torch.float64, 2)

CASES = [
    ((16,), (7,)),
    ((15,), (15,)),
    ((16,), (16,)),
    ((12, 10), (6, 5)),
    ((9, 12), (9, 12)),
    ((8, 11), (1, 11)),
    ((8, 8), (8, 8)),
    ((10, 7), (10, 1)),
    ((6, 5, 8), (4, 5, 8)),
    ((7, 6, 5), (3, 6, 3)),
]


def to_layout(u):
    """(batch, channel, N_1, .., N_d) to (batch, N_d, N_1, .., channel)."""
    return u.movedim(1, -1).movedim(-2, 1)


def oracle(u, weight, num_modes):
    """The definition, mode by mode on the full complex spectrum of (batch, channel, *space)."""
    grid, ndim = u.shape[2:], u.ndim - 2
    dims = tuple(range(2, u.ndim))
    u_hat = torch.fft.rfftn(u.double(), dim=dims)
    v_hat = u_hat.new_zeros(u.shape[0], weight.shape[2], *u_hat.shape[2:])
    matrices = torch.view_as_complex(weight.double().contiguous())
    half = range(num_modes[-1] // 2 + 1)
    full = [[*range((k + 1) // 2), *range(n - k // 2, n)] for k, n in zip(num_modes, grid, strict=True)][:-1]
    index = torch.cartesian_prod(torch.tensor(list(half)), *[torch.tensor(f) for f in full]).view(-1, ndim)
    for matrix, k in zip(matrices, index.tolist(), strict=True):
        at = (slice(None), slice(None), *k[1:], k[0])
        v_hat[at] = u_hat[at] @ matrix
    return torch.fft.irfftn(v_hat, s=grid, dim=dims)


def sample(grid, num_modes, in_channels=3, out_channels=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    num_kept = math.prod(num_modes[:-1]) * (num_modes[-1] // 2 + 1)
    u = torch.randn(2, in_channels, *grid, generator=generator, dtype=dtype)
    weight = torch.randn(num_kept, in_channels, out_channels, 2, generator=generator, dtype=dtype)
    return u, weight


@pytest.mark.parametrize("backend", EVERYWHERE)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("grid", "num_modes"), CASES)
def test_every_backend_equals_the_definition_on_the_full_spectrum(grid, num_modes, backend, dtype, tolerance):
    u, weight = sample(grid, num_modes, dtype=dtype)
    expected = to_layout(oracle(u, weight, num_modes))
    v = spectral_conv(to_layout(u), weight, num_modes, backend=backend)
    assert v.dtype == dtype
    assert (v - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("backend", EVERYWHERE)
@pytest.mark.parametrize(
    ("grid", "num_modes"),
    [((5,), (5,)), ((4,), (4,)), ((4, 5), (4, 3)), ((3, 4), (2, 4)), ((3, 2, 4), (3, 2, 3))],
)
def test_gradients_of_first_and_second_order_are_exact(grid, num_modes, backend):
    u, weight = sample(grid, num_modes, in_channels=2, out_channels=2)
    inputs = (to_layout(u)[:1].clone().requires_grad_(), weight.clone().requires_grad_())

    def convolve(field, matrices):
        return spectral_conv(field, matrices, num_modes, backend=backend)

    assert torch.autograd.gradcheck(convolve, inputs)
    assert torch.autograd.gradgradcheck(convolve, inputs)


@pytest.mark.parametrize("frozen", ["field", "weight"])
def test_a_frozen_input_gets_no_gradient_and_the_other_one_does(frozen):
    u, weight = sample((8, 6), (4, 4))
    field = to_layout(u).clone().requires_grad_(frozen != "field")
    weight = weight.clone().requires_grad_(frozen != "weight")
    spectral_conv(field, weight, (4, 4), backend="dft").square().sum().backward()
    assert (field.grad is None) == (frozen == "field")
    assert (weight.grad is None) == (frozen == "weight")


def test_the_dft_backend_saves_nothing_of_the_size_of_the_field():
    u, weight = sample((64, 64), (4, 4))
    field, weight = to_layout(u).clone().requires_grad_(), weight.requires_grad_()
    sizes = []

    def pack(saved):
        sizes.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        spectral_conv(field, weight, (4, 4), backend="dft")
    assert sizes
    assert max(sizes) < field.numel() // 50


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_under_autocast_the_convolution_still_runs_in_float32(backend):
    u, weight = sample((16, 12), (8, 8), dtype=torch.float32)
    field, weight = to_layout(u).clone().requires_grad_(), weight.requires_grad_()
    expected = spectral_conv(field, weight, (8, 8), backend=backend)
    gradients = torch.autograd.grad(expected.square().sum(), (field, weight))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        v = spectral_conv(field, weight, (8, 8), backend=backend)
        casted = torch.autograd.grad(v.square().sum(), (field, weight))
    torch.testing.assert_close(v, expected, rtol=0, atol=0)
    for gradient, reference in zip(casted, gradients, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=0)


def test_a_bfloat16_field_and_weight_come_back_as_bfloat16_of_the_float32_result():
    u, weight = sample((16, 12), (8, 8), dtype=torch.float32)
    field, weight = to_layout(u).bfloat16(), weight.bfloat16()
    expected = spectral_conv(field.float(), weight.float(), (8, 8))
    v = spectral_conv(field, weight, (8, 8))
    assert v.dtype == torch.bfloat16
    torch.testing.assert_close(v, expected.bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("backend", EVERYWHERE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("boundaries", [None, ("wall", "periodic")])
def test_half_precision_is_computed_in_float32_where_there_are_no_kernels_for_it(boundaries, dtype, backend):
    """No FFT here takes half precision, and few devices multiply complex numbers in it."""
    u, _ = sample((15, 12), (6, 6), dtype=torch.float32)
    half = [to_layout(u).to(dtype), torch.randn(6 * 4, 3, 2, 2).to(dtype)]
    outcomes = []
    for tensors in (half, [t.float() for t in half]):
        inputs = [t.clone().requires_grad_() for t in tensors]
        v = spectral_conv(*inputs, (6, 6), boundaries=boundaries, backend=backend)
        outcomes.append([v, *torch.autograd.grad(v.float().sum(), inputs)])
    for found, exact in zip(*outcomes, strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found, exact.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("backend", EVERYWHERE)
@pytest.mark.parametrize(
    ("grid", "num_modes"), [((12, 10), (6, 5)), ((9, 8), (7, 8)), ((8, 6, 7), (4, 5, 7))]
)
def test_a_base_is_added_and_left_as_it_was(grid, num_modes, backend):
    u, weight = sample(grid, num_modes)
    field = to_layout(u)
    base = torch.randn(*field.shape[:-1], 2, dtype=torch.float64)
    before = base.clone()
    sum_ = spectral_conv(field, weight, num_modes, base=base, backend=backend)
    expected = base + spectral_conv(field, weight, num_modes, backend=backend)
    torch.testing.assert_close(sum_, expected, rtol=0, atol=1e-12)
    assert torch.equal(base, before)


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_gradients_through_a_base_and_to_another_grid_are_exact(backend):
    u, weight = sample((4, 5), (3, 4), in_channels=2, out_channels=2)
    base = torch.randn(1, 8, 7, 2, dtype=torch.float64)
    inputs = [t.clone().requires_grad_() for t in (to_layout(u)[:1], weight, base)]

    def convolve(field, matrices, base):
        return spectral_conv(field, matrices, (3, 4), base=base, out_grid=(7, 8), backend=backend)

    assert torch.autograd.gradcheck(convolve, inputs)
    assert torch.autograd.gradgradcheck(convolve, inputs)


@pytest.mark.parametrize("backend", EVERYWHERE)
@pytest.mark.parametrize("out_grid", [(24, 20), (13, 9), (7, 11)])
def test_on_another_grid_it_is_the_same_function_of_space(out_grid, backend):
    """The kept modes' function, sampled elsewhere: convolving fields sampled there gives the same."""

    def waves(grid):
        y, x = (2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in grid)
        y = y[:, None]
        return (0.3 + torch.cos(2 * y + x) + torch.sin(y - 2 * x) + 0.5 * torch.cos(x)).view(1, 1, *grid)

    _, weight = sample((16, 16), (7, 5), in_channels=1)
    coarse, fine = waves((16, 18)), waves(out_grid)
    there = spectral_conv(to_layout(coarse), weight, (7, 5), out_grid=out_grid, backend=backend)
    expected = spectral_conv(to_layout(fine), weight, (7, 5), backend=backend)
    torch.testing.assert_close(there, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("backend", EVERYWHERE)
def test_strides_do_not_matter(backend):
    u, weight = sample((12, 10), (6, 5))
    contiguous = to_layout(u).contiguous()
    direction = torch.randn(2, 10, 12, 2, dtype=torch.float64)
    everywhere = torch.randn(12, 2, 10, 2, dtype=torch.float64).permute(1, 2, 0, 3)  # another order in memory

    def outcome(field, weight, direction):
        field, weight = field.detach().requires_grad_(), weight.detach().requires_grad_()
        v = spectral_conv(field, weight, (6, 5), base=everywhere, backend=backend)
        return v.detach(), *torch.autograd.grad(v, (field, weight), direction)

    expected = outcome(contiguous, weight, direction)
    channels_last = u.contiguous(memory_format=torch.channels_last)
    every_other = torch.stack([contiguous, contiguous], -1)[..., 0]
    for field in (to_layout(u), to_layout(channels_last), every_other):
        assert not field.is_contiguous()
        found = outcome(
            field, weight.mT.contiguous().mT, direction.transpose(1, 2).contiguous().transpose(1, 2)
        )
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


def test_a_broadcast_field_counts_as_its_copies():
    u, weight = sample((12, 10), (6, 5))
    constant = to_layout(u)[:1, :, :, :1].expand(4, -1, -1, 3)
    torch.testing.assert_close(
        spectral_conv(constant, weight, (6, 5)),
        spectral_conv(constant.contiguous(), weight, (6, 5)),
        rtol=0,
        atol=1e-14,
    )


@pytest.mark.parametrize(
    ("grid", "num_modes", "expected"),
    [((64, 64), (24, 24), "dft"), ((512,), (512,), "fft"), ((64, 64, 40), (16, 16, 16), "dft")],
)
def test_the_automatic_backend_takes_products_for_few_modes_and_ffts_for_many(
    grid, num_modes, expected, monkeypatch
):
    sizes = {"batch": 8, "channels": 32, "dtype": torch.float32, "device": torch.device("cpu")}
    if native_library() is not None:
        assert choose_backend("auto", grid, grid, **sizes) == "native"
    for route in ("native", "triton"):
        monkeypatch.delitem(BACKENDS, route)
    assert choose_backend("auto", grid, num_modes, **{**sizes, "batch": 9}) == expected
    assert choose_backend("reference", grid, num_modes, **sizes) == "reference"
    assert choose_backend("auto", grid, num_modes, **{**sizes, "dtype": torch.bfloat16}) == "dft"


def test_a_calibration_finds_costs_that_predict_what_it_measured():
    cases = (((16,), (8,), 4, 8), ((32, 32), (8, 8), 2, 8), ((48, 48), (48, 48), 2, 8), ((128,), (64,), 4, 8))
    costs = calibrate("cpu", repeats=3, cases=cases)
    assert costs.keys() == COSTS["cpu"].keys() - (set() if native_library() else {"native"})
    for constants in costs.values():
        assert constants.keys() == COSTS["cpu"]["dft"].keys()
        assert min(constants.values()) >= 0
        assert 0 < sum(constants.values()) < 1e-3


def test_a_backend_that_this_device_lacks_is_refused_with_those_that_are_there(monkeypatch):
    missing = dataclasses.replace(
        BACKENDS["dft"], refusal=lambda device, dtype, ndim: "there is no such chip"
    )
    monkeypatch.setitem(BACKENDS, "special", missing)
    with pytest.raises(
        ValueError, match=r"'special' cannot run here: there is no such chip.*dft, fft, reference"
    ):
        spectral_conv(torch.randn(1, 8, 2), torch.randn(3, 2, 2, 2), (4,), backend="special")


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_complex_and_whole_numbers_are_refused(dtype):
    with pytest.raises(TypeError, match="acts on real fields"):
        spectral_conv(torch.ones(1, 8, 2, dtype=dtype), torch.randn(3, 2, 2, 2), (4,))


@pytest.mark.parametrize("shape", [(0, 8, 2), (1, 0, 2), (1, 8, 0)])
def test_an_empty_axis_is_refused_with_the_shape(shape):
    with pytest.raises(ValueError, match="at least one entry on every axis"):
        spectral_conv(torch.zeros(shape), torch.randn(3, shape[-1], 2, 2), (4,))


def test_modes_above_the_nyquist_mode_of_the_output_grid_are_refused():
    with pytest.raises(ValueError, match="num_modes of at most 3"):
        spectral_conv(torch.randn(1, 8, 2), torch.randn(3, 2, 2, 2), (4,), out_grid=(3,))


@pytest.mark.parametrize("precision", ["full", "tf32", "bf16"])
@pytest.mark.parametrize(("grid", "num_modes"), [((64, 64), (24, 24)), ((33, 40), (16, 17))])
def test_each_precision_keeps_its_stated_error(precision, grid, num_modes):
    u, weight = sample(grid, num_modes, in_channels=32, out_channels=32)
    field = to_layout(u)
    exact = spectral_conv(field, weight, num_modes, backend="reference")
    v = spectral_conv(field.float(), weight.float(), num_modes, precision=precision)
    error = float((v.double() - exact).norm() / exact.norm())
    assert error < {"full": 1e-6, "tf32": 1e-3, "bf16": 8e-3}[precision]
    assert precision != "bf16" or error > 1e-4


def test_an_unknown_precision_gets_a_suggestion():
    with pytest.raises(ValueError, match=r"Unknown precision 'bf61'.*Did you mean 'bf16'"):
        SpectralConv(2, 2, (4, 4), precision="bf61")


def test_initial_weights_keep_the_variance_of_every_mode():
    torch.manual_seed(0)
    conv = SpectralConv(64, 64, (16, 15))
    u = torch.randn(4, 32, 32, 64)
    only_kept = torch.eye(64).expand(16 * 8, 64, 64)
    kept = spectral_conv(u, torch.stack([only_kept, torch.zeros_like(only_kept)], -1), (16, 15))
    assert conv(u).var().item() == pytest.approx(kept.var().item(), rel=0.05)


def test_a_mode_above_nyquist_is_refused_with_the_largest_allowed_number():
    conv = SpectralConv(2, 2, (12, 12))
    with pytest.raises(ValueError, match="num_modes of at most 8"):
        conv(torch.randn(1, 16, 8, 2))


def test_a_weight_with_another_number_of_modes_is_refused():
    with pytest.raises(ValueError, match="keep 12 modes; the weight has 9"):
        spectral_conv(torch.randn(1, 8, 8, 2), torch.randn(9, 2, 2, 2), (4, 4))


def test_an_unknown_backend_gets_a_suggestion_when_the_layer_is_built():
    with pytest.raises(ValueError, match="Did you mean 'dft'"):
        SpectralConv(2, 2, (4, 4), backend="ddft")

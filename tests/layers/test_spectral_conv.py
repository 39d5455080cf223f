import math

import pytest
import torch

from pdesurrogate.layers import BACKENDS, SpectralConv, spectral_conv

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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("grid", "num_modes"), CASES)
def test_every_backend_equals_the_definition_on_the_full_spectrum(grid, num_modes, backend, dtype, tolerance):
    u, weight = sample(grid, num_modes, dtype=dtype)
    expected = to_layout(oracle(u, weight, num_modes))
    v = spectral_conv(to_layout(u), weight, num_modes, backend=backend)
    assert v.dtype == dtype
    assert (v - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("backend", BACKENDS)
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


@pytest.mark.parametrize("backend", BACKENDS)
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


@pytest.mark.parametrize(
    ("num_modes", "gradient", "expected"), [(8, False, "dft"), (48, False, "fft"), (48, True, "dft")]
)
def test_the_automatic_backend_takes_ffts_for_many_modes_without_gradients(
    monkeypatch, num_modes, gradient, expected
):
    used = []

    def spy(name, run):
        return lambda *inputs: (used.append(name), run(*inputs))[1]

    for name, run in list(BACKENDS.items()):
        monkeypatch.setitem(BACKENDS, name, spy(name, run))
    conv = SpectralConv(2, 2, (num_modes,))
    with torch.set_grad_enabled(gradient):
        conv(torch.randn(1, 64, 2))
    assert used == [expected]


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

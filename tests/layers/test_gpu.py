"""The engine on a CUDA device: backends, precision policies and memory modes, against float64 on the CPU."""

import pytest
import torch

from pdesurrogate.layers import (
    MEMORY_MODES,
    FourierLayerWeights,
    available_backends,
    fourier_layer,
    spectral_conv,
)

pytestmark = pytest.mark.gpu

TOLERANCES = {"full": 1e-5, "tf32": 8e-3, "bf16": 2e-2}


def relative(found, expected):
    found = found.detach().cpu().to(expected.dtype)
    return float((found - expected.detach()).norm() / expected.detach().norm())


def convolution(grid, num_modes, channels=8):
    modes = num_modes[-1] // 2 + 1
    for k in num_modes[:-1]:
        modes *= k
    u = torch.randn(4, grid[-1], *grid[:-1], channels, dtype=torch.float64)
    return [u, torch.randn(modes, channels, channels, 2, dtype=torch.float64) / channels]


def evaluate(tensors, num_modes, device, dtype, **options):
    inputs = [t.to(device, dtype).requires_grad_() for t in tensors]
    v = spectral_conv(*inputs, num_modes, **options)
    return [v, *torch.autograd.grad(v.float().square().sum(), inputs)]


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(
    ("grid", "num_modes"),
    [((64,), (24,)), ((64, 64), (24, 24)), ((33, 20), (12, 9)), ((16, 18, 20), (8, 8, 8))],
)
def test_every_backend_computes_the_convolution_and_its_gradients(grid, num_modes, precision):
    tensors = convolution(grid, num_modes)
    expected = evaluate(tensors, num_modes, "cpu", torch.float64, backend="reference")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for backend in available_backends(torch.device("cuda"), dtype, len(grid)):
        if precision == "bf16" and backend in ("fft", "reference"):
            continue  # there are no FFTs in half precision
        found = evaluate(tensors, num_modes, "cuda", torch.float32, backend=backend, precision=precision)
        for a, b in zip(found, expected, strict=True):
            assert relative(a, b) < TOLERANCES[precision], backend


@pytest.mark.parametrize("memory", MEMORY_MODES)
@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_fourier_layer_is_that_of_the_cpu_in_every_memory_mode(memory, precision):
    width, hidden, num_modes = 8, 4, (12, 12)
    u, spectral = convolution((32, 32), num_modes, width)
    shapes = [(width, width), (width,), (hidden, width), (hidden,), (width, hidden), (width,), (width,)]
    tensors = [u, spectral, *(torch.randn(shape, dtype=torch.float64) / 3 for shape in shapes)]

    def layer(device, dtype, **options):
        inputs = [t.to(device, dtype).requires_grad_() for t in tensors]
        y = fourier_layer(inputs[0], FourierLayerWeights(*inputs[1:]), num_modes, **options)
        return [y, *torch.autograd.grad(y.float().square().sum(), inputs)]

    expected = layer("cpu", torch.float64, backend="reference")
    for a, b in zip(layer("cuda", torch.float32, memory=memory, precision=precision), expected, strict=True):
        assert relative(a, b) < 3 * TOLERANCES[precision]


def test_the_policy_and_not_the_global_flag_decides_about_tf32_in_both_passes(monkeypatch):
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no TF32")
    tensors = convolution((64, 64), (24, 24))
    exact = evaluate(tensors, (24, 24), "cpu", torch.float64, backend="reference")
    for flag in ("ieee", "tf32"):
        monkeypatch.setattr(torch.backends.cuda.matmul, "fp32_precision", flag)
        full = evaluate(tensors, (24, 24), "cuda", torch.float32, backend="dft", precision="full")
        rounded = evaluate(tensors, (24, 24), "cuda", torch.float32, backend="dft", precision="tf32")
        for a, b, c in zip(full, rounded, exact, strict=True):
            assert relative(a, c) < 1e-5
            assert 5e-5 < relative(b, c) < 2e-3
        assert torch.backends.cuda.matmul.fp32_precision == flag

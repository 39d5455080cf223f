"""T1's layer: the compiled kernels against the formula in float64, and when they step aside."""

from __future__ import annotations

import importlib

import pytest
import torch
import torch.nn.functional as F
from torch.fx.experimental.proxy_tensor import make_fx

from pdesurrogate.layers import wave_layer
from pdesurrogate.layers.native import (
    native_library,
    wave_mixing_backward,
    wave_mixing_forward,
    wave_products_backward,
    wave_products_forward,
)

module = importlib.import_module("pdesurrogate.layers.wave_layer")
needs_library = pytest.mark.skipif(native_library() is None, reason="there is no C++ compiler")
SHAPES = [
    ((5,), 3, 8),
    ((6, 5), 3, 16),
    ((24, 7), 16, 48),  # whole cache lines of channels, odd and even numbers of waves
    ((4, 9), 1, 40),  # channels that are no whole lines
    ((3, 4, 5), 7, 24),
    ((1, 33), 30, 32),
]
"""Waves of the axes, batch, channels."""


def tensors(waves, batch, width, dtype=torch.float32):
    count = torch.Size(waves).numel()
    v = torch.randn(*waves, batch, width, dtype=dtype)
    weight = torch.randn(count, width, width, dtype=dtype) / width**0.5
    return v, weight, [torch.randn(width, m, m, dtype=dtype) / m**0.5 for m in waves]


def formula(v, weight, *mixing, keep):
    """The equation of the module's docstring, axis by axis, channels last throughout."""
    h = F.gelu(torch.einsum("kbi,kio->kbo", v.flatten(0, -3), weight)).view(v.shape)
    for axis, matrix in enumerate(mixing):
        h = torch.einsum("i...c,cij->j...c", h.movedim(axis, 0), matrix).movedim(0, axis)
    return keep * v + h


def error(found, exact):
    return float(((found.double() - exact).norm() / exact.norm()).detach())


@needs_library
@pytest.mark.parametrize("keep", [1.0, 0.7])
@pytest.mark.parametrize(("waves", "batch", "width"), SHAPES)
def test_values_and_gradients_are_those_of_the_formula_in_float64(waves, batch, width, keep, monkeypatch):
    monkeypatch.setattr(module, "plain_wave_layer", lambda *a, **k: pytest.fail("not the compiled kernels"))
    v, weight, mixing = tensors(waves, batch, width)
    inputs = [t.requires_grad_() for t in (v, weight, *mixing)]
    wide = [t.detach().double().requires_grad_() for t in inputs]
    gradient = torch.randn(v.shape)
    y, exact = wave_layer(v, weight, mixing, keep), formula(*wide, keep=keep)
    assert error(y, exact) < 1e-6
    found = torch.autograd.grad(y, inputs, gradient)
    for ours, true in zip(found, torch.autograd.grad(exact, wide, gradient.double()), strict=True):
        assert error(ours, true) < 2e-6


@needs_library
def test_tensors_may_lie_in_memory_as_they_like(monkeypatch):
    monkeypatch.setattr(module, "plain_wave_layer", lambda *a, **k: pytest.fail("not the compiled kernels"))
    v, weight, mixing = tensors((4, 3), 2, 8)
    plain = [t.requires_grad_() for t in (v, weight, *mixing)]
    turned = [t.detach().transpose(-1, -2).contiguous().transpose(-1, -2).requires_grad_() for t in plain]
    gradient = torch.randn(v.shape)
    results = []
    for inputs, grad in ((plain, gradient), (turned, gradient.transpose(0, 1).contiguous().transpose(0, 1))):
        y = wave_layer(inputs[0], inputs[1], inputs[2:])
        results.append([y, *torch.autograd.grad(y, inputs, grad)])
    assert not any(t.is_contiguous() for t in turned)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_library
@pytest.mark.parametrize("chosen", [[0], [1], [2], [3], [0, 2], [1, 3]])
def test_gradients_that_are_not_wanted_change_no_others(chosen):
    v, weight, mixing = tensors((4, 3), 2, 8)
    every = [v, weight, *mixing]

    def gradients(places):
        inputs = [t.clone().requires_grad_(i in places) for i, t in enumerate(every)]
        wave_layer(inputs[0], inputs[1], inputs[2:]).square().sum().backward()
        return [t.grad for t in inputs]

    everything = gradients(range(4))
    for i, found in enumerate(gradients(chosen)):
        assert torch.equal(found, everything[i]) if i in chosen else found is None


def test_other_numbers_of_channels_are_left_to_ordinary_operations():
    v, weight, mixing = tensors((4, 3), 2, 12)
    wide = [t.double() for t in (v, weight, *mixing)]
    assert error(wave_layer(v, weight, mixing), formula(*wide, keep=1.0)) < 1e-6


def test_a_matrix_for_every_axis_is_asked_for(as_users_run):
    v, weight, mixing = tensors((4, 3), 2, 8)
    with pytest.raises(ValueError, match="v has 2 axes of waves and there are 1 matrices; give one an axis"):
        wave_layer(v, weight, mixing[:1])


@pytest.mark.parametrize(("waves", "batch", "width"), [((4,), 2, 3), ((3, 4), 2, 3), ((2, 3, 2), 2, 3)])
def test_ordinary_operations_follow_the_formula_and_its_derivatives(waves, batch, width):
    v, weight, mixing = tensors(waves, batch, width, torch.float64)
    inputs = [t.requires_grad_() for t in (v, weight, *mixing)]

    def run(v, weight, *mixing):
        return wave_layer(v, weight, mixing, 0.8)

    torch.testing.assert_close(run(*inputs), formula(*inputs, keep=0.8), rtol=1e-13, atol=1e-13)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


@needs_library
def test_a_gradient_of_the_compiled_layer_can_be_differentiated_again():
    v, weight, mixing = tensors((4, 3), 2, 8)

    def curvature(v, weight, mixing):
        inputs = [t.clone().requires_grad_() for t in (v, weight, *mixing)]
        (slope,) = torch.autograd.grad(
            wave_layer(inputs[0], inputs[1], inputs[2:]).pow(3).sum(), inputs[0], create_graph=True
        )
        return torch.autograd.grad(slope.square().sum(), inputs)

    exact = curvature(v.double(), weight.double(), [m.double() for m in mixing])
    for ours, true in zip(curvature(v, weight, mixing), exact, strict=True):
        assert error(ours, true) < 1e-5


@needs_library
def test_one_thread_or_two_make_no_difference():
    v, weight, mixing = tensors((24, 8), 16, 48)
    inputs = [t.requires_grad_() for t in (v, weight, *mixing)]
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            y = wave_layer(v, weight, mixing)
            results.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_library
def test_not_a_number_stays_with_its_sample():
    v, weight, mixing = tensors((4, 5), 6, 16)
    v[1, 2, 3, 4] = float("nan")
    y = wave_layer(v, weight, mixing)
    assert bool(y[:, :, 3].isnan().any())
    assert not bool(y[:, :, [0, 1, 2, 4, 5]].isnan().any())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_transforms_of_functions_look_inside():
    v, weight, mixing = tensors((4, 3), 2, 8)
    pair = torch.stack([v, 2 * v])
    found = torch.func.vmap(lambda one: wave_layer(one, weight, mixing))(pair)
    torch.testing.assert_close(found, torch.stack([wave_layer(one, weight, mixing) for one in pair]))
    _, along = torch.func.jvp(lambda v: wave_layer(v, weight, mixing), (v,), (torch.ones_like(v),))
    step = 1e-6
    wide = [t.double() for t in (v, weight, *mixing)]
    ahead, behind = (formula(wide[0] + s * step, *wide[1:], keep=1.0) for s in (1, -1))
    assert error(along, (ahead - behind) / (2 * step)) < 1e-5


@needs_library
def test_recorded_operations_are_ordinary_ones():
    v, weight, mixing = tensors((4, 3), 2, 8)
    recorded = make_fx(lambda v: wave_layer(v, weight, mixing))(v)
    other = torch.randn_like(v)
    torch.testing.assert_close(recorded(other), wave_layer(other, weight, mixing))


@needs_library
def test_only_what_the_library_can_read_is_let_in(as_users_run):
    v, weight, (first, _) = tensors((4, 3), 2, 8)
    rows = v.flatten(0, 1)
    with pytest.raises(ValueError, match="contiguous float32 tensors on the CPU"):
        wave_products_forward(rows.double(), weight)
    with pytest.raises(
        ValueError, match=r"the weights is of shape \(11, 8, 8\); it must have the shape \(12, 8, 8\)"
    ):
        wave_products_forward(rows, weight[1:])
    with pytest.raises(ValueError, match="gradient is of shape"):
        wave_products_backward(rows[:, :1], rows, weight, rows)
    with pytest.raises(ValueError, match="there are 6 channels; the native kernel takes multiples of 8"):
        wave_products_forward(rows[..., :6].contiguous(), weight[:, :6].contiguous())
    with pytest.raises(ValueError, match=r"axis is 2; x of shape .* has the axes 0 to 1"):
        wave_mixing_forward(v, first, 2)
    with pytest.raises(ValueError, match="the matrix is of shape"):
        wave_mixing_forward(v, first, 1)
    with pytest.raises(ValueError, match="what is added is of shape"):
        wave_mixing_forward(v, first, 0, beside=v[:1])
    with pytest.raises(ValueError, match=r"gradient is torch.float32 .*, not contiguous"):
        wave_mixing_backward(v.transpose(0, 1).contiguous().transpose(0, 1), v, first, 0)

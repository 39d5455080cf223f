"""The compiled pointwise kernel against PyTorch in float64, and the loader when things are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from pdesurrogate.layers.native import (
    BlockGradients,
    BlockWeights,
    block_backward,
    block_forward,
    mlp_backward,
    mlp_forward,
    native_applies,
    native_library,
    reason_without_native,
)
from pdesurrogate.layers.native.loader import NoNativeLibraryError, build

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="there is no C++ compiler"
)
ENDS = [{"first": first, "last": last} for first in (True, False) for last in (True, False)]
WIDTHS = [(32, 16), (20, 10), (7, 3), (1, 1), (40, 64)]


def random_weights(width, hidden, dtype=torch.float32):
    def matrix(rows, columns):
        return torch.randn(rows, columns, dtype=dtype) / columns**0.5

    def vector(size):
        return torch.randn(size, dtype=dtype)

    mlp = matrix(hidden, width), vector(hidden), matrix(width, hidden), vector(width), vector(width)
    return BlockWeights(matrix(width, width), vector(width), *mlp)


def reference(spectral, v, weights, last):
    """The formula of the module's docstring in plain PyTorch."""
    s = spectral + F.linear(v, weights.skip, weights.skip_bias)
    h = F.gelu(F.linear(s if last else F.gelu(s), weights.hidden, weights.hidden_bias))
    return F.linear(h, weights.back, weights.back_bias) + weights.gate * v


def run_and_keep(spectral, u, weights, first=False, last=False):
    s = torch.empty_like(u)
    v = u if first else F.gelu(u)
    return block_forward(spectral, v, weights, last=last, s=s), s


def error(ours, exact):
    return float((ours.double() - exact).norm() / exact.norm())


def exact_gradients(spectral, u, weights, grad, first=False, last=False):
    """Value and gradients in float64; the gradient of the field is that of ``v``."""
    v = u.double() if first else F.gelu(u.double())
    inputs = [t.double().requires_grad_() for t in (spectral, v, *weights)]
    y = reference(inputs[0], inputs[1], BlockWeights(*inputs[2:]), last)
    return y.detach(), torch.autograd.grad(y, inputs, grad.double())


@needs_compiler
def test_the_library_builds_here():
    assert native_library() is not None, reason_without_native()


@needs_compiler
@pytest.mark.parametrize(("width", "hidden"), WIDTHS)
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("rows", [1, 47, 5000])
def test_values_and_gradients_are_those_of_float64(width, hidden, ends, rows):
    spectral, u, grad = torch.randn(3, rows, width)
    weights = random_weights(width, hidden)
    y_exact, exact = exact_gradients(spectral, u, weights, grad, **ends)
    y, s = run_and_keep(spectral, u, weights, **ends)
    assert error(y, y_exact) < 2e-6
    gradients = block_backward(grad, u, s, weights, **ends)
    # A single row or channel can cancel; errors are then measured against the largest of the gradients.
    scale = max(float(e.norm()) for e in exact) if width == 1 or rows == 1 else 0.0
    for mine, true in zip([gradients.s, gradients.v, *gradients.weights], exact, strict=True):
        assert float((mine.double() - true).norm()) < 1e-5 * max(float(true.norm()), scale)


@needs_compiler
def test_the_activation_is_the_exact_gelu_in_the_tails_too():
    x = torch.linspace(-40, 40, 100_001)[:, None]
    one, nothing = torch.ones(1, 1), torch.zeros(1)
    exact = F.gelu(x.double())
    y = mlp_forward(x, one, nothing, one, nothing)
    assert float(((y - exact).abs() / x.abs().clamp(min=1)).max()) < 3e-7
    slope = mlp_backward(torch.ones_like(x), x, one, nothing, one)[0]
    wide = x.double().requires_grad_()
    (exact_slope,) = torch.autograd.grad(F.gelu(wide).sum(), wide)
    assert float((slope - exact_slope).abs().max()) < 5e-7


@needs_compiler
def test_the_memory_of_inputs_can_be_used_for_results():
    spectral, u, grad = torch.randn(3, 100, 8)
    weights = random_weights(8, 4)
    y, s = run_and_keep(spectral, u, weights, first=True)
    plain = block_backward(grad, u, s, weights, first=True)
    buffer = spectral.clone()
    assert torch.equal(block_forward(buffer, u, weights, s=buffer), y)
    assert torch.equal(buffer, s)
    for name in ("spectral", "v"):
        inputs = {"spectral": spectral.clone(), "v": u.clone()}
        assert block_forward(**inputs, weights=weights, y=inputs[name]) is inputs[name]
        assert torch.equal(inputs[name], y)
    zeros = BlockWeights(*(torch.zeros_like(w) for w in weights))
    block_backward(grad, u, s, weights, first=True, into=BlockGradients(s, grad, zeros))
    assert torch.equal(s, plain.s)
    assert torch.equal(grad, plain.v)


@needs_compiler
def test_gradients_of_weights_add_up_over_groups_of_the_batch():
    spectral, x, grad = torch.randn(3, 4, 50, 12)
    weights = random_weights(12, 6)
    _, s = run_and_keep(spectral, x, weights)
    whole = block_backward(grad, x, s, weights)
    total = BlockWeights(*(torch.zeros_like(w) for w in weights))
    for i in range(4):
        into = BlockGradients(torch.empty_like(x[i]), torch.empty_like(x[i]), total)
        block_backward(grad[i], x[i], s[i], weights, into=into)
        torch.testing.assert_close(into.v, whole.v[i], rtol=1e-5, atol=1e-5)
    for part, all_at_once in zip(total, whole.weights, strict=True):
        torch.testing.assert_close(part, all_at_once, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_the_number_of_threads_changes_nothing():
    spectral, x, grad = torch.randn(3, 20_000, 16)
    weights = random_weights(16, 8)
    results = []
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            y, s = run_and_keep(spectral, x, weights)
            results.append([y, *block_backward(grad, x, s, weights).weights])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@needs_compiler
@pytest.mark.parametrize("last", [True, False])
def test_not_a_number_stays_not_a_number(last):
    spectral, v = torch.randn(2, 10, 8)
    v[3, 5] = float("nan")
    y = block_forward(spectral, v, random_weights(8, 4), last=last)
    assert bool(y[3].isnan().all())
    assert not bool(y[[0, 1, 2, *range(4, 10)]].isnan().any())


@needs_compiler
@pytest.mark.parametrize("sizes", [(3, 64, 32), (32, 64, 1), (5, 7, 9), (1, 1, 1)])
@pytest.mark.parametrize("rows", [1, 3000])
def test_the_two_layer_mlp_is_that_of_float64(sizes, rows):
    n_in, n_hidden, n_out = sizes
    x, grad = torch.randn(rows, n_in), torch.randn(rows, n_out)
    shapes = [(n_hidden, n_in), (n_hidden,), (n_out, n_hidden), (n_out,)]
    weights = [torch.randn(shape) / shape[-1] ** 0.5 for shape in shapes]
    wide = [t.double().requires_grad_() for t in (x, *weights)]
    y_exact = F.linear(F.gelu(F.linear(wide[0], *wide[1:3])), *wide[3:])
    exact = torch.autograd.grad(y_exact, wide, grad.double())
    assert error(mlp_forward(x, *weights), y_exact.detach()) < 2e-6
    ours = mlp_backward(grad, x, *weights[:3])
    scale = max(float(e.norm()) for e in exact) if rows == 1 or n_hidden == 1 else 0.0
    for mine, true in zip(ours, exact, strict=True):
        assert float((mine.double() - true).norm()) < 1e-5 * max(float(true.norm()), scale)


@needs_compiler
def test_the_mlp_of_an_input_without_gradient_leaves_that_gradient_out():
    weights = [torch.randn(6, 4), torch.randn(6), torch.randn(2, 6)]
    assert mlp_backward(torch.randn(3, 2), torch.randn(3, 4), *weights, needs_x=False)[0] is None


@needs_compiler
def test_only_what_the_library_can_read_is_let_in():
    x, weights = torch.randn(10, 8), random_weights(8, 4)
    for bad in (torch.randn(10, 8, dtype=torch.float64), torch.randn(8, 10).T):
        with pytest.raises(ValueError, match="contiguous float32 tensors on the CPU"):
            block_forward(bad, x, weights)
    assert native_applies(x, *weights, None)
    assert not native_applies(x.double())
    assert not native_applies(x.to("meta"))


@needs_compiler
def test_a_weight_of_another_shape_is_refused(as_users_run):
    x, weights = torch.randn(10, 8), random_weights(8, 4)
    with pytest.raises(ValueError, match=r"back is of shape \(4, 8\); it must have the shape \(8, 4\)"):
        block_forward(x.clone(), x, weights._replace(back=weights.hidden))


def test_a_missing_compiler_is_named(tmp_path):
    with pytest.raises(NoNativeLibraryError, match="there is no C\\+\\+ compiler"):
        build(tmp_path, compiler="no-such-compiler")


def test_a_failing_compiler_is_quoted(tmp_path):
    with pytest.raises(NoNativeLibraryError, match=r"false .* failed"):
        build(tmp_path, compiler="false")


@needs_compiler
def test_a_second_build_is_taken_from_the_cache(tmp_path):
    first = build(tmp_path)
    stamp = first.stat().st_mtime_ns
    assert build(tmp_path) == first
    assert first.stat().st_mtime_ns == stamp
    assert list(tmp_path.iterdir()) == [first]


@needs_compiler
def test_a_folder_that_others_can_write_to_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(NoNativeLibraryError, match="can be written by other users"):
        build(tmp_path)


def test_without_the_library_everything_says_so():
    code = (
        "import torch; from pdesurrogate.layers.native import *\n"
        "assert native_library() is None and reason_without_native() == 'PDESURROGATE_NATIVE is 0.'\n"
        "x = torch.randn(2, 3); assert not native_applies(x)\n"
        "w = BlockWeights(*(torch.randn(s) for s in [(3, 3), 3, (2, 3), 2, (3, 2), 3, 3]))\n"
        "try: block_forward(x, x, w)\n"
        "except RuntimeError as error: assert 'PDESURROGATE_NATIVE' in str(error)\n"
        "else: raise SystemExit('no error')\n"
    )
    environment = os.environ | {"PDESURROGATE_NATIVE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""One Fourier layer: its hand-written derivatives, what it keeps, and who may look inside."""

import logging
import math
import sys

import pytest
import torch
import torch.nn.functional as F

from pdesurrogate.layers import (
    MEMORY_MODES,
    FourierLayerWeights,
    PointwiseMLP,
    available_backends,
    fourier_layer,
    precision,
    spectral_conv,
)
from pdesurrogate.layers.native import native_library, reason_without_native
from pdesurrogate.layers.spectral_backends import _fastest

POINTWISE = sys.modules[
    "pdesurrogate.layers.pointwise_mlp"
]  # the module; the package exports a function of its name

NUM_MODES = (3, 4)
GRID = (4, 5)


def layer_weights(width=3, hidden=2, num_modes=NUM_MODES, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    num_kept = math.prod(num_modes[:-1]) * (num_modes[-1] // 2 + 1)
    shapes = [(num_kept, width, width, 2), (width, width), (width,)]
    if hidden:
        shapes += [(hidden, width), (hidden,), (width, hidden), (width,), (width,)]
    return [torch.randn(shape, generator=generator, dtype=dtype) / shape[-1] for shape in shapes]


def field(grid=GRID, width=3, batch=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    return torch.randn(batch, grid[-1], *grid[:-1], width, generator=generator, dtype=dtype)


def run(u, *tensors, num_modes=NUM_MODES, **options):
    return fourier_layer(u, FourierLayerWeights(*tensors), num_modes, **options)


def by_the_formula(u, spectral, skip, skip_bias, *mlp, first, last):
    v = u if first else F.gelu(u)
    s = F.linear(v, skip, skip_bias) + spectral_conv(v, spectral, NUM_MODES, backend="reference")
    if not mlp:
        return s
    inward, inward_bias, outward, outward_bias, gate = mlp
    hidden = F.gelu(F.linear(s if last else F.gelu(s), inward, inward_bias))
    return F.linear(hidden, outward, outward_bias) + gate * v


@pytest.mark.parametrize("backend", available_backends(torch.device("cpu"), torch.float64, 2))
@pytest.mark.parametrize("hidden", [0, 2])
@pytest.mark.parametrize(("first", "last"), [(True, False), (False, False), (False, True), (True, True)])
def test_it_equals_the_formula_in_value_and_gradient(first, last, hidden, backend):
    inputs = [t.requires_grad_() for t in (field(), *layer_weights(hidden=hidden))]
    expected = by_the_formula(*inputs, first=first, last=last)
    y = run(*inputs, first=first, last=last, backend=backend)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(expected)
    theirs, ours = (torch.autograd.grad(out, inputs, direction) for out in (expected, y))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("memory", MEMORY_MODES)
@pytest.mark.parametrize("hidden", [0, 2])
def test_gradients_of_first_and_second_order_are_exact(memory, hidden):
    tensors = layer_weights(width=2, hidden=hidden, num_modes=(2, 3))
    inputs = [t.requires_grad_() for t in (field((2, 3), width=2, batch=1), *tensors)]

    def layer(u, *tensors):
        return run(u, *tensors, num_modes=(2, 3), memory=memory)

    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs, atol=1e-4)


def test_second_derivatives_are_right_where_the_input_depends_on_the_same_weights():
    u, tensors = field(), [t.requires_grad_() for t in layer_weights()]

    def curvature(layer):
        out = layer(layer(u, *tensors), *tensors)
        first = torch.autograd.grad(out.square().sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), tensors)

    expected = curvature(lambda u, *t: by_the_formula(u, *t, first=False, last=False))
    for one, other in zip(curvature(run), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def kept_bytes(memory, hidden=16, width=32, grid=(32, 32)):
    tensors = [t.requires_grad_() for t in layer_weights(width, hidden, (4, 4), torch.float32)]
    u = field(grid, width, dtype=torch.float32).requires_grad_()
    kept = {}

    def pack(saved):
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        run(u, *tensors, num_modes=(4, 4), memory=memory)
    return sum(kept.values()) - sum(t.nbytes for t in tensors), u.nbytes


def take_native_away(monkeypatch):
    monkeypatch.setattr("pdesurrogate.layers.native.loader._load", lambda: (None, "it was taken away"))
    _fastest.cache_clear()  # routes that were chosen with it


@pytest.fixture
def without_native(monkeypatch):
    take_native_away(monkeypatch)


@pytest.mark.parametrize(("memory", "fields"), [("speed", 2.5), ("lean", 2.0), ("minimal", 1.0)])
def test_each_memory_mode_keeps_as_many_fields_as_it_says(memory, fields, without_native):
    kept, size = kept_bytes(memory)
    assert fields * size <= kept <= (fields + 0.05) * size


def test_the_compiled_kernel_never_keeps_the_hidden_layer():
    if native_library() is None:
        pytest.skip(f"no compiled kernel here: {reason_without_native()}")
    assert kept_bytes("speed") == kept_bytes("lean")


@pytest.mark.parametrize("memory", MEMORY_MODES)
@pytest.mark.parametrize(("first", "last"), [(True, False), (False, False), (False, True)])
def test_compiled_kernel_and_torch_operations_give_the_same_layer(memory, first, last, monkeypatch):
    if native_library() is None:
        pytest.skip(f"no compiled kernel here: {reason_without_native()}")
    inputs = [
        field((12, 11), 32, batch=3, dtype=torch.float32),
        *layer_weights(32, 16, (4, 4), torch.float32),
    ]
    inputs = [t.requires_grad_() for t in inputs]
    outcomes = []
    for _ in range(2):
        y = run(*inputs, num_modes=(4, 4), memory=memory, first=first, last=last)
        outcomes.append([y, *torch.autograd.grad(y.square().mean(), inputs)])
        take_native_away(monkeypatch)
    _fastest.cache_clear()
    for one, other in zip(*outcomes, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


def test_the_original_layer_keeps_one_field():
    kept, size = kept_bytes("lean", hidden=0)
    assert size <= kept <= 1.05 * size


@pytest.mark.parametrize("memory", MEMORY_MODES)
def test_batches_and_grids_beyond_the_cache_give_the_same_numbers(memory, monkeypatch):
    inputs = [t.requires_grad_() for t in (field((12, 11), batch=5), *layer_weights())]
    outcomes = []
    for size in (2**30, 1000):
        monkeypatch.setattr(POINTWISE, "CACHE_BYTES", size)
        y = run(*inputs, memory=memory)
        outcomes.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_input_and_the_weights_are_left_as_they_were():
    inputs = [t.requires_grad_() for t in (field(), *layer_weights())]
    before = [t.detach().clone() for t in inputs]
    for first in (True, False):
        run(*inputs, first=first).square().sum().backward()
    for tensor, copy in zip(inputs, before, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("chosen", ["full", "bf16"])
def test_autocast_does_not_reach_inside(chosen):
    inputs = [t.requires_grad_() for t in (field(dtype=torch.float32), *layer_weights(dtype=torch.float32))]
    outcomes = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = run(*inputs, precision=chosen)
            outcomes.append([y, *torch.autograd.grad(y.float().square().sum(), inputs)])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("memory", MEMORY_MODES)
def test_in_bfloat16_fields_are_half_as_large_and_weights_keep_float32_gradients(memory):
    tensors = [t.requires_grad_() for t in layer_weights(32, 16, (8, 8), torch.float32)]
    u = field((32, 32), 32, dtype=torch.float32).requires_grad_()
    exact = run(u, *tensors, num_modes=(8, 8))
    y = run(u, *tensors, num_modes=(8, 8), precision="bf16", memory=memory)
    assert y.dtype == torch.bfloat16
    assert (y.float() - exact).norm() <= 1e-2 * exact.norm()
    theirs = torch.autograd.grad(exact.square().sum(), (u, *tensors))
    ours = torch.autograd.grad(y.float().square().sum(), (u, *tensors))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() <= 3e-2 * other.norm()


def test_bfloat16_without_hardware_for_it_runs_and_says_once_that_it_is_slow(monkeypatch, caplog):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: False)
    precision.note_slow_bfloat16.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            run(field(), *layer_weights())
            run(field(dtype=torch.float32), *layer_weights(dtype=torch.float32), precision="bf16")
    precision.note_slow_bfloat16.cache_clear()
    assert [r.message for r in caplog.records if "bfloat16" in r.message] == [caplog.records[0].message]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
def test_forward_mode_and_vectorised_derivatives_see_ordinary_operations():
    u, tensors = field(batch=1), layer_weights()
    tangent = torch.randn_like(u)
    _, along = torch.func.jvp(lambda u: run(u, *tensors), (u,), (tangent,))
    jacobian = torch.func.jacrev(lambda u: run(u, *tensors))(u)
    torch.testing.assert_close(torch.tensordot(jacobian, tangent, u.ndim), along, rtol=1e-10, atol=1e-10)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(u, tangent)
        eager = torch.autograd.forward_ad.unpack_dual(run(dual, *tensors)).tangent
    torch.testing.assert_close(eager, along, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory", ["speed", "lean"])
@pytest.mark.parametrize("needs_gradient", [True, False])
def test_the_perceptron_has_exact_derivatives_of_both_orders(memory, needs_gradient):
    mlp = PointwiseMLP(3, 4, 2, memory=memory).double()
    u = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=needs_gradient)
    inputs = (u, *(p.detach().clone().requires_grad_() for p in mlp.parameters()))

    def perceptron(u, *tensors):
        names = dict(zip(dict(mlp.named_parameters()), tensors, strict=True))
        return torch.func.functional_call(mlp, names, (u,))

    torch.testing.assert_close(perceptron(*inputs), torch.nn.Sequential.forward(mlp, u))
    assert torch.autograd.gradcheck(perceptron, inputs)
    assert torch.autograd.gradgradcheck(perceptron, inputs)


def test_the_perceptron_never_holds_its_hidden_layer(monkeypatch):
    monkeypatch.setattr(POINTWISE, "CACHE_BYTES", 4096)
    mlp = PointwiseMLP(2, 64, 1)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        mlp(torch.randn(1000, 2))
    assert max(saved) == 2000

"""The Fourier layer as one node of the autograd graph, with a backward pass written by hand.

Three ideas make it fast and small. The batch is walked in groups of samples, and a group's points in pieces,
so that every intermediate is read back from cache. Activations are recomputed from pre-activations, which
costs less than reading them from memory. Skip, transforms and gate accumulate into one field by the ``+=``
of a matrix product. Symbols as in `fourier_layer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fields.fourier import TruncatedTransform
from .native import BlockGradients, BlockWeights, block_backward, block_forward, native_applies
from .pointwise_mlp import add_product, add_sum, differentiable_backward, piece_rows
from .precision import products_in

NUM_MAP_TENSORS = 3
"""Tensors of a map of the modes, some of which may be None."""

LARGEST_KEPT_SHARE = 0.75
"""Of a field's numbers: modes that have more are analysed again in the backward pass, unless memory is for speed."""


class ModeMap(Protocol):
    """A linear map of the modes, with a backward pass of its own; see `ChannelMixing`."""

    def steps(self, modes: Tensor) -> list[Tensor]:
        """Return what it makes of the modes, step by step; the last one are the mixed modes."""

    def backward(
        self, modes: Tensor, between: list[Tensor], gradient: Tensor
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Return the gradients of the modes and of its tensors from the steps before the last; uses up ``gradient``."""


ModeMapOf = Callable[..., ModeMap]

_gelu_backward = torch.ops.aten.gelu_backward


@dataclass(frozen=True)
class LayerOptions:
    """What a layer is told beside its weights; see `fourier_layer`."""

    first: bool
    last: bool
    backend: str
    memory: str
    precision: str


class _Affine(NamedTuple):
    """An affine map of channels in the dtype of the products: ``x @ matrix + bias``, transposed ``x @ transposed``."""

    matrix: Tensor
    transposed: Tensor
    bias: Tensor


class _Perceptron(NamedTuple):
    inward: _Affine
    outward: _Affine
    gate: Tensor


class _Weights(NamedTuple):
    skip: _Affine
    mlp: _Perceptron | None


class _Spectral(NamedTuple):
    """The modes of ``v``, their map, what its steps made of them, and the mixed ones where they are needed again."""

    v_hat: Tensor
    mode_map: ModeMap
    between: list[Tensor]
    mixed: Tensor | None


class FourierLayerNode(torch.autograd.Function):
    """``y`` from ``u``; keeps ``u``, the modes of ``v`` if they are few, and what the memory mode adds."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        transform: TruncatedTransform,
        options: LayerOptions,
        plain: Callable[..., Tensor],
        mode_map: ModeMapOf,
        *tensors: Any,
    ) -> Tensor:
        """Return ``y``.

        Args:
            ctx: of the node.
            u: previous pre-activation.
            transform: to the modes that are mixed and back.
            options: of the layer.
            plain: the same layer by ordinary operations of ``u`` and the tensors, for second derivatives.
            mode_map: makes the map of the modes from its tensors.
            tensors: those of the map, `NUM_MAP_TENSORS` of them, and the pointwise weights.
        """
        ctx.transform, ctx.options, ctx.plain, ctx.mode_map = transform, options, plain, mode_map
        differentiable = any(ctx.needs_input_grad)
        pointwise = tensors[NUM_MAP_TENSORS:]
        weights = _cast(u.dtype, pointwise)
        mlp, groups = weights.mlp, _groups(u)
        y = torch.empty_like(u)
        v_hat = _analyse(u, y, transform, options, groups, keep_v=mlp is not None)
        *between, mixed = mode_map(*tensors[:NUM_MAP_TENSORS]).steps(v_hat)
        s = hidden = None
        native = mlp is not None and native_applies(u, *pointwise)
        if differentiable and mlp is not None and options.memory != "minimal":
            s = torch.empty_like(u)
            if options.memory == "speed" and not native:
                hidden = u.new_empty(*u.shape[:-1], mlp.inward.bias.shape[0])
        for group in groups:
            if mlp is None:
                v = u[group] if options.first else F.gelu(u[group])
                _skip_and_convolution(v, mixed[:, group], transform, weights.skip, y[group])
                continue
            v = u[group] if options.first else y[group]
            s_group = None if s is None else s[group]
            if native:
                waves = transform.synthesise(mixed[:, group]).contiguous()
                block_forward(waves, v, BlockWeights(*pointwise), last=options.last, s=s_group, y=y[group])
                continue
            s_group = torch.empty_like(v) if s_group is None else s_group
            _skip_and_convolution(v, mixed[:, group], transform, weights.skip, s_group)
            _mlp_and_gate(v, s_group, mlp, options, y[group], None if hidden is None else hidden[group])
        if differentiable:
            # Steps of a map are recomputed where little is to be kept, and all modes of a grid are as large as a field.
            ctx.num_between = 0 if options.memory == "minimal" else len(between)
            is_small = options.memory == "speed" or 2 * v_hat.numel() <= LARGEST_KEPT_SHARE * u.numel()
            modes = v_hat if is_small else None
            ctx.save_for_backward(u, modes, s, hidden, *between[: ctx.num_between], *tensors)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return the gradients, by ordinary operations where they are to be differentiated again."""
        u, v_hat, s, hidden, *rest = ctx.saved_tensors
        between, tensors = rest[: ctx.num_between], rest[ctx.num_between :]
        options: LayerOptions = ctx.options
        with products_in(options.precision, gradient.device):
            if torch.is_grad_enabled():
                wanted = ctx.needs_input_grad[0], *ctx.needs_input_grad[5:]
                twice = differentiable_backward(ctx.plain, (u, *tensors), gradient, wanted)
                return twice[0], None, None, None, None, *twice[1:]
            mode_map: ModeMap = ctx.mode_map(*tensors[:NUM_MAP_TENSORS])
            if v_hat is None:
                v_hat = _analyse(u, u, ctx.transform, options, _groups(u), keep_v=False)
            mixed: Tensor | None = None
            if options.memory == "minimal":
                *between, mixed = mode_map.steps(v_hat)
            spectral = _Spectral(v_hat, mode_map, between, mixed)
            grads = _layer_backward(
                u,
                s,
                hidden,
                spectral,
                tensors[NUM_MAP_TENSORS:],
                gradient.contiguous(),
                ctx.transform,
                options,
            )
            return grads[0], None, None, None, None, *grads[1:]


def _analyse(
    u: Tensor,
    y: Tensor,
    transform: TruncatedTransform,
    options: LayerOptions,
    groups: list[slice],
    *,
    keep_v: bool,
) -> Tensor:
    """Return the kept modes of ``v``, and leave ``v`` itself in ``y`` where it is needed again."""
    dtype = torch.promote_types(u.dtype, torch.float32).to_complex()
    v_hat = torch.empty(transform.num_kept, u.shape[0], u.shape[-1], dtype=dtype, device=u.device)
    for group in groups:
        if options.first:
            v = u[group]
        elif keep_v:
            v = torch.ops.aten.gelu.out(u[group], out=y[group])
        else:
            v = F.gelu(u[group])
        transform.analyse(v, out=v_hat[:, group])
    return v_hat


def _skip_and_convolution(
    v: Tensor, mixed: Tensor, transform: TruncatedTransform, skip: _Affine, s: Tensor
) -> None:
    """Write ``s = W v + b + F⁻¹[..]``."""
    torch.addmm(skip.bias, _rows(v), skip.matrix, out=_rows(s))
    transform.synthesise(mixed, accumulate=s)


def _mlp_and_gate(
    v: Tensor, s: Tensor, mlp: _Perceptron, options: LayerOptions, y: Tensor, hidden: Tensor | None
) -> None:
    """Write ``y = M₂ σ(M₁ σ(s) + c₁) + c₂ + g ⊙ v``; ``v`` may be ``y`` itself."""
    v_rows, s_rows, y_rows = _rows(v), _rows(s), _rows(y)
    for piece in _pieces(s_rows):
        a = s_rows[piece] if options.last else F.gelu(s_rows[piece])
        out = None if hidden is None else _rows(hidden)[piece]
        h = torch.addmm(mlp.inward.bias, a, mlp.inward.matrix, out=out)
        torch.addcmul(mlp.outward.bias, v_rows[piece], mlp.gate, out=y_rows[piece])
        y_rows[piece].addmm_(F.gelu(h), mlp.outward.matrix)


def _layer_backward(
    u: Tensor,
    s: Tensor | None,
    hidden: Tensor | None,
    spectral: _Spectral,
    pointwise: list[Tensor],
    gradient: Tensor,
    transform: TruncatedTransform,
    options: LayerOptions,
) -> tuple[Tensor | None, ...]:
    weights = _cast(u.dtype, pointwise)
    groups = _groups(u)
    ends = {"first": options.first, "last": options.last}
    native = weights.mlp is not None and native_applies(u, gradient, *pointwise)
    sums = [torch.zeros_like(w) for w in pointwise]
    mixed = spectral.mixed if weights.mlp is not None and s is None else None
    grad_u = torch.empty_like(u)
    grad_mixed = torch.empty_like(spectral.v_hat)  # as many channels leave a layer as enter it
    for group in groups:
        if weights.mlp is None:
            grad_s = gradient[group]
        else:
            s_group = torch.empty_like(u[group]) if s is None else s[group]
            if mixed is not None:
                v = u[group] if options.first else F.gelu(u[group])
                _skip_and_convolution(v, mixed[:, group], transform, weights.skip, s_group)
            if native:
                grad_s = torch.empty_like(s_group)
                into = BlockGradients(grad_s, grad_u[group], BlockWeights(*sums))
                block_backward(
                    gradient[group], u[group], s_group, BlockWeights(*pointwise), **ends, into=into
                )
                transform.synthesise_adjoint(grad_s, out=grad_mixed[:, group])
                continue
            hidden_group = None if hidden is None else hidden[group]
            grad_s = _mlp_backward(s_group, hidden_group, gradient[group], weights.mlp, options, sums[2:6])
        _skip_and_gate_backward(u[group], grad_s, gradient[group], weights, options, sums, grad_u[group])
        transform.synthesise_adjoint(grad_s, out=grad_mixed[:, group])
    grad_modes, grad_map = spectral.mode_map.backward(spectral.v_hat, spectral.between, grad_mixed)
    for group in groups:
        transform.analyse_adjoint(grad_modes[:, group], accumulate=grad_u[group])
        if not options.first:
            _gelu_backward.grad_input(grad_u[group], u[group], grad_input=grad_u[group])
    return grad_u, *grad_map, *sums


def _mlp_backward(
    s: Tensor,
    hidden: Tensor | None,
    gradient: Tensor,
    mlp: _Perceptron,
    options: LayerOptions,
    sums: list[Tensor],
) -> Tensor:
    """Return the gradient of ``s`` from that of ``y``, and add those of the MLP's weights to ``sums``."""
    grad_s = torch.empty_like(s)
    s_rows, grad_s_rows, gradient_rows = _rows(s), _rows(grad_s), _rows(gradient)
    for piece in _pieces(s_rows):
        g = gradient_rows[piece]
        a = s_rows[piece] if options.last else F.gelu(s_rows[piece])
        kept = None if hidden is None else _rows(hidden)[piece]
        h = torch.addmm(mlp.inward.bias, a, mlp.inward.matrix) if kept is None else kept
        add_product(sums[2], g, F.gelu(h))
        add_sum(sums[3], g)
        grad_h = _gelu_backward(g @ mlp.outward.transposed, h)
        add_product(sums[0], grad_h, a)
        add_sum(sums[1], grad_h)
        grad_a = torch.mm(grad_h, mlp.inward.transposed, out=grad_s_rows[piece])
        if not options.last:
            _gelu_backward.grad_input(grad_a, s_rows[piece], grad_input=grad_a)
    return grad_s


def _skip_and_gate_backward(
    u: Tensor,
    grad_s: Tensor,
    gradient: Tensor,
    weights: _Weights,
    options: LayerOptions,
    sums: list[Tensor],
    grad_v: Tensor,
) -> None:
    """Write the gradient of ``v`` but for its way through the spectrum, and add those of the weights to ``sums``."""
    u_rows, grad_s_rows, gradient_rows, grad_v_rows = map(_rows, (u, grad_s, gradient, grad_v))
    for piece in _pieces(u_rows):
        g, ds = gradient_rows[piece], grad_s_rows[piece]
        v = u_rows[piece] if options.first else F.gelu(u_rows[piece])
        add_product(sums[0], ds, v)
        add_sum(sums[1], ds)
        if weights.mlp is None:
            torch.mm(ds, weights.skip.transposed, out=grad_v_rows[piece])
        else:
            add_sum(sums[6], g * v)
            torch.mul(g, weights.mlp.gate, out=grad_v_rows[piece]).addmm_(ds, weights.skip.transposed)


def _cast(dtype: torch.dtype, pointwise: Sequence[Tensor]) -> _Weights:
    def affine(weight: Tensor, bias: Tensor) -> _Affine:
        return _Affine(weight.to(dtype).t().contiguous(), weight.to(dtype), bias.to(dtype))

    skip = affine(*pointwise[:2])
    if len(pointwise) == 2:
        return _Weights(skip, None)
    inward, inward_bias, outward, outward_bias, gate = pointwise[2:]
    mlp = _Perceptron(affine(inward, inward_bias), affine(outward, outward_bias), gate.to(dtype))
    return _Weights(skip, mlp)


def _groups(u: Tensor) -> list[slice]:
    """Groups of samples that fit the cache together; one sample at least."""
    batch = u.shape[0]
    step = piece_rows(u.device, u[0].numel() * u.element_size(), batch)
    return [slice(start, min(start + step, batch)) for start in range(0, batch, step)]


def _pieces(rows: Tensor) -> list[slice]:
    step = piece_rows(rows.device, rows.shape[1] * rows.element_size(), rows.shape[0])
    return [slice(start, start + step) for start in range(0, rows.shape[0], step)]


def _rows(field: Tensor) -> Tensor:
    return field.view(-1, field.shape[-1])

"""The Fourier layer as one node of the autograd graph, with a backward pass written by hand.

Three ideas make it fast and small. The batch is walked in groups of samples, and a group's points in pieces,
so that every intermediate is read back from cache. Activations are recomputed from pre-activations, which
costs less than reading them from memory. Skip, transforms and gate accumulate into one field by the ``+=``
of a matrix product. Symbols as in `fourier_layer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fields.fourier import TruncatedTransform
from .channel_mixing import ChannelMixing
from .native import BlockGradients, BlockWeights, block_backward, block_forward, native_applies
from .pointwise_mlp import add_product, add_sum, differentiable_backward, piece_rows
from .precision import products_in

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
    """The kept modes of ``v`` and the weights of their map; for a product of matrices also what `_record` gives."""

    v_hat: Tensor
    weights: tuple[Tensor, Tensor | None, Tensor | None]
    recorded: list[Tensor]

    def mixed(self) -> Tensor:
        """Return the mixed modes."""
        if self.recorded:
            return self.recorded[0].detach()
        return torch.bmm(self.v_hat, _numbers(self.weights[0], self.v_hat))

    def backward(self, grad_mixed: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return the gradients of ``v̂`` and of the weights; what is given is used up."""
        if self.recorded:
            mixed, *leaves = self.recorded
            grad_modes, *found = torch.autograd.grad(mixed, leaves, grad_mixed, retain_graph=True)
            return grad_modes, [None if t is None else found.pop(0) for t in self.weights]
        # The small spectra are conjugated, never the weight: ∂/∂W = v̂ᴴ ∂, ∂/∂v̂ = ∂ Wᴴ.
        matrices = _numbers(self.weights[0], self.v_hat)
        grad_weight = torch.bmm(self.v_hat.conj_physical().transpose(1, 2), grad_mixed)
        grad_modes = torch.bmm(grad_mixed.conj_physical_(), matrices.transpose(1, 2)).conj_physical_()
        return grad_modes, [torch.view_as_real(grad_weight), None, None]


class FourierLayerNode(torch.autograd.Function):
    """``y`` from ``u``; keeps ``u``, the kept modes of ``v`` and what the memory mode adds."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        transform: TruncatedTransform,
        options: LayerOptions,
        plain: Callable[..., Tensor],
        weight: Tensor,
        inward: Tensor | None,
        outward: Tensor | None,
        *pointwise: Tensor,
    ) -> Tensor:
        """Return ``y``; ``plain`` computes the same by ordinary operations, for second derivatives."""
        ctx.transform, ctx.options, ctx.plain = transform, options, plain
        differentiable = any(ctx.needs_input_grad)
        weights = _cast(u.dtype, pointwise)
        mlp, groups = weights.mlp, _groups(u)
        y = torch.empty_like(u)
        v_hat = _analyse(u, y, transform, options, groups, keep_v=mlp is not None)
        mixed = _mix(v_hat, weight, inward, outward)
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
            ctx.save_for_backward(u, v_hat, s, hidden, weight, inward, outward, *pointwise)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Return the gradients, by ordinary operations where they are to be differentiated again."""
        u, v_hat, s, hidden, weight, inward, outward, *pointwise = ctx.saved_tensors
        options: LayerOptions = ctx.options
        with products_in(options.precision, gradient.device):
            if torch.is_grad_enabled():
                wanted = ctx.needs_input_grad[0], *ctx.needs_input_grad[4:]
                inputs = u, weight, inward, outward, *pointwise
                twice = differentiable_backward(ctx.plain, inputs, gradient, wanted)
                return twice[0], None, None, None, *twice[1:]
            recorded = _record(v_hat, weight, inward, outward)
            spectral = _Spectral(v_hat, (weight, inward, outward), recorded)
            grads = _layer_backward(
                u, s, hidden, spectral, pointwise, gradient.contiguous(), ctx.transform, options
            )
            return grads[0], None, None, None, *grads[1:]


def _mix(v_hat: Tensor, weight: Tensor, inward: Tensor | None, outward: Tensor | None) -> Tensor:
    """Return the mixed modes."""
    mixing = ChannelMixing(weight, inward, outward)
    return torch.bmm(v_hat, _numbers(weight, v_hat)) if mixing.is_dense else mixing(v_hat)


def _record(v_hat: Tensor, weight: Tensor, inward: Tensor | None, outward: Tensor | None) -> list[Tensor]:
    """Return the mixed modes of a map of several factors with their graph, and its leaves; nothing for one matrix.

    They are computed again in the backward pass: a graph from the forward pass would outlive a checkpoint around the
    layer, which lets go of tensors but not of graphs.
    """
    if ChannelMixing(weight, inward, outward).is_dense:
        return []
    leaves = [t.detach().requires_grad_() for t in (v_hat, weight)]
    ends = [t if t is None else t.detach().requires_grad_() for t in (inward, outward)]
    with torch.enable_grad():
        mixed = ChannelMixing(leaves[1], *ends)(leaves[0])
    return [mixed, *leaves, *(t for t in ends if t is not None)]


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
    mixed = spectral.mixed() if weights.mlp is not None and s is None else None
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
    grad_modes, grad_spectral = spectral.backward(grad_mixed)
    for group in groups:
        transform.analyse_adjoint(grad_modes[:, group], accumulate=grad_u[group])
        if not options.first:
            _gelu_backward.grad_input(grad_u[group], u[group], grad_input=grad_u[group])
    return grad_u, *grad_spectral, *sums


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


def _numbers(weight: Tensor, v_hat: Tensor) -> Tensor:
    return torch.view_as_complex(weight.to(v_hat.dtype.to_real()).contiguous())


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

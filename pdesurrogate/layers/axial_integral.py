"""Integral operators whose kernel is a product of one kernel an axis, and whose heads are normalised.

    y(x) = Σ_h O_h N[z_h](x),    z_h(x) = ∫ .. ∫ κ_h1(x_1, s_1) ··· κ_hd(x_d, s_d) V_h u(s) ds_1 .. ds_d,

with a matrix ``V_h`` into every head, a matrix ``O_h`` out of it, and ``N`` the normalisation to zero mean and unit
variance over all points and channels of one head of one sample (Li, Shu, Barati Farimani, "Scalable Transformer for
PDE Surrogate Modeling", NeurIPS 2023, arXiv:2305.17560). On a grid of ``N = n_1 ··· n_d`` points an
integral is a sum with the weights of a quadrature, which are folded into the kernels ``K_a``, matrices of ``n_a²``
entries. They are applied one axis after the other: ``N (n_1 + ··· + n_d)`` products a channel instead of ``N²``.

Heads of samples are worked on one at a time: the field of all heads together, several times as wide as ``u``, exists
only where it is kept for the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .pointwise_mlp import differentiable_backward
from .precision import products_in, working_dtype
from .tracing import needs_plain_operations

EPS = 1e-8
"""Added to a head's variance, as in the authors' code; kernels of unit norm keep variances far above it."""


def contract(
    z: Float[Tensor, "*batch_and_space channel"], kernel: Float[Tensor, "*batch out in_"], axis: int
) -> Float[Tensor, "*batch_and_out_space channel"]:
    """Return ``Σ_j K_ij z(.., j, ..)``: the kernel of one axis of space applied along it.

    Args:
        z: fields; the leading axes are those of the batch of kernels, the last one has the channels.
        kernel: a matrix for every entry of the batch.
        axis: the axis of space, counted from 0.
    """
    first = kernel.ndim - 2
    moved = z.movedim(first + axis, first)
    return torch.matmul(kernel, moved.flatten(first + 1)).view(moved.shape).movedim(first, first + axis)


def axial_integral(
    u: Float[Tensor, "batch *space channel"],
    kernels: Sequence[Float[Tensor, "batch head _points _points"]],
    inward: Float[Tensor, "head_channel channel"],
    outward: Float[Tensor, "out_channel head_channel"],
    *,
    keep: bool = True,
    precision: str = "full",
) -> Float[Tensor, "batch *space out_channel"]:
    """Return ``y`` on the same grid.

    Args:
        u: the field.
        kernels: of every axis of space, weights of the quadrature included.
        inward: ``V``, heads one below the other.
        outward: ``O``, heads side by side.
        keep: whether heads are kept for the backward pass, ``(d + 1)`` fields of all heads together; otherwise it
            computes them again from ``u``.
        precision: a policy, see `pdesurrogate.layers.precision`. Under ``"bf16"`` products have bfloat16 factors and
            float32 sums; kernels, variances and the sum over heads are float32, and so is ``y``.

    Raises:
        ValueError: if there is not one kernel an axis, of its number of points.
    """
    space = u.shape[1:-1]
    if len(kernels) != len(space) or any(k.shape[-1] != n for k, n in zip(kernels, space, strict=False)):
        raise ValueError(
            f"kernels of {[tuple(k.shape[-2:]) for k in kernels]} entries for a field on {tuple(space)} points; one an "
            "axis is needed, with a row and a column for every point of it."
        )
    with products_in(precision, u.device):
        dtype = torch.promote_types(working_dtype(u.dtype, "full"), inward.dtype)
        inputs = [t.to(dtype) for t in (u, inward, outward, *kernels)]
        if needs_plain_operations(*inputs):
            return plain_axial_integral(*inputs)
        y: Tensor = _AxialIntegral.apply(precision, keep, *inputs)
        return y


def plain_axial_integral(u: Tensor, inward: Tensor, outward: Tensor, *kernels: Tensor) -> Tensor:
    """Return ``y`` by ordinary operations, all heads at once, in the dtype of ``u``."""
    z = F.linear(u, inward).unflatten(-1, (kernels[0].shape[1], -1)).movedim(-2, 1)
    for axis, kernel in enumerate(kernels):
        z = contract(z, kernel, axis)
    everywhere = tuple(range(2, z.ndim))
    centred = z - z.mean(everywhere, keepdim=True)
    variance = centred.square().mean(everywhere, keepdim=True)
    return F.linear((centred * (variance + EPS).rsqrt()).movedim(1, -2).flatten(-2), outward)


class _AxialIntegral(torch.autograd.Function):
    """Keeps ``u``, the kernels and the weights; and the heads before every axis and after the last where asked to."""

    @staticmethod
    def forward(
        ctx: Any, precision: str, keep: bool, u: Tensor, inward: Tensor, outward: Tensor, *kernels: Tensor
    ) -> Tensor:
        ctx.precision = precision
        kept: list[Tensor] = []
        factors = _Factors(u, inward, outward, kernels, precision)
        y = u.new_zeros(*u.shape[:-1], outward.shape[0])
        keeps = keep and any(ctx.needs_input_grad)
        for b, h in factors.pieces():
            fields = factors.fields(b, h)
            scale = _centre_and_scale(fields[-1])
            _add_product(y[b].flatten(0, -2), fields[-1], factors.out_of(h), scale)
            if keeps:
                kept += [*fields, scale]
        ctx.save_for_backward(u, inward, outward, *kernels, *kept)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        precision, tensors = ctx.precision, ctx.saved_tensors
        ndim = tensors[0].ndim - 2
        inputs, kept = tensors[: 3 + ndim], tensors[3 + ndim :]
        with products_in(precision, gradient.device):
            if torch.is_grad_enabled():
                grads = differentiable_backward(
                    plain_axial_integral, inputs, gradient, ctx.needs_input_grad[2:]
                )
                return None, None, *grads
            return None, None, *_backward(inputs, kept, gradient, precision)


class _Factors:
    """What a head of a sample is made of, in the dtype of the products."""

    def __init__(
        self, u: Tensor, inward: Tensor, outward: Tensor, kernels: Sequence[Tensor], precision: str
    ) -> None:
        dtype = working_dtype(u.dtype, precision)
        self.num_heads = kernels[0].shape[1]
        self.space = u.shape[1:-1]
        self.u = u.to(dtype).flatten(1, -2)
        self.inward = inward.to(dtype).unflatten(0, (self.num_heads, -1))
        self.outward = outward.to(dtype).unflatten(1, (self.num_heads, -1))
        self.kernels = [kernel.to(dtype) for kernel in kernels]

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Return sample and head of every piece of the work."""
        return ((b, h) for b in range(self.u.shape[0]) for h in range(self.num_heads))

    def out_of(self, h: int) -> Tensor:
        """Return ``O_h`` transposed, ``(head_channel, out_channel)``."""
        return self.outward[:, h].t()

    def along(self, axis: int, z: Tensor) -> Tensor:
        """Return a head's field as ``(points before, points of the axis, the rest)``."""
        return z.reshape(math.prod(self.space[:axis]), self.space[axis], -1)

    def kernel(self, axis: int, b: int, h: int, *, transposed: bool = False) -> Tensor:
        """Return the kernel of an axis, repeated for all points before it without a copy."""
        kernel = self.kernels[axis][b, h]
        kernel = kernel.t() if transposed else kernel
        return kernel.expand(math.prod(self.space[:axis]), -1, -1)

    def fields(self, b: int, h: int) -> list[Tensor]:
        """Return a head before the first axis and after every one, ``(points, head_channel)`` each."""
        fields = [self.u[b] @ self.inward[h].t()]
        for axis in range(len(self.space)):
            z = torch.bmm(self.kernel(axis, b, h), self.along(axis, fields[-1]))
            fields.append(z.view(fields[0].shape))
        return fields


def _centre_and_scale(z: Tensor) -> Tensor:
    """Take the mean off a head, in place, and return the inverse of its standard deviation, in float32 or wider."""
    wide = torch.promote_types(z.dtype, torch.float32)
    z.sub_(z.mean(dtype=wide))
    norm = torch.linalg.vector_norm(z, dtype=wide)
    return (norm.square() / z.numel() + EPS).rsqrt()


def _backward(
    inputs: Sequence[Tensor], kept: Sequence[Tensor], gradient: Tensor, precision: str
) -> tuple[Tensor, ...]:
    u, inward, outward, *kernels = inputs
    factors = _Factors(u, inward, outward, kernels, precision)
    ndim, per_head = len(kernels), len(kernels) + 2
    into, out_of = (torch.zeros_like(w) for w in (factors.inward, factors.outward))
    into, out_of = into.to(inward.dtype), out_of.to(outward.dtype)
    grad_u = torch.zeros_like(u)
    grad_kernels = [torch.empty_like(kernel) for kernel in kernels]
    g = gradient.to(factors.u.dtype).flatten(1, -2)
    sums = gradient.flatten(1, -2).sum(1)
    for piece, (b, h) in enumerate(factors.pieces()):
        if kept:
            *fields, scale = kept[piece * per_head : (piece + 1) * per_head]
        else:
            fields = factors.fields(b, h)
            scale = _centre_and_scale(fields[-1])
        z, count = fields[-1], fields[-1].numel()
        # With ẑ = scale z and ĝ = O_hᵀ g: the gradient of z is scale (ĝ - mean ĝ - ẑ mean ĝẑ), and both means follow
        # from quantities without points.
        share = (g[b].t() @ z).to(out_of.dtype) * scale
        out_of[:, h] += share
        weights = outward.unflatten(1, (factors.num_heads, -1))[:, h]
        mean = (sums[b] @ weights).sum() / count
        alike = (weights * share).sum() / count
        toward = torch.addmm((-scale * mean).to(g.dtype), g[b], (factors.outward[:, h] * scale).to(g.dtype))
        toward.addcmul_(z, (-(scale**2) * alike).to(z.dtype))
        for axis in reversed(range(ndim)):
            ahead, behind = factors.along(axis, toward), factors.along(axis, fields[axis])
            grad_kernels[axis][b, h] = _sum_of_products(ahead, behind)
            toward = torch.bmm(factors.kernel(axis, b, h, transposed=True), ahead)
        toward = toward.view(z.shape)
        into[h] += toward.t() @ factors.u[b]
        _add_product(grad_u[b].flatten(0, -2), toward, factors.inward[h])
    return grad_u, into.flatten(0, 1), out_of.flatten(1), *grad_kernels


def _add_product(total: Tensor, left: Tensor, right: Tensor, scale: Tensor | None = None) -> None:
    """Add ``scale · left @ right`` to a total, in the total's precision."""
    right = right if scale is None else (right * scale).to(left.dtype)
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _sum_of_products(left: Tensor, right: Tensor) -> Tensor:
    """Return ``Σ_p left_p right_pᵀ``, a matrix, without a matrix for every ``p`` where that can be."""
    if left.shape[0] == 1:
        return left[0] @ right[0].t()
    if left.device.type == "cpu" and left.dtype != torch.bfloat16:
        return left.new_zeros(left.shape[1], right.shape[1]).addbmm_(left, right.transpose(1, 2))
    return torch.einsum("pik,pjk->ij", left, right)

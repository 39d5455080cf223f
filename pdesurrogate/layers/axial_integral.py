"""Integral operators whose kernel is a product of one kernel an axis, and whose heads are normalised.

    y(x) = Σ_h O_h N[z_h](x),    z_h(x) = ∫ .. ∫ κ_h1(x_1, s_1) ··· κ_hd(x_d, s_d) V_h u(s) ds_1 .. ds_d,

with a matrix ``V_h`` into every head, a matrix ``O_h`` out of it, and ``N`` the normalisation to zero mean and unit
variance over all points and channels of one head of one sample (Li, Shu, Barati Farimani, "Scalable Transformer for
PDE Surrogate Modeling", NeurIPS 2023, arXiv:2305.17560). On a grid of ``N = n_1 ··· n_d`` points an integral is a sum
with the weights of a quadrature, which are folded into the kernels ``K_a``, matrices of ``n_a²`` entries. They are
applied one axis after the other: ``N (n_1 + ··· + n_d)`` products a channel instead of ``N²``. A kernel of rank ``r``
comes as a pair of factors and takes ``2 r`` products instead of ``n_a``, however fine the grid.

Heads of samples are worked on one at a time: the field of all heads together, several times as wide as ``u``, exists
only where it is kept for the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
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


Kernel = tuple[Tensor, ...]
"""Kernels of one axis, ``(batch, head, points, points)``, or factors ``(.., points, r)`` and ``(.., r, points)``."""


def contract(
    z: Float[Tensor, "*batch_and_space channel"], matrix: Float[Tensor, "*batch out in_"], axis: int
) -> Float[Tensor, "*batch_and_out_space channel"]:
    """Return ``Σ_j M_ij z(.., j, ..)``: a matrix applied along one axis of space.

    Args:
        z: fields; the leading axes are those of the batch of matrices, the last one has the channels.
        matrix: one for every entry of the batch.
        axis: the axis of space, counted from 0.
    """
    first = matrix.ndim - 2
    moved = z.movedim(first + axis, first)
    product = torch.matmul(matrix, moved.flatten(first + 1))
    return product.unflatten(-1, moved.shape[first + 1 :]).movedim(first, first + axis)


def axial_integral(
    u: Float[Tensor, "batch *space channel"],
    kernels: Sequence[Kernel],
    inward: Float[Tensor, "head_channel channel"],
    outward: Float[Tensor, "out_channel head_channel"],
    *,
    keep: bool = True,
    precision: str = "full",
) -> Float[Tensor, "batch *space out_channel"]:
    """Return ``y`` on the same grid.

    Args:
        u: the field.
        kernels: of every axis of space, weights of the quadrature included; whole or as a product of two matrices.
        inward: ``V``, heads one below the other.
        outward: ``O``, heads side by side.
        keep: whether heads are kept for the backward pass, before and after every matrix; otherwise it computes them
            again from ``u``.
        precision: a policy, see `pdesurrogate.layers.precision`. Under ``"bf16"`` products have bfloat16 factors and
            float32 sums; kernels, variances and the sum over heads are float32, and so is ``y``.

    Raises:
        ValueError: if there is not one kernel an axis, of its number of points.
    """
    space = u.shape[1:-1]
    ends = [(kernel[0].shape[-2], kernel[-1].shape[-1]) for kernel in kernels]
    if len(kernels) != len(space) or any(end != (n, n) for end, n in zip(ends, space, strict=False)):
        raise ValueError(
            f"kernels of {ends} entries for a field on {tuple(space)} points; one an axis is needed, with a row and a "
            "column for every point of it."
        )
    # The order of application: axis by axis, the last factor first.
    axes = tuple(axis for axis, kernel in enumerate(kernels) for _ in kernel)
    matrices = [matrix for kernel in kernels for matrix in reversed(kernel)]
    with products_in(precision, u.device):
        dtype = torch.promote_types(working_dtype(u.dtype, "full"), inward.dtype)
        inputs = [t.to(dtype) for t in (u, inward, outward, *matrices)]
        if needs_plain_operations(*inputs):
            return _plain(axes, *inputs)
        keep = keep and torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
        y: Tensor = _AxialIntegral.apply(axes, precision, keep, *inputs)
        return y


def _plain(axes: Sequence[int], u: Tensor, inward: Tensor, outward: Tensor, *matrices: Tensor) -> Tensor:
    """Return ``y`` by ordinary operations, all heads at once."""
    z = F.linear(u, inward).unflatten(-1, (matrices[0].shape[1], -1)).movedim(-2, 1)
    for axis, matrix in zip(axes, matrices, strict=True):
        z = contract(z, matrix, axis)
    everywhere = tuple(range(2, z.ndim))
    centred = z - z.mean(everywhere, keepdim=True)
    variance = centred.square().mean(everywhere, keepdim=True)
    return F.linear((centred * (variance + EPS).rsqrt()).movedim(1, -2).flatten(-2), outward)


class _AxialIntegral(torch.autograd.Function):
    """Keeps ``u``, matrices and weights, and where asked to the heads before every matrix and after the last."""

    @staticmethod
    def forward(
        ctx: Any,
        axes: tuple[int, ...],
        precision: str,
        keep: bool,
        u: Tensor,
        inward: Tensor,
        outward: Tensor,
        *matrices: Tensor,
    ) -> Tensor:
        ctx.axes, ctx.precision = axes, precision
        kept: list[Tensor] = []
        heads = _Heads(axes, u, inward, outward, matrices, precision)
        y = u.new_zeros(*u.shape[:-1], outward.shape[0])
        for b, h in heads.pieces():
            fields = heads.fields(b, h)
            scale = _centre_and_scale(fields[-1])
            _add_product(y[b].flatten(0, -2), fields[-1], heads.outward[:, h].t(), scale)
            if keep:
                kept += [*fields, scale]
        ctx.save_for_backward(u, inward, outward, *matrices, *kept)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        axes, precision, tensors = ctx.axes, ctx.precision, ctx.saved_tensors
        inputs, kept = tensors[: 3 + len(axes)], tensors[3 + len(axes) :]
        with products_in(precision, gradient.device):
            if torch.is_grad_enabled():
                plain, wanted = partial(_plain, axes), ctx.needs_input_grad[3:]
                return None, None, None, *differentiable_backward(plain, inputs, gradient, wanted)
            return None, None, None, *_backward(axes, inputs, kept, gradient, precision)


class _Heads:
    """What heads of samples are made of, in the dtype of the products."""

    def __init__(
        self,
        axes: Sequence[int],
        u: Tensor,
        inward: Tensor,
        outward: Tensor,
        matrices: Sequence[Tensor],
        precision: str,
    ) -> None:
        dtype = working_dtype(u.dtype, precision)
        self.axes, self.space, self.num_heads = axes, u.shape[1:-1], matrices[0].shape[1]
        self.u = u.to(dtype).flatten(1, -2)
        self.inward = inward.to(dtype).unflatten(0, (self.num_heads, -1))
        self.outward = outward.to(dtype).unflatten(1, (self.num_heads, -1))
        self.matrices = [matrix.to(dtype) for matrix in matrices]

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Return sample and head of every piece of the work."""
        return ((b, h) for b in range(self.u.shape[0]) for h in range(self.num_heads))

    def fields(self, b: int, h: int) -> list[Tensor]:
        """Return a head before the first matrix and after every one.

        All but the last have the shape in which the next matrix acts, ``(points before its axis, of it, the rest)``.
        """
        z = self.u[b] @ self.inward[h].t()
        fields = []
        for axis, matrix in zip(self.axes, self.matrices, strict=True):
            before = math.prod(self.space[:axis])
            z = z.view(before, matrix.shape[-1], -1)
            fields.append(z)
            z = torch.bmm(matrix[b, h].expand(before, -1, -1), z)
        return [*fields, z.view(self.u.shape[1], -1)]

    def pull_back(
        self, b: int, h: int, toward: Tensor, fields: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the gradients of a head before the first matrix and of the matrices, from that after the last."""
        grads: list[Tensor] = []
        for matrix, field in zip(reversed(self.matrices), reversed(fields), strict=True):
            before, rows = field.shape[0], matrix.shape[-2]
            toward = toward.view(before, rows, -1)
            grads.insert(0, _sum_of_products(toward, field))
            toward = torch.bmm(matrix[b, h].t().expand(before, -1, -1), toward)
        return toward.view(self.u.shape[1], -1), grads


def _centre_and_scale(z: Tensor) -> Tensor:
    """Take the mean off a head, in place, and return the inverse of its standard deviation, in float32 or wider."""
    wide = torch.promote_types(z.dtype, torch.float32)
    z.sub_(z.mean(dtype=wide))
    norm = torch.linalg.vector_norm(z, dtype=wide)
    return (norm.square() / z.numel() + EPS).rsqrt()


def _backward(
    axes: Sequence[int], inputs: Sequence[Tensor], kept: Sequence[Tensor], gradient: Tensor, precision: str
) -> tuple[Tensor, ...]:
    u, inward, outward, *matrices = inputs
    heads = _Heads(axes, u, inward, outward, matrices, precision)
    per_head = len(matrices) + 2
    weights = outward.unflatten(1, (heads.num_heads, -1))
    grad_in, grad_out = torch.zeros_like(inward), torch.zeros_like(outward)
    into, out_of = (t.unflatten(d, (heads.num_heads, -1)) for d, t in enumerate((grad_in, grad_out)))
    grad_u = torch.zeros_like(u)
    grad_matrices = [torch.empty_like(matrix) for matrix in matrices]
    g = gradient.to(heads.u.dtype).flatten(1, -2)
    sums = gradient.flatten(1, -2).sum(1)
    for piece, (b, h) in enumerate(heads.pieces()):
        if kept:
            *fields, z, scale = kept[piece * per_head : (piece + 1) * per_head]
        else:
            *fields, z = heads.fields(b, h)
            scale = _centre_and_scale(z)
        # With ẑ = scale z and ĝ = O_hᵀ g: the gradient of z is scale (ĝ - mean ĝ - ẑ mean ĝẑ), and both means follow
        # from quantities without points.
        share = (g[b].t() @ z).to(outward.dtype) * scale
        out_of[:, h] += share
        mean = (sums[b] @ weights[:, h]).sum() / z.numel()
        alike = (weights[:, h] * share).sum() / z.numel()
        toward = torch.addmm((-scale * mean).to(g.dtype), g[b], (heads.outward[:, h] * scale).to(g.dtype))
        toward.addcmul_(z, (-scale.square() * alike).to(z.dtype))
        toward, grads = heads.pull_back(b, h, toward, fields)
        for grad_matrix, grad in zip(grad_matrices, grads, strict=True):
            grad_matrix[b, h] = grad
        into[h] += toward.t() @ heads.u[b]
        _add_product(grad_u[b].flatten(0, -2), toward, heads.inward[h])
    return grad_u, grad_in, grad_out, *grad_matrices


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

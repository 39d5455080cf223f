"""Local operators: filters that all channels share, then a matrix between channels for each filter.

    y(x) = Σ_m W_m z_m(x),   z_m(x) = Σ_j f_m(j) v(x + j)

Differential kernels, local integral kernels and plain convolutions all have this form; they differ in the filters
and in how the matrices depend on the grid. Filters commute with matrices, so the gradient of ``v`` is the same
operator with reflected filters and transposed matrices. Only the layer's input is kept for the backward pass; ``z``,
as many fields as there are filters, exists in pieces that stay in cache.

Two routes give the same numbers: ``direct`` adds up the taps, ``fft`` multiplies the spectra, which pays for filters
of many taps. `local_cost` chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..fields.fourier import layout_order
from .filter_bank import FilterBank, filtered, pieces, reflected
from .halo import extend, extend_into, fold, interior
from .local_cost import choose_route
from .local_spectrum import filter_and_mix_by_spectra
from .pointwise_mlp import add_product, differentiable_backward
from .precision import products_in
from .tracing import needs_plain_operations


def local_operator(
    u: Float[Tensor, "batch *layout in_channel"],
    bank: FilterBank,
    weights: Float[Tensor, "filter in_channel out_channel"] | Float[Tensor, "filter in_channel"],
    boundaries: Sequence[str],
    *,
    activate: bool = False,
    route: str = "auto",
    precision: str = "full",
) -> Float[Tensor, "batch *layout out_channel"]:
    """Return ``y`` on the same grid.

    Args:
        u: the field ``v``, or what it is the GELU of.
        bank: filters.
        weights: a matrix per filter, or a factor per filter and channel.
        boundaries: ``"periodic"``, ``"wall"`` or ``"open"`` per axis in space order, see `halo`.
        activate: whether ``v = σ(u)``.
        route: ``"direct"``, ``"fft"``, or ``"auto"`` for the one predicted to be faster.
        precision: a policy, see `pdesurrogate.layers.precision`. Differences of neighbours lose the digits that
            bfloat16 does not have; under ``bf16`` they are computed in float32.

    Raises:
        ValueError: if the filters reach further than the grid has points, or have another number than the weights.
    """
    order = layout_order(u.ndim - 2)
    ends = tuple(boundaries[axis] for axis in order)
    if weights.shape[0] != bank.size:
        raise ValueError(f"a bank of {bank.size} filters came with weights for {weights.shape[0]}.")
    for axis, width in zip(order, bank.widths, strict=True):
        size = (*u.shape[2:-1], u.shape[1])[axis]
        if width > size:
            raise ValueError(
                f"a local kernel reaches {width} points along axis {axis} and the grid has {size} there. Give a "
                "smaller radius or stencil, or a finer grid."
            )
    dtype = torch.promote_types(u.dtype, torch.float32)
    v, weights = u.to(dtype), weights.to(dtype)
    with products_in("full" if precision == "bf16" else precision, u.device):
        traced = needs_plain_operations(u, weights)
        chosen = "direct" if traced else choose_route(route, bank, ends, v, weights)
        if traced or chosen == "fft":
            v = F.gelu(v) if activate else v
            by = _plain if chosen == "direct" else filter_and_mix_by_spectra
            return by(v, weights, bank, ends).to(u.dtype)
        y = _LocalOperator.apply(v.contiguous(), weights, bank, ends, activate)
        return y.to(u.dtype)


def _plain(v: Tensor, weights: Tensor, bank: FilterBank, ends: tuple[str, ...]) -> Tensor:
    z = filtered(extend(v, bank.widths, ends), bank)
    if weights.ndim == 2:
        return (z * weights).sum(-2)
    return torch.matmul(z.flatten(-2), weights.flatten(0, 1))


class _LocalOperator(torch.autograd.Function):
    """``y`` from ``u``; keeps ``u`` alone."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, weights: Tensor, bank: FilterBank, ends: tuple[str, ...], activate: bool
    ) -> Tensor:
        ctx.save_for_backward(u, weights)
        ctx.settings = bank, ends, activate
        return _mix(_continued(u, bank.widths, ends, activate), weights, bank)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        u, weights = ctx.saved_tensors
        bank, ends, activate = ctx.settings
        with products_in("full", gradient.device):
            if torch.is_grad_enabled():

                def plain(u: Tensor, weights: Tensor) -> Tensor:
                    return _plain(F.gelu(u) if activate else u, weights, bank, ends)

                inputs = differentiable_backward(plain, (u, weights), gradient, ctx.needs_input_grad[:2])
                return *inputs, None, None, None
            grad_u = grad_weights = None
            gradient = gradient.contiguous()
            if ctx.needs_input_grad[1]:
                padded = _continued(u, bank.widths, ends, activate)
                grad_weights = _weights_backward(padded, gradient, weights, bank)
            if ctx.needs_input_grad[0]:
                grad_u = _field_backward(gradient, weights, bank, ends)
                if activate:
                    grad_u = torch.ops.aten.gelu_backward(grad_u, u)
            return grad_u, grad_weights, None, None, None


def _continued(u: Tensor, widths: Sequence[int], ends: Sequence[str], activate: bool) -> Tensor:
    sizes = [n + 2 * width for n, width in zip(u.shape[1:-1], widths, strict=True)]
    padded = u.new_empty(u.shape[0], *sizes, u.shape[-1])
    inside = interior(padded, widths)
    inside.copy_(F.gelu(u) if activate else u)
    extend_into(padded, widths, ends)
    return padded


def _mix(padded: Tensor, weights: Tensor, bank: FilterBank) -> Tensor:
    grid = interior(padded, bank.widths).shape[1:-1]
    y = padded.new_empty(padded.shape[0], *grid, weights.shape[-1])
    rows = y.view(-1, y.shape[-1])
    matrix = weights.flatten(0, 1).contiguous() if weights.ndim == 3 else weights
    for some, z in pieces(padded, bank, grid, max(padded.shape[-1], y.shape[-1])):
        if weights.ndim == 2:
            torch.sum(z * weights, 1, out=rows[some])
        else:
            torch.mm(z.flatten(1), matrix, out=rows[some])
    return y


def _weights_backward(padded: Tensor, gradient: Tensor, weights: Tensor, bank: FilterBank) -> Tensor:
    total = torch.zeros_like(weights)
    rows = gradient.view(-1, gradient.shape[-1])
    for some, z in pieces(padded, bank, gradient.shape[1:-1], padded.shape[-1]):
        if weights.ndim == 2:
            total.add_((z * rows[some].unsqueeze(1)).sum(0))
        else:
            add_product(total.view(-1, total.shape[-1]), z.flatten(1), rows[some])
    return total


def _field_backward(gradient: Tensor, weights: Tensor, bank: FilterBank, ends: tuple[str, ...]) -> Tensor:
    """The same operator with reflected filters and transposed matrices, on the gradient of the continued field."""
    periodic = [end == "periodic" for end in ends]
    beyond = tuple("periodic" if p else "zero" for p in periodic)
    added = [0 if p else width for p, width in zip(periodic, bank.widths, strict=True)]
    # Points that were added beyond an end have gradients too, which the end's own points then take over.
    sizes = [n + 2 * width for n, width in zip(gradient.shape[1:-1], added, strict=True)]
    if any(added):
        wide = gradient.new_zeros(gradient.shape[0], *sizes, gradient.shape[-1])
        interior(wide, added).copy_(gradient)
        gradient = wide
    padded = _continued(gradient, bank.widths, beyond, False)
    transposed = weights.transpose(1, 2).contiguous() if weights.ndim == 3 else weights
    return fold(_mix(padded, transposed, reflected(bank)), added, ends).contiguous()

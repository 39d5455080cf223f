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
from .pointwise_mlp import differentiable_backward
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
    check_filters(u, bank, weights)
    dtype = torch.promote_types(u.dtype, torch.float32)
    v, weights = u.to(dtype), weights.to(dtype)
    with products_in("full" if precision == "bf16" else precision, u.device):
        traced = needs_plain_operations(u, weights)
        chosen = "direct" if traced else choose_route(route, bank, ends, v, weights)
        if traced or chosen == "fft":
            v = F.gelu(v) if activate else v
            by = plain_local_operator if chosen == "direct" else filter_and_mix_by_spectra
            return by(v, weights, bank, ends).to(u.dtype)
        y = _LocalOperator.apply(v.contiguous(), weights, bank, ends, activate)
        return y.to(u.dtype)


def check_filters(u: Tensor, bank: FilterBank, weights: Tensor) -> None:
    """Refuse filters that do not fit the weights or the grid of a field; the errors are those of `local_operator`."""
    if weights.shape[0] != bank.size:
        raise ValueError(f"a bank of {bank.size} filters came with weights for {weights.shape[0]}.")
    for axis, width in zip(layout_order(u.ndim - 2), bank.widths, strict=True):
        size = (*u.shape[2:-1], u.shape[1])[axis]
        if width > size:
            raise ValueError(
                f"a local kernel reaches {width} points along axis {axis} and the grid has {size} there. Give a "
                "smaller radius or stencil, or a finer grid."
            )


def plain_local_operator(v: Tensor, weights: Tensor, bank: FilterBank, ends: tuple[str, ...]) -> Tensor:
    """Return ``y`` of ``v`` by ordinary operations; ``ends`` are the boundaries in the order of the layout."""
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
                    return plain_local_operator(F.gelu(u) if activate else u, weights, bank, ends)

                inputs = differentiable_backward(plain, (u, weights), gradient, ctx.needs_input_grad[:2])
                return *inputs, None, None, None
            grads = _backward(u, weights, gradient.contiguous(), bank, ends, activate, ctx.needs_input_grad)
            return *grads, None, None, None


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
    depthwise = weights.ndim == 2
    matrices = weights if depthwise else weights.flatten(0, 1).contiguous()
    for some, z in pieces(padded, bank, grid, max(padded.shape[-1], y.shape[-1])):
        _mix_rows(z, matrices, rows[some], depthwise=depthwise)
    return y


def _backward(
    u: Tensor,
    weights: Tensor,
    gradient: Tensor,
    bank: FilterBank,
    ends: tuple[str, ...],
    activate: bool,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor]:
    """Return the gradients of ``u`` and of the weights, from the gradient filtered once by the reflected bank, ``z̄``.

    ``∂/∂v = Σ_m W_mᵀ z̄_m`` is the same operator with reflected filters and transposed matrices, and ``∂/∂W_m`` is the
    sum over points of ``v z̄_mᵀ``. Points that were added beyond an end take part in both.
    """
    periodic = [end == "periodic" for end in ends]
    added = [0 if p else width for p, width in zip(periodic, bank.widths, strict=True)]
    v = F.gelu(u) if activate else u
    if any(added):
        v = _continued(v, added, ends, False)
        wide = torch.zeros(*v.shape[:-1], gradient.shape[-1], dtype=v.dtype, device=v.device)
        interior(wide, added).copy_(gradient)
        gradient = wide
    beyond = tuple("periodic" if p else "zero" for p in periodic)
    padded = _continued(gradient, bank.widths, beyond, False)
    grad_v = torch.empty_like(v)
    depthwise = weights.ndim == 2
    transposed = weights if depthwise else weights.transpose(1, 2).flatten(0, 1).contiguous()
    v_rows, grad_rows, grid = v.view(-1, v.shape[-1]), grad_v.view(-1, v.shape[-1]), v.shape[1:-1]
    # Matrices of all filters side by side, ``(in, filter out)``.
    sums = weights.new_zeros(weights.shape if depthwise else (v.shape[-1], bank.size * gradient.shape[-1]))
    for some, z in pieces(padded, reflected(bank), grid, max(v.shape[-1], gradient.shape[-1])):
        if wanted[0]:
            _mix_rows(z, transposed, grad_rows[some], depthwise=depthwise)
        if depthwise:
            for m in range(bank.size):
                sums[m].add_((z[:, m] * v_rows[some]).sum(0))
        else:
            sums.addmm_(v_rows[some].t(), z.flatten(1))
    total = sums if depthwise else sums.view(v.shape[-1], bank.size, -1).transpose(0, 1).contiguous()
    if not wanted[0]:
        return None, total
    grad_u = fold(grad_v, added, ends).contiguous()
    return torch.ops.aten.gelu_backward(grad_u, u) if activate else grad_u, total


def _mix_rows(z: Tensor, weights: Tensor, out: Tensor, *, depthwise: bool) -> None:
    """Write ``Σ_m W_m z_m``; ``weights`` are matrices below each other, ``(filter in, out)``, or factors."""
    if not depthwise:
        torch.mm(z.flatten(1), weights, out=out)
        return
    torch.mul(z[:, 0], weights[0], out=out)
    for m in range(1, z.shape[1]):
        out.addcmul_(z[:, m], weights[m])

"""Local integral operators on the sphere: discrete-continuous convolutions with filters of a fixed angle.

``(Kv)(x) = Σ_l W_l Σ_j q_j ψ_l(x_j seen from x) v(x_j)`` (Ocampo, Price, McEwen 2023, arXiv:2209.13603; Liu-Schiaffini
et al. 2024, arXiv:2402.16845), the integral of a learned kernel that ends at the cutoff. Weights belong to functions on
the sphere and know no grid. It commutes with turns about the axis, exactly; filters that are alike in all directions
commute with all rotations up to the error of quadrature, others see where north is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields.spherical.grid import SphericalGrid
from .filter_basis import filter_basis
from .pointwise_mlp import differentiable_backward
from .precision import products_in
from .spherical_filters import LatitudeBlock, SphericalFilters, spherical_filters
from .tracing import needs_plain_operations


class SphericalDisco(nn.Module):
    """A learned local integral operator on fields ``(batch, lon, lat, channel)``.

    Initial weights are normal with variance ``gain / (in · functions)``.

    Args:
        in_channels, out_channels: channels of the input and output field.
        cutoff: angle in radians at which filters end.
        basis, basis_shape: the filters, see `filter_basis`.
        gain: of the initial weights.

    Attributes:
        weight: ``(function, in, out)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        cutoff: float,
        *,
        basis: str = "piecewise_linear",
        basis_shape: int | Sequence[int] | None = None,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.basis, self.cutoff = basis, float(cutoff)
        given = (basis_shape,) if isinstance(basis_shape, int) else basis_shape
        self.basis_shape = None if given is None else tuple(given)
        functions = filter_basis(basis, 2, self.basis_shape).size
        scale = math.sqrt(gain / (in_channels * functions))
        self.weight = nn.Parameter(scale * torch.randn(functions, in_channels, out_channels))

    def filters(
        self, grid: SphericalGrid, out_grid: SphericalGrid, dtype: torch.dtype, device: str
    ) -> SphericalFilters:
        """Return the sampled filters between two grids.

        Raises:
            ValueError: if the cutoff does not suit the grid.
        """
        return spherical_filters(self.basis, self.basis_shape, self.cutoff, grid, out_grid, dtype, device)

    def forward(
        self,
        u: Float[Tensor, "batch lon lat in_channel"],
        grid: SphericalGrid,
        out_grid: SphericalGrid | None = None,
    ) -> Float[Tensor, "batch out_lon out_lat out_channel"]:
        """Return the operator's output, on ``out_grid`` if one is given.

        Raises:
            ValueError: if the cutoff does not suit the grid.
        """
        filters = self.filters(grid, out_grid or grid, u.dtype, str(u.device))
        with products_in("full", u.device):
            modes = filters.inward.analyse(u)
            weight = self.weight.to(u.dtype)
            return filters.outward.synthesise(_product(modes.contiguous(), weight, filters))

    def extra_repr(self) -> str:
        """Channels, functions and cutoff, for printing."""
        functions, in_channels, out_channels = self.weight.shape
        return f"{in_channels}, {out_channels}, functions={functions}, cutoff={self.cutoff:.4g}"


def _product(modes: Tensor, weight: Tensor, filters: SphericalFilters) -> Tensor:
    """Filter and mix in the order that does less."""
    if weight.shape[1] < weight.shape[2]:
        return _filter_then_mix(modes, weight, filters)
    if needs_plain_operations(modes, weight):
        return _plain_mix_then_filter(modes, weight, filters)
    return _MixThenFilter.apply(modes, weight, filters)


def _plain_mix_then_filter(
    modes: Float[Tensor, "order lat 2 batch in_channel"],
    weight: Float[Tensor, "function in_channel out_channel"],
    filters: SphericalFilters,
) -> Float[Tensor, "order out_lat 2 batch out_channel"]:
    """One function after the other: nothing as wide as all of them is ever held."""
    sums = [block.tables.new_zeros(()) for block in filters.blocks]
    for function, matrix in enumerate(weight):
        mixed = torch.matmul(modes, matrix).flatten(2)
        for i, block in enumerate(filters.blocks):
            sums[i] = sums[i] + torch.bmm(block.tables[:, function], mixed[:, block.latitudes])
    columns_of = (2, modes.shape[3], weight.shape[2])
    return torch.cat([_complex_sum(s, b, columns_of) for s, b in zip(sums, filters.blocks, strict=True)], 1)


class _MixThenFilter(torch.autograd.Function):
    """What `_plain_mix_then_filter` computes; sums and gradients grow in place, and the input alone is kept."""

    @staticmethod
    def forward(ctx: Any, modes: Tensor, weight: Tensor, filters: SphericalFilters) -> Tensor:
        ctx.save_for_backward(modes, weight)
        ctx.filters = filters
        columns = math.prod(modes.shape[2:4]) * weight.shape[2]
        sums = [modes.new_zeros(len(modes), block.tables.shape[2], columns) for block in filters.blocks]
        for function, matrix in enumerate(weight):
            mixed = torch.matmul(modes, matrix).flatten(2)
            for total, block in zip(sums, filters.blocks, strict=True):
                total.baddbmm_(block.tables[:, function], mixed[:, block.latitudes])
        columns_of = (2, modes.shape[3], weight.shape[2])
        return torch.cat(
            [_complex_sum(s, b, columns_of) for s, b in zip(sums, filters.blocks, strict=True)], 1
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,), filters, inputs = gradients, ctx.filters, ctx.saved_tensors
        if torch.is_grad_enabled():
            plain = partial(_plain_mix_then_filter, filters=filters)
            return *differentiable_backward(plain, inputs, gradient, ctx.needs_input_grad[:2]), None
        modes, weight = inputs
        grad_modes, grad_weight = torch.zeros_like(modes), torch.zeros_like(weight)
        columns, row = [], 0
        for block in filters.blocks:
            real, imaginary = gradient[:, row : row + block.rows].unbind(2)
            # The adjoint of (A + iB): A and B stand below each other in the tables.
            pair = [torch.stack([real, imaginary], 2), torch.stack([imaginary, -real], 2)]
            columns.append(torch.cat(pair, 1).flatten(2))
            row += block.rows
        for function, matrix in enumerate(weight):
            grad_mixed = modes.new_zeros(*modes.shape[:-1], weight.shape[2])
            for block, values in zip(filters.blocks, columns, strict=True):
                latitudes = grad_mixed.flatten(2)[:, block.latitudes]
                latitudes.baddbmm_(block.tables[:, function].mT, values)
            flat = grad_mixed.flatten(0, -2)
            grad_weight[function] = modes.flatten(0, -2).mT @ flat
            grad_modes.flatten(0, -2).addmm_(flat, matrix.mT)
        return grad_modes, grad_weight, None


def _filter_then_mix(
    modes: Float[Tensor, "order lat 2 batch in_channel"],
    weight: Float[Tensor, "function in_channel out_channel"],
    filters: SphericalFilters,
) -> Float[Tensor, "order out_lat 2 batch out_channel"]:
    """The other way round, for few channels in and many out."""
    parts = []
    columns_of = modes.shape[2:]
    for block in filters.blocks:
        columns = modes[:, block.latitudes].flatten(2)
        sums = torch.bmm(block.tables.flatten(1, 2), columns).unflatten(1, (len(weight), -1))
        filtered = _complex_sum(sums.flatten(0, 1), block, columns_of).unflatten(0, (-1, len(weight)))
        parts.append(torch.matmul(filtered.movedim(1, -2).flatten(-2), weight.flatten(0, 1)))
    return torch.cat(parts, dim=1)


def _complex_sum(
    sums: Float[Tensor, "matrix two_rows column"], block: LatitudeBlock, columns_of: tuple[int, ...]
) -> Float[Tensor, "matrix row 2 batch channel"]:
    """Return ``(A + iB)(v + iw)`` from A and B times v and w: real parts of rows come first, and planes of columns."""
    of_real, of_imaginary = sums.unflatten(2, columns_of).unflatten(1, (2, block.rows)).unbind(1)
    real = of_real[:, :, 0] - of_imaginary[:, :, 1]
    return torch.stack([real, of_real[:, :, 1] + of_imaginary[:, :, 0]], dim=2)

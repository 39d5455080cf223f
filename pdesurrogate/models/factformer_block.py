"""One block of FactFormer: the field's own kernels along every axis, applied to its values.

Li, Shu, Barati Farimani 2023, arXiv:2305.17560.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..layers import AxialKernel, axial_integral, axis_means


class FactFormerBlock(nn.Module):
    """``u + W₂ σ( O N[ K_1 ×_1 .. K_d ×_d V ũ ] )`` with ``ũ = LayerNorm(u)``.

    Args:
        width: channels.
        heads: kernels an axis.
        head_dim: channels of the values of a head.
        kernels: of the axes, or one for all of them.
        keep: whether heads are kept for the backward pass, see `pdesurrogate.layers.axial_integral`.
        precision: of the integral.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_dim: int,
        kernels: Sequence[AxialKernel],
        *,
        keep: bool,
        precision: str,
    ) -> None:
        super().__init__()
        self.heads, self.keep, self.precision = heads, keep, precision
        self.layer_norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width, bias=False)
        self.kernels = nn.ModuleList(kernels)
        self.values = nn.Linear(width, heads * head_dim, bias=False)
        self.join = nn.Linear(heads * head_dim, width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)

    def forward(
        self,
        u: Float[Tensor, "batch *space width"],
        angles: Sequence[Float[Tensor, "_points pair"]],
        spacings: Sequence[float],
    ) -> Float[Tensor, "batch *space width"]:
        """Return the block's output on the same grid.

        Args:
            u: the field.
            angles: of the rotary embedding, for every axis.
            spacings: distance of points on every axis.
        """
        normalised = self.layer_norm(u)
        kernels = []
        for axis, (mean, angle, spacing) in enumerate(
            zip(axis_means(normalised), angles, spacings, strict=True)
        ):
            kernel = self.kernels[axis % len(self.kernels)]
            kernels.append(kernel(self.inner(mean), angle, spacing))
        y = axial_integral(
            normalised,
            kernels,
            self.values.weight,
            self.join.weight,
            keep=self.keep,
            precision=self.precision,
        )
        return u + self.mix(F.gelu(y))

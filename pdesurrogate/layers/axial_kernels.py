"""Kernels of single axes that a field makes for itself: the learnable projection and the instance-based kernel.

The field is projected to a function of one coordinate, ``p(x) = FFN(W ū(x))`` with ``ū`` its mean over all other
axes, and ``κ(x, s) = q(x)·k(s)`` with queries ``q`` and keys ``k`` linear in ``p`` and turned by rotary embeddings of
the coordinates (Li, Shu, Barati Farimani 2023, arXiv:2305.17560). There is no softmax.

Linear maps without bias commute with a mean: it is taken first, and the maps see one axis instead of the grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..registry import did_you_mean
from .rotary import rotate

KERNEL_NORMS = ("frobenius", "reference")
INITIAL_GAIN = 0.02
"""Of queries and keys, as in the authors' code."""


def check_kernel_norm(norm: str) -> None:
    """Refuse a normalisation that does not exist.

    Raises:
        ValueError: with the nearest name and all names.
    """
    if norm not in KERNEL_NORMS:
        raise ValueError(
            f"Unknown kernel_norm {norm!r}.{did_you_mean(str(norm), KERNEL_NORMS)} Allowed: {', '.join(KERNEL_NORMS)}."
        )


def axis_means(
    u: Float[Tensor, "batch *space channel"],
) -> list[Float[Tensor, "batch _points channel"]]:
    """Return for every axis of space the mean of a field over all others."""
    ndim = u.ndim - 2
    means = []
    for axis in range(ndim):
        others = [1 + other for other in range(ndim) if other != axis]
        means.append(u.mean(others) if others else u)
    return means


class AxialKernel(nn.Module):
    """The kernel of one axis, made from a function on it.

    With ``norm="frobenius"`` the kernel is divided by its norm ``(∫∫ κ² dx ds)^½``, a sum with the weights of the
    quadrature, and the weights are multiplied in: what is applied to a field is the same operator on every grid. The
    normalisation of heads that follows takes any factor off again, so nothing but rounding changes, and that is the
    point: queries and keys start small, and products of their kernels along all axes leave variances far below the
    ``eps`` of that normalisation, where no gradient survives. ``"reference"`` is the authors' kernel, without norm and
    without weights.

    Args:
        width: channels of the field.
        heads: number of kernels.
        head_dim: channels of a head of the values.
        multiplier: channels of queries and keys over those.
        norm: ``"frobenius"`` or ``"reference"``.
    """

    def __init__(self, width: int, heads: int, head_dim: int, multiplier: int, norm: str) -> None:
        super().__init__()
        self.heads, self.norm = heads, norm
        self.channels = head_dim * multiplier
        self.scaling = self.channels**-0.5 if multiplier > 4 else 1.0  # the authors' rule
        self.project = nn.Linear(width, width, bias=False)
        self.layer_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.mix = nn.Linear(width, width)
        self.query = nn.Linear(width, heads * self.channels, bias=False)
        self.key = nn.Linear(width, heads * self.channels, bias=False)
        for weight in (self.query.weight, self.key.weight):
            nn.init.xavier_uniform_(weight, gain=INITIAL_GAIN)

    def forward(
        self,
        mean: Float[Tensor, "batch points width"],
        angles: Float[Tensor, "points pair"],
        spacing: float,
    ) -> tuple[Tensor, ...]:
        """Return the kernels with the weights of the quadrature, ``(batch, head, points, points)``.

        They are of the rank of queries and keys. Where that is less than half the number of points they come as a pair
        of factors, which takes fewer products to apply.

        Args:
            mean: the field's mean over the other axes.
            angles: of the rotary embedding.
            spacing: weight of every point in the quadrature, the distance of points.
        """
        activated, gated = self.gate(self.layer_norm(self.project(mean))).chunk(2, dim=-1)
        function = self.mix(F.gelu(activated) * gated)
        query, key = (
            rotate(layer(function).unflatten(-1, (self.heads, -1)).transpose(1, 2), angles)
            for layer in (self.query, self.key)
        )
        keys = key.transpose(-1, -2) * (self.scaling if self.norm == "reference" else self.scaling * spacing)
        in_factors = 2 * self.channels < mean.shape[1]
        kernel = None if in_factors else torch.matmul(query, keys)
        if self.norm == "reference":
            return (query, keys) if kernel is None else (kernel,)
        # ‖κ‖² = Σ_ij w² κ_ij², so that w κ / ‖κ‖ has Frobenius norm 1 whatever the spacing w.
        if kernel is None:
            square = (torch.matmul(query.mT, query) * torch.matmul(keys, keys.mT)).sum((-2, -1), keepdim=True)
            return query, keys * square.clamp_min(torch.finfo(square.dtype).tiny).rsqrt()
        norm = torch.linalg.vector_norm(kernel, dim=(-2, -1), keepdim=True)
        return (kernel / norm.clamp_min(torch.finfo(norm.dtype).tiny),)

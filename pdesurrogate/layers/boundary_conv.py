"""Convolution in one to three dimensions that respects what happens at the ends of each axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_CONVOLUTIONS: tuple[type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d], ...] = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
)


def pad_boundaries(
    u: Float[Tensor, "batch channel *space"],
    width: int,
    boundaries: Sequence[str],
    beyond: str = "replicate",
) -> Float[Tensor, "batch channel *padded"]:
    """Return ``u`` extended by ``width`` points at both ends of every axis.

    A periodic axis is continued by its other end. A wall or open axis is continued by its edge value, which is a
    Neumann condition and adds no jump, or with ``beyond="constant"`` by zeros, whose jump tells where the end is.

    Raises:
        ValueError: if there is not one boundary per axis.
    """
    ndim = u.ndim - 2
    if len(boundaries) != ndim:
        raise ValueError(f"{len(boundaries)} boundaries {tuple(boundaries)} for {ndim} axes of space.")
    if width == 0:
        return u
    for mode in ("circular", beyond):
        pads: list[int] = []
        for boundary in reversed(boundaries):
            pads += [width if (boundary == "periodic") == (mode == "circular") else 0] * 2
        if any(pads):
            u = F.pad(u, pads, mode=mode)
    return u


class BoundaryConv(nn.Module):
    """A convolution whose padding follows the boundaries of the domain, channels first.

    On a grid of ``n`` points the output has ``n / stride`` points, at every ``stride``-th input point.

    Args:
        in_channels, out_channels: channels.
        boundaries: boundary of each axis; their number is the dimension, 1 to 3.
        kernel: odd number of points of the stencil along each axis.
        stride: coarsening of the grid.
        dilation: distance of neighbouring points of the stencil in points of the grid.
        beyond: what continues an axis that is not periodic, see `pad_boundaries`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        boundaries: Sequence[str],
        *,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        beyond: str = "replicate",
    ) -> None:
        super().__init__()
        if not 1 <= len(boundaries) <= len(_CONVOLUTIONS):
            raise ValueError(f"convolutions exist in 1 to 3 dimensions; the domain has {len(boundaries)}.")
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; a centred stencil has an odd number of points.")
        self.boundaries = tuple(boundaries)
        self.width = dilation * (kernel // 2)
        self.beyond = beyond
        convolution = _CONVOLUTIONS[len(boundaries) - 1]
        self.conv = convolution(in_channels, out_channels, kernel, stride=stride, dilation=dilation)

    def forward(
        self, u: Float[Tensor, "batch in_channel *space"]
    ) -> Float[Tensor, "batch out_channel *coarse"]:
        """Return the convolved field."""
        return self.conv(pad_boundaries(u, self.width, self.boundaries, self.beyond))

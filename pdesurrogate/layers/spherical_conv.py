"""Spherical convolution: one channel-mixing matrix for each degree of the spherical harmonics.

``v̂_o(l, m) = Σ_i W_io(l) û_i(l, m)`` up to a largest degree, zero beyond (Driscoll and Healy 1994, Adv. Appl. Math. 15,
202; Bonev et al. 2023, arXiv:2306.03838). The convolution theorem of the sphere gives every order m of a degree the
same factor.

What the weights mean. A linear map of real fields commutes with all rotations exactly if it multiplies each degree by
one *real* matrix: a rotation mixes the orders m and -m of a degree, and a real field has ``û(l,-m) = (-1)^m conj
û(l,m)``. An imaginary part therefore acts as ``i sign(m)``, a shift of each wave by a quarter of its length along the
parallel, with which only turns about the axis commute. The convolution theorem with a zonal filter, whose coefficients
are real, has no such part, while published code has. ``isotropic=False`` includes it: it tells east from west, as the
rotation of a planet does.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields.spherical.channel_transform import ChannelTransform, channel_transform
from ..fields.spherical.grid import SphericalGrid
from .precision import products_in


def degree_matmul(
    spectrum: Float[Tensor, "row 2 batch in_channel"],
    weight: Float[Tensor, "degree in_channel out_channel plane"],
    transform: ChannelTransform,
) -> Float[Tensor, "row 2 batch out_channel"]:
    """Return a spectrum by degree with the channels of each degree mixed by its matrix.

    Args:
        spectrum: of ``transform.analyse``.
        weight: real matrices with one plane, or a real and an imaginary part.
        transform: tells the rows of each degree.
    """
    batch = spectrum.shape[2]
    out_channels, planes = weight.shape[2:]
    beside = weight.permute(0, 1, 3, 2).flatten(2)  # real part, then imaginary part
    parts = []
    for group in transform.groups:
        rows = spectrum[group.rows].view(group.count, group.orders * 2 * batch, -1)
        parts.append(torch.bmm(rows, beside[group.first : group.first + group.count]).flatten(0, 1))
    products = torch.cat(parts).view(-1, 2, batch, planes, out_channels)
    if planes == 1:
        return products.squeeze(3)
    real, imaginary = products.unbind(1)
    return torch.stack([real[:, :, 0] - imaginary[:, :, 1], real[:, :, 1] + imaginary[:, :, 0]], dim=1)


class SphericalConv(nn.Module):
    """A learned spherical convolution on fields ``(batch, lon, lat, channel)``; its weights know no grid.

    Initial weights are normal with variance ``gain / in`` (half of it in each plane), which keeps the variance of
    every mode for a gain of 1.

    Args:
        in_channels, out_channels: channels of the input and output field.
        max_degree: largest degree T that is kept.
        max_order: largest order that is kept, T if None. Fewer orders than degrees are cheaper and break the symmetry
            under rotations.
        isotropic: whether weights are real, see the module.
        gain: of the initial weights.

    Attributes:
        weight: ``(degree, in, out, plane)``, one plane where isotropic.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        max_degree: int,
        *,
        max_order: int | None = None,
        isotropic: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.max_degree, self.max_order = max_degree, max_order
        planes = 1 if isotropic else 2
        scale = math.sqrt(gain / planes / in_channels)
        weight = scale * torch.randn(max_degree + 1, in_channels, out_channels, planes)
        if not isotropic:
            # Degree 0 has the order 0 alone, on which an imaginary part cannot act.
            weight[0] *= torch.tensor([math.sqrt(2.0), 0.0])
        self.weight = nn.Parameter(weight)

    def transform(self, grid: SphericalGrid, like: Tensor) -> ChannelTransform:
        """Return the transform between a grid and the kept modes, for fields of that dtype and on that device.

        Raises:
            ValueError: if the grid does not analyse them exactly.
        """
        return channel_transform(grid, self.max_degree, self.max_order, like.dtype, str(like.device))

    def mix(
        self, spectrum: Float[Tensor, "row 2 batch in_channel"], transform: ChannelTransform
    ) -> Float[Tensor, "row 2 batch out_channel"]:
        """Return the spectrum of the convolved field."""
        with products_in("full", spectrum.device):
            return degree_matmul(spectrum, self.weight.to(spectrum.dtype), transform)

    def forward(
        self,
        u: Float[Tensor, "batch lon lat in_channel"],
        grid: SphericalGrid,
        out_grid: SphericalGrid | None = None,
    ) -> Float[Tensor, "batch out_lon out_lat out_channel"]:
        """Return the convolved field, on ``out_grid`` if one is given.

        Raises:
            ValueError: if a grid cannot carry the kept modes.
        """
        with products_in("full", u.device):
            here = self.transform(grid, u)
            there = here if out_grid is None else self.transform(out_grid, u)
            return there.synthesise(self.mix(here.analyse(u), here))

    def extra_repr(self) -> str:
        """Channels and modes, for printing."""
        _, in_channels, out_channels, planes = self.weight.shape
        kept = f"max_degree={self.max_degree}, max_order={self.max_order}"
        return f"{in_channels}, {out_channels}, {kept}, isotropic={planes == 1}"

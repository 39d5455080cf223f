"""Local spherical neural operator.

Liu-Schiaffini, Berner, Bonev, Kurth, Azizzadenesheli, Anandkumar, "Neural Operators with Localized Integral and
Differential Kernels", ICML 2024, arXiv:2402.16845; the spherical variant. With the local integral operators L of
`SphericalDisco` and the spherical convolutions K of `SphericalConv`: encode by an L, ``depth`` times

    v ← v + M₂ σ(M₁ A v),     A = K in the first, third, .. block, A = L in the others,

carry over to the grid of the data by spherical harmonics, decode by an L. With ``arrangement="parallel"`` every block
has ``A = K + L``, as the planar variant of the paper adds them. σ is the exact GELU.

The kernels of L end at an angle, not at a number of points: the operator is the same on every grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..fields.spherical.channel_transform import channel_transform
from ..fields.spherical.grid import SphericalGrid
from ..layers import PointwiseMLP, SphericalConv, SphericalDisco
from ..layers.precision import products_in
from ..layers.spherical_filters import require_cutoff
from ..registry import did_you_mean
from . import MODELS
from .options import require_at_least, require_dimension, require_geometry
from .sfno import hidden_width, require_degree, spherical_symmetries
from .spherical_frame import SphericalFrame

ARRANGEMENTS = ("alternate", "parallel")


@MODELS.register("lsno")
class LSNO(nn.Module):
    """Local spherical neural operator on latitudes of any rule. Frames and PDE parameters enter as channels.

    Fields should be scalars; components of winds are taken for scalars, and a warning in the log says so.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        width: channels of the encoded field.
        depth: number of blocks.
        max_degree: largest degree l that spherical convolutions keep.
        isotropic: whether filters and weights treat all directions alike, so that layers commute with rotations; a
            piecewise linear basis then has rings only. See `pdesurrogate.models.sfno` for what that rules out.
        mlp_ratio: hidden width of the blocks' MLPs over ``width``.
        scale_factor: points of the data over points inside, along each axis.
        basis: filters of the local operators, ``"piecewise_linear"``, ``"morlet"`` or ``"zernike"``.
        basis_shape: how many: radii and angles, waves an axis, or degrees; see `filter_basis`.
        cutoff: angle in radians at which the filters of the blocks end.
        encoder_cutoff: angle in radians at which those of encoder and decoder end.
        arrangement: ``"alternate"`` or ``"parallel"``.
        coordinates: positions as channels, ``"none"``, ``"latitude"`` or ``"position"``.

    Raises:
        ValueError: if an option is out of range, or the data do not live on a sphere.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"sphere"})
    symmetries: frozenset[str] = frozenset({"shift"})
    grids: str = "any"

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        width: int = 32,
        depth: int = 4,
        max_degree: int = 31,
        isotropic: bool = False,
        mlp_ratio: int | float = 2.0,
        scale_factor: int = 1,
        basis: str = "piecewise_linear",
        basis_shape: int | Sequence[int] | None = None,
        cutoff: int | float = 0.4,
        encoder_cutoff: int | float = 0.2,
        arrangement: str = "alternate",
        coordinates: str = "latitude",
    ) -> None:
        super().__init__()
        require_geometry("lsno", spec, self.geometries)
        require_at_least("lsno", 1, width=width, depth=depth)
        require_at_least("lsno", 0, max_degree=max_degree)
        if arrangement not in ARRANGEMENTS:
            raise ValueError(
                f"lsno: arrangement is {arrangement!r}.{did_you_mean(str(arrangement), ARRANGEMENTS)} "
                "Allowed: 'alternate', 'parallel'."
            )
        self.frame = SphericalFrame(
            "lsno", spec, history, horizon, coordinates=coordinates, scale_factor=scale_factor
        )
        self.max_degree = max_degree
        self.symmetries = spherical_symmetries(coordinates, isotropic=isotropic)
        filters: dict[str, Any] = {
            "basis": basis,
            "basis_shape": _shape(basis, basis_shape, isotropic=isotropic),
        }
        hidden = hidden_width("lsno", mlp_ratio, width)
        self.encode = SphericalDisco(self.frame.in_channels, width, encoder_cutoff, **filters)
        self.blocks = nn.ModuleList()
        for i in range(depth):
            both = arrangement == "parallel"
            conv = (
                SphericalConv(width, width, max_degree, isotropic=isotropic) if both or i % 2 == 0 else None
            )
            disco = SphericalDisco(width, width, cutoff, **filters) if both or i % 2 else None
            self.blocks.append(LSNOBlock(width, hidden, conv, disco))
        self.decode = SphericalDisco(width, self.frame.out_channels, encoder_cutoff, **filters)
        self.bias = nn.Parameter(torch.zeros(self.frame.out_channels))

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that cannot carry the kept degrees, or whose points lie further apart than filters reach.

        Raises:
            ValueError: naming what the grid allows.
        """
        require_dimension("lsno", self.frame.axis_names, grid)
        outer, inner = self.frame.grid(grid), self.frame.inner_grid(grid)
        require_degree("lsno", self.max_degree, inner)
        cutoffs = [("encoder_cutoff", self.encode.cutoff, outer)]
        inside = [m for m in self.blocks.modules() if isinstance(m, SphericalDisco)]
        cutoffs += [("cutoff", disco.cutoff, inner) for disco in inside]
        for name, cutoff, points in cutoffs:
            try:
                require_cutoff(cutoff, points)
            except ValueError as error:
                raise ValueError(f"lsno: {name}: {error}") from error

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised.

        Raises:
            TypeError: if the history is not real and floating.
            ValueError: if there is no sample, or the grid does not suit the operators.
        """
        sizes = history.shape[3:]
        self.check_grid(sizes)
        outer, inner = self.frame.grid(sizes), self.frame.inner_grid(sizes)
        u = self.frame.enter(history, parameters)
        u = u.to(torch.promote_types(u.dtype, self.bias.dtype))
        v = self.encode(u, outer, inner)
        for block in self.blocks:
            v = block(v, inner)
        y = self.decode(carry_over(v, inner, outer), outer) + self.bias
        return self.frame.leave(y.to(history.dtype))


class LSNOBlock(nn.Module):
    """``v + M₂ σ(M₁ A v)`` with a global operator, a local one, or the sum of both.

    Args:
        width: channels.
        hidden: hidden width of the MLP.
        conv: the global operator, or None.
        disco: the local operator, or None.
    """

    def __init__(
        self, width: int, hidden: int, conv: SphericalConv | None, disco: SphericalDisco | None
    ) -> None:
        super().__init__()
        self.conv, self.disco = conv, disco
        self.mlp = PointwiseMLP(width, hidden, width)

    def forward(
        self, v: Float[Tensor, "batch lon lat width"], grid: SphericalGrid
    ) -> Float[Tensor, "batch lon lat width"]:
        """Return the block's output on the same grid."""
        parts = [operator(v, grid) for operator in (self.conv, self.disco) if operator is not None]
        return v + self.mlp(parts[0] if len(parts) == 1 else parts[0] + parts[1])


def carry_over(
    v: Float[Tensor, "batch lon lat channel"], here: SphericalGrid, there: SphericalGrid
) -> Float[Tensor, "batch out_lon out_lat channel"]:
    """Return a field on another grid, by all harmonics that both carry."""
    if here == there:
        return v
    degree = min(here.largest_truncation(), there.largest_truncation())
    inward, outward = (
        channel_transform(grid, degree, None, v.dtype, str(v.device)) for grid in (here, there)
    )
    with products_in("full", v.device):
        return outward.synthesise(inward.analyse(v))


def _shape(basis: str, shape: int | Sequence[int] | None, *, isotropic: bool) -> int | Sequence[int] | None:
    """Return the shape of the basis, with one angle where all directions are alike.

    Raises:
        ValueError: for an isotropic operator of filters that have directions.
    """
    if not isotropic:
        return shape
    given = [3] if shape is None else [shape] if isinstance(shape, int) else list(shape)
    if basis != "piecewise_linear" or len(given) > 2 or given[1:] not in ([], [1]):
        raise ValueError(
            f"lsno: isotropic=true needs filters without directions, and basis={basis} with basis_shape={shape} has "
            "some. Use basis=piecewise_linear with a number of radii as basis_shape."
        )
    return [given[0], 1]

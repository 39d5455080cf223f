"""Spherical Fourier neural operator.

Bonev, Kurth, Hundt, Pathak, Baust, Kashinath, Anandkumar, "Spherical Fourier Neural Operators: Learning Stable Dynamics
on the Sphere", ICML 2023, arXiv:2306.03838. Lift, ``depth`` times

    v ← v + M₂ σ(M₁ K v),     K v = S⁻¹[ W(l) · S[v](l, m) ],                      (the "linear" variant)

and project, where S is the spherical harmonic transform and one matrix W(l) serves all orders m of a degree. With
``big_skip`` the projection sees the input beside the last v. σ is the exact GELU.

What the operator can know. With real W (``isotropic``) every layer commutes with all rotations and mirror images. That
suits scalars without a sense of rotation, and cannot forecast vorticity, which changes sign in a mirror: a wave that
drifts westward would have to drift eastward in its mirror image, and does not. Complex W tell east from west, as
the authors' code has them, and ``coordinates="latitude"`` tells north from south and how much the planet turns
there. Both are the defaults here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..fields.spherical.grid import SphericalGrid
from ..layers import PointwiseMLP, SphericalConv
from . import MODELS
from .options import require_at_least, require_dimension, require_geometry
from .spherical_frame import SphericalFrame


@MODELS.register("sfno")
class SFNO(nn.Module):
    """Spherical Fourier neural operator on latitudes of any rule. Frames and PDE parameters enter as channels.

    Weights belong to degrees of the spherical harmonics, not to points: the same operator runs on every grid that
    carries ``max_degree``. Fields should be scalars; components of winds are taken for scalars, and a warning in the
    log says so.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        width: channels of the lifted field.
        depth: number of blocks.
        max_degree: largest degree l that spherical convolutions keep; half a wavelength of degree l spans 180°/l.
        max_order: largest order that they keep, at most ``max_degree``, which None stands for.
        isotropic: whether the weights of a degree are real; see above and `SphericalConv`.
        mlp_ratio: hidden width of the blocks' MLPs, of lifting and of projection, over ``width``.
        scale_factor: points of the data over points inside, along each axis.
        coordinates: positions as channels, ``"none"``, ``"latitude"`` (the sine, for all that turns with the planet) or
            ``"position"`` (for what is fixed to the ground).
        big_skip: whether the projection sees the input too, with all degrees that the blocks do not keep.

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
        max_order: int | None = None,
        isotropic: bool = False,
        mlp_ratio: int | float = 2.0,
        scale_factor: int = 1,
        coordinates: str = "latitude",
        big_skip: bool = True,
    ) -> None:
        super().__init__()
        require_geometry("sfno", spec, self.geometries)
        require_at_least("sfno", 1, width=width, depth=depth)
        require_at_least("sfno", 0, max_degree=max_degree)
        if max_order is not None and not 0 <= max_order <= max_degree:
            raise ValueError(
                f"sfno: max_order is {max_order}; it is at least 0 and at most max_degree = {max_degree}."
            )
        self.frame = SphericalFrame(
            "sfno", spec, history, horizon, coordinates=coordinates, scale_factor=scale_factor
        )
        self.max_degree, self.big_skip = max_degree, big_skip
        self.symmetries = spherical_symmetries(coordinates, isotropic=isotropic, all_orders=max_order is None)
        hidden = hidden_width("sfno", mlp_ratio, width)
        self.lift = PointwiseMLP(self.frame.in_channels, hidden, width)
        self.blocks = nn.ModuleList(
            SFNOBlock(width, hidden, max_degree, max_order=max_order, isotropic=isotropic)
            for _ in range(depth)
        )
        seen = width + big_skip * self.frame.in_channels
        self.project = PointwiseMLP(seen, hidden, self.frame.out_channels)

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that cannot carry the kept degrees.

        Raises:
            ValueError: naming the largest degree that it carries, or the grid that is needed.
        """
        require_dimension("sfno", self.frame.axis_names, grid)
        require_degree("sfno", self.max_degree, self.frame.grid(grid), self.frame.inner_grid(grid))

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised.

        Raises:
            TypeError: if the history is not real and floating.
            ValueError: if there is no sample, or the grid cannot carry the kept degrees.
        """
        sizes = history.shape[3:]
        self.check_grid(sizes)
        grid, inner = self.frame.grid(sizes), self.frame.inner_grid(sizes)
        u = self.frame.enter(history, parameters)
        v = self.lift(u)
        here = grid
        for block in self.blocks:
            there = grid if block is self.blocks[-1] else inner
            v = block(v, here, there)
            here = there
        if self.big_skip:
            v = torch.cat([v, u.to(v.dtype)], dim=-1)
        return self.frame.leave(self.project(v).to(history.dtype))


class SFNOBlock(nn.Module):
    """``v + M₂ σ(M₁ K v)``; from one grid to another, v is carried over by its kept harmonics.

    Args:
        width: channels.
        hidden: hidden width of the MLP.
        max_degree, max_order, isotropic: see `SphericalConv`.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        max_degree: int,
        *,
        max_order: int | None = None,
        isotropic: bool = False,
    ) -> None:
        super().__init__()
        self.conv = SphericalConv(width, width, max_degree, max_order=max_order, isotropic=isotropic)
        self.mlp = PointwiseMLP(width, hidden, width)

    def forward(
        self, v: Float[Tensor, "batch lon lat width"], here: SphericalGrid, there: SphericalGrid
    ) -> Float[Tensor, "batch out_lon out_lat width"]:
        """Return the block's output on the grid ``there``."""
        inward, outward = self.conv.transform(here, v), self.conv.transform(there, v)
        spectrum = inward.analyse(v)
        skip = v if here == there else outward.synthesise(spectrum)
        return skip + self.mlp(outward.synthesise(self.conv.mix(spectrum, inward)))


def hidden_width(model: str, mlp_ratio: float, width: int) -> int:
    """Return the hidden width of the MLPs.

    Raises:
        ValueError: if there is none.
    """
    if int(mlp_ratio * width) < 1:
        raise ValueError(f"{model}: mlp_ratio is {mlp_ratio}; times the width {width} it must be at least 1.")
    return int(mlp_ratio * width)


def spherical_symmetries(coordinates: str, *, isotropic: bool, all_orders: bool = True) -> frozenset[str]:
    """Return what an operator made of spherical convolutions commutes with."""
    if coordinates == "position":
        return frozenset()
    if coordinates == "none" and isotropic:
        return frozenset({"shift", "reflection", "rotation"} if all_orders else {"shift", "reflection"})
    return frozenset({"shift"})


def require_degree(model: str, max_degree: int, *grids: SphericalGrid) -> None:
    """Refuse a largest degree that a grid does not analyse exactly.

    Raises:
        ValueError: with the largest degree and the grid that would be needed.
    """
    for grid in grids:
        try:
            grid.require(max_degree)
        except ValueError as error:
            raise ValueError(f"{model}: max_degree is {max_degree}; {error}") from error

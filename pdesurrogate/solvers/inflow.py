"""Smoke that enters a box through a disc in its bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .option_checks import check_not_negative, check_positive


@dataclass(frozen=True)
class Inflow:
    """A steady jet through a disc in the bottom that carries smoke of uneven density.

    Velocity upwards on the bottom's faces is ``speed`` within ``radius`` of the centre, with an edge one cell wide. The
    density of what enters at the time t is ``density max(0, 1 + noise T(x, -speed t))``: the texture T is carried
    through the disc by the jet (Taylor's frozen turbulence), and repeats after ``depth / speed``.

    Attributes:
        radius: of the disc, length.
        speed: of the jet, length/time.
        density: mean density of its smoke.
        noise: standard deviation of the density over its mean, for a texture of mean 0 and standard deviation 1.
        texture: T on ``(layer, *cells of the bottom)``, one for all or one a trajectory; None: 0.
        depth: extent of the texture along the jet, length; layers follow each other evenly.
        centre: of the disc along each axis of the bottom as a fraction of its side; the middle by default.
        start: time at t = 0 of the solution, for solutions that go on from an earlier one's end.

    Raises:
        ValueError: if a number is out of range, or there is noise without a texture.
    """

    radius: float
    speed: float
    density: float = 1.0
    noise: float = 0.0
    texture: Float[Tensor, "*batch layer *cells"] | None = None
    depth: float = 1.0
    centre: tuple[float, ...] | None = None
    start: float = 0.0

    def __post_init__(self) -> None:
        positive, not_negative = ("radius", "speed", "density", "depth"), ("noise", "start")
        check_positive(**{f"{name} of the inflow": getattr(self, name) for name in positive})
        check_not_negative(**{f"{name} of the inflow": getattr(self, name) for name in not_negative})
        if self.noise > 0 and self.texture is None:
            raise ValueError(f"noise of the inflow is {self.noise} and there is no texture for it; give one.")
        if self.texture is not None and not torch.isfinite(self.texture).all():
            raise ValueError("the texture of the inflow has values that are not finite.")
        if self.centre is not None and not all(0 <= place <= 1 for place in self.centre):
            raise ValueError(
                f"centre of the inflow is {self.centre}; give fractions of the sides, from 0 to 1."
            )

    def share(self, grid: Sequence[int], lengths: Sequence[float]) -> Float[Tensor, "*cells"]:
        """Return which part of each face of the bottom the disc covers; smooth over the width of one cell.

        Args:
            grid: cells along the axes of the bottom.
            lengths: its sides.

        Raises:
            ValueError: if the disc reaches beyond the walls, or the centre has another dimension.
        """
        centre = self.centre or (0.5,) * len(grid)
        if len(centre) != len(grid):
            raise ValueError(f"centre of the inflow is {centre}; the bottom has {len(grid)} axes.")
        square = torch.zeros(tuple(grid), dtype=torch.float64)
        for axis, (n, length, place) in enumerate(zip(grid, lengths, centre, strict=True)):
            if not self.radius <= min(place, 1 - place) * length * (1 + 1e-12):
                raise ValueError(
                    f"the inflow's disc of radius {self.radius:g} around {place:g} of a side of {length:g} reaches "
                    "beyond the walls. Use a smaller radius."
                )
            distance = ((torch.arange(n, dtype=torch.float64) + 0.5) / n - place) * length
            square = square + distance.square().view(-1, *[1] * (len(grid) - 1 - axis))
        width = min(length / n for n, length in zip(grid, lengths, strict=True))
        return ((self.radius - square.sqrt()) / width + 0.5).clamp(0.0, 1.0)

    def density_at(self, time: float, num: int, grid: Sequence[int]) -> Float[Tensor, "batch *cells"]:
        """Return the density of the smoke that enters at a time of the solution, for ``num`` trajectories or for all.

        Raises:
            ValueError: if the texture is that of another number of trajectories or of another grid.
        """
        if self.texture is None:
            return torch.full((1, *grid), self.density, dtype=torch.float64)
        texture = self.texture if self.texture.ndim == len(grid) + 2 else self.texture[None]
        if texture.ndim != len(grid) + 2 or texture.shape[2:] != tuple(grid) or len(texture) not in (1, num):
            raise ValueError(
                f"the inflow's texture has the shape {tuple(self.texture.shape)}; it must be (layer, "
                f"{', '.join(map(str, grid))}), once or for each of the {num} trajectories."
            )
        layers = texture.shape[1]
        place = -self.speed * (self.start + time) / self.depth * layers % layers
        below = int(place) % layers
        value = torch.lerp(texture[:, below], texture[:, (below + 1) % layers], place - int(place)).double()
        return self.density * (1 + self.noise * value).clamp_min(0.0)

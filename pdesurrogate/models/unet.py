"""U-Net: the convolutional baseline, residual blocks on a pyramid of grids.

Ronneberger, Fischer, Brox, "U-Net", MICCAI 2015, arXiv:1505.04597, in the modern form of Gupta and
Brandstetter, "Towards Multi-spatiotemporal-scale Generalized PDE Modeling", TMLR 2023, arXiv:2209.15616
(their U-Net_mod): pre-activation residual blocks with group normalisation, GELU, strided convolutions down,
nearest neighbours and a convolution up, skips joined by concatenation. Stencils see the domain's boundaries.

The authors' benchmark code (PDEArena, Unetmod-64) has the same blocks and skips, and as many, at width 64. It
multiplies channels level by level, so that its 1, 2, 2, 4 are ``multipliers=[1, 2, 4, 16]`` here, normalises all
channels of a sample together, ``groups=1``, refines by transposed convolutions of four points, and pads with zeros
whatever the boundary. On the way up its last block of a level already has the next level's channels; here it keeps
those of its own, which are also refined, and the first block of the next level reduces them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..layers import (
    BoundaryConv,
    append_coordinates,
    check_coordinates,
    check_memory,
    fold_inputs,
    num_coordinate_channels,
    recomputed,
    unfold_frames,
)
from . import MODELS
from .options import require_at_least, require_dimension, require_geometry


@MODELS.register("unet")
class UNet(nn.Module):
    """U-Net in one to three dimensions. Frames and PDE parameters enter as channels.

    A shift by one point is not a symmetry: striding commutes only with shifts by ``2^depth`` points. The
    stencils are fixed in points, not in length, so the function changes with the grid; it runs on every
    grid that halves ``depth`` times.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        width: channels on the finest grid.
        multipliers: channels of each grid over ``width``, finest first; one entry more than halvings.
        num_blocks: residual blocks per grid on the way down; the way up has one more.
        groups: groups of the normalisation; reduced to a divisor of the channels where needed.
        coordinates: positions in space as channels, ``"none"``, ``"linear"`` or ``"periodic"``, see
            `pdesurrogate.layers.append_coordinates`; needed where forcing or coefficients are fixed in space.
        memory: what the backward pass keeps: ``"speed"`` everything, ``"lean"`` and ``"minimal"`` what enters each
            residual block, which is then computed twice. It changes memory and speed only.

    Raises:
        ValueError: if an option is out of range or the dimension is not 1, 2 or 3.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"plane"})
    memory_options: ClassVar[tuple[str, ...]] = ("memory=minimal", "multipliers", "width")
    symmetries: ClassVar[frozenset[str]] = frozenset()
    convergence: ClassVar[int] = 0

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        width: int = 32,
        multipliers: Sequence[int] = (1, 2, 2, 4),
        num_blocks: int = 2,
        groups: int = 8,
        coordinates: str = "none",
        memory: str = "speed",
    ) -> None:
        super().__init__()
        require_geometry("unet", spec, self.geometries)
        require_at_least(
            "unet", 1, history=history, horizon=horizon, width=width, num_blocks=num_blocks, groups=groups
        )
        if not multipliers or min(multipliers) < 1:
            raise ValueError(
                f"unet: multipliers are {list(multipliers)}; give positive numbers, finest grid first."
            )
        check_coordinates(coordinates)
        check_memory(memory)
        self.memory = memory
        self.horizon = horizon
        self.axes = spec.axes
        self.coordinates = coordinates
        self.axis_names = spec.axis_names
        self.factor = 2 ** (len(multipliers) - 1)
        self.grids = f"multiple of {self.factor}"
        boundaries = spec.boundaries

        sizes = [width * multiplier for multiplier in multipliers]
        in_channels = history * spec.num_channels + spec.num_parameters
        in_channels += num_coordinate_channels(spec.axes, coordinates)
        self.lift = BoundaryConv(in_channels, sizes[0], boundaries)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips = [sizes[0]]
        channels = sizes[0]
        for level, size in enumerate(sizes):
            for _ in range(num_blocks):
                self.down.append(ResidualBlock(channels, size, boundaries, groups))
                channels = size
                skips.append(channels)
            if level < len(sizes) - 1:
                self.down.append(BoundaryConv(channels, channels, boundaries, stride=2))
                skips.append(channels)
        self.middle = nn.Sequential(
            *(ResidualBlock(channels, channels, boundaries, groups) for _ in range(2))
        )
        for level, size in reversed(list(enumerate(sizes))):
            for _ in range(num_blocks + 1):
                self.up.append(ResidualBlock(channels + skips.pop(), size, boundaries, groups))
                channels = size
            if level > 0:
                self.up.append(Refine(channels, boundaries))
        self.project = nn.Sequential(
            _norm(groups, channels),
            nn.GELU(),
            BoundaryConv(channels, horizon * spec.num_channels, boundaries),
        )

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that does not halve often enough.

        Raises:
            ValueError: naming the axis and the nearest sizes that work.
        """
        require_dimension("unet", self.axis_names, grid)
        for name, n in zip(self.axis_names, grid, strict=True):
            if n % self.factor or n == 0:
                below = n // self.factor * self.factor
                nearest = " or ".join(str(m) for m in (below, below + self.factor) if m)
                raise ValueError(
                    f"unet with {self.factor.bit_length()} multipliers needs a multiple of {self.factor} points on "
                    f"axis {name!r} and the grid has {n}. Use {nearest} points, or fewer multipliers."
                )

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised."""
        self.check_grid(history.shape[3:])
        v = append_coordinates(fold_inputs(history, parameters), self.axes, self.coordinates)
        v = self.lift(v)
        skips = [v]
        for stage in self.down:
            v = self._run(stage, v)
            skips.append(v)
        for stage in self.middle:
            v = self._run(stage, v)
        for stage in self.up:
            v = self._run(stage, v) if isinstance(stage, Refine) else self._run(stage, v, skips.pop())
        return unfold_frames(self.project(v), self.horizon)

    def _run(self, stage: nn.Module, *inputs: Tensor) -> Tensor:
        """Call a stage of the pyramid on the channels of its inputs together."""
        return recomputed(_joined, stage, *inputs) if self.memory != "speed" else _joined(stage, *inputs)


class ResidualBlock(nn.Module):
    """``v + conv(σ(norm(conv(σ(norm(v))))))``, with a linear shortcut where the channels change."""

    def __init__(self, in_channels: int, out_channels: int, boundaries: Sequence[str], groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(groups, in_channels)
        self.conv1 = BoundaryConv(in_channels, out_channels, boundaries)
        self.norm2 = _norm(groups, out_channels)
        self.conv2 = BoundaryConv(out_channels, out_channels, boundaries)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = BoundaryConv(in_channels, out_channels, boundaries, kernel=1)

    def forward(
        self, v: Float[Tensor, "batch in_channel *space"]
    ) -> Float[Tensor, "batch out_channel *space"]:
        """Return the block's output on the same grid."""
        residual = self.conv1(F.gelu(self.norm1(v)))
        residual = self.conv2(F.gelu(self.norm2(residual)))
        return self.shortcut(v) + residual


class Refine(nn.Module):
    """Twice as many points per axis: nearest neighbours, then a convolution."""

    def __init__(self, channels: int, boundaries: Sequence[str]) -> None:
        super().__init__()
        self.conv = BoundaryConv(channels, channels, boundaries)

    def forward(self, v: Float[Tensor, "batch channel *coarse"]) -> Float[Tensor, "batch channel *fine"]:
        """Return the field on the finer grid."""
        return self.conv(F.interpolate(v, scale_factor=2, mode="nearest"))


def _joined(stage: nn.Module, *inputs: Tensor) -> Tensor:
    output: Tensor = stage(torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0])
    return output


def _norm(groups: int, channels: int) -> nn.GroupNorm:
    divisor = max(g for g in range(1, min(groups, channels) + 1) if channels % g == 0)
    return nn.GroupNorm(divisor, channels)

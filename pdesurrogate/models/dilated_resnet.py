"""Dilated ResNet: convolutions that look ever further and back again, without leaving the grid.

Stachenfeld et al., "Learned Coarse Models for Efficient Turbulence Simulation", ICLR 2022, arXiv:2112.15275. Encode by
a convolution, ``depth`` times

    v ← v + σ C_7 σ C_6 .. σ C_1 v,      C_i of dilation 1, 2, 4, 8, 4, 2, 1,

and decode by a convolution. All stencils have three points an axis and see the domain's boundaries; σ is ReLU.

PDEArena (Gupta and Brandstetter 2023, arXiv:2209.15616) has the same blocks at 128 channels between two maps at single
points on either side, with GELU, as ``activation="gelu"`` has here, and pads with zeros whatever the boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

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
from ..registry import did_you_mean
from . import MODELS
from .options import require_at_least, require_dimension, require_geometry

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


@MODELS.register("dilated_resnet")
class DilatedResNet(nn.Module):
    """Dilated ResNet in one to three dimensions. Frames and PDE parameters enter as channels.

    The stencils are fixed in points, not in length, so the function changes with the grid; it runs on every grid that
    is as large as they reach.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        width: channels.
        depth: number of blocks.
        dilations: distances of the stencils' points in every block, in points of the grid.
        activation: ``"relu"`` or ``"gelu"``.
        coordinates: positions in space as channels, ``"none"``, ``"linear"`` or ``"periodic"``, see
            `pdesurrogate.layers.append_coordinates`.
        memory: what the backward pass keeps: ``"speed"`` everything, ``"lean"`` and ``"minimal"`` what enters each
            block, which is then computed twice. It changes memory and speed only.

    Raises:
        ValueError: if an option is out of range or the dimension is not 1, 2 or 3.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"plane"})
    memory_options: ClassVar[tuple[str, ...]] = ("memory=minimal", "depth", "width")
    symmetries: frozenset[str] = frozenset({"shift"})
    grids: str = "any"
    convergence: ClassVar[int] = 0

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        width: int = 48,
        depth: int = 4,
        dilations: Sequence[int] = (1, 2, 4, 8, 4, 2, 1),
        activation: str = "relu",
        coordinates: str = "none",
        memory: str = "speed",
    ) -> None:
        super().__init__()
        require_geometry("dilated_resnet", spec, self.geometries)
        require_at_least("dilated_resnet", 1, history=history, horizon=horizon, width=width, depth=depth)
        if not dilations or min(dilations) < 1:
            raise ValueError(
                f"dilated_resnet: dilations are {list(dilations)}; give one or more positive numbers."
            )
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"dilated_resnet: activation is {activation!r}.{did_you_mean(str(activation), ACTIVATIONS)} "
                f"Allowed: {', '.join(ACTIVATIONS)}."
            )
        check_coordinates(coordinates)
        check_memory(memory)
        self.memory = memory
        self.horizon, self.axes, self.axis_names = horizon, spec.axes, spec.axis_names
        self.coordinates, self.reach = coordinates, max(dilations)
        if coordinates != "none":
            self.symmetries = frozenset()
        in_channels = history * spec.num_channels + spec.num_parameters
        in_channels += num_coordinate_channels(spec.axes, coordinates)
        boundaries = spec.boundaries
        self.lift = BoundaryConv(in_channels, width, boundaries)
        self.blocks = nn.ModuleList(
            DilatedBlock(width, dilations, boundaries, ACTIVATIONS[activation]) for _ in range(depth)
        )
        self.project = BoundaryConv(width, horizon * spec.num_channels, boundaries)

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that is smaller than the stencils reach.

        Raises:
            ValueError: naming the axis.
        """
        require_dimension("dilated_resnet", self.axis_names, grid)
        for name, n in zip(self.axis_names, grid, strict=True):
            if n < self.reach:
                raise ValueError(
                    f"dilated_resnet: stencils reach {self.reach} points along axis {name!r} and the grid has {n} "
                    "there. Give smaller dilations, or a finer grid."
                )

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised."""
        self.check_grid(history.shape[3:])
        v = self.lift(append_coordinates(fold_inputs(history, parameters), self.axes, self.coordinates))
        for block in self.blocks:
            v = recomputed(block, v) if self.memory != "speed" else block(v)
        return unfold_frames(self.project(v), self.horizon)


class DilatedBlock(nn.Module):
    """``v + σ C_n .. σ C_1 v`` with convolutions of the given dilations."""

    def __init__(
        self,
        width: int,
        dilations: Sequence[int],
        boundaries: Sequence[str],
        activation: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.activation = activation
        self.convs = nn.ModuleList(
            BoundaryConv(width, width, boundaries, dilation=distance) for distance in dilations
        )

    def forward(self, v: Float[Tensor, "batch width *space"]) -> Float[Tensor, "batch width *space"]:
        """Return the block's output on the same grid."""
        added = v
        for conv in self.convs:
            added = self.activation(conv(added))
        return v + added

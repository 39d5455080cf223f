"""FactFormer: attention as an integral operator whose kernel is a product of one kernel an axis.

Li, Shu, Barati Farimani, "Scalable Transformer for PDE Surrogate Modeling", NeurIPS 2023, arXiv:2305.17560. Lift, add
``depth`` times positions and the output of a block,

    u ← u + P (sin 2πBx, cos 2πBx),
    u ← u + W₂ σ( O N[ K_1 ×_1 .. K_d ×_d V ũ ] ),      ũ = LayerNorm(u),

with kernels ``K_a`` that the field makes for itself (`AxialKernel`, `axial_integral`), and predict in one of two ways.
Latent marching makes one frame, or a few, of every state of a small propagator in latent space,

    z ← E u,    z ← z + e_l,    z ← z + MLP(LayerNorm(z)),    frames_l = decode(z),      l = 1 .. L,

for little more than one frame costs. A one-shot window decodes all frames from ``u`` at once. σ is the exact GELU.

On ``N = n_1 ··· n_d`` points a channel of the values takes ``N (n_1 + .. + n_d)`` products, less where the kernels'
rank is less than half of ``n_a``; the memory is linear in ``N``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..fields.fourier.kept_tables import kept
from ..layers import (
    AxialKernel,
    check_kernel_norm,
    check_memory,
    check_precision,
    fold_inputs,
    positions,
    random_directions,
    recomputed,
    rotary_frequencies,
    wave_features,
)
from ..layers.precision import products_in
from ..layers.tracing import needs_plain_operations
from ..registry import did_you_mean
from . import MODELS
from .factformer_block import FactFormerBlock
from .factformer_ends import GROUPS, BoundaryBranch, Decoder, GroupedLift, LatentMarch
from .factformer_options import check_head, check_latent, check_padding, count_latent_steps
from .options import require_at_least, require_dimension, require_geometry

LIFTS = ("linear", "grouped")


@MODELS.register("factformer")
class FactFormer(nn.Module):
    """FactFormer in one to three dimensions. Frames and PDE parameters enter as channels.

    The same weights work on every grid: coordinates are physical and kernels are integrated. The future settles once
    the grid carries the shortest wave of the positions, ``2π / rotary_frequency``.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        width: channels of the field, a multiple of 8.
        depth: number of blocks.
        heads: kernels an axis.
        head_dim: channels of the values of a head; divides the width.
        kernel_multiplier: channels of queries and keys over ``head_dim``.
        latent_multiplier: channels of the latent state of marching over ``width``.
        latent_steps: states of latent marching, each for an equal part of the horizon; null: one a frame; 0: a one-shot
            window.
        kernel_norm: ``"frobenius"`` or ``"reference"``, see `AxialKernel`; the second is the authors', whose blocks
            learn hardly anything at first, and in three dimensions nothing.
        tie_axes: whether all axes have the same weights, so that exchanging the axes of what comes in exchanges them in
            what comes out. Positions and the boundary branch, where there are any, still tell axes apart.
        rotary_frequency: highest frequency of the rotary embeddings, radians per unit of length.
        position_scale: standard deviation of the wave vectors ``B``, periods per unit of length; 0 adds no positions.
        periodic_positions: whether waves of positions have whole numbers of periods on periodic axes. The authors' have
            not: theirs tell the ends of the box from its middle.
        lift: ``"linear"`` from all input channels, or ``"grouped"``: features of every field, then of all of them.
        boundary_branch: whether a small convolutional network beside the blocks sees where the domain ends.
        padding: zeros appended to every axis that is not periodic, as a fraction of its size, for the blocks alone.
        memory: what the backward pass keeps: ``"speed"`` all heads before and after each axis, ``"lean"`` the field
            around every block, which makes a step a fifth longer, ``"minimal"`` only what enters each block and each
            latent state, which makes it half as long again. It changes memory and speed only.
        precision: arithmetic of the integrals, see `pdesurrogate.layers.axial_integral` and
            `pdesurrogate.layers.precision`; the rest is float32.

    Raises:
        ValueError: if an option is out of range, ``head_dim`` does not divide the width, or latent marching cannot
            reach the horizon.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"plane"})
    symmetries: frozenset[str] = frozenset()
    directions: Tensor
    memory_options: ClassVar[tuple[str, ...]] = ("memory=minimal", "depth", "heads", "width")
    grids: str = "any"

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        width: int = 128,
        depth: int = 4,
        heads: int = 8,
        head_dim: int = 64,
        kernel_multiplier: int = 2,
        latent_multiplier: int | float = 2.0,
        latent_steps: int | None = None,
        kernel_norm: str = "frobenius",
        tie_axes: bool = False,
        rotary_frequency: int | float = 64.0,
        position_scale: int | float = 0.0,
        periodic_positions: bool = True,
        lift: str = "linear",
        boundary_branch: bool = False,
        padding: int | float = 0.0,
        memory: str = "speed",
        precision: str = "full",
    ) -> None:
        super().__init__()
        require_geometry("factformer", spec, self.geometries)
        sizes = {"depth": depth, "heads": heads, "head_dim": head_dim, "kernel_multiplier": kernel_multiplier}
        require_at_least("factformer", 1, history=history, horizon=horizon, width=width, **sizes)
        require_at_least("factformer", 0, rotary_frequency=rotary_frequency, position_scale=position_scale)
        check_head(width, head_dim, kernel_multiplier)
        check_padding(padding, spec)
        check_kernel_norm(kernel_norm)
        check_memory(memory)
        check_precision(precision)
        if lift not in LIFTS:
            raise ValueError(
                f"factformer: lift is {lift!r}.{did_you_mean(str(lift), LIFTS)} Allowed: 'linear', 'grouped'."
            )
        self.axes, self.axis_names, self.horizon = spec.axes, spec.axis_names, horizon
        self.padding, self.memory, self.precision = padding, memory, precision
        self.rotary_frequency, self.periodic_positions = rotary_frequency, periodic_positions
        self.heads, self.head_dim, self.rotary_channels = heads, head_dim, head_dim * kernel_multiplier
        if periodic_positions and not position_scale and spec.is_periodic and not boundary_branch:
            self.symmetries = frozenset({"shift"})

        steps = count_latent_steps(horizon, latent_steps)
        self.is_grouped = lift == "grouped"
        self.lift: nn.Module = (
            GroupedLift(spec.num_channels, spec.num_parameters, history, width)
            if self.is_grouped
            else nn.Linear(history * spec.num_channels + spec.num_parameters, width)
        )
        self.positions = nn.ModuleList()
        if position_scale:
            waves = [
                random_directions(spec.axes, width // 2, position_scale, whole_periods=periodic_positions)
                for _ in range(depth)
            ]
            self.register_buffer("directions", torch.stack(waves))
            self.positions.extend(nn.Linear(width, width) for _ in range(depth))
        self._features: tuple[Tensor, object, Tensor] | None = None
        kernels = 1 if tie_axes else spec.ndim
        self.blocks = nn.ModuleList(
            FactFormerBlock(
                width,
                heads,
                head_dim,
                [AxialKernel(width, heads, head_dim, kernel_multiplier, kernel_norm) for _ in range(kernels)],
                keep=memory == "speed",
                precision=precision,
            )
            for _ in range(depth)
        )
        self.boundary = BoundaryBranch(width, spec.boundaries) if boundary_branch else None
        encoded = 2 * width if boundary_branch else width
        self.march: LatentMarch | None = None
        if steps:
            latent = round(latent_multiplier * width)
            check_latent(latent, latent_multiplier)
            self.march = LatentMarch(encoded, latent, width, steps, memory)
            groups = int(GROUPS * latent_multiplier)
            self.decode = Decoder(latent, width, horizon // steps * spec.num_channels, groups)
        else:
            self.decode = Decoder(encoded, width, horizon * spec.num_channels, GROUPS)

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid of another dimension than the data's.

        Raises:
            ValueError: naming the axes and the grid.
        """
        require_dimension("factformer", self.axis_names, grid)

    def training_memory(self, grid: Sequence[int], batch_size: int) -> int:
        """Return about how many bytes a training step takes: fields, weights, their gradients and two moments.

        Fields are those that the backward pass keeps, and the work on one part of the model at a time.

        Args:
            grid: sizes in space.
            batch_size: windows a step.
        """
        width, latent, values = self.decode.width, self.decode.latent, self.heads * self.head_dim
        per_block = 4 * width  # the residual, its normalisation, and the block's output on both sides of σ
        per_state = 4 * latent + 3 * width  # two fields of the propagator, five of the decoder
        work = 6 * max(width, latent) + 4 * self.head_dim
        if self.memory == "speed":
            per_block += values * (len(grid) + 1)  # whole kernels; factors of low rank keep less
        elif self.memory == "minimal":
            work += max(per_block, per_state)
            per_block, per_state = width, latent
        states = 1 if self.march is None else self.march.num_steps
        channels: float = len(self.blocks) * per_block + states * per_state + work
        if len(self.positions):
            channels += len(self.blocks) * width / batch_size
        weights = sum(parameter.numel() for parameter in self.parameters())
        return int(4 * (math.prod(grid) * batch_size * channels + 4 * weights))

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised.

        Raises:
            TypeError: if the history is not real and floating.
            ValueError: if an axis has no entry.
        """
        self.check_grid(history.shape[3:])
        if 0 in history.shape:
            raise ValueError(
                f"factformer: the history has shape {tuple(history.shape)}, laid out (batch, history, channel, "
                "*space); every axis needs at least one entry."
            )
        with products_in("full", history.device):
            u = self._lifted(history, parameters)
            frames = self._frames(self._encoded(u))
            future = torch.cat(frames, dim=-1).movedim(-1, 1).unflatten(1, (self.horizon, -1))
        return future.to(history.dtype)

    def _lifted(self, history: Tensor, parameters: Tensor) -> Tensor:
        dtype = next(self.lift.parameters()).dtype
        folded = fold_inputs(history, parameters).movedim(1, -1).to(dtype)
        if self.is_grouped:
            frames = history.movedim((1, 2), (-2, -1)).to(dtype)
            lifted: Tensor = self.lift(frames, parameters.to(dtype))
        else:
            lifted = self.lift(folded)
        return lifted

    def _encoded(self, u: Float[Tensor, "batch *space width"]) -> Float[Tensor, "batch *space encoded"]:
        grid = u.shape[1:-1]
        v = self._padded(u)
        coordinates = [
            positions(axis, n, padded, u.device)
            for axis, n, padded in zip(self.axes, grid, v.shape[1:-1], strict=True)
        ]
        angles = []
        for axis, x in zip(self.axes, coordinates, strict=True):
            frequencies = rotary_frequencies(
                axis,
                self.rotary_channels,
                self.rotary_frequency,
                whole_periods=self.periodic_positions,
                device=u.device,
            )
            angles.append(torch.outer(x - axis.origin, frequencies))
        spacings = [axis.length / n for axis, n in zip(self.axes, grid, strict=True)]
        features = self._waves(coordinates, u) if len(self.positions) else None
        for i, block in enumerate(self.blocks):
            if features is not None:
                v = v + self.positions[i](features[i])
            v = self._run(block, v, angles, spacings)
        for dim, n in enumerate(grid, start=1):
            v = v.narrow(dim, 0, n)
        return v if self.boundary is None else torch.cat([self.boundary(v), v], dim=-1)

    def _frames(self, u: Float[Tensor, "batch *space encoded"]) -> list[Tensor]:
        if self.march is None:
            return [self._run(self.decode, u)]
        frames, z = [], self.march.expand(u)
        for step in range(self.march.num_steps):
            z = self._run(self.march, z, step)
            frames.append(self._run(self.decode, z))
        return frames

    def _padded(self, u: Tensor) -> Tensor:
        pads: list[int] = []
        for axis, n in zip(reversed(self.axes), reversed(u.shape[1:-1]), strict=True):
            pads += [0, 0 if axis.boundary == "periodic" else round(self.padding * n)]
        return F.pad(u, [0, 0, *pads]) if any(pads) else u

    def _waves(self, coordinates: Sequence[Tensor], like: Tensor) -> Tensor:
        """Return the features of every block, made once for each grid, dtype and device."""
        sizes = tuple(x.shape[0] for x in coordinates)
        if needs_plain_operations(like):
            return torch.stack([wave_features(b, coordinates) for b in self.directions]).to(like.dtype)
        # Loading other weights changes the tensor's version.
        key = (sizes, like.dtype, like.device, self.directions._version)
        if self._features is None or self._features[0] is not self.directions or self._features[1] != key:
            # A table made during inference serves training, too.
            with torch.inference_mode(mode=False), torch.no_grad():
                features = [wave_features(b, coordinates).to(like.dtype) for b in self.directions]
                self._features = self.directions, key, torch.stack(features)
        return kept(self._features[2])

    def _run(self, part: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Call a part of the model; under ``memory="minimal"`` only its input is kept for the backward pass."""
        return recomputed(part, *inputs) if self.memory == "minimal" else part(*inputs)

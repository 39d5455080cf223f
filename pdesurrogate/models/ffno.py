"""Factorised Fourier neural operator: one Fourier transform an axis, and a perceptron with a residual around it.

Tran, Mathews, Xie, Ong, "Factorized Fourier Neural Operators", ICLR 2023, arXiv:2111.13802. Lift linearly, ``depth``
times

    v ← v + M₂ σ( M₁ Σ_a F_a⁻¹[ R_a(k) · F_a[v](k) ] ),

with the Fourier transform ``F_a`` along axis ``a`` alone, and project linearly. Weights grow with the sum of the modes
over the axes, not with their product, which lets the operator be deep. They may be shared by all layers.

The authors' code has a ReLU, here σ is the exact GELU, as in all operators of this house: a kink would tell one grid
from another. It projects what the last layer adds; here, as in the paper, what the layers leave is projected. Its
training recipe, frame by frame with noise on the input, belongs to unrolls and losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..layers import (
    PointwiseLinear,
    PointwiseMLP,
    check_backend,
    check_memory,
    check_precision,
    spectral_conv,
)
from . import MODELS
from .operator_frame import OperatorFrame
from .options import require_at_least, require_geometry


@MODELS.register("ffno")
class FFNO(nn.Module):
    """Factorised Fourier neural operator on a periodic box, or on a padded one; frames are channels.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        width: channels of the lifted field.
        depth: number of layers.
        num_modes: kept modes per axis, counting both signs: one number for all axes, or one per axis.
        mlp_ratio: hidden width of the perceptrons over ``width``.
        share_weights: whether all layers have the same spectral weights.
        coordinates: positions in space as channels, ``"none"``, ``"linear"`` or ``"periodic"``, see
            `pdesurrogate.layers.append_coordinates`.
        padding: zeros appended to every non-periodic axis, as a fraction of its size; 0 joins the ends of such an axis,
            and a warning in the log says so.
        backend: route of the spectral convolutions, see `pdesurrogate.layers.spectral_conv`; it changes the speed and
            the rounding only.
        memory: what the backward pass keeps of perceptrons, see `pdesurrogate.layers.PointwiseMLP`.
        precision: arithmetic of the layers, see `pdesurrogate.layers.precision`; lifting, projection and the sum over
            layers are float32.

    Raises:
        ValueError: if an option is out of range, ``num_modes`` does not fit the dimension, or ``padding`` has no axis
            to act on.
    """

    geometries: ClassVar[frozenset[str]] = frozenset({"plane"})
    memory_options: ClassVar[tuple[str, ...]] = ("memory=minimal", "num_modes", "depth", "width")
    symmetries: frozenset[str] = frozenset({"shift"})
    grids: str = "any"

    def __init__(
        self,
        spec: DataSpec,
        history: int,
        horizon: int,
        *,
        width: int = 64,
        depth: int = 24,
        num_modes: int | Sequence[int] = 32,
        mlp_ratio: int | float = 4.0,
        share_weights: bool = False,
        coordinates: str = "none",
        padding: int | float = 0.0,
        backend: str = "auto",
        memory: str = "lean",
        precision: str = "full",
    ) -> None:
        super().__init__()
        require_geometry("ffno", spec, self.geometries)
        hidden = int(mlp_ratio * width)
        require_at_least("ffno", 1, width=width, depth=depth)
        if hidden < 1:
            raise ValueError(
                f"ffno: mlp_ratio is {mlp_ratio} and gives perceptrons no hidden channel; the paper has 4."
            )
        check_backend(backend)
        check_memory(memory)
        self.memory = memory
        check_precision(precision)
        self.frame = OperatorFrame("ffno", spec, history, horizon, "channels", coordinates, padding)
        self.num_modes = self.frame.modes_per_axis(num_modes)
        if not self.frame.treats_points_alike:
            self.symmetries = frozenset()
        self.engine = {"backend": backend, "precision": precision}

        self.lift = PointwiseLinear(self.frame.in_channels, width)
        self.spectral = nn.ModuleList(
            AxisWeights(width, self.num_modes) for _ in range(1 if share_weights else depth)
        )
        self.mlps = nn.ModuleList(
            PointwiseMLP(width, hidden, width, memory=memory, precision=precision) for _ in range(depth)
        )
        self.project = PointwiseLinear(width, self.frame.out_channels)

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that cannot carry the kept modes.

        Raises:
            ValueError: naming the axis and the largest allowed number of modes.
        """
        self.frame.check_grid(grid, self.num_modes)

    def forward(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the next ``horizon`` frames, normalised.

        Raises:
            TypeError: if the history is not real and floating.
            ValueError: if there is no sample, or the grid cannot carry the kept modes.
        """
        self.check_grid(history.shape[3:])
        u = self.frame.enter(history, parameters)
        v = self.frame.pad(self.lift(u))
        for i, mlp in enumerate(self.mlps):
            weights = cast(AxisWeights, self.spectral[i % len(self.spectral)])
            v = v + mlp(axis_convolutions(v, list(weights), self.num_modes, **self.engine)).to(v.dtype)
        return self.frame.leave(self.project(self.frame.crop(v, u)).to(history.dtype))


class AxisWeights(nn.ParameterList):
    """Spectral weights of every axis, ``(mode, in, out, 2)``, with variances that keep those of the modes of a sum."""

    def __init__(self, width: int, num_modes: Sequence[int]) -> None:
        scale = (2 * width * len(num_modes)) ** -0.5
        super().__init__(scale * torch.randn(modes // 2 + 1, width, width, 2) for modes in num_modes)


def axis_convolutions(
    v: Float[Tensor, "batch *layout channel"],
    weights: Sequence[Float[Tensor, "_mode channel out_channel 2"]],
    num_modes: Sequence[int],
    *,
    backend: str = "auto",
    precision: str = "full",
) -> Float[Tensor, "batch *layout out_channel"]:
    """Return the sum over axes of convolutions along one of them.

    Args:
        v: the field, in the spectral engine's layout ``(batch, N_d, N_1, .., N_{d-1}, channel)``.
        weights: of every axis, in space order.
        num_modes: kept modes of every axis, in space order, counting both signs.
        backend: see `pdesurrogate.layers.spectral_conv`.
        precision: see there, too.
    """
    total: Tensor | None = None
    ndim = len(num_modes)
    for axis, (weight, modes) in enumerate(zip(weights, num_modes, strict=True)):
        dim = 1 if axis == ndim - 1 else axis + 2
        lines = v.movedim(dim, -2)
        convolved = spectral_conv(
            lines.flatten(0, -3), weight, (modes,), backend=backend, precision=precision
        )
        convolved = convolved.view(lines.shape).movedim(-2, dim)
        total = convolved if total is None else total + convolved
    if total is None:
        raise ValueError("an operator needs at least one axis of space.")
    return total

"""Fourier neural operator in n dimensions.

Li, Kovachki, Azizzadenesheli, Liu, Bhattacharya, Stuart, Anandkumar, "Fourier Neural Operator for
Parametric Partial Differential Equations", ICLR 2021, arXiv:2010.08895. Lift, ``depth`` times

    v ← σ( W v + b + F⁻¹[ R(k) · F[v](k) ] )                                   (equation 2 with 4)

and project. With ``channel_mlp`` > 0 each layer goes on as in neuraloperator 2.0,

    v ← σ( M₂ σ(M₁ v) + g ⊙ v_in ),

where ``v_in`` is what entered the layer; the last layer leaves out both outer σ. σ is the exact GELU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..layers import (
    ChannelMixing,
    FilterBank,
    FourierLayerWeights,
    PointwiseMLP,
    SpectralConv,
    check_memory,
    check_precision,
    fourier_layer,
    pointwise_map,
)
from . import MODELS
from .operator_frame import OperatorFrame
from .options import require_at_least, require_geometry


@MODELS.register("fno")
class FNO(nn.Module):
    """Fourier neural operator on a periodic box, or on a padded one.

    Time is treated in one of Li et al.'s two ways. ``"channels"`` (their FNO-2D): history frames are input
    channels and horizon frames output channels of an operator on space. ``"axis"`` (their FNO-3D): an
    operator on space-time, whose last axis is the ``horizon`` frames; the history enters as channels that
    are constant along it, with the lead time as one more channel, because time is no periodic axis.

    PDE parameters enter as constant channels. Inside, fields are ``(batch, N_d, N_1, .., channel)``.

    Args:
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        width: channels of the lifted field.
        depth: number of Fourier layers.
        num_modes: kept modes per axis, counting both signs: one number for all axes, or one per axis in
            the order of ``spec.axes``, followed by time for ``time="axis"``.
        time: ``"channels"`` or ``"axis"``.
        channel_mlp: hidden width of a layer's channel MLP as a fraction of ``width``; 0 leaves it out,
            which is Li et al.'s original layer.
        lift_ratio: hidden width of the lifting MLP over ``width``; 0 makes it linear.
        projection_ratio: hidden width of the projection MLP over ``width``; 0 makes it linear.
        coordinates: positions in space as channels, ``"none"``, ``"linear"`` or ``"periodic"``, see
            `pdesurrogate.layers.append_coordinates`; needed where forcing or coefficients are fixed in space.
        padding: zeros appended to every non-periodic axis (time included), as a fraction of its size; 0 joins the
            ends of such an axis, and a warning in the log says so.
        backend: route of the spectral convolution, see `pdesurrogate.layers.spectral_conv`; it changes
            the speed and the rounding only.
        memory: what the backward pass keeps, ``"speed"``, ``"lean"`` or ``"minimal"``, see
            `pdesurrogate.layers.fourier_layer`; it changes memory and speed only.
        precision: arithmetic inside, ``"full"``, ``"tf32"`` or ``"bf16"``, whatever autocast surrounds it; see
            `pdesurrogate.layers.precision` for the errors. Under ``"bf16"`` lifting and projection stay in float32,
            so that the output is not rounded.

    Raises:
        ValueError: if an option is out of range, ``num_modes`` does not fit the dimension, the horizon
            cannot carry the modes in time, or ``padding`` has no axis to act on.
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
        width: int = 32,
        depth: int = 4,
        num_modes: int | Sequence[int] = 24,
        time: str = "channels",
        channel_mlp: int | float = 0.5,
        lift_ratio: int | float = 2.0,
        projection_ratio: int | float = 2.0,
        coordinates: str = "none",
        padding: int | float = 0.0,
        backend: str = "auto",
        memory: str = "lean",
        precision: str = "full",
    ) -> None:
        super().__init__()
        require_geometry("fno", spec, self.geometries)
        require_at_least("fno", 1, width=width, depth=depth)
        require_at_least(
            "fno", 0, channel_mlp=channel_mlp, lift_ratio=lift_ratio, projection_ratio=projection_ratio
        )
        check_memory(memory)
        self.memory = memory
        check_precision(precision)
        self.frame = OperatorFrame("fno", spec, history, horizon, time, coordinates, padding)
        self.num_modes = self.frame.modes_per_axis(num_modes)
        if not self.frame.treats_points_alike:
            self.symmetries = frozenset()

        # Lifting and projection are a small share of the work, and rounding the output would be seen in every error.
        pointwise = {"memory": memory, "precision": "full" if precision == "bf16" else precision}
        engine = {"backend": backend, "memory": memory, "precision": precision}
        self.lift = pointwise_map(self.frame.in_channels, int(lift_ratio * width), width, **pointwise)
        self.blocks = nn.ModuleList(
            FNOBlock(
                width,
                self.num_modes,
                round(channel_mlp * width),
                first=i == 0,
                last=i == depth - 1,
                engine=engine,
            )
            for i in range(depth)
        )
        self.project = pointwise_map(
            width, int(projection_ratio * width), self.frame.out_channels, **pointwise
        )

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
        for block in self.blocks:
            v = block(v)
        return self.frame.leave(self.project(self.frame.crop(v, u)).to(history.dtype))


class FNOBlock(nn.Module):
    """One Fourier layer, with the channel MLP and soft gate of neuraloperator 2.0 where ``hidden`` > 0.

    It goes from the pre-activation of the layer before it to its own, see `pdesurrogate.layers.fourier_layer`.

    Args:
        width: channels.
        num_modes: kept modes per axis in space order.
        hidden: hidden width of the channel MLP; 0 for Li et al.'s original layer.
        first: whether this is the first layer, whose input is no pre-activation.
        last: whether this is the last layer, which ends without activation.
        engine: ``backend``, ``memory`` and ``precision``.
        owns_spectral: whether the layer has spectral weights of its own; otherwise they come with every call.
    """

    def __init__(
        self,
        width: int,
        num_modes: Sequence[int],
        hidden: int,
        *,
        first: bool,
        last: bool,
        engine: Mapping[str, str],
        owns_spectral: bool = True,
    ) -> None:
        super().__init__()
        self.first, self.last = first, last
        self.engine = dict(engine)
        self.num_modes = tuple(num_modes)
        self.spectral = (
            SpectralConv(width, width, num_modes, backend=engine["backend"]) if owns_spectral else None
        )
        self.skip = nn.Linear(width, width)
        self.channel_mlp = PointwiseMLP(width, hidden, width) if hidden else None
        if hidden:
            self.gate = nn.Parameter(torch.ones(width))

    def forward(
        self,
        u: Float[Tensor, "batch *layout width"],
        spectral: ChannelMixing | None = None,
        *,
        local: Float[Tensor, "batch *layout width"] | None = None,
        filters: tuple[FilterBank, Tensor] | None = None,
    ) -> Float[Tensor, "batch *layout width"]:
        """Return the layer's pre-activation on the same grid.

        Args:
            u: the pre-activation of the layer before, or the lifted field.
            spectral: spectral weights of a layer that has none of its own.
            local: what further operators made of the same input; it is added beside the waves.
            filters: a local operator that acts on the same input in a periodic box, see
                `pdesurrogate.layers.fourier_layer`.

        Raises:
            ValueError: if spectral weights come to a layer that has its own, or do not come to one that has none.
        """
        if self.spectral is not None and spectral is None:
            spectral = ChannelMixing(self.spectral.weight)
        elif self.spectral is not None or spectral is None:
            raise ValueError(
                "a Fourier layer takes spectral weights with a call only, and always, if it has none."
            )
        weights = FourierLayerWeights(spectral, self.skip.weight, self.skip.bias)
        if self.channel_mlp is not None and local is None:
            weights = replace(weights, **self.channel_mlp.weights(), gate=self.gate)
        s = fourier_layer(
            u,
            weights,
            self.num_modes,
            first=self.first,
            last=self.last,
            filters=filters,
            **self.engine,
        )
        if local is None:
            return s
        s = s + local.to(s.dtype)
        if self.channel_mlp is None:
            return s
        v = u.to(s.dtype) if self.first else F.gelu(u.to(s.dtype))
        return torch.addcmul(self.channel_mlp(s if self.last else F.gelu(s)), v, self.gate.to(s.dtype))

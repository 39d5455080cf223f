"""Fourier neural operator in n dimensions.

Li, Kovachki, Azizzadenesheli, Liu, Bhattacharya, Stuart, Anandkumar, "Fourier Neural Operator for
Parametric Partial Differential Equations", ICLR 2021, arXiv:2010.08895. Lift, ``depth`` times

    v ← σ( W v + b + F⁻¹[ R(k) · F[v](k) ] )                                   (equation 2 with 4)

and project. With ``channel_mlp`` > 0 each layer goes on as in neuraloperator 2.0,

    v ← σ( M₂ σ(M₁ v) + g ⊙ v_in ),

where ``v_in`` is what entered the layer; the last layer leaves out both outer σ. σ is the exact GELU.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..fields import DataSpec
from ..fields.fourier import require_resolved
from ..layers import (
    FourierLayerWeights,
    PointwiseLinear,
    PointwiseMLP,
    SpectralConv,
    append_coordinates,
    check_coordinates,
    check_memory,
    check_precision,
    fold_inputs,
    fourier_layer,
    num_coordinate_channels,
)
from ..registry import did_you_mean
from . import MODELS
from .options import require_at_least, require_dimension, require_geometry

logger = logging.getLogger(__name__)

TIMES = ("channels", "axis")


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
        require_at_least("fno", 1, history=history, horizon=horizon, width=width, depth=depth)
        require_at_least(
            "fno", 0, channel_mlp=channel_mlp, lift_ratio=lift_ratio, projection_ratio=projection_ratio
        )
        if time not in TIMES:
            raise ValueError(
                f"fno: time is {time!r}.{did_you_mean(time, TIMES)} Allowed: 'channels', 'axis'."
            )
        check_coordinates(coordinates)
        check_memory(memory)
        check_precision(precision)
        self.horizon = horizon
        self.time_is_axis = time == "axis"
        self.axis_names = (*spec.axis_names, *(["time"] if self.time_is_axis else []))
        self.axes = spec.axes
        self.num_modes = _modes_per_axis(num_modes, self.axis_names)
        self.coordinates = coordinates
        self.padding = _padding_per_axis(padding, spec, self.time_is_axis)
        if self.time_is_axis:
            self._check_horizon()
        if coordinates != "none" or any(self.padding[: spec.ndim]):
            self.symmetries = frozenset()

        in_channels = history * spec.num_channels + spec.num_parameters
        in_channels += num_coordinate_channels(spec.axes, coordinates) + self.time_is_axis
        out_channels = spec.num_channels * (1 if self.time_is_axis else horizon)
        # Lifting and projection are a small share of the work, and rounding the output would be seen in every error.
        pointwise = {"memory": memory, "precision": "full" if precision == "bf16" else precision}
        engine = {"backend": backend, "memory": memory, "precision": precision}
        self.lift = _pointwise(in_channels, int(lift_ratio * width), width, **pointwise)
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
        self.project = _pointwise(width, int(projection_ratio * width), out_channels, **pointwise)

    def check_grid(self, grid: Sequence[int]) -> None:
        """Refuse a grid that cannot carry the kept modes.

        Raises:
            ValueError: naming the axis and the largest allowed number of modes.
        """
        ndim = len(self.axes)
        require_dimension("fno", self.axis_names[:ndim], grid)
        padded = [n + round(p * n) for n, p in zip(grid, self.padding, strict=False)]
        require_resolved(self.num_modes[:ndim], padded, self.axis_names)

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
        if 0 in history.shape:
            raise ValueError(
                f"fno: the history has shape {tuple(history.shape)}, laid out (batch, history, channel, *space); "
                "every axis needs at least one entry."
            )
        u = self._channels_last(history, parameters)
        sizes = u.shape[1:-1]
        v = self._pad(self.lift(u))
        for block in self.blocks:
            v = block(v)
        for dim, size in enumerate(sizes, start=1):
            v = v.narrow(dim, 0, size)
        return self._frames(self.project(v).to(history.dtype))

    def _channels_last(self, history: Tensor, parameters: Tensor) -> Tensor:
        """Return all input channels as ``(batch, N_d, N_1, .., N_{d-1}, channel)``."""
        u = append_coordinates(fold_inputs(history, parameters), self.axes, self.coordinates)
        if not self.time_is_axis:
            return u.movedim(1, -1).movedim(-2, 1)
        batch, space = u.shape[0], u.shape[2:]
        lead = torch.arange(self.horizon, dtype=u.dtype, device=u.device) / self.horizon
        constant = u.movedim(1, -1).unsqueeze(1).expand(-1, self.horizon, *space, -1)
        lead = lead.view(1, -1, *[1] * len(space), 1).expand(batch, -1, *space, 1)
        return torch.cat([constant, lead], dim=-1)

    def _pad(self, v: Tensor) -> Tensor:
        if not any(self.padding):
            return v
        fractions = (self.padding[-1], *self.padding[:-1])
        pads = [0, 0]
        for size, fraction in reversed(list(zip(v.shape[1:-1], fractions, strict=True))):
            pads += [0, round(fraction * size)]
        return F.pad(v, pads)

    def _frames(self, y: Tensor) -> Tensor:
        """Return ``(batch, horizon, channel, *space)`` from channels-last output."""
        if self.time_is_axis:
            return y.movedim(-1, 2)
        return y.movedim(-1, 1).movedim(2, -1).unflatten(1, (self.horizon, -1))

    def _check_horizon(self) -> None:
        size = self.horizon + round(self.padding[-1] * self.horizon)
        if self.num_modes[-1] > size:
            raise ValueError(
                f"fno: {self.num_modes[-1]} modes in time need as many frames and the time axis has {size} "
                f"(horizon {self.horizon}, padding {self.padding[-1]}). Give num_modes one entry per axis with "
                f"at most {size} for time, the last one, or a longer horizon."
            )


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
    ) -> None:
        super().__init__()
        self.first, self.last = first, last
        self.engine = dict(engine)
        self.spectral = SpectralConv(width, width, num_modes, backend=engine["backend"])
        self.skip = nn.Linear(width, width)
        self.channel_mlp = PointwiseMLP(width, hidden, width) if hidden else None
        if hidden:
            self.gate = nn.Parameter(torch.ones(width))

    def forward(self, u: Float[Tensor, "batch *layout width"]) -> Float[Tensor, "batch *layout width"]:
        """Return the layer's pre-activation on the same grid."""
        weights = FourierLayerWeights(self.spectral.weight, self.skip.weight, self.skip.bias)
        if self.channel_mlp is not None:
            weights = replace(weights, **self.channel_mlp.weights(), gate=self.gate)
        return fourier_layer(
            u, weights, self.spectral.num_modes, first=self.first, last=self.last, **self.engine
        )


def _pointwise(in_channels: int, hidden: int, out_channels: int, **engine: Any) -> nn.Module:
    if hidden == 0:
        return PointwiseLinear(in_channels, out_channels)
    return PointwiseMLP(in_channels, hidden, out_channels, **engine)


def _modes_per_axis(num_modes: int | Sequence[int], axis_names: Sequence[str]) -> tuple[int, ...]:
    if isinstance(num_modes, int):
        num_modes = [num_modes] * len(axis_names)
    if len(num_modes) != len(axis_names) or min(num_modes) < 1:
        raise ValueError(
            f"fno: num_modes is {list(num_modes)}; give one positive number, or {len(axis_names)} of them for "
            f"the axes {', '.join(axis_names)}."
        )
    return tuple(num_modes)


def _padding_per_axis(padding: int | float, spec: DataSpec, time_is_axis: bool) -> tuple[float, ...]:
    if not 0 <= padding <= 1:
        raise ValueError(f"fno: padding is {padding}; it is a fraction of the axis, between 0 and 1.")
    fractions = [0.0 if boundary == "periodic" else padding for boundary in spec.boundaries]
    fractions += [padding] if time_is_axis else []
    if padding and not any(fractions):
        raise ValueError(
            f"fno: padding is {padding} but every axis is periodic ({', '.join(spec.axis_names)}) and needs none. "
            "Set padding to 0."
        )
    names = (*spec.axis_names, *(["time"] if time_is_axis else []))
    boundaries = (*spec.boundaries, *(["open"] if time_is_axis else []))
    joined = [name for name, b in zip(names, boundaries, strict=True) if b != "periodic"]
    if joined and not padding:
        logger.warning(
            "fno: padding is 0 and not every axis is periodic (%s): the waves join the two ends of such an axis as "
            "if they were neighbours. Set padding to a fraction of the axis, such as 0.25.",
            ", ".join(joined),
        )
    return tuple(fractions)

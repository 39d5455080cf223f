"""What every operator on a grid needs around its blocks: frames in, frames out, coordinates, time and padding.

A model lifts what `OperatorFrame.enter` returns, works on it and projects it to ``out_channels``:

    u = frame.enter(history, parameters)          # all input channels, on space or on space-time
    v = frame.pad(lift(u))                        # zeros after the ends of axes that are not periodic
    ...                                           # blocks, on (batch, N_d, N_1, .., channel)
    future = frame.leave(project(frame.crop(v, u)))

Inside, fields have the spectral engine's layout ``(batch, N_d, N_1, .., N_{d-1}, channel)``; with time as an axis,
``N_d`` is the horizon.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..fields import DataSpec
from ..fields.fourier import require_resolved
from ..layers import append_coordinates, check_coordinates, fold_inputs, num_coordinate_channels
from ..registry import did_you_mean
from .notes import is_first
from .options import require_at_least, require_dimension

logger = logging.getLogger(__name__)

TIMES = ("channels", "axis")


@dataclass(frozen=True)
class OperatorFrame:
    """The way from normalised frames into an operator's layout and back.

    Attributes:
        model: name of the model, with which messages begin.
        spec: the data.
        history: number of input frames.
        horizon: number of output frames.
        time: ``"channels"``: history frames are input channels and horizon frames output channels of an operator on
            space. ``"axis"``: an operator on space-time, whose last axis is the ``horizon`` frames; the history enters
            as channels that are constant along it, with the lead time as one more channel.
        coordinates: positions in space as channels, see `pdesurrogate.layers.append_coordinates`.
        padding: zeros appended to every non-periodic axis (time included), as a fraction of its size; 0 joins the
            ends of such an axis, and a warning in the log says so once. None for operators whose waves join no ends.

    Raises:
        ValueError: if there is no frame, an option is out of range, or ``padding`` has no axis to act on.
    """

    model: str
    spec: DataSpec
    history: int
    horizon: int
    time: str = "channels"
    coordinates: str = "none"
    padding: int | float | None = 0.0

    def __post_init__(self) -> None:
        require_at_least(self.model, 1, history=self.history, horizon=self.horizon)
        if self.time not in TIMES:
            raise ValueError(
                f"{self.model}: time is {self.time!r}.{did_you_mean(self.time, TIMES)} Allowed: 'channels', 'axis'."
            )
        check_coordinates(self.coordinates, self.spec.geometry)
        self._check_padding()

    @property
    def time_is_axis(self) -> bool:
        """Whether the operator acts on space-time."""
        return self.time == "axis"

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the operator's axes: those of space, and time where it is one."""
        return (*self.spec.axis_names, *(["time"] if self.time_is_axis else []))

    @property
    def boundaries(self) -> tuple[str, ...]:
        """Boundaries of the operator's axes; time is open."""
        return (*self.spec.boundaries, *(["open"] if self.time_is_axis else []))

    @property
    def fractions(self) -> tuple[float, ...]:
        """Padding of each of the operator's axes as a fraction of its size."""
        padding = self.padding or 0.0
        return tuple(0.0 if boundary == "periodic" else padding for boundary in self.boundaries)

    @property
    def in_channels(self) -> int:
        """Channels of what `enter` returns."""
        folded = self.history * self.spec.num_channels + self.spec.num_parameters
        return folded + num_coordinate_channels(self.spec.axes, self.coordinates) + self.time_is_axis

    @property
    def out_channels(self) -> int:
        """Channels that `leave` takes."""
        return self.spec.num_channels * (1 if self.time_is_axis else self.horizon)

    @property
    def treats_points_alike(self) -> bool:
        """Whether no point of space is told from another: neither by coordinates nor by padding."""
        return self.coordinates == "none" and not any(self.fractions[: self.spec.ndim])

    def modes_per_axis(self, num_modes: int | Sequence[int]) -> tuple[int, ...]:
        """Return the kept modes of every axis from one number for all axes, or one per axis.

        Raises:
            ValueError: if they do not fit the dimension, or the horizon cannot carry the modes in time.
        """
        names = self.axis_names
        modes = (num_modes,) * len(names) if isinstance(num_modes, int) else tuple(num_modes)
        if len(modes) != len(names) or min(modes) < 1:
            raise ValueError(
                f"{self.model}: num_modes is {num_modes}; give one positive number, or {len(names)} of them for "
                f"the axes {', '.join(names)}."
            )
        size = _padded(self.horizon, self.fractions[-1])
        if self.time_is_axis and modes[-1] > size:
            raise ValueError(
                f"{self.model}: {modes[-1]} modes in time need as many frames and the time axis has {size} "
                f"(horizon {self.horizon}, padding {self.fractions[-1]}). Give num_modes one entry per axis with "
                f"at most {size} for time, the last one, or a longer horizon."
            )
        return modes

    def check_grid(self, grid: Sequence[int], num_modes: Sequence[int] = ()) -> None:
        """Refuse a grid of another dimension, or one that cannot carry the kept modes.

        Args:
            grid: sizes in space.
            num_modes: kept modes of every axis, as `modes_per_axis` returns them; none if the model has none.

        Raises:
            ValueError: naming the axis and the largest allowed number of modes.
        """
        require_dimension(self.model, self.spec.axis_names, grid)
        if num_modes:
            padded = [_padded(n, fraction) for n, fraction in zip(grid, self.fractions, strict=False)]
            require_resolved(num_modes[: self.spec.ndim], padded, self.axis_names)

    def enter(
        self,
        history: Float[Tensor, "batch history channel *space"],
        parameters: Float[Tensor, "batch parameter"],
    ) -> Float[Tensor, "batch *layout in_channel"]:
        """Return all input channels: frames, PDE parameters, coordinates and, with time as an axis, the lead time.

        Raises:
            TypeError: if the history is not real and floating.
            ValueError: if an axis has no entry.
        """
        if 0 in history.shape:
            raise ValueError(
                f"{self.model}: the history has shape {tuple(history.shape)}, laid out (batch, history, channel, "
                "*space); every axis needs at least one entry."
            )
        u = append_coordinates(fold_inputs(history, parameters), self.spec.axes, self.coordinates)
        if not self.time_is_axis:
            return u.movedim(1, -1).movedim(-2, 1)
        batch, space = u.shape[0], u.shape[2:]
        lead = torch.arange(self.horizon, dtype=u.dtype, device=u.device) / self.horizon
        constant = u.movedim(1, -1).unsqueeze(1).expand(-1, self.horizon, *space, -1)
        lead = lead.view(1, -1, *[1] * len(space), 1).expand(batch, -1, *space, 1)
        return torch.cat([constant, lead], dim=-1)

    def pad(self, v: Float[Tensor, "batch *layout channel"]) -> Float[Tensor, "batch *padded channel"]:
        """Return the field with zeros after the end of every axis that is padded."""
        if not any(self.fractions):
            return v
        fractions = (self.fractions[-1], *self.fractions[:-1])
        pads = [0, 0]
        for size, fraction in reversed(list(zip(v.shape[1:-1], fractions, strict=True))):
            pads += [0, _num_appended(size, fraction)]
        return F.pad(v, pads)

    def crop(
        self, v: Float[Tensor, "batch *padded channel"], like: Float[Tensor, "batch *layout in_channel"]
    ) -> Float[Tensor, "batch *layout channel"]:
        """Return the field on the points of ``like``, what `enter` returned: the inverse of `pad`."""
        if not any(self.fractions):
            return v
        for dim, size in enumerate(like.shape[1:-1], start=1):
            v = v.narrow(dim, 0, size)
        return v

    def leave(
        self, y: Float[Tensor, "batch *layout out_channel"]
    ) -> Float[Tensor, "batch horizon channel *space"]:
        """Return the frames that the projected channels hold."""
        if self.time_is_axis:
            return y.movedim(-1, 2)
        return y.movedim(-1, 1).movedim(2, -1).unflatten(1, (self.horizon, -1))

    def _check_padding(self) -> None:
        model, padding = self.model, self.padding
        if padding is None:
            return
        if not 0 <= padding <= 1:
            raise ValueError(f"{model}: padding is {padding}; it is a fraction of the axis, between 0 and 1.")
        names = zip(self.axis_names, self.boundaries, strict=True)
        joined = [name for name, boundary in names if boundary != "periodic"]
        if padding and not joined:
            raise ValueError(
                f"{model}: padding is {padding} but every axis is periodic ({', '.join(self.axis_names)}) and needs "
                "none. Set padding to 0."
            )
        meets_ends = bool(joined) and not padding and self.spec.geometry == "plane"  # a sphere has no ends
        if meets_ends and is_first(model, "padding", *joined):
            logger.warning(
                f"{model}: padding is 0 and not every axis is periodic (%s): the waves join the two ends of such an "
                "axis as if they were neighbours. Set padding to a fraction of the axis, such as 0.25.",
                ", ".join(joined),
            )


def _padded(size: int, fraction: float) -> int:
    return size + _num_appended(size, fraction)


def _num_appended(size: int, fraction: float) -> int:
    """Return ``round(fraction · size)``, halves to even; for a size that a tracer leaves open, in whole numbers.

    Programs that are exported for grids of any size can hold products and quotients of whole numbers, and no ``round``.

    Raises:
        ValueError: for an open size and a fraction whose products in floating point are halves where it has none, or
            the other way round.
    """
    if isinstance(size, int):
        return round(fraction * size)
    if not _is_rational(fraction):
        raise ValueError(
            f"padding is {fraction}, and a program for grids of any size cannot tell how many points that is on each "
            "of them. Export for one grid, or train with a fraction such as 0.25."
        )
    return _appended_to_open(size, fraction)


def _appended_to_open(size: int, fraction: float) -> int:
    exact = Fraction(fraction).limit_denominator(1000)
    doubled, divisor = 2 * exact.numerator * size + exact.denominator, 2 * exact.denominator
    upwards = doubled // divisor
    is_half: int = torch.sym_max(0, 1 - doubled % divisor)
    return upwards - upwards % 2 * is_half


@lru_cache(maxsize=16)
def _is_rational(fraction: float) -> bool:
    """Whether whole numbers say for every size what floating point says."""
    return all(_appended_to_open(n, fraction) == round(fraction * n) for n in range(1, 8193))

"""Burgers' equation on a periodic line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from pdesurrogate.fields import Axis, Field
from pdesurrogate.fields.fourier import pruned_forward, pruned_inverse

from . import EQUATIONS, INTEGRATORS
from .equation import check_state, refuse
from .option_checks import check_not_negative, check_positive
from .resolution import FILLED_TAIL
from .time_march import TimeMarch, steps_between


@EQUATIONS.register("burgers")
@dataclass(frozen=True)
class Burgers1D:
    """``∂u/∂t + ∂(u²/2)/∂x = ν ∂²u/∂x²``, with ``ν > 0``, on a periodic line.

    Pseudo-spectral, de-aliased by the 2/3 rule: on N points the solution has the modes ``|k| <= (N - 1) // 3`` and the
    initial field is cut to them. States are ``(batch, 1, x)``; computation follows the dtype (float32 or float64)
    and device of the initial state. The mean of u is conserved, and its energy decays by viscosity alone,
    ``d/dt ∫u²/2 = -ν ∫(∂u/∂x)²``. No trajectory depends on its neighbours in the batch.

    A front where u jumps by J is ``u = -(J/2) tanh(J x / 4ν)``; its spectrum falls as ``exp(-2πνk/J)``. Beside a front
    that the grid does not resolve the solution would ripple, so that one with ``k_max < min_resolution J/ν`` is
    refused if the outermost modes are filled.

    Attributes:
        viscosity: ν > 0, length²/time.
        dt: time step, which must divide the time between frames.
        length: of the line.
        integrator: ``"etdrk4"`` (fourth order), ``"cn_ab2"`` (second) or ``"cn_euler"`` (first).
        min_resolution: the smallest ``k_max ν/J`` that is solved; 0 solves under-resolved fronts too.

    Raises:
        ValueError: if a number is out of range or the integrator unknown.
    """

    viscosity: float
    dt: float
    length: float = 1.0
    integrator: str = "etdrk4"
    min_resolution: float = 1.0

    def __post_init__(self) -> None:
        check_positive(viscosity=self.viscosity, dt=self.dt, length=self.length)
        check_not_negative(min_resolution=self.min_resolution)
        INTEGRATORS.get(self.integrator)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The velocity."""
        return (Field("u", long_name="velocity"),)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The periodic line."""
        return (Axis("x", self.length),)

    def frames(
        self,
        state: Float[Tensor, "batch 1 x"],
        times: Sequence[float],
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch 1 x"]]:
        """Yield the velocity at one time after the other, with the memory of one state.

        Args:
            state: u at t = 0.
            times: increasing times from 0 on, multiples of dt apart.
            names: what messages call the trajectories; 0, 1, .. by default.

        Raises:
            ValueError: for a state of another shape or dtype, that is not finite, or with fewer than 4 points; for
                times that dt does not divide; and, naming trajectory and time, if dt exceeds the stability bound,
                the grid is too coarse for the viscosity or the state is not finite any more.
        """
        steps_between(times, self.dt)
        if state.ndim != 3 or state.shape[1] != 1 or state.shape[2] < 4:
            raise ValueError(
                f"the initial state has the shape {tuple(state.shape)}; needed is (batch, 1, x) with 4 points or more."
            )
        names = [str(i) for i in range(len(state))] if names is None else names
        check_state(state, names)
        margin = float(getattr(INTEGRATORS.get(self.integrator), "diffusion_margin", 0.0))
        line = _Line(state.shape[2], self.length, self.viscosity * margin, state.dtype, state.device)
        march = TimeMarch(
            self.integrator,
            -self.viscosity * line.wavenumber.double() ** 2,
            self.dt,
            state.dtype,
            tendency=line.tendency,
            frequency=line.frequency,
            names=names,
            can_adapt=False,
        )
        u_hat, now = line.to_modes(state[:, 0]), 0.0
        self._check_resolution(line, u_hat, now, names)
        for time in times:
            u_hat = march.advance(u_hat, now, time)
            now = time
            self._check_resolution(line, u_hat, now, names)
            yield line.to_grid(u_hat)[:, None]

    def _check_resolution(
        self, line: _Line, u_hat: Complex[Tensor, "batch k"], now: float, names: Sequence[str]
    ) -> None:
        """Refuse fronts that the grid does not resolve, with the points that are needed at least."""
        u = line.to_grid(u_hat.detach())
        jump = u.amax(-1) - u.amin(-1)
        is_filled = line.tail(u_hat.detach()) > FILLED_TAIL
        wanted = torch.where(is_filled, jump * (self.min_resolution / self.viscosity), 0.0)
        largest = float(line.wavenumber[-1])
        refuse(
            (wanted > largest) & (wanted == wanted.max()),
            names,
            f" at t = {now:g}: {line.size} points are too few for the viscosity {self.viscosity:g}. u varies by "
            f"{{jump:.3g}}, so that fronts need wavenumbers up to {{wanted:.3g}}, and the largest is {largest:.3g}. "
            "Use at least {needed:.0f} points or a larger viscosity; min_resolution = 0 solves it nevertheless.",
            jump=jump,
            wanted=wanted,
            needed=3 * torch.ceil(wanted * (self.length / (2 * math.pi))) + 1,
        )


class _Line:
    """Resolved modes of a periodic line, and the transport of what they hold by itself.

    Args:
        size: points.
        length: of the line.
        damping: part of the viscosity; waves that it damps faster than the flow carries them, ``damping k² > |u| k``,
            limit no time step.
        dtype, device: of the fields.
    """

    def __init__(
        self, size: int, length: float, damping: float, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.size, self._damping = size, damping
        cut = (size - 1) // 3
        self._num_modes = (2 * cut + 1,)
        self.wavenumber = torch.arange(cut + 1, dtype=dtype, device=device) * (2 * math.pi / length)

    def to_modes(self, u: Float[Tensor, "batch x"]) -> Complex[Tensor, "batch k"]:
        return pruned_forward(u, self._num_modes)

    def to_grid(self, u_hat: Complex[Tensor, "batch k"]) -> Float[Tensor, "batch x"]:
        return pruned_inverse(u_hat, (self.size,))

    def tendency(self, u_hat: Complex[Tensor, "batch k"]) -> Complex[Tensor, "batch k"]:
        """Return the modes of ``-∂(u²/2)/∂x``; without its aliases, which fall outside of the resolved modes."""
        return -0.5j * self.wavenumber * self.to_modes(self.to_grid(u_hat).square())

    def tail(self, u_hat: Complex[Tensor, "batch k"]) -> Float[Tensor, " batch"]:
        """Return the share of ``∫(∂u/∂x)²`` in the fifth of the modes with the largest wavenumbers."""
        power = (u_hat.abs() * self.wavenumber).square()
        outer = self.wavenumber > 0.8 * self.wavenumber[-1]
        return (power * outer).sum(-1) / power.sum(-1).clamp_min(torch.finfo(power.dtype).tiny)

    def frequency(self, u_hat: Complex[Tensor, "batch k"]) -> Float[Tensor, " batch"]:
        """Return ``max|u| k``, the largest frequency of advection among the waves that limit the step."""
        speed = self.to_grid(u_hat).abs().amax(-1)
        if self._damping == 0:
            return speed * self.wavenumber[-1]
        return speed * torch.minimum(speed / self._damping, self.wavenumber[-1])

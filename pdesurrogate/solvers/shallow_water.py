"""The shallow water equations on a plane box, over flat ground or a bed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from pdesurrogate.fields import Axis, Field
from pdesurrogate.fields.spec import Boundary

from . import EQUATIONS
from .equation import check_state, refuse
from .option_checks import check_lengths, check_positive
from .shallow_water_fluxes import DEPTH, ShallowWaterFluxes
from .time_march import check_times, steps_between

COURANT_LIMIT = 0.5
"""Largest ``Δt (s_y/Δy + s_x/Δx)``: up to it depths stay positive, and the scheme is stable."""
_MAX_HALVINGS = 12


@EQUATIONS.register("shallow_water")
@dataclass(frozen=True)
class PlanarShallowWater:
    """``∂h/∂t + div(h u) = 0``, ``∂(h u)/∂t + div(h u ⊗ u) + ∇(g h²/2) = -g h ∇b``.

    Finite volumes (`ShallowWaterFluxes`): second order in space in smooth flow, shocks over one or two cells, mass
    conserved to rounding, depths never negative, a lake at rest over any bed. Time steps are Heun's, the second-order
    method of Shu and Osher that preserves these properties. States are ``(batch, 3, y, x)``, cell means of ``(h, hu,
    hv)`` with u along x; computation follows their dtype (float32 or float64) and device, without gradients.

    Attributes:
        lengths: sides of the box, ``(L_y, L_x)``.
        boundaries: what happens at the ends of each axis: ``"periodic"``, ``"wall"`` (no flow through it) or
            ``"open"`` (no gradient across it, waves leave).
        gravity: g > 0, length/time².
        bed: cell means b of the height of the ground, ``(y, x)`` or one a trajectory; None where it is flat.
        dt: time step, which must divide the time between frames; None (the default) for steps as long as
            each trajectory allows.
        courant: Courant number ``Δt (s_y/Δy + s_x/Δx)`` of such steps, with s the largest wave speed along an axis.
        dry_depth: water of no more than this depth does not move.
        origins: coordinates of the lower ends, ``(y, x)``.

    Raises:
        ValueError: if a number is out of range or a boundary unknown.
    """

    lengths: tuple[float, float] = (1.0, 1.0)
    boundaries: tuple[Boundary, Boundary] = ("periodic", "periodic")
    gravity: float = 1.0
    bed: Float[Tensor, "*bed y x"] | None = None
    dt: float | None = None
    courant: float = 0.45
    dry_depth: float = 1e-6
    origins: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        check_lengths(self.lengths, "yx", fewest=2)
        check_positive(gravity=self.gravity, dry_depth=self.dry_depth, courant=self.courant)
        if self.dt is not None:
            check_positive(dt=self.dt)
        if not 0 < self.courant <= COURANT_LIMIT:
            raise ValueError(f"courant is {self.courant}; it must be positive and at most {COURANT_LIMIT}.")
        for name, boundary in zip("yx", self.boundaries, strict=True):
            if boundary not in get_args(Boundary):
                raise ValueError(
                    f"boundary of axis {name!r} is {boundary!r}; allowed: {', '.join(get_args(Boundary))}."
                )

    @property
    def fields(self) -> tuple[Field, ...]:
        """Depth h and discharge ``h u``."""
        return (
            Field("depth", long_name="depth of the water"),
            Field("discharge", kind="vector", components=("x", "y"), long_name="depth times velocity"),
        )

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """The box, sampled at the centres of cells."""
        y, x = (
            Axis(name, length, boundary, origin=origin, offset=0.5)
            for name, length, boundary, origin in zip(
                "yx", self.lengths, self.boundaries, self.origins, strict=True
            )
        )
        return y, x

    def frames(
        self,
        state: Float[Tensor, "batch channel y x"],
        times: Sequence[float],
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel y x"]]:
        """Yield ``(h, hu, hv)`` at one time after the other, with the memory of a few states.

        Args:
            state: cell means at time 0.
            times: increasing, from 0 on; with a fixed dt, multiples of it apart.
            names: what messages call the trajectories; 0, 1, .. by default.

        Raises:
            ValueError: for a state that is not float32 or float64, has other channels, fewer than two cells an
                axis, values that are not finite, a negative depth or momentum without water; for a bed of
                another grid; for times that do not increase or that dt does not divide; during the solution, if a
                fixed dt exceeds the stability bound or the state is not finite any more: time and trajectory
                are named.
        """
        names = [str(i) for i in range(len(state))] if names is None else names
        self.check_times(times)
        _check_initial(state, names)
        fluxes = ShallowWaterFluxes(self.gravity, self.axes, self.dry_depth, self._bed_like(state))
        state, now = state.detach().clone(), 0.0
        self._settle(state)
        for time in times:
            state = self._advance(fluxes, state, now, time, names)
            now = time
            yield state.clone()

    def check_times(self, times: Sequence[float]) -> None:
        """Refuse times that cannot be reached.

        Raises:
            ValueError: if times do not increase from 0 on, or steps are fixed and dt does not divide them.
        """
        if self.dt is None:
            check_times(times)
        else:
            steps_between(times, self.dt)

    def _advance(
        self, fluxes: ShallowWaterFluxes, state: Tensor, start: float, end: float, names: Sequence[str]
    ) -> Tensor:
        """Return the state at ``end`` from that at ``start``.

        Each trajectory takes its own steps; those that have arrived wait with steps of length 0, which change
        nothing.
        """
        remaining = torch.full((len(state),), end - start, dtype=torch.float64, device=state.device)
        while bool((remaining > 0).any()):
            now = end - remaining
            change, frequency = fluxes.rates(state)
            _check_finite(torch.isfinite(frequency), now, start, end, names)
            dt = self._choose_step(remaining, frequency, now, names)
            state, dt = self._heun_step(fluxes, state, change, dt, now, names)
            remaining = torch.where(remaining - dt > 1e-12 * end, remaining - dt, 0.0)
        _check_finite(
            torch.isfinite(state).flatten(1).all(1), torch.full_like(remaining, end), start, end, names
        )
        return state

    def _choose_step(
        self, remaining: Float64[Tensor, " batch"], frequency: Tensor, now: Tensor, names: Sequence[str]
    ) -> Float64[Tensor, " batch"]:
        """Return the step of each trajectory: the fixed one, or one that divides what remains until the frame."""
        frequency = frequency.double()
        if self.dt is not None:
            self._check_bound(frequency, now, names)
            return torch.full_like(remaining, self.dt) * (remaining > 0)
        return remaining / torch.ceil(remaining * frequency / self.courant * (1 - 1e-12)).clamp_(min=1.0)

    def _heun_step(
        self,
        fluxes: ShallowWaterFluxes,
        state: Tensor,
        change: Tensor,
        dt: Float64[Tensor, " batch"],
        now: Tensor,
        names: Sequence[str],
    ) -> tuple[Tensor, Float64[Tensor, " batch"]]:
        """Return the state after ``(q + E(E(q)))/2``, E an Euler step, and the steps that were taken.

        Where the second Euler step finds faster waves than the Courant limit allows, as when a dam has just
        broken, an adaptive step is taken again at half its length.
        """
        for _ in range(_MAX_HALVINGS):
            step = dt.to(state.dtype).view(-1, 1, 1, 1)
            predicted = state + step * change
            is_bad = self._settle(predicted)
            later_change, frequency = fluxes.rates(predicted)
            result = (later_change.mul_(step).add_(predicted).add_(state)).mul_(0.5)
            is_bad |= self._settle(result)
            frequency = frequency.double()
            if self.dt is not None:
                self._check_bound(torch.where(dt > 0, frequency, 0.0), now, names)
            is_bad |= dt * frequency > COURANT_LIMIT
            if not is_bad.any():
                return result, dt
            if self.dt is not None:
                break
            dt = torch.where(is_bad, dt / 2, dt)
        worst = int(is_bad.to(torch.int8).argmax())
        raise ValueError(
            f"trajectory {names[worst]} at t = {float(now[worst]):g}: a step of {float(dt[worst]):.3g} makes the "
            "depth negative or outruns the Courant limit. Use a finer grid, a smoother bed or float64."
        )

    def _settle(self, state: Tensor) -> Bool[Tensor, " batch"]:
        """Set depths that rounding made negative to 0, stop the water in dry cells; return who has worse ones."""
        depth = state[:, DEPTH]
        lowest = depth.flatten(1).amin(1)
        if not bool((lowest <= self.dry_depth).any()):
            return torch.zeros_like(lowest, dtype=torch.bool)
        rounding = 64 * torch.finfo(state.dtype).eps * depth.flatten(1).amax(1)
        depth.clamp_(min=0.0)
        state[:, 1:] *= (depth > self.dry_depth)[:, None]
        return lowest < -rounding

    def _check_bound(self, frequency: Tensor, now: Tensor, names: Sequence[str]) -> None:
        worst = int(frequency.argmax())
        bound = COURANT_LIMIT / max(float(frequency[worst]), 1e-300)
        if self.dt is not None and self.dt > bound:
            raise ValueError(
                f"trajectory {names[worst]} at t = {float(now[worst]):g}: dt = {self.dt:g} exceeds the stability bound "
                f"{bound:.3g} for its fastest waves on this grid. Use a smaller dt that divides the time between "
                "frames, or dt = None for steps that adapt."
            )

    def _bed_like(self, state: Tensor) -> Tensor | None:
        if self.bed is None:
            return None
        bed = self.bed.to(state)
        allowed = (tuple(state.shape[-2:]), (len(state), *state.shape[-2:]), (1, *state.shape[-2:]))
        if tuple(bed.shape) not in allowed or not torch.isfinite(bed).all():
            raise ValueError(
                f"the bed has the shape {tuple(bed.shape)}; it must be finite and have the state's grid "
                f"{tuple(state.shape[-2:])}, once or for each of the {len(state)} trajectories."
            )
        return bed


def _check_initial(state: Tensor, names: Sequence[str]) -> None:
    if state.shape[1] != 3 or min(state.shape[-2:]) < 2:
        raise ValueError(
            f"the initial state has the shape {tuple(state.shape)}; it must have the channels depth, discharge_x and "
            "discharge_y and at least two cells an axis."
        )
    check_state(state, names)
    depth, discharge = state[:, DEPTH], state[:, 1:]
    lowest = depth.flatten(1).amin(1)
    refuse(
        lowest < 0,
        names,
        ": the initial state has the negative depth {lowest:.3g}. Depths must not be negative.",
        lowest=lowest,
    )
    refuse(
        ((depth == 0)[:, None] & (discharge != 0)).flatten(1).any(1),
        names,
        ": the initial state has a discharge where there is no water. It must be 0 where the depth is.",
    )


def _check_finite(
    is_finite: Bool[Tensor, " batch"], now: Tensor, start: float, end: float, names: Sequence[str]
) -> None:
    refuse(
        ~is_finite,
        names,
        f" became NaN or infinite before t = {{now:g}}, between the frames at t = {start:g} and t = {end:g}. Use a "
        "finer grid, a smaller courant or float64.",
        now=now,
    )

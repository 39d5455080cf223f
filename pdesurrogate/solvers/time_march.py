"""Trajectories side by side from one time to the next, in steps of fixed length or as long as each allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Complex, Float64, Int64
from torch import Tensor

from . import INTEGRATORS
from .integrators import Integrator, Step, Tendency


class TimeMarch:
    """``dû/dt = L û + N(û)`` with the steps of one integrator.

    With ``courant`` None every step is ``dt``. Otherwise ``dt`` is the longest step, and each trajectory takes steps
    that divide the time to the next frame and keep its own Courant number, step times frequency, at ``courant``. It
    looks at its frequency after every 16 steps of its own and changes them if they are too long or a fifth too
    short; trajectories that have arrived wait with steps of length zero, which change nothing. No trajectory's
    steps depend on another's.

    Args:
        integrator: name of the integrator.
        linear: the diagonal ``L``, broadcastable to the state.
        dt: time step, or the longest one.
        dtype: real dtype of the state.
        tendency: ``N``.
        frequency: the largest frequency of each trajectory's advection, 1/time.
        names: what messages call the trajectories.
        courant: Courant number of adaptive steps, or None.
    """

    STEPS_BETWEEN_LOOKS = 16

    def __init__(
        self,
        integrator: str,
        linear: Float64[Tensor, "*modes"],
        dt: float,
        dtype: torch.dtype,
        *,
        tendency: Tendency,
        frequency: Callable[[Tensor], Tensor],
        names: Sequence[str],
        courant: float | None = None,
    ) -> None:
        self._integrator, self._linear, self._dt, self._dtype = integrator, linear, dt, dtype
        self._tendency, self._frequency, self._names = tendency, frequency, names
        self._courant = courant
        self._built: tuple[float | Tensor, Integrator] = (dt, self._build(dt))

    def advance(
        self, u_hat: Complex[Tensor, "batch *modes"], start: float, end: float
    ) -> Complex[Tensor, "batch *modes"]:
        """Return the state at ``end`` from that at ``start``.

        Raises:
            ValueError: naming trajectory and time, if a fixed step is above the stability bound at ``start``, or
                the state is not finite at ``end`` or when the length of steps is chosen.
        """
        if end > start and self._courant is None:
            u_hat = self._advance_evenly(u_hat, start, end)
        elif end > start:
            u_hat = self._advance_adaptively(u_hat, start, end)
        self._check_finite(torch.isfinite(torch.view_as_real(u_hat)).flatten(1).all(1), start, end)
        return u_hat

    def _advance_evenly(self, u_hat: Tensor, start: float, end: float) -> Tensor:
        integrator = self._built[1]
        frequency = self._frequency(u_hat)
        worst = int(frequency.argmax())
        bound = integrator.courant_limit / max(float(frequency[worst]), 1e-300)
        if self._dt > bound:
            raise ValueError(
                f"trajectory {self._names[worst]} at t = {start:g}: dt = {self._dt:g} exceeds the stability bound "
                f"{bound:.3g} of {self._integrator} for its largest speed on this grid. Use a smaller dt that "
                "divides the time between frames, or adaptive steps (courant)."
            )
        for _ in range(round((end - start) / self._dt)):
            u_hat = integrator.step(u_hat, self._tendency)
        return u_hat

    def _advance_adaptively(self, u_hat: Tensor, start: float, end: float) -> Tensor:
        steps = torch.zeros(len(u_hat), dtype=torch.float64)
        left = torch.zeros(len(u_hat), dtype=torch.int64)  # steps of that length that each still has to take
        remaining = torch.full_like(steps, end - start)
        while bool((remaining > 0).any()):
            needed = self._steps_needed(u_hat, remaining, end)
            is_new = (needed > left) | (needed < 0.8 * left)
            left = torch.where(is_new, needed, left)
            steps = torch.where(is_new, remaining / left.clamp_min(1), steps)
            until_look = self.STEPS_BETWEEN_LOOKS
            while until_look and bool((left > 0).any()):
                count = min(until_look, int(left[left > 0].min()))
                integrator = self._with_steps(torch.where(left > 0, steps, 0.0), u_hat)
                for _ in range(count):
                    u_hat = integrator.step(u_hat, self._tendency)
                left = (left - count).clamp_min(0)
                until_look -= count
            remaining = steps * left
        return u_hat

    def _steps_needed(
        self, u_hat: Tensor, remaining: Float64[Tensor, " batch"], end: float
    ) -> Int64[Tensor, " batch"]:
        """Return how many equal steps take each trajectory to the end at the wanted Courant number."""
        frequency = self._frequency(u_hat).double().cpu()
        self._check_finite(torch.isfinite(frequency), end - float(remaining.max()), end)
        longest = ((self._courant or math.inf) / frequency.clamp_min(1e-300)).clamp_max(self._dt)
        return torch.ceil(remaining / longest * (1 - 1e-12)).long()

    def _with_steps(self, steps: Float64[Tensor, " batch"], like: Tensor) -> Integrator:
        """Return the integrator for the given steps, the last one if they are the same."""
        last, integrator = self._built
        if not (isinstance(last, Tensor) and torch.equal(last, steps)):
            integrator = self._build(steps.to(like.device).view(-1, *[1] * (like.ndim - 1)))
            self._built = (steps, integrator)
        return integrator

    def _build(self, dt: Step) -> Integrator:
        integrator: Integrator = INTEGRATORS.build(self._integrator, self._linear, dt, self._dtype)
        return integrator

    def _check_finite(self, is_finite: Tensor, start: float, end: float) -> None:
        if not is_finite.all():
            first = int(is_finite.to(torch.int8).argmin())
            size = f"dt = {self._dt:g}" if self._courant is None else f"courant = {self._courant:g}"
            raise ValueError(
                f"trajectory {self._names[first]} became NaN or infinite between t = {start:g} and t = {end:g} with "
                f"{size}. Use a smaller step, a finer grid or a larger viscosity."
            )


def steps_between(times: Sequence[float], dt: float) -> list[int]:
    """Return the number of steps of length ``dt`` before each time.

    Raises:
        ValueError: if times do not increase from 0 on in multiples of dt.
    """
    check_times(times)
    counts, now = [], 0.0
    for time in times:
        steps = round((time - now) / dt)
        if abs(steps * dt - (time - now)) > 1e-9 * max(1.0, abs(time)):
            raise ValueError(
                f"dt = {dt} does not divide the time from {now} to {time}. Times must increase from 0 on in "
                "multiples of dt."
            )
        counts.append(steps)
        now = time
    return counts


def check_times(times: Sequence[float]) -> None:
    """Refuse times that do not increase from 0 on.

    Raises:
        ValueError: with the pair that does not.
    """
    now = 0.0
    for time in times:
        if not math.isfinite(time) or time < now:
            raise ValueError(f"times must be finite and increase from 0 on; {time} comes after {now}.")
        now = time

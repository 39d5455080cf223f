"""Trajectories side by side from one time to the next, in steps of fixed length or as long as each allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float64, Inexact, Int64
from torch import Tensor

from . import INTEGRATORS
from .equation import refuse
from .integrators import Integrator, Step, Tendency


class TimeMarch:
    """``dû/dt = L û + N(û)`` with the steps of one integrator.

    With ``courant`` None every step is ``dt``. Otherwise ``dt`` is the longest step, and each trajectory takes steps
    that divide the time to the next frame and keep its own Courant number, step times frequency, at ``courant``. It
    looks at its frequency after every 16 steps of its own and changes them if they are too long or a fifth too
    short; steps that turn out to have been twice too long, or unstable, are taken back and repeated.
    Trajectories that have arrived wait with steps of length zero, which change nothing. No trajectory's steps
    depend on another's.

    Args:
        integrator: name of the integrator.
        linear: the diagonal ``L``, broadcastable to the state.
        dt: time step, or the longest one.
        dtype: real dtype of the state.
        tendency: ``N``.
        frequency: the largest frequency of each trajectory's advection, 1/time.
        names: what messages call the trajectories.
        courant: Courant number of adaptive steps, or None.
        is_real: whether the state is real, as cosine amplitudes are.
        limited_by: what the frequency is of, for the message that refuses a step.
        can_adapt: whether that message may suggest adaptive steps.
    """

    STEPS_BETWEEN_LOOKS = 16
    STEPS_BETWEEN_CHECKS = 64  # of steps of fixed length, against the stability bound
    MAX_STEPS = 10**7  # that a frame may need before it is given up
    MAX_FAILURES = 4  # times that a state may become NaN or infinite before shorter steps are given up

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
        is_real: bool = False,
        limited_by: str = "its largest speed on this grid",
        can_adapt: bool = True,
    ) -> None:
        self._integrator, self._linear, self._dt, self._dtype = integrator, linear, dt, dtype
        self._tendency, self._frequency, self._names = tendency, frequency, names
        self._courant, self._is_real = courant, is_real
        self._limited_by, self._can_adapt = limited_by, can_adapt
        self._built: tuple[float | Tensor, Integrator] = (dt, self._build(dt))
        self._tolerated = max(0.5, (courant or 0.0) / self._built[1].courant_limit)

    def advance(
        self, u_hat: Inexact[Tensor, "batch *modes"], start: float, end: float
    ) -> Inexact[Tensor, "batch *modes"]:
        """Return the state at ``end`` from that at ``start``.

        Raises:
            ValueError: naming trajectory and time, if a fixed step is above the stability bound, or the state is
                not finite any more, or, with adaptive steps, for a frame that needs too many of them.
        """
        if end > start and self._courant is None:
            u_hat = self._advance_evenly(u_hat, start, end)
        elif end > start:
            u_hat = self._advance_adaptively(u_hat, start, end)
        self._check_finite(torch.isfinite(u_hat).flatten(1).all(1), start, end)
        return u_hat

    def _advance_evenly(self, u_hat: Tensor, start: float, end: float) -> Tensor:
        integrator = self._built[1]
        for k in range(round((end - start) / self._dt)):
            if k % self.STEPS_BETWEEN_CHECKS == 0:
                self._check_bound(self._frequency(u_hat), start, start + k * self._dt)
            u_hat = integrator.step(u_hat, self._tendency)
        return u_hat

    def _check_bound(self, frequency: Tensor, start: float, now: float) -> None:
        self._check_finite(torch.isfinite(frequency), start, now)
        worst = int(frequency.argmax())
        bound = self._built[1].courant_limit / max(float(frequency[worst]), 1e-300)
        if self._dt > bound:
            raise ValueError(
                f"trajectory {self._names[worst]} at t = {now:g}: dt = {self._dt:g} exceeds the stability bound "
                f"{bound:.3g} of {self._integrator} for {self._limited_by}. Use a smaller dt that divides the time "
                f"between frames{', or adaptive steps (courant)' * self._can_adapt}."
            )

    def _advance_adaptively(self, u_hat: Tensor, start: float, end: float) -> Tensor:
        remaining = torch.full((len(u_hat),), end - start, dtype=torch.float64)
        steps, left = torch.zeros_like(remaining), torch.zeros_like(remaining, dtype=torch.int64)
        longest, failures = self._longest_steps(self._frequency(u_hat)), torch.zeros_like(left)
        self._check_finite(longest > 0, start, end)
        while bool((remaining > 0).any()):
            needed = torch.ceil(remaining / longest * (1 - 1e-12))
            refuse(
                needed > self.MAX_STEPS,
                self._names,
                f" needs {{needed:.1e}} steps to t = {end:g} with courant = {self._courant}: {self._limited_by} is out "
                "of proportion to the time between frames. Check the units of the initial state and its resolution.",
                needed=needed,
            )
            is_new = (needed > left) | (needed < 0.8 * left)
            left = torch.where(is_new, needed.long(), left)
            steps = torch.where(is_new, remaining / left.clamp_min(1), steps)
            later, later_left = self._some_steps(u_hat, steps, left)
            allowed = self._longest_steps(self._frequency(later))
            is_bad = (left > 0) & ~(allowed >= self._tolerated * steps)  # outrun by the flow, or not finite
            failures = torch.where(is_bad & (allowed == 0), failures + 1, 0)
            self._check_finite(failures < self.MAX_FAILURES, end - float(remaining.max()), end)
            keep = is_bad.to(u_hat.device).view(-1, *[1] * (u_hat.ndim - 1))
            u_hat = torch.where(keep, u_hat, later) if bool(is_bad.any()) else later
            left = torch.where(is_bad, left, later_left)
            remaining = steps * left
            longest = torch.where(is_bad, torch.maximum(allowed, steps / 8), allowed)
        return u_hat

    def _some_steps(
        self, u_hat: Tensor, steps: Float64[Tensor, " batch"], left: Int64[Tensor, " batch"]
    ) -> tuple[Tensor, Int64[Tensor, " batch"]]:
        """Take up to ``STEPS_BETWEEN_LOOKS`` of the steps that each has left; return the state and what is left."""
        until_look = self.STEPS_BETWEEN_LOOKS
        while until_look and bool((left > 0).any()):
            count = min(until_look, int(left[left > 0].min()))
            integrator = self._with_steps(torch.where(left > 0, steps, 0.0), u_hat)
            for _ in range(count):
                u_hat = integrator.step(u_hat, self._tendency)
            left = (left - count).clamp_min(0)
            until_look -= count
        return u_hat, left

    def _longest_steps(self, frequency: Tensor) -> Float64[Tensor, " batch"]:
        """Return the longest step of each trajectory at its Courant number, 0 where the frequency is not finite."""
        frequency = frequency.double().cpu()
        longest = ((self._courant or math.inf) / frequency.clamp_min(1e-300)).clamp_max(self._dt)
        return torch.where(torch.isfinite(frequency), longest, 0.0)

    def _with_steps(self, steps: Float64[Tensor, " batch"], like: Tensor) -> Integrator:
        """Return the integrator for the given steps, the last one if they are the same."""
        last, integrator = self._built
        if not (isinstance(last, Tensor) and torch.equal(last, steps)):
            integrator = self._build(steps.to(like.device).view(-1, *[1] * (like.ndim - 1)))
            self._built = (steps, integrator)
        return integrator

    def _build(self, dt: Step) -> Integrator:
        kind = {"is_real": True} if self._is_real else {}
        integrator: Integrator = INTEGRATORS.build(self._integrator, self._linear, dt, self._dtype, **kind)
        return integrator

    def _check_finite(self, is_finite: Tensor, start: float, end: float) -> None:
        size = f"dt = {self._dt:g}" if self._courant is None else f"courant = {self._courant:g}"
        refuse(
            ~is_finite,
            self._names,
            f" became NaN or infinite between t = {start:g} and t = {end:g} with {size}. Use a smaller step, a finer "
            "grid or a larger viscosity.",
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


def check_courant(integrator: str, courant: float | None) -> None:
    """Refuse adaptive steps that an integrator cannot take; None stands for steps of one length.

    Raises:
        ValueError: for an unknown integrator, a Courant number outside of its stable range, or a multistep method.
    """
    method = INTEGRATORS.get(integrator)
    limit = float(getattr(method, "courant_limit", math.inf))
    if courant is None:
        return
    if getattr(method, "is_multistep", False):
        raise ValueError(
            f"{integrator} needs steps of one length and courant = {courant} makes them adaptive. Use etdrk4 or "
            "cn_euler, or courant = None."
        )
    if not 0 < courant <= limit:
        raise ValueError(f"courant is {courant}; {integrator} is stable from above 0 to {limit:.3g}.")

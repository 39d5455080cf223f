"""Two-dimensional incompressible Navier-Stokes equations in vorticity form on a periodic box."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from . import INTEGRATORS
from .forcing import Forcing
from .integrators import Integrator
from .vorticity import SpectralVorticity


@dataclass(frozen=True)
class NavierStokes2D:
    """``∂ω/∂t + u·∇ω = ν Δω - μ ω + f`` with ``u = (∂ψ/∂y, -∂ψ/∂x)``, ``Δψ = -ω``.

    Pseudo-spectral, de-aliased by the 2/3 rule: on N points an axis the solution has the modes ``|k| <= (N - 1) // 3``
    and the initial field is cut to them. Arrays are ``(batch, y, x)``; computation follows the dtype
    (float32 or float64) and device of the initial field. The step is fixed and the same for every
    trajectory, so that none depends on its neighbours in the batch.

    Attributes:
        viscosity: kinematic viscosity ν >= 0, one for all or one a trajectory, length²/time.
        dt: time step; it must divide the time between frames.
        lengths: sides of the box, ``(L_y, L_x)``.
        forcing: the source f of vorticity, or None.
        drag: linear drag μ >= 0, 1/time.
        integrator: name of a time integrator, ``"etdrk4"`` or ``"cn_euler"``.

    Raises:
        ValueError: if viscosity, drag, dt or a length is out of range.
    """

    viscosity: float | Float[Tensor, " batch"]
    dt: float
    lengths: tuple[float, float] = (1.0, 1.0)
    forcing: Forcing | None = None
    drag: float = 0.0
    integrator: str = "etdrk4"

    def __post_init__(self) -> None:
        nu = torch.as_tensor(self.viscosity)
        if not (torch.isfinite(nu).all() and (nu >= 0).all()):
            raise ValueError(f"viscosity is {self.viscosity}; it must be finite and not negative.")
        if not (math.isfinite(self.drag) and self.drag >= 0):
            raise ValueError(f"drag is {self.drag}; it must be finite and not negative.")
        for name, value in (("dt", self.dt), ("L_y", self.lengths[0]), ("L_x", self.lengths[1])):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}; it must be finite and positive.")
        INTEGRATORS.get(self.integrator)

    def solve(
        self, vorticity: Float[Tensor, "batch y x"], times: Sequence[float]
    ) -> Float[Tensor, "batch time 1 y x"]:
        """Return the vorticity at the given times; see `frames`."""
        return torch.stack(list(self.frames(vorticity, times)), dim=1)

    def frames(
        self,
        vorticity: Float[Tensor, "batch y x"],
        times: Sequence[float],
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch 1 y x"]]:
        """Yield the vorticity at one time after the other, with the memory of one state.

        Args:
            vorticity: ω at t = 0, of zero mean.
            times: increasing times from 0 on; multiples of dt apart.
            names: what messages call the trajectories; 0, 1, .. by default.

        Raises:
            ValueError: for an initial field that is not float32 or float64, is not finite or has a mean (the
                circulation of a periodic flow vanishes); for times that dt does not divide; during the solution,
                if dt exceeds the stability bound or the state is not finite any more: time and trajectory are
                named.
        """
        names = [str(i) for i in range(len(vorticity))] if names is None else names
        num_steps = self.steps_between(times)
        _check_initial(vorticity, names)
        ny, nx = vorticity.shape[-2:]
        space = SpectralVorticity((ny, nx), self.lengths, vorticity.dtype, vorticity.device)
        integrator = self._build_integrator(space, vorticity)
        source = self._source_modes(space, vorticity)

        def tendency(w_hat: Tensor) -> Tensor:
            return source - space.advection(w_hat)

        w_hat = space.to_modes(vorticity)
        now = 0.0
        for time, steps in zip(times, num_steps, strict=True):
            if steps:
                self._check_stability(space, integrator, w_hat, now, names)
            for _ in range(steps):
                w_hat = integrator.step(w_hat, tendency)
            self._check_finite(w_hat, now, time, names)
            now = time
            yield space.to_grid(w_hat)[:, None]

    def steps_between(self, times: Sequence[float]) -> list[int]:
        """Return the number of steps before each frame.

        Raises:
            ValueError: if times do not increase from 0 on in multiples of dt.
        """
        counts, now = [], 0.0
        for time in times:
            steps = round((time - now) / self.dt)
            if time < now or abs(steps * self.dt - (time - now)) > 1e-9 * max(1.0, abs(time)):
                raise ValueError(
                    f"dt = {self.dt} does not divide the time from {now} to {time}. Times must increase from "
                    "0 on in multiples of dt."
                )
            counts.append(steps)
            now = time
        return counts

    def _build_integrator(self, space: SpectralVorticity, like: Tensor) -> Integrator:
        nu = torch.as_tensor(self.viscosity, dtype=torch.float64, device=like.device)
        if nu.ndim and nu.shape != like.shape[:1]:
            raise ValueError(f"{nu.numel()} viscosities were given for {len(like)} trajectories.")
        linear = nu.view(*nu.shape, 1, 1) * space.laplacian - self.drag
        return INTEGRATORS.build(self.integrator, linear, self.dt, like.dtype)

    def _source_modes(self, space: SpectralVorticity, like: Tensor) -> Complex[Tensor, "1 ky kx"]:
        y, x = (
            torch.arange(n, dtype=torch.float64, device=like.device) * (length / n)
            for n, length in zip(space.grid, self.lengths, strict=True)
        )
        source = torch.zeros(space.grid, dtype=torch.float64, device=like.device)
        if self.forcing is not None:
            source = self.forcing(y[:, None], x[None, :], self.lengths)
        modes = space.to_modes(source[None])
        return modes.to(torch.complex64 if like.dtype == torch.float32 else torch.complex128)

    def _check_stability(
        self,
        space: SpectralVorticity,
        integrator: Integrator,
        w_hat: Complex[Tensor, "batch ky kx"],
        now: float,
        names: Sequence[str],
    ) -> None:
        """Compare ``dt max(|u| k_x + |v| k_y)`` with the integrator's limit."""
        speed_x, speed_y = space.velocity(w_hat.detach()).abs().unbind(1)
        largest_ky, largest_kx = space.largest_wavenumbers
        frequency = (speed_x * largest_kx + speed_y * largest_ky).flatten(1).amax(1)
        worst = int(frequency.argmax())
        bound = integrator.courant_limit / max(float(frequency[worst]), 1e-300)
        if self.dt > bound:
            raise ValueError(
                f"trajectory {names[worst]} at t = {now:g}: dt = {self.dt:g} exceeds the stability bound "
                f"{bound:.3g} of {self.integrator} for its largest speed on the grid {space.grid}. Use a smaller "
                "dt that divides the time between frames."
            )

    def _check_finite(
        self, w_hat: Complex[Tensor, "batch ky kx"], before: float, now: float, names: Sequence[str]
    ) -> None:
        is_finite = torch.isfinite(torch.view_as_real(w_hat)).flatten(1).all(1)
        if not is_finite.all():
            first = int(is_finite.to(torch.int8).argmin())
            raise ValueError(
                f"trajectory {names[first]} became NaN or infinite between t = {before:g} and t = {now:g} with "
                f"dt = {self.dt:g}. Use a smaller dt, a finer grid or a larger viscosity."
            )


def _check_initial(vorticity: Float[Tensor, "batch y x"], names: Sequence[str]) -> None:
    if vorticity.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the initial vorticity is {vorticity.dtype}; allowed: float32 and float64.")
    mean = vorticity.mean(dim=(1, 2)).abs()
    scale = vorticity.abs().amax(dim=(1, 2))
    bad = ~(mean <= 1e-4 * scale) | ~torch.isfinite(scale)
    if bad.any():
        first = int(bad.to(torch.int8).argmax())
        raise ValueError(
            f"trajectory {names[first]}: the initial vorticity has the mean {float(mean[first]):.3g} and the largest "
            f"value {float(scale[first]):.3g}. It must be finite, and on a periodic box its mean is zero; "
            "subtract the mean."
        )

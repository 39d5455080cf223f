"""Two-dimensional incompressible Navier-Stokes equations in vorticity form on a periodic box."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float, Float64
from torch import Tensor

from pdesurrogate.fields import Axis, Field

from . import EQUATIONS
from .equation import check_state, refuse
from .forcing import Forcing, RandomFieldForcing, RandomForcing, build_forcing
from .option_checks import check_lengths, check_not_negative, check_positive, numbers_of_each
from .resolution import check_resolution
from .time_march import TimeMarch, check_courant, check_times, steps_between
from .vorticity import SpectralVorticity

POINTS_IN_CACHE = 2**16
"""Points of the trajectories that a CPU advances side by side: with more, each operation waits for memory."""


@EQUATIONS.register("navier_stokes")
@dataclass(frozen=True)
class NavierStokes2D:
    """``∂ω/∂t + u·∇ω = ν Δω - μ ω + f`` with ``u = (∂ψ/∂y, -∂ψ/∂x)``, ``Δψ = -ω``.

    Pseudo-spectral, de-aliased by the 2/3 rule: on N points an axis the solution has the modes ``|k| <= (N - 1) // 3``
    and the initial field is cut to them. States are ``(batch, 1, y, x)``; computation follows the dtype
    (float32 or float64) and device of the initial state. No trajectory depends on its neighbours in the batch.

    Attributes:
        viscosity: kinematic viscosity ν >= 0, one for all or one a trajectory, length²/time.
        dt: time step; it must divide the time between frames. The longest step if ``courant`` is given.
        lengths: sides of the box, ``(L_y, L_x)``.
        forcing: the source f of vorticity: a `Forcing`, its name, its ``kind`` with options, or None.
        drag: linear drag μ >= 0, 1/time.
        integrator: name of a time integrator: ``"etdrk4"``, ``"cn_ab2"`` or ``"cn_euler"``.
        courant: Courant number ``dt max(|u| k_x + |v| k_y)`` of adaptive steps, chosen for each trajectory by itself;
            1 is a good value for etdrk4. None: every step is ``dt``.
        min_resolution: the smallest ``k_max/k_d`` of `check_resolution` that is solved; 0 solves under-resolved
            flows too.

    Raises:
        ValueError: if viscosity, drag, dt, a length, courant or min_resolution is out of range, or the forcing or
            integrator is unknown.
    """

    viscosity: float | Float[Tensor, " batch"]
    dt: float
    lengths: tuple[float, float] = (1.0, 1.0)
    forcing: Forcing | Mapping[str, Any] | str | None = None
    drag: float = 0.0
    integrator: str = "etdrk4"
    courant: float | None = None
    min_resolution: float = 1.0

    def __post_init__(self) -> None:
        if (numbers_of_each("viscosity", self.viscosity) < 0).any():
            raise ValueError(f"viscosity is {self.viscosity}; it must not be negative.")
        check_not_negative(drag=self.drag, min_resolution=self.min_resolution)
        check_positive(dt=self.dt)
        check_lengths(self.lengths, "yx", fewest=2)
        if isinstance(build_forcing(self.forcing), RandomForcing | RandomFieldForcing):
            raise ValueError(
                f"forcing {self.forcing!r} is a family of random sources, which data generation draws from. Give a "
                "member of it: its draw(uniforms), or a SampledForcing of its draw_field(...)."
            )
        check_courant(self.integrator, self.courant)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The vorticity, which changes sign under reflection."""
        return (Field("vorticity", kind="pseudoscalar", long_name="vorticity"),)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The periodic box."""
        return Axis("y", self.lengths[0]), Axis("x", self.lengths[1])

    def frames(
        self,
        state: Float[Tensor, "batch 1 y x"],
        times: Sequence[float],
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch 1 y x"]]:
        """Yield the vorticity at one time after the other, with the memory of one state.

        Args:
            state: ω at t = 0, of zero mean.
            times: increasing times from 0 on; multiples of dt apart if steps are fixed.
            names: what messages call the trajectories; 0, 1, .. by default.

        Raises:
            ValueError: for an initial field of another shape, that is not float32 or float64, is not finite or has a
                mean (the circulation of a periodic flow vanishes); for times that dt does not divide; and, naming
                trajectory and time, if dt exceeds the stability bound, the grid is too coarse for the viscosity,
                or the state is not finite any more.
        """
        self.check_times(times)
        names = [str(i) for i in range(len(state))] if names is None else names
        _check_initial(state, names)
        vorticity = state[:, 0]
        space = SpectralVorticity(
            (state.shape[2], state.shape[3]), self.lengths, vorticity.dtype, vorticity.device
        )
        nu = self._viscosity_of_each(vorticity)
        size = self._trajectories_at_once(vorticity)
        parts = [slice(i, i + size) for i in range(0, len(vorticity), size)]
        source = self._source_modes(space, vorticity)
        marches = [
            self._march(space, source[part if len(source) > 1 else slice(None)], nu[part], names[part])
            for part in parts
        ]
        w_hats = [space.to_modes(vorticity[part]) for part in parts]
        check_resolution(space, torch.cat(w_hats), nu, self.min_resolution, 0.0, names)
        now = 0.0
        for time in times:
            w_hats = [march.advance(w_hat, now, time) for march, w_hat in zip(marches, w_hats, strict=True)]
            check_resolution(space, torch.cat(w_hats), nu, self.min_resolution, time, names)
            now = time
            yield torch.cat([space.to_grid(w_hat) for w_hat in w_hats])[:, None]

    def check_times(self, times: Sequence[float]) -> None:
        """Refuse times that cannot be reached.

        Raises:
            ValueError: if times do not increase from 0 on, or steps are fixed and dt does not divide them.
        """
        if self.courant is None:
            steps_between(times, self.dt)
        else:
            check_times(times)

    def _march(
        self,
        space: SpectralVorticity,
        source: Complex[Tensor, "one ky kx"],
        nu: Float64[Tensor, " batch"],
        names: Sequence[str],
    ) -> TimeMarch:
        same = bool((nu == nu[0]).all())
        linear = nu[: 1 if same else None, None, None] * space.laplacian - self.drag
        return TimeMarch(
            self.integrator,
            linear,
            self.dt,
            torch.float32 if source.dtype == torch.complex64 else torch.float64,
            tendency=lambda w_hat: space.tendency(w_hat, source),
            frequency=space.frequency,
            names=names,
            courant=self.courant,
        )

    def _trajectories_at_once(self, like: Float[Tensor, "batch y x"]) -> int:
        """Return how many trajectories to advance side by side; adaptive ones on a CPU need not wait for others."""
        if like.device.type != "cpu":
            return len(like)
        return 1 if self.courant is not None else max(1, POINTS_IN_CACHE // like[0].numel())

    def _viscosity_of_each(self, like: Float[Tensor, "batch y x"]) -> Float64[Tensor, " batch"]:
        nu = torch.as_tensor(self.viscosity, dtype=torch.float64, device=like.device)
        if nu.ndim and nu.shape != like.shape[:1]:
            raise ValueError(f"{nu.numel()} viscosities were given for {len(like)} trajectories.")
        return nu.expand(len(like))

    def _source_modes(self, space: SpectralVorticity, like: Tensor) -> Complex[Tensor, "one ky kx"]:
        """Return the modes of the forcing, one for all trajectories or one each."""
        y, x = (
            torch.arange(n, dtype=torch.float64, device=like.device) * (length / n)
            for n, length in zip(space.grid, self.lengths, strict=True)
        )
        forcing = build_forcing(self.forcing)
        source = (
            y[:, None] * 0 * x
            if not isinstance(forcing, Forcing)
            else forcing(y[:, None], x[None, :], self.lengths)
        )
        sources = source if source.ndim == 3 else source[None]
        if len(sources) not in (1, len(like)):
            raise ValueError(f"{len(sources)} forcings were given for {len(like)} trajectories.")
        return space.to_modes(sources).to(
            torch.complex64 if like.dtype == torch.float32 else torch.complex128
        )


def _check_initial(state: Float[Tensor, "batch 1 y x"], names: Sequence[str]) -> None:
    if state.ndim != 4 or state.shape[1] != 1:
        raise ValueError(
            f"the initial state has the shape {tuple(state.shape)}; needed is (batch, 1, y, x), the vorticity."
        )
    check_state(state, names)
    mean = state.mean(dim=(1, 2, 3)).abs()
    scale = state.abs().amax(dim=(1, 2, 3))
    refuse(
        mean > 1e-4 * scale,
        names,
        ": the initial vorticity has the mean {mean:.3g} and the largest value {scale:.3g}. On a periodic box its mean "
        "is zero; subtract the mean.",
        mean=mean,
        scale=scale,
    )

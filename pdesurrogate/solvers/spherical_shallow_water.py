"""The shallow water equations on a rotating sphere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pdesurrogate.fields import Axis, Field
from pdesurrogate.fields.spherical.grid import SphericalGrid, spherical_axes
from pdesurrogate.fields.spherical.nodes import LatitudeNodes
from pdesurrogate.fields.spherical.resampling import WIND_COMPONENTS

from . import EQUATIONS
from .equation import check_state, refuse
from .navier_stokes import POINTS_IN_CACHE
from .option_checks import check_numbers, check_positive
from .spherical_flow import DEPTH, SphericalFlow
from .time_march import TimeMarch, check_courant, check_times, steps_between

LARGEST_MEAN = 1e-3
"""Largest mean of vorticity and divergence over the sphere in their root mean squares; a wind's are 0."""


@EQUATIONS.register("spherical_shallow_water")
@dataclass(frozen=True)
class SphericalShallowWater:
    """``∂h/∂t = -div(h u)``, ``∂ζ/∂t = -div((ζ + f) u)``, ``∂δ/∂t = curl((ζ + f) u) - Δ(|u|²/2 + g (h + b))``.

    Depth h, vorticity ζ and divergence δ of the wind u on a sphere that rotates, ``f = 2Ω sin(lat)``, over ground of
    height b; the defaults are Earth's, in metres and seconds. Pseudo-spectral in spherical harmonics up to a
    triangular truncation T, free of aliasing: the grid analyses products of two fields exactly, and the initial state
    is cut to T. States are ``(batch, 3, lat, lon)``: depth in m, vorticity and divergence in 1/s. Computation follows
    their dtype (float32 or float64) and device; no trajectory depends on its neighbours in the batch. Mass is conserved
    to the last bit of its mode, whatever the step.

    With ``diffusion_time`` τ vorticity and divergence of every degree l decay at the rate ``(l(l+1) / T(T+1))^{p/2} /
    τ``, p being ``diffusion_order``: del^p hyperdiffusion, integrated exactly. Without it the fluid is ideal, and a
    cascade that reaches T ends there in noise.

    Source: Williamson, Drake, Hack, Jakob and Swarztrauber (1992), J. Comput. Phys. 102, 211, section 2; Jakob-Chien,
    Hack and Williamson (1995), J. Comput. Phys. 119, 164 for the spectral form.

    Attributes:
        dt: time step in s; it must divide the time between frames. The longest step if ``courant`` is given.
        truncation: T; by default the largest that the grid allows, 42 on 64 x 128 points, 85 on 128 x 256.
        radius: a, m.
        rotation: Ω, 1/s.
        gravity: g, m/s².
        tilt: angle α in radians between the axis of rotation and the grid's, for verification: ``f = 2Ω (sin(lat) cos α
            - cos(lon) cos(lat) sin α)`` (Williamson et al., eq. 96).
        orography: b in m on the state's grid, ``(lat, lon)`` or one a trajectory; None where the ground is flat.
        diffusion_time: τ in s, the time in which the smallest scale decays by e; None for no diffusion.
        diffusion_order: p, even.
        nodes: rule of the latitudes, see `latitude_rule`; others than Gauss-Legendre need twice as many.
        is_north_first: whether the first row is the northernmost.
        integrator: ``"etdrk4"`` (fourth order), ``"cn_ab2"`` (second) or ``"cn_euler"`` (first).
        courant: step times largest frequency of adaptive steps, chosen for each trajectory by itself; 1 is a good value
            for etdrk4. None: every step is ``dt``.

    Raises:
        ValueError: if a number is out of range, or the nodes or the integrator are unknown.
    """

    dt: float
    truncation: int | None = None
    radius: float = 6.37122e6
    rotation: float = 7.292e-5
    gravity: float = 9.80616
    tilt: float = 0.0
    orography: Float[Tensor, "*ground lat lon"] | None = None
    diffusion_time: float | None = None
    diffusion_order: int = 8
    nodes: LatitudeNodes | str = "gauss-legendre"
    is_north_first: bool = True
    integrator: str = "etdrk4"
    courant: float | None = None

    def __post_init__(self) -> None:
        check_positive(dt=self.dt, radius=self.radius, gravity=self.gravity)
        if self.diffusion_time is not None:
            check_positive(diffusion_time=self.diffusion_time)
        check_numbers(rotation=self.rotation, tilt=self.tilt)
        if self.diffusion_order < 2 or self.diffusion_order % 2:
            raise ValueError(
                f"diffusion_order is {self.diffusion_order}; it is the order of a derivative: 2, 4, 6, 8, .."
            )
        if self.truncation is not None and self.truncation < 1:
            raise ValueError(f"truncation is {self.truncation}; it must be at least 1, or None.")
        spherical_axes(self.nodes)
        check_courant(self.integrator, self.courant)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Depth, vorticity (which changes sign under reflection) and divergence."""
        return (
            Field("depth", "m", long_name="depth of the fluid"),
            Field("vorticity", "s-1", "pseudoscalar", long_name="relative vorticity"),
            Field("divergence", "s-1", long_name="divergence of the wind"),
        )

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Latitudes and longitudes of the whole sphere, in degrees."""
        return spherical_axes(self.nodes, north_first=self.is_north_first)

    @property
    def wind_field(self) -> Field:
        """What `wind` returns."""
        return Field("wind", "m s-1", "vector", WIND_COMPONENTS, "eastward and northward wind")

    def grid_of(self, sizes: Sequence[int]) -> SphericalGrid:
        """Return the grid with the given numbers of latitudes and longitudes."""
        num_lat, num_lon = sizes
        return SphericalGrid(num_lat, num_lon, self.nodes, self.is_north_first)

    def state(
        self, depth: Float[Tensor, "batch lat lon"], wind: Float[Tensor, "batch 2 lat lon"]
    ) -> Float[Tensor, "batch 3 lat lon"]:
        """Return the state of a depth (m) and a wind (eastward, northward, m/s), cut to the truncation.

        Raises:
            ValueError: for a truncation beyond the grid's.
        """
        flow = self._flow(depth)
        modes = torch.cat([flow.to_modes(depth[:, None]), flow.modes_of_wind(wind)], dim=1)
        return flow.to_grid(modes)

    def wind(self, state: Float[Tensor, "batch 3 lat lon"]) -> Float[Tensor, "batch 2 lat lon"]:
        """Return the eastward and the northward wind of a state, m/s.

        Raises:
            ValueError: for a truncation beyond the grid's.
        """
        flow = self._flow(state)
        return flow.wind(flow.to_modes(state))

    def frames(
        self,
        state: Float[Tensor, "batch channel lat lon"],
        times: Sequence[float],
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel lat lon"]]:
        """Yield ``(h, ζ, δ)`` at one time after the other, with the memory of one state.

        Args:
            state: at t = 0.
            times: in s, increasing, from 0 on; multiples of dt apart if steps are fixed.
            names: what messages call the trajectories; 0, 1, .. by default.

        Raises:
            ValueError: for a state that is not float32 or float64, has other channels, values that are not finite,
                a depth that is not positive, or a mean vorticity or divergence, which no wind has; for a truncation
                beyond the grid's (the needed grid is named); for an orography of another grid; for times that dt does
                not divide; and, naming trajectory and time, if dt exceeds the stability bound, the fluid runs dry or
                the state is not finite any more.
        """
        self.check_times(times)
        names = [str(i) for i in range(len(state))] if names is None else names
        _check_initial(state, self.grid_of(state.shape[2:]).weights, names)
        size = self._trajectories_at_once(state)
        parts = [slice(i, i + size) for i in range(0, len(state), size)]
        flows = [self._flow(state, part) for part in parts]
        marches = [
            self._march(flow, state.dtype, names[part]) for flow, part in zip(flows, parts, strict=True)
        ]
        modes = [flow.to_modes(state[part]) for flow, part in zip(flows, parts, strict=True)]
        now = 0.0
        for time in times:
            modes = [march.advance(part, now, time) for march, part in zip(marches, modes, strict=True)]
            now = time
            frame = torch.cat([flow.to_grid(part) for flow, part in zip(flows, modes, strict=True)])
            _check_depth(frame, time, names)
            yield frame

    def check_times(self, times: Sequence[float]) -> None:
        """Refuse times that cannot be reached.

        Raises:
            ValueError: if times do not increase from 0 on, or steps are fixed and dt does not divide them.
        """
        if self.courant is None:
            steps_between(times, self.dt)
        else:
            check_times(times)

    def _flow(self, like: Float[Tensor, "batch *field lat lon"], part: slice = slice(None)) -> SphericalFlow:
        grid = self.grid_of(like.shape[-2:])
        truncation = grid.largest_truncation(product=2) if self.truncation is None else self.truncation
        ground = self._orography_like(like)
        return SphericalFlow(
            grid,
            truncation,
            like.dtype,
            like.device,
            radius=self.radius,
            rotation=self.rotation,
            gravity=self.gravity,
            tilt=self.tilt,
            orography=ground[part] if ground is not None and len(ground) > 1 else ground,
        )

    def _march(self, flow: SphericalFlow, dtype: torch.dtype, names: Sequence[str]) -> TimeMarch:
        return TimeMarch(
            self.integrator,
            self._decay(flow.laplacian),
            self.dt,
            dtype,
            tendency=flow.tendency,
            frequency=flow.frequency,
            names=names,
            courant=self.courant,
            limited_by="its fastest gravity wave at this truncation",
        )

    def _decay(self, laplacian: Float64[Tensor, " mode"]) -> Float64[Tensor, "3 mode"]:
        """Return the rates of hyperdiffusion of depth (none), vorticity and divergence."""
        rates = torch.zeros(3, len(laplacian), dtype=torch.float64, device=laplacian.device)
        if self.diffusion_time is not None:
            share = laplacian / laplacian.min()
            rates[DEPTH + 1 :] = -(share ** (self.diffusion_order // 2)) / self.diffusion_time
        return rates

    def _trajectories_at_once(self, like: Tensor) -> int:
        """Return how many trajectories to advance side by side; adaptive ones on a CPU need not wait for others."""
        if like.device.type != "cpu":
            return len(like)
        return 1 if self.courant is not None else max(1, POINTS_IN_CACHE // like[0, 0].numel())

    def _orography_like(self, state: Tensor) -> Tensor | None:
        if self.orography is None:
            return None
        ground = self.orography.to(state)
        space = tuple(state.shape[-2:])
        allowed = (space, (1, *space), (len(state), *space))
        if tuple(ground.shape) not in allowed or not torch.isfinite(ground).all():
            raise ValueError(
                f"the orography has the shape {tuple(ground.shape)}; it must be finite and have the state's grid "
                f"{space}, once or for each of the {len(state)} trajectories."
            )
        return ground if ground.ndim == 3 else ground[None]


def _check_initial(state: Tensor, weights: Float64[np.ndarray, " lat"], names: Sequence[str]) -> None:
    if state.shape[1] != 3:
        raise ValueError(
            f"the initial state has the shape {tuple(state.shape)}; it must be (batch, 3, lat, lon) with the channels "
            "depth, vorticity and divergence."
        )
    check_state(state, names)
    share = torch.tensor(weights, device=state.device)[:, None] / (2 * state.shape[-1])
    rates = state[:, DEPTH + 1 :].double()
    mean, scale = (rates * share).sum((-2, -1)), (rates.square() * share).sum((-2, -1)).sqrt()
    refuse(
        (mean.abs() > LARGEST_MEAN * scale).any(1),
        names,
        ": the initial vorticity or divergence has a mean over the sphere, and no wind has. The channels are depth "
        "(m), vorticity and divergence (1/s) at the latitudes of the equation's nodes; subtract the mean if they are.",
    )
    _check_depth(state, 0.0, names)


def _check_depth(frame: Tensor, time: float, names: Sequence[str]) -> None:
    lowest = frame[:, DEPTH].flatten(1).amin(1)
    refuse(
        lowest <= 0,
        names,
        f": the depth falls to {{lowest:.3g}} at t = {time:g}; it must be positive everywhere. Use deeper "
        "fluid, weaker flow or, over mountains, a smoother orography.",
        lowest=lowest,
    )

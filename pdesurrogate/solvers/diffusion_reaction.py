"""Diffusion and reaction of an activator and an inhibitor between walls: the FitzHugh-Nagumo equations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pdesurrogate.fields import Axis, Field
from pdesurrogate.fields.fourier import cosine_transform, cosine_wavenumbers, inverse_cosine_transform

from . import EQUATIONS
from .equation import check_state
from .option_checks import check_lengths, check_not_negative, check_numbers, check_positive
from .time_march import TimeMarch, check_courant, check_times, steps_between

Laplacian = Literal["spectral", "five_point"]
AXIS_NAMES = "zyx"
_RK4_REAL_LIMIT = 2.785  # RK4 is stable for decay up to this, and for waves up to 2√2


@EQUATIONS.register("diffusion_reaction")
@dataclass(frozen=True)
class DiffusionReaction:
    """``∂u/∂t = D_u Δu + r (u - u³ - k - v)``, ``∂v/∂t = D_v Δv + r (u - v)``; no flux through the walls.

    Activator u and inhibitor v at the centres of cells. The cosines between walls are eigenvectors of both Laplace
    operators on offer, so that diffusion is integrated exactly in time, and reactions at the points, by an exponential
    integrator (ETDRK4). States are ``(batch, 2, *space)``; computation follows the dtype (float32 or
    float64) and device of the initial state. No trajectory depends on its neighbours in the batch.

    ``"spectral"`` takes the eigenvalues ``-κ²`` of the differential operator: the error of the grid falls faster than
    any power where the solution is smooth, and it is the better choice there. ``"five_point"`` takes those of the
    finite-volume stencil (of second order), ``-(2 - 2 cos κΔx)/Δx²``: up to the time step it is the scheme of PDEBench.
    The two differ where a field varies from point to point. PDEBench's start, white noise on the points, is of that
    kind: its energy is a matter of the grid, no discretisation converges, and only ``"five_point"`` on its grid gives
    its flow. From that start the two differ by 27 % of u at t = 0.05 and by 1.8 % at t = 5, on 128² points.

    Attributes:
        activator_diffusivity: D_u >= 0, length²/time.
        inhibitor_diffusivity: D_v >= 0.
        threshold: k.
        rate: r >= 0 of the reactions, 1/time; 0 leaves diffusion alone.
        dt: time step; it must divide the time between frames. The longest step if ``courant`` is given.
        courant: step times the largest rate of the reactions, of adaptive steps, chosen for each trajectory by
            itself; None: every step is ``dt``.
        laplacian: ``"spectral"`` or ``"five_point"``.
        lengths: sides of the box in array order; as many as there are axes, at most 3.
        origins: coordinates of their lower ends.
        integrator: ``"etdrk4"`` (fourth order), ``"cn_ab2"`` (second) or ``"cn_euler"`` (first).

    Raises:
        ValueError: if a number is out of range, or the Laplace operator or integrator unknown.

    Source: Klaasen and Troy (1984), SIAM J. Appl. Math. 44, 96; Takamoto et al. (2022), "PDEBench", appendix D.2.
    """

    activator_diffusivity: float = 1e-3
    inhibitor_diffusivity: float = 5e-3
    threshold: float = 5e-3
    rate: float = 1.0
    dt: float = 0.05
    courant: float | None = 0.5
    laplacian: Laplacian | str = "spectral"
    lengths: tuple[float, ...] = (2.0, 2.0)
    origins: tuple[float, ...] = (-1.0, -1.0)
    integrator: str = "etdrk4"

    def __post_init__(self) -> None:
        check_lengths(self.lengths, AXIS_NAMES, fewest=1)
        if len(self.origins) != len(self.lengths):
            raise ValueError(
                f"lengths are {self.lengths} and origins {self.origins}; give one of both for each axis."
            )
        check_not_negative(
            activator_diffusivity=self.activator_diffusivity,
            inhibitor_diffusivity=self.inhibitor_diffusivity,
            rate=self.rate,
        )
        check_positive(dt=self.dt)
        check_numbers(threshold=self.threshold)
        if self.laplacian not in get_args(Laplacian):
            raise ValueError(
                f"laplacian is {self.laplacian!r}; allowed: {', '.join(map(repr, get_args(Laplacian)))}."
            )
        check_courant(self.integrator, self.courant)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Activator and inhibitor."""
        return Field("activator", long_name="activator"), Field("inhibitor", long_name="inhibitor")

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The box, sampled at the centres of cells."""
        names = AXIS_NAMES[-len(self.lengths) :]
        return tuple(
            Axis(name, length, "wall", origin=origin, offset=0.5)
            for name, length, origin in zip(names, self.lengths, self.origins, strict=True)
        )

    def frames(
        self,
        state: Float[Tensor, "batch 2 *space"],
        times: Sequence[float],
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch 2 *space"]]:
        """Yield activator and inhibitor at one time after the other, with the memory of one state.

        Args:
            state: u and v at t = 0.
            times: increasing times from 0 on; multiples of dt apart if steps are fixed.
            names: what messages call the trajectories; 0, 1, .. by default.

        Raises:
            ValueError: for a state of another shape or dtype, or that is not finite; for times that dt does not
                divide; and, naming trajectory and time, if dt exceeds the stability bound of the reactions or the
                state is not finite any more.
        """
        self.check_times(times)
        names = [str(i) for i in range(len(state))] if names is None else names
        self._check_initial(state, names)
        dims = tuple(range(2, state.ndim))
        march = TimeMarch(
            self.integrator,
            self._diffusion(state),
            self.dt,
            state.dtype,
            tendency=lambda a: cosine_transform(self._reaction(inverse_cosine_transform(a, dims)), dims),
            frequency=lambda a: self._largest_rate(inverse_cosine_transform(a, dims)),
            names=names,
            courant=self.courant,
            is_real=True,
            limited_by="its fastest reaction",
        )
        amplitudes, now = cosine_transform(state, dims), 0.0
        for time in times:
            amplitudes = march.advance(amplitudes, now, time)
            yield inverse_cosine_transform(amplitudes, dims) if time > 0 else state
            now = time

    def check_times(self, times: Sequence[float]) -> None:
        """Refuse times that cannot be reached.

        Raises:
            ValueError: if times do not increase from 0 on, or steps are fixed and dt does not divide them.
        """
        if self.courant is None:
            steps_between(times, self.dt)
        else:
            check_times(times)

    def _reaction(self, state: Float[Tensor, "batch 2 *space"]) -> Float[Tensor, "batch 2 *space"]:
        u, v = state.unbind(1)
        return self.rate * torch.stack([u - u.pow(3) - self.threshold - v, u - v], dim=1)

    def _largest_rate(self, state: Float[Tensor, "batch 2 *space"]) -> Float[Tensor, " batch"]:
        """Return a bound of the reactions' eigenvalues, ``r (max|1 - 3u²| + 1)``, as a wave's frequency.

        A wave is what stability bounds are stated for; reactions decay, where RK4's bound is a little smaller.
        """
        largest = (1 - 3 * state[:, 0].square()).abs().flatten(1).amax(1) + 1
        return self.rate * largest * (2 * math.sqrt(2) / _RK4_REAL_LIMIT)

    def _diffusion(self, like: Float[Tensor, "batch 2 *space"]) -> Float64[Tensor, "2 *modes"]:
        """Return what diffusion multiplies each cosine of u and v with."""
        eigenvalues = torch.zeros((), dtype=torch.float64, device=like.device)
        for size, length in zip(like.shape[2:], self.lengths, strict=True):
            kappa, dx = cosine_wavenumbers(size, length, device=like.device), length / size
            along = -kappa.square() if self.laplacian == "spectral" else (2 * (kappa * dx).cos() - 2) / dx**2
            eigenvalues = eigenvalues[..., None] + along
        return torch.stack(
            [self.activator_diffusivity * eigenvalues, self.inhibitor_diffusivity * eigenvalues]
        )

    def _check_initial(self, state: Tensor, names: Sequence[str]) -> None:
        if state.ndim != 2 + len(self.lengths) or state.shape[1] != 2 or min(state.shape[2:]) < 2:
            raise ValueError(
                f"the initial state has the shape {tuple(state.shape)}; needed is (batch, 2, "
                f"{', '.join(axis.name for axis in self.axes)}), with at least 2 points an axis."
            )
        check_state(state, names)

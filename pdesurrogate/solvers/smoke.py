"""Buoyant smoke in a box: the incompressible Boussinesq equations on a staggered grid, in two or three dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from pdesurrogate.fields import Axis, Field
from pdesurrogate.registry import did_you_mean

from . import EQUATIONS
from .equation import check_state, refuse
from .inflow import Inflow
from .option_checks import check_lengths, check_not_negative, check_positive, numbers_of_each
from .smoke_steps import SmokePhysics, balanced_step, pdearena_step, second_order_step
from .staggered import Faces, StaggeredBox, Top
from .time_march import steps_between

Order = Literal["balanced", "pdearena"]
Scheme = Literal["second_order", "semi_lagrangian"]
Walls = Literal["no_slip", "free_slip"]

STEPS = {
    ("pdearena", "semi_lagrangian"): pdearena_step,
    ("balanced", "semi_lagrangian"): balanced_step,
    ("balanced", "second_order"): second_order_step,
}


@EQUATIONS.register("smoke")
@dataclass(frozen=True)
class Smoke:
    """``∂ρ/∂t + u·∇ρ = κ Δρ``, ``∂u/∂t + u·∇u = -∇p + ν Δu + b ρ ê``, ``div u = 0``, with ê upwards.

    Up is the first axis of space: y of ``(y, x)``, z of ``(z, y, x)``. States are ``(batch, 1 + dimension, *space)``:
    the density ρ at cell centres, then the velocity components in the order x, y[, z], each on the *lower* faces of
    cells along its own axis. Index 0 along that axis is the wall (0), and the last face is left out: it is the
    opposite wall, or follows from continuity at an open top. So the state is complete and solutions can be continued
    from any frame. The arrays of PDEArena are this state with the axes (x, y), those of FactFormer with the axes (x,
    y, z, component): transposing space makes them ours.

    Marker-and-cell grid (`StaggeredBox`), semi-Lagrangian transport, explicit viscosity, exact projection by cosine
    transforms in float64; any Courant number is stable. Computation follows the dtype (float32 or float64) and device
    of the state. No trajectory depends on its neighbours in the batch.

    Uniform smoke at rest stays at rest in the order ``"balanced"``. PDEArena applies viscosity between buoyancy and
    projection, so that in its files uniform smoke sets off a flow along the side walls; ``"pdearena"`` reproduces them.
    Density never becomes negative; linear interpolation also keeps it below its maximum, cubic interpolation overshoots
    a little beside sharp edges. Neither conserves mass: between walls the mean density drifts with the errors of step
    and grid, and what is conserved is what the equation conserves only in their limit.

    Attributes:
        buoyancy: acceleration b of a unit of density, one for all or one a trajectory.
        viscosity: ν >= 0, length²/time.
        dt: time step, which must divide the time between frames. The default is for PDEArena's box and flow.
        lengths: sides of the box, ``(L_y, L_x)`` or ``(L_z, L_y, L_x)``; they say how many dimensions there are.
        diffusivity: κ >= 0, length²/time.
        order: of the operators within a step: ``"balanced"`` or ``"pdearena"`` (transport, buoyancy, viscosity,
            projection).
        scheme: ``"second_order"`` in space and time in smooth flow, or ``"semi_lagrangian"``: Euler steps and linear
            interpolation, of first order, as in PDEArena.
        walls: ``"no_slip"`` or ``"free_slip"``; fluid sticks half a cell beyond the wall in the order ``"pdearena"``.
        top: ``"wall"``, or ``"open"``: p = 0 there, smoke leaves and clean air may enter.
        inflow: smoke that enters through a disc in the bottom; needs an open top.

    Raises:
        ValueError: for a number out of range, an unknown name, ``order="pdearena"`` with another scheme or with walls
            that do not hold the fluid, or an inflow that cannot leave.
    """

    buoyancy: float | Float[Tensor, " batch"] = 0.5
    viscosity: float = 0.01
    dt: float = 0.1
    lengths: tuple[float, ...] = (32.0, 32.0)
    diffusivity: float = 0.0
    order: Order = "balanced"
    scheme: Scheme = "second_order"
    walls: Walls = "no_slip"
    top: Top = "wall"
    inflow: Inflow | None = None

    def __post_init__(self) -> None:
        check_lengths(self.lengths, "zyx", fewest=2)
        check_positive(dt=self.dt)
        check_not_negative(viscosity=self.viscosity, diffusivity=self.diffusivity)
        numbers_of_each("buoyancy", self.buoyancy)
        for name, allowed in (("order", Order), ("scheme", Scheme), ("walls", Walls), ("top", Top)):
            _check_choice(name, getattr(self, name), get_args(allowed))
        self._check_combination()

    @property
    def fields(self) -> tuple[Field, ...]:
        """The density at cell centres, and the velocity on lower faces."""
        return (
            Field("density", long_name="density of smoke at cell centres"),
            Field(
                "velocity",
                kind="vector",
                components=tuple("xyz"[: len(self.lengths)]),
                long_name="velocity, each component on the lower faces of cells along its axis",
                is_on_faces=True,
            ),
        )

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The box, with the coordinates of cell centres; velocity components lie half a cell below along their axis."""
        names = "zyx"[-len(self.lengths) :]
        boundaries = (self.top, *["wall"] * (len(self.lengths) - 1))
        return tuple(
            Axis(name, length, boundary, offset=0.5)  # type: ignore[arg-type]
            for name, length, boundary in zip(names, self.lengths, boundaries, strict=True)
        )

    def frames(
        self,
        state: Float[Tensor, "batch channel *space"],
        times: Sequence[float],
        names: Sequence[str] | None = None,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield density and velocity at one time after the other, with the memory of a few states.

        Args:
            state: at time 0. A velocity with divergence is transported as it is; `project` removes it beforehand.
            times: increasing, from 0 on, multiples of dt apart.
            names: what messages call the trajectories; 0, 1, .. by default.

        Raises:
            ValueError: for times that dt does not divide; for a state of another dimension, number of channels or
                dtype, of fewer than 4 cells an axis, with values that are not finite, a negative density or a flow
                through walls; for another number of buoyancies than trajectories; for a dt above the stability bound
                of viscosity; and, naming trajectory and time, as soon as the state is not finite any more.
        """
        names = [str(i) for i in range(len(state))] if names is None else names
        counts = steps_between(times, self.dt)
        self._check_state(state, names)
        physics = self._physics(state)
        self._check_walls(physics.box, state, names)
        step = STEPS[self.order, self.scheme]
        density, faces = state[:, 0], physics.box.faces_of(state[:, 1:])
        taken, now = 0, 0.0
        for time, count in zip(times, counts, strict=True):
            for _ in range(count):
                density, faces = step(physics, density, faces, self.dt, taken * self.dt)
                taken += 1
                _check_finite(density, faces, now, time, names, self.dt)
            now = time
            yield torch.cat([density[:, None], physics.box.velocity_of(faces)], 1)

    def project(self, state: Float[Tensor, "batch channel *space"]) -> Float[Tensor, "batch channel *space"]:
        """Return a state whose velocity has no divergence, and on the bottom the speed of the inflow.

        Raises:
            ValueError: for a state of another dimension, number of channels or dtype, or that is not finite.
        """
        self._check_form(state)
        check_state(state)
        box = self._box(state)
        faces = box.faces_of(state[:, 1:])
        for axis, component in enumerate(faces):
            box.set_walls(component, torch.zeros_like(component), axis)
        faces[0][:, 0] = self._speed_of_inflow(state)
        return torch.cat([state[:, :1], box.velocity_of(box.project(faces))], 1)

    def _box(self, like: Tensor) -> StaggeredBox:
        slip = 0.0 if self.order == "pdearena" else {"no_slip": -1.0, "free_slip": 1.0}[self.walls]
        return StaggeredBox(tuple(like.shape[2:]), self.lengths, self.top, slip, like.device)

    def _physics(self, state: Tensor) -> SmokePhysics:
        buoyancy = torch.as_tensor(self.buoyancy, dtype=state.dtype, device=state.device)
        if buoyancy.ndim and buoyancy.shape != state.shape[:1]:
            raise ValueError(f"{buoyancy.numel()} buoyancies were given for {len(state)} trajectories.")
        box = self._box(state)
        bound = 0.5 / max(sum(1 / h**2 for h in box.spacings), 1e-300)
        for name, rate in (("viscosity", self.viscosity), ("diffusivity", self.diffusivity)):
            if rate * self.dt > bound:
                raise ValueError(
                    f"dt = {self.dt:g} exceeds the stability bound {bound / rate:.3g} of the {name} {rate:g} on this "
                    "grid. Use a smaller dt that divides the time between frames, or a coarser grid."
                )
        inlet = None
        if self.inflow is not None:
            inflow, grid = self.inflow, box.grid[1:]
            share = inflow.share(grid, self.lengths[1:]).to(state)[None]
            inflow.density_at(0.0, len(state), grid)

            def inlet(time: float) -> tuple[Tensor, Tensor]:
                return share, inflow.density_at(time, len(state), grid).to(state)

        ones = [1] * len(box.grid)
        return SmokePhysics(
            box, self.viscosity, self.diffusivity, buoyancy.expand(len(state)).view(-1, *ones), inlet
        )

    def _speed_of_inflow(self, state: Tensor) -> Float[Tensor, "*cells"]:
        grid = state.shape[3:]
        if self.inflow is None:
            return state.new_zeros(grid)
        return self.inflow.speed * self.inflow.share(grid, self.lengths[1:]).to(state)

    def _check_combination(self) -> None:
        if (self.order, self.scheme) not in STEPS:
            raise ValueError(
                f"order = 'pdearena' is that of a first-order scheme and scheme is {self.scheme!r}. Use scheme = "
                "'semi_lagrangian' with it, or order = 'balanced'."
            )
        if self.order == "pdearena" and self.walls != "no_slip":
            raise ValueError(
                f"walls are {self.walls!r} and PDEArena's hold the fluid. Use order = 'balanced' for other walls."
            )
        if self.inflow is not None and self.top != "open":
            raise ValueError(
                "there is an inflow and the top is a wall: what enters must leave. Use top = 'open'."
            )

    def _check_form(self, state: Tensor) -> None:
        ndim = len(self.lengths)
        if state.ndim != 2 + ndim or state.shape[1] != 1 + ndim or min(state.shape[2:]) < 4:
            axes = ", ".join(axis.name for axis in self.axes)
            raise ValueError(
                f"the initial state has the shape {tuple(state.shape)}. A box in {ndim} dimensions needs (batch, "
                f"{1 + ndim}, {axes}) with density and {ndim} components of velocity, and at least 4 cells an axis."
            )

    def _check_state(self, state: Tensor, names: Sequence[str]) -> None:
        self._check_form(state)
        check_state(state, names)
        lowest = state[:, 0].flatten(1).amin(1)
        refuse(
            lowest < 0,
            names,
            ": the initial state has the negative density {lowest:.3g}. Densities must not be negative.",
            lowest=lowest,
        )

    def _check_walls(self, box: StaggeredBox, state: Tensor, names: Sequence[str]) -> None:
        speed = self._speed_of_inflow(state)
        for axis in range(box.ndim):
            name = self.axes[axis].name
            component = state[:, box.ndim - axis]
            wall = component.select(axis + 1, 0) - (speed if axis == 0 else 0.0)
            worst = wall.abs().flatten(1).amax(1)
            scale = state[:, 1:].abs().flatten(1).amax(1)
            what = "an inflow of another speed" if axis == 0 and self.inflow is not None else "a wall"
            refuse(
                worst > 1e-5 * scale,
                names,
                f": the initial velocity_{name} is {{worst:.3g}} off at index 0 of {name}, which is {what}. "
                "Components live on lower faces and index 0 is the boundary; project(state) sets it.",
                worst=worst,
            )


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(
            f"{name} is {value!r}.{did_you_mean(str(value), allowed)} Allowed: {', '.join(allowed)}."
        )


def _check_finite(
    density: Tensor, faces: Faces, start: float, end: float, names: Sequence[str], dt: float
) -> None:
    sums = [part.double().flatten(1).sum(1) for part in (density, *faces)]
    refuse(
        ~torch.isfinite(torch.stack(sums).sum(0)),
        names,
        f" became NaN or infinite between t = {start:g} and t = {end:g} with dt = {dt:g}. Use a smaller dt, or "
        "float64.",
    )

"""One time step of buoyant smoke, in the schemes that `Smoke` offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .semi_lagrangian import depart, sample_component, sample_scalar
from .staggered import Faces, StaggeredBox

Inlet = Callable[[float], tuple[Float[Tensor, "#batch *layer"], Float[Tensor, "#batch *layer"]]]


@dataclass(frozen=True)
class SmokePhysics:
    """What acts on the smoke in a box, beside its own pressure.

    Attributes:
        box: the cells.
        viscosity: of the fluid.
        diffusivity: of the smoke.
        buoyancy: acceleration a unit of density, one a trajectory, broadcastable to a component.
        inlet: ``(share, density)`` of the inflow at a time, or None.
    """

    box: StaggeredBox
    viscosity: float
    diffusivity: float
    buoyancy: Float[Tensor, "batch *ones"]
    inlet: Inlet | None = None

    def pushed(self, faces: Faces, density: Float[Tensor, "batch *cells"], dt: float) -> Faces:
        """Return the velocity after a push by buoyancy, on the faces between cells and on an open top."""
        force = 0.5 * (density[:, 1:] + density[:, :-1])
        # Nothing pushes on the bottom; the air above an open top has the last cell's smoke.
        last = density[:, -1:] if self.box.top == "open" else torch.zeros_like(density[:, -1:])
        force = torch.cat([torch.zeros_like(last), force, last], 1)
        return [faces[0] + dt * self.buoyancy * force, *faces[1:]]

    def diffused(self, faces: Faces, dt: float, of: Faces | None = None) -> Faces:
        """Return ``v + ν dt Δw`` with w the velocity itself, or another one."""
        if self.viscosity == 0:
            return faces
        rate = self.viscosity * dt
        shapes = faces if of is None else of
        return [
            v + rate * self.box.laplacian(w, axis)
            for axis, (v, w) in enumerate(zip(faces, shapes, strict=True))
        ]

    def spread(self, density: Tensor, dt: float, of: Tensor | None = None) -> Tensor:
        """Return ``ρ + κ dt Δσ`` with σ the density itself, or another one."""
        if self.diffusivity == 0:
            return density
        return density + self.diffusivity * dt * self.box.laplacian(density if of is None else of, None)

    def incoming(self, time: float) -> tuple[Tensor, Tensor] | None:
        """Return the inflow at a time."""
        return None if self.inlet is None else self.inlet(time)

    def transported(self, faces: Faces, displacements: list[list[Tensor]], *, cubic: bool) -> Faces:
        """Return each component at its departure points; walls keep their velocity."""
        moved = []
        for axis, (v, displacement) in enumerate(zip(faces, displacements, strict=True)):
            sampled = sample_component(self.box, v, axis, displacement, cubic=cubic)
            self.box.set_walls(sampled, v, axis)
            moved.append(sampled)
        return moved


def pdearena_step(
    physics: SmokePhysics, density: Tensor, faces: Faces, dt: float, now: float
) -> tuple[Tensor, Faces]:
    """Advance as PDEArena's generator does: transport, buoyancy, viscosity, projection, each of first order.

    Viscosity acts on what buoyancy has done and the pressure has not yet undone; beside side walls that
    leaves a flow, so that uniform smoke does not stay at rest.
    """
    source = depart(physics.box, faces, dt, midpoint=False)
    density = sample_scalar(physics.box, density, source.centres, inflow=physics.incoming(now + dt))
    faces = physics.pushed(physics.transported(faces, source.faces, cubic=False), density, dt)
    faces = physics.box.project(physics.diffused(faces, dt))
    return physics.spread(density, dt), faces


def balanced_step(
    physics: SmokePhysics, density: Tensor, faces: Faces, dt: float, now: float
) -> tuple[Tensor, Faces]:
    """Advance by transport, viscosity, buoyancy, projection: of first order, and still air stays still."""
    source = depart(physics.box, faces, dt, midpoint=False)
    density = sample_scalar(physics.box, density, source.centres, inflow=physics.incoming(now + dt))
    density = physics.spread(density, dt)
    faces = physics.diffused(physics.transported(faces, source.faces, cubic=False), dt)
    return density, physics.box.project(physics.pushed(faces, density, dt))


def second_order_step(
    physics: SmokePhysics, density: Tensor, faces: Faces, dt: float, now: float
) -> tuple[Tensor, Faces]:
    """Advance by the trapezoidal rule along midpoint trajectories: of second order in time and space.

    A first-order half step gives the velocity that transports, and a pressure gradient. Then
    ``v' = P[A(v + dt/2 (F - ∇p)) + dt/2 (F' - ∇p)]`` with F buoyancy and viscosity, A transport over dt by
    the midpoint rule and cubic interpolation, P the projection. The error of ∇p is a gradient to leading order, which P
    removes. At the end, ``F'`` takes viscosity of a second-order prediction (Heun).
    """
    half = 0.5 * dt
    source = depart(physics.box, faces, half, midpoint=False)
    middle = sample_scalar(
        physics.box, density, source.centres, cubic=True, inflow=physics.incoming(now + half)
    )
    guess = physics.diffused(physics.transported(faces, source.faces, cubic=True), half)
    guess = physics.pushed(guess, middle, half)
    carrier = physics.box.project(guess)
    kick = [raw - solenoidal for raw, solenoidal in zip(guess, carrier, strict=True)]

    source = depart(physics.box, carrier, dt, midpoint=True)
    before = physics.diffused(physics.pushed(faces, density, half), half, of=faces)
    before = [v - gradient for v, gradient in zip(before, kick, strict=True)]
    density = sample_scalar(
        physics.box,
        physics.spread(density, half),
        source.centres,
        cubic=True,
        inflow=physics.incoming(now + half),
    )
    density = physics.spread(density, half, of=physics.spread(density, half))
    after = physics.pushed(physics.transported(before, source.faces, cubic=True), density, half)
    after = [v - gradient for v, gradient in zip(after, kick, strict=True)]
    after = physics.diffused(after, half, of=physics.diffused(after, half))
    return density, physics.box.project(after)

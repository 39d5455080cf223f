"""The solver that made the data, as a yardstick: what it costs at equal error, and how its own errors grow.

A data set that was generated here says how, and the solver can go on from its frames on any grid. Three questions are
put to it:

- **Speed-up.** Which is the coarsest grid on which the solver errs no more than the surrogate, and how long does a
  frame take it there? To compare with the solver at the resolution of the data would flatter every surrogate:
  McGreivy and Hakim 2024, Nature Machine Intelligence 6, 1256, "Weak baselines and reporting biases lead to
  overoptimism in machine learning for fluid-related partial differential equations".
- **A twin.** How do two solutions part that differ by as much as the surrogate errs in one step? A rollout whose error
  grows like that errs once and then follows the physics; one that grows faster goes on erring.
- **Symmetry.** Does the equation, with its forcing, commute with shifts, turns and mirror images?

The last two need frames that are whole states.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.split_files import differences
from ..data.store import StoredTrajectories
from ..data.trajectories import Trajectories
from ..fields import DataSpec
from ..fields.regridding import regrid
from ..metrics import MetricTable, relative_l2
from ..solvers import GENERATORS
from ..solvers.generator import ContinuableGenerator, MarchedEquation
from .cost import finish
from .truth import Truth

MOST_TRAJECTORIES = 4  # solved for the yardstick: every one costs as much as it did to generate
COARSEST = 8


@dataclass(frozen=True)
class Reference:
    """The solver of a data set.

    Attributes:
        generator: the ensemble that the data are of.
        spec: of the data, with the time between frames.
        first: number of the test split's first trajectory in the ensemble.
        solver_dt: time step of the solver; None where steps are adaptive.
    """

    generator: ContinuableGenerator
    spec: DataSpec
    first: int
    solver_dt: float | None

    def start(
        self,
        frame: Float[Tensor, "batch channel *space"],
        indices: Sequence[int],
        grid: Sequence[int],
        frames_before: int = 0,
    ) -> tuple[MarchedEquation, Tensor]:
        """Return the equation of some test trajectories and its state on a grid.

        Args:
            frame: of these trajectories, on any grid.
            indices: which.
            grid: of the state.
            frames_before: how many frames of the data come before that frame.

        Raises:
            ValueError: if the solver cannot go on from such frames, or not on this grid.
        """
        return self.generator.continued(
            frame,
            [self.first + i for i in indices],
            elapsed=frames_before * self.spec.dt,
            grid=grid,
            dt=self.step_on(grid),
        )

    def solve(
        self, equation: MarchedEquation, state: Tensor, indices: Sequence[int], steps: int
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the ``steps`` states that follow.

        Raises:
            ValueError: as soon as the solution is not finite any more.
        """
        times = [self.spec.dt * n for n in range(steps + 1)]
        states = equation.frames(state, times, [str(i) for i in indices])
        next(states)  # the state itself
        yield from states

    def forecast(
        self,
        frame: Float[Tensor, "batch channel *space"],
        indices: Sequence[int],
        steps: int,
        frames_before: int = 0,
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the ``steps`` frames that follow a frame, solved on its own grid.

        Raises:
            ValueError: as `start` and `solve`.
        """
        grid = tuple(frame.shape[2:])
        for state in self.solve(*self.start(frame, indices, grid, frames_before), indices, steps):
            yield self.generator.seen(state, grid)

    def step_on(self, grid: Sequence[int]) -> float | None:
        """Return the time step on a grid: as many times the solver's as the grid is coarser, and a divisor of dt."""
        if self.solver_dt is None:
            return None
        ratio = max(1.0, min(self.generator.solve_grid) / min(grid))
        return self.spec.dt / math.ceil(self.spec.dt / (self.solver_dt * ratio) * (1 - 1e-9))


@dataclass(frozen=True)
class SolverRun:
    """The solver on one grid.

    Attributes:
        grid: points along each axis.
        dt: its time step; None where steps are adaptive.
        errors: relative L2 error of each trajectory over the rollout; infinite where it became unstable.
        ms_per_frame: median wall-clock time of a frame of one trajectory, in milliseconds.
    """

    grid: tuple[int, ...]
    dt: float | None
    errors: Float[Tensor, " sample"]
    ms_per_frame: float

    @property
    def error(self) -> float:
        """Mean over trajectories."""
        return float(self.errors.mean())


def find_reference(section: Mapping[str, Any], stored: Trajectories, spec: DataSpec) -> Reference | str:
    """Return the solver of a data set, or the reason why there is none, in a sentence.

    Args:
        section: the ``data`` section of a configuration, whose ``generator`` says how the set was made.
        stored: the test split.
        spec: of the data, with the time step of the surrogate.
    """
    options = dict(section.get("generator") or {})
    options.pop("num_trajectories", None)
    if "kind" not in options or not isinstance(stored, StoredTrajectories):
        return "The data set does not say which solver made it."
    kind = options.pop("kind")
    generator = GENERATORS.build(kind, **options)
    if not isinstance(generator, ContinuableGenerator):
        return f"The solver of {kind} data does not go on from their frames."
    if changed := differences(stored, generator):
        return (
            f"The configured solver is not the one that made the test file: {'; '.join(changed)}. "
            "Name the data set (data=NAME) and give data.generator the options that it was generated with."
        )
    first = int(stored.attributes["first_trajectory"])
    frame = torch.from_numpy(stored.frames(0, 0, 1))
    try:
        equation, _ = generator.continued(frame, [first], elapsed=0.0, grid=stored.grid)
    except ValueError as error:
        return f"{str(error)[0].upper()}{str(error)[1:]}"
    return Reference(generator, spec, first, equation.dt)


@torch.no_grad()
def solver_curve(
    reference: Reference, stored: Truth, home: Truth, horizon: int, enough: float
) -> list[SolverRun]:
    """Run the solver on coarse grids and finer ones until it errs less than is ``enough``.

    Every run starts from the stored frame that rollouts start from, on the solver's grid, and is compared with the
    truth on the surrogate's.

    Args:
        reference: the solver.
        stored: the test trajectories as stored.
        home: the same on the grid of the comparison.
        horizon: frames of a rollout.
        enough: the smallest error of a surrogate, beyond which no finer grid is of interest.
    """
    runs: list[SolverRun] = []
    for grid in solver_grids(stored.grid):
        runs.append(_run(reference, stored, home, grid, horizon))
        if runs[-1].error <= enough:
            break
    return runs


def solver_grids(stored: Sequence[int]) -> list[tuple[int, ...]]:
    """Return grids of the stored shape from `COARSEST` points an axis to the stored ones: 8, 12, 16, 24, 32, .."""
    smallest = min(stored)
    sizes = sorted(
        {size for n in range(3, 16) for size in (2**n, 3 * 2 ** (n - 1)) if COARSEST <= size < smallest}
    )
    return [
        *(tuple(max(COARSEST, 2 * round(n * size / smallest / 2)) for n in stored) for size in sizes),
        tuple(stored),
    ]


def _run(reference: Reference, stored: Truth, home: Truth, grid: tuple[int, ...], horizon: int) -> SolverRun:
    errors, seconds = [], []
    for trajectory in home.indices[:MOST_TRAJECTORIES]:
        frame = stored.frames([trajectory], home.lead_in - 1, home.lead_in)[:, 0]
        error = torch.zeros(())
        try:
            start = reference.start(frame, [trajectory], grid, home.lead_in - 1)
            solution = reference.solve(*start, [trajectory], horizon)
            for target in home.after_lead_in([trajectory], horizon):
                finish(home.device)
                begin = time.perf_counter()
                state = next(solution)
                finish(home.device)
                seconds.append(time.perf_counter() - begin)
                found = regrid(
                    reference.generator.seen(state, stored.grid), reference.spec, home.grid, home.regridding
                )
                distance = relative_l2(found[:, None], target[:, None], reference.spec).mean()
                error = error + distance.cpu() / horizon
        except ValueError:
            error = torch.tensor(math.inf)  # unstable on this grid, or too coarse for the solver
        errors.append(error)
    return SolverRun(
        grid,
        reference.step_on(grid),
        torch.stack(errors).double().nan_to_num(nan=math.inf),
        1e3 * statistics.median(seconds or [math.nan]),
    )


def coarsest_reaching(runs: Sequence[SolverRun], error: float) -> SolverRun | None:
    """Return the coarsest run that errs no more than ``error``; None if none does."""
    return next((run for run in runs if run.error <= error), None)


@torch.no_grad()
def twin_errors(reference: Reference, home: Truth, horizon: int, size: float) -> MetricTable | None:
    """Return by how much two solutions differ, by trajectory, lead time and field, relative to the undisturbed one.

    One is started a step away towards the next test trajectory's first frame, or towards the last of its own if that is
    not far enough, so that their relative L2 error is ``size``, mean over fields. What lies between two states of the
    flow is as smooth as they are, holds no negative density and flows through no wall.

    None if neither is as far as that, where frames are no whole states, and on a grid that does not carry the solution.
    """
    if not reference.generator.has_whole_states:
        return None
    spec = reference.spec
    table = MetricTable([f.name for f in spec.forecast_fields])
    chosen = home.indices[:MOST_TRAJECTORIES]
    before = home.lead_in - 1
    starts = {i: home.frames([i], before, before + 1)[:, 0] for i in chosen}
    for place, trajectory in enumerate(chosen):
        start = starts[trajectory]
        last = home.frames([trajectory], home.num_frames - 1, home.num_frames)[:, 0]
        for other in (starts[chosen[(place + 1) % len(chosen)]], last):
            apart = float(relative_l2(other[:, None], start[:, None], spec).mean())
            if size <= apart < math.inf:
                break
        else:
            return None
        moved = torch.lerp(start, other, size / apart)
        pair = [reference.forecast(frame, [trajectory], horizon, before) for frame in (start, moved)]
        try:
            for lead, (undisturbed, disturbed) in enumerate(zip(*pair, strict=True)):
                errors = relative_l2(disturbed[:, None], undisturbed[:, None], spec)
                table.add([trajectory], errors, first_lead=lead)
        except ValueError:  # this grid does not carry the solution
            return None
    return table

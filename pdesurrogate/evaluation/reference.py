"""The solver that made the data, as a yardstick: what it costs at equal error, and how its own errors grow.

A data set that was generated here says how, and where its frames are whole states of the equation the solver can go on
from any of them, on any grid. Three questions are put to it:

- **Speed-up.** Which is the coarsest grid on which the solver errs no more than the surrogate, and how long does a
  frame take it there? To compare with the solver at the resolution of the data would flatter every surrogate:
  McGreivy and Hakim 2024, Nature Machine Intelligence 6, 1256, "Weak baselines and reporting biases lead to
  overoptimism in machine learning for fluid-related partial differential equations".
- **A twin.** How do two solutions part that differ by as much as the surrogate errs in one step? A rollout whose error
  grows like that errs once and then follows the physics; one that grows faster goes on erring.
- **Symmetry.** Does the equation, with its forcing, commute with shifts, turns and mirror images?
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
from ..metrics import MetricTable, relative_l2
from ..solvers import GENERATORS
from ..solvers.generator import ContinuableGenerator
from .contenders import can_resample, on_other_grid
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
        solver_dt: time step of the solver.
        solve_grid: points an axis on which the data were solved.
    """

    generator: ContinuableGenerator
    spec: DataSpec
    first: int
    solver_dt: float
    solve_grid: int

    def solve(
        self, state: Float[Tensor, "batch channel *space"], indices: Sequence[int], steps: int, dt: float
    ) -> Iterator[Float[Tensor, "batch channel *space"]]:
        """Yield the ``steps`` frames that follow a state of some test trajectories, on the grid of the state.

        Raises:
            ValueError: as soon as the solution is not finite any more.
        """
        equation = self.generator.equation([self.first + i for i in indices], dt)
        times = [self.spec.dt * n for n in range(steps + 1)]
        frames = equation.frames(state, times, [str(i) for i in indices])
        next(frames)  # the state itself
        yield from frames

    def step_on(self, grid: Sequence[int]) -> float:
        """Return the time step on a grid: as many times the solver's as the grid is coarser, and a divisor of dt."""
        ratio = max(1.0, self.solve_grid / min(grid))
        return self.spec.dt / math.ceil(self.spec.dt / (self.solver_dt * ratio) * (1 - 1e-9))


@dataclass(frozen=True)
class SolverRun:
    """The solver on one grid.

    Attributes:
        grid: points along each axis.
        dt: its time step.
        errors: relative L2 error of each trajectory over the rollout; infinite where it became unstable.
        ms_per_frame: median wall-clock time of a frame of one trajectory, in milliseconds.
    """

    grid: tuple[int, ...]
    dt: float
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
    generator = GENERATORS.build(options.pop("kind"), **options)
    if not isinstance(generator, ContinuableGenerator) or not can_resample(generator.spec):
        return "Frames of this data set are not states from which its solver can go on."
    if changed := differences(stored, generator):
        return f"The configured solver is not the one that made the test file: {'; '.join(changed)}."
    first = int(stored.attributes["first_trajectory"])
    try:
        equation = generator.equation([first])
    except ValueError as error:
        return f"{str(error)[0].upper()}{str(error)[1:]}"
    return Reference(generator, spec, first, equation.dt, int(stored.attributes["solve_grid"]))


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
    dt = reference.step_on(grid)
    errors, seconds = [], []
    for trajectory in home.indices[:MOST_TRAJECTORIES]:
        start = stored.frames([trajectory], home.lead_in - 1, home.lead_in)[:, 0]
        solution = reference.solve(on_other_grid(start, reference.spec, grid), [trajectory], horizon, dt)
        error = torch.zeros(())
        try:
            for target in home.after_lead_in([trajectory], horizon):
                finish(home.device)
                begin = time.perf_counter()
                frame = next(solution)
                finish(home.device)
                seconds.append(time.perf_counter() - begin)
                found = on_other_grid(frame, reference.spec, home.grid)
                error = (
                    error
                    + relative_l2(found[:, None], target[:, None], reference.spec).mean().cpu() / horizon
                )
        except ValueError:
            error = torch.tensor(math.inf)  # unstable on this grid
        errors.append(error)
    return SolverRun(
        grid,
        dt,
        torch.stack(errors).double().nan_to_num(nan=math.inf),
        1e3 * statistics.median(seconds or [math.nan]),
    )


def coarsest_reaching(runs: Sequence[SolverRun], error: float) -> SolverRun | None:
    """Return the coarsest run that errs no more than ``error``; None if none does."""
    return next((run for run in runs if run.error <= error), None)


@torch.no_grad()
def twin_errors(reference: Reference, home: Truth, horizon: int, size: float) -> MetricTable:
    """Return by how much two solutions differ, by trajectory, lead time and field, relative to the undisturbed one.

    The disturbance is the fluctuation of the next test trajectory's first frame (of the frame itself, moved by half the
    box, if there is one trajectory alone), scaled to the relative L2 norm ``size``: as smooth as the flow, and of no
    special place.
    """
    spec = reference.spec
    table = MetricTable([f.name for f in spec.forecast_fields])
    chosen = home.indices[:MOST_TRAJECTORIES]
    starts = {i: home.frames([i], home.lead_in - 1, home.lead_in)[:, 0] for i in chosen}
    dt = reference.step_on(home.grid)
    for place, trajectory in enumerate(chosen):
        start, other = starts[trajectory], starts[chosen[(place + 1) % len(chosen)]]
        if len(chosen) == 1:
            space = tuple(range(2, other.ndim))
            other = other.roll([other.shape[dim] // 2 for dim in space], space)
        space = tuple(range(2, start.ndim))
        disturbance = other - other.mean(space, keepdim=True)
        disturbance = disturbance * (size * start.norm() / disturbance.norm())
        pair = [reference.solve(state, [trajectory], horizon, dt) for state in (start, start + disturbance)]
        try:
            for lead, (undisturbed, disturbed) in enumerate(zip(*pair, strict=True)):
                table.add(
                    [trajectory], relative_l2(disturbed[:, None], undisturbed[:, None], spec), first_lead=lead
                )
        except ValueError:  # this grid does not carry the solution
            return MetricTable(table.fields)
    return table

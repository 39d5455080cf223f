"""A step of the smoke solver against PhiFlow, in two and three dimensions.

    python -m benchmarks.solver_smoke phiflow=FOLDER/bin/python name=solver_smoke

``phiflow`` is the interpreter of an environment with PhiFlow 2.5.3 (`smoke_peers` says how to make one); without it
ours is timed alone. Both first take some steps from the same smoke on a coarse grid in float64, PhiFlow with its
pressure solved to rounding, and must agree; then steps of both are timed, interleaved, in float32 with PhiFlow's own
tolerance, as PDEArena ran it. Ours is timed in both schemes, one trajectory at a time and several together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pdesurrogate.solvers.smoke import Smoke
from pdesurrogate.solvers.smoke_noise import SmokeNoise

from .harness import compare, interleave, require_equal
from .options import OptionError, parse_options, require_at_least_1, run_command
from .record import Record, check_name
from .smoke_peers import PhiFlowSmoke


@dataclass(frozen=True)
class Case:
    """One flow of a public set: its box, parameters and initial smoke."""

    ndim: int
    length: float
    dt: float
    viscosity: float
    scale: float
    smoothness: float
    buoyancy: float = 0.5

    def density(self, grid: int) -> Tensor:
        """Return its initial density, float64."""
        noise = SmokeNoise(self.scale, self.smoothness, (self.length,) * self.ndim)
        return noise.sample(0, 0, (grid,) * self.ndim).abs()

    def equation(self, **options: Any) -> Smoke:
        """Return its equation, in PDEArena's scheme unless options say otherwise."""
        scheme = {"order": "pdearena", "scheme": "semi_lagrangian"}
        lengths = (self.length,) * self.ndim
        return Smoke(self.buoyancy, self.viscosity, self.dt, lengths, **{**scheme, **options})


CASES = {
    "PDEArena, 2-D": Case(2, 32.0, 1.5, 0.01, 11.0, 6.0),
    "FactFormer, 3-D": Case(3, 8.0, 0.75, 0.003, 15.0, 4.0),
}


@dataclass(frozen=True)
class SmokeOptions:
    """What can be given as ``key=value``; a grid of 0 leaves its case out."""

    grid: int = 128
    grid_3d: int = 32
    check_grid: int = 16
    batch: int = 8
    steps: int = 2
    threads: int = 1
    repeats: int = 10
    phiflow: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        require_at_least_1(self, "batch", "steps", "threads", "repeats")
        for key in ("grid", "grid_3d", "check_grid"):
            value = getattr(self, key)
            if value < 4 and not (value == 0 and key != "check_grid"):
                raise OptionError(f"{key} is {value}; it must be at least 4.")
        check_name(self.name)


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the result if it has a name."""
    options = parse_options(SmokeOptions, words)
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    settings = {
        "threads": options.threads, "clock": "wall", "allocator": "default", "repeats": options.repeats,
        "precision": "float32, our pressure in float64",
    }  # fmt: skip
    # Where somebody keeps other packages is their own affair.
    shown = ["phiflow=FOLDER/bin/python" if word.startswith("phiflow=") else word for word in words]
    record = Record("solver_smoke", "A step of buoyant smoke", shown, settings)
    phases, equality = {}, {}
    for (name, case), grid in zip(CASES.items(), (options.grid, options.grid_3d), strict=True):
        if not grid:
            continue
        if options.phiflow:
            equality[name] = check_equal(name, case, options)
        title = f"{name}, {' x '.join([str(grid)] * case.ndim)}"
        phases[title] = time_steps(case, grid, options)
        print(f"{title}, milliseconds a step of one trajectory:")
        for contestant, row in phases[title].items():
            speedup = f", {row['speedup']['median']:.3g}x" if "speedup" in row else ""
            print(f"  {contestant}: {row['milliseconds']['median']:.4g}{speedup}")
    record.add("equality", equality)
    record.add("phases", phases)
    if options.name:
        print(f"written to {record.write(options.name).name}")


def check_equal(name: str, case: Case, options: SmokeOptions) -> float:
    """Return the relative difference from PhiFlow after some steps in float64.

    Raises:
        NotEqualError: if density or velocity differ by more than 1e-6.
    """
    density = case.density(options.check_grid)
    ours = next(case.equation().frames(_at_rest(density)[None], [case.dt * options.steps]))[0]
    with _phiflow(case, density, options, precision=64) as peer:
        peer.steps(options.steps)
        theirs = peer.state()
    parts = {"density": (ours[:1], theirs[:1]), "velocity": (ours[1:], theirs[1:])}
    mine, reference = ({key: pair[side] for key, pair in parts.items()} for side in (0, 1))
    return float(f"{require_equal(f'{name}: our step against PhiFlow', mine, reference, 1e-6):.2g}")


def time_steps(case: Case, grid: int, options: SmokeOptions) -> dict[str, Any]:
    """Time steps of both from smoke at rest; milliseconds are those of one step of one trajectory."""
    density = case.density(grid)
    state = _at_rest(density).float()[None]
    several = state.expand(options.batch, *state.shape[1:]).contiguous()
    second = case.equation(order="balanced", scheme="second_order")
    runs: dict[str, Callable[[], object]] = {
        "ours": _stepping(case.equation(), state, options.steps),
        f"ours, {options.batch} together": _stepping(case.equation(), several, options.steps),
        "ours, second order": _stepping(second, state, options.steps),
    }
    baseline = None
    with ExitStack() as stack:
        if options.phiflow:
            peer = stack.enter_context(_phiflow(case, density, options, precision=32))
            baseline = f"PhiFlow {peer.version}"
            runs = {baseline: lambda: peer.steps(options.steps), **runs}
        seconds = interleave(runs, repeats=options.repeats, warmup=1)
    for name, sample in seconds.items():
        share = options.steps * (options.batch if "together" in name else 1)
        seconds[name] = [value / share for value in sample]
    return compare(seconds, baseline)


@contextmanager
def _phiflow(case: Case, density: Tensor, options: SmokeOptions, precision: int) -> Iterator[PhiFlowSmoke]:
    physics = {"length": case.length, "dt": case.dt, "viscosity": case.viscosity, "buoyancy": case.buoyancy}
    with PhiFlowSmoke(
        options.phiflow, density, **physics, precision=precision, threads=options.threads
    ) as peer:
        yield peer


def _at_rest(density: Tensor) -> Tensor:
    return torch.cat([density[None], density.new_zeros(density.ndim, *density.shape)])


def _stepping(equation: Smoke, state: Tensor, steps: int) -> Callable[[], object]:
    return lambda: next(equation.frames(state, [equation.dt * steps]))


if __name__ == "__main__":
    run_command(main)

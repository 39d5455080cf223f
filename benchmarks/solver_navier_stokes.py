"""The Navier-Stokes solver against Li et al.'s scheme at equal error, and against other codes a step.

    python -m benchmarks.solver_navier_stokes name=solver_navier_stokes

First the errors at ``until`` are measured, in float64 against ETDRK4 with steps of 1/800: that of Li et al.'s
scheme with their step ``li_dt``, and that of ETDRK4 with longer and longer steps. The longest steps that are no worse
make "equal error". Then a step of each is timed, interleaved; a trajectory's cost is a step's cost times the number
of steps. A step of exponax and of jax-cfd is timed beside ours where they are installed (``packages=FOLDER`` names a
folder of ``pip install --target``). All codes are compared with ours over some steps before they are timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pdesurrogate.fields import fourier
from pdesurrogate.solvers import INTEGRATORS
from pdesurrogate.solvers.forcing import LiForcing
from pdesurrogate.solvers.integrators import Integrator
from pdesurrogate.solvers.navier_stokes import NavierStokes2D
from pdesurrogate.solvers.random_fields import GaussianRandomField
from pdesurrogate.solvers.solution import solve
from pdesurrogate.solvers.vorticity import SpectralVorticity

from .harness import compare, interleave, require_equal
from .navier_stokes_peers import Peer, find_jax, jax_peers, li_scheme
from .options import OptionError, parse_options, require_at_least_1, require_one_of, run_command
from .record import Record, check_name

STEPS_A_UNIT = (16, 20, 25, 32, 40, 50, 64, 80, 100, 125, 160, 200)
"""Candidates for the number of our steps a unit of time."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class SolverOptions:
    """What can be given as ``key=value``."""

    grid: int = 64
    viscosity: float = 1e-5
    until: int = 20
    li_dt: float = 1e-4
    trajectories: int = 2
    batch: int = 8
    steps: int = 20
    dtype: str = "float64"
    threads: int = 1
    repeats: int = 15
    packages: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        require_at_least_1(self, "grid", "until", "trajectories", "batch", "steps", "threads", "repeats")
        if not 0 < self.li_dt <= 0.1:
            raise OptionError(f"li_dt is {self.li_dt}; it must be above 0 and at most 0.1.")
        require_one_of("dtype", self.dtype, list(DTYPES))
        check_name(self.name)


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the result if it has a name."""
    options = parse_options(SolverOptions, words)
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    settings = {
        "threads": options.threads, "clock": "wall", "allocator": "default", "repeats": options.repeats,
        "precision": f"{options.dtype} against Li et al., float32 against other packages",
    }  # fmt: skip
    title = (
        f"Navier-Stokes, ν = {options.viscosity:g}, {options.grid} x {options.grid}, to t = {options.until}"
    )
    # Where somebody keeps other packages is their own affair.
    shown = ["packages=FOLDER" if word.startswith("packages=") else word for word in words]
    record = Record("solver_navier_stokes", title, shown, settings)
    accuracy = equal_error(options)
    accuracy["steps a unit of Li et al."] = round(1 / options.li_dt)
    record.add("accuracy", accuracy)
    for key, value in accuracy.items():
        print(f"{key}: {value}")
    against_li = time_against_li(options)
    ours, theirs = (
        against_li[name]["milliseconds"]["median"] for name in ("ETDRK4", "Li et al., CN + Euler")
    )
    ratio = theirs / options.li_dt / (ours * accuracy["steps a unit"])
    record.add("cheaper than Li et al. at equal error", float(f"{ratio:.3g}"))
    _print("a step of one trajectory, forced", against_li)
    print(f"  at equal error a trajectory is {ratio:.0f}x cheaper than with Li et al.'s scheme")
    against_peers = time_against_peers(options)
    record.add("phases", {"step, forced, float64": against_li, "step, unforced, float32": against_peers})
    _print("a step of one trajectory, unforced, float32", against_peers)
    if options.name:
        print(f"written to {record.write(options.name).name}")


def equal_error(options: SolverOptions) -> dict[str, Any]:
    """Return the error of Li et al.'s scheme and the largest of our steps whose error is no larger."""
    start = _states(options.trajectories, options.grid, torch.float64)

    def end(**settings: Any) -> Tensor:
        return solve(_equation(options, **settings), start[:, None], [float(options.until)])[:, 0, 0]

    reference = end(dt=1 / 800)

    def error(state: Tensor) -> float:
        return float(((state - reference).flatten(1).norm(dim=1) / reference.flatten(1).norm(dim=1)).max())

    theirs = error(end(dt=options.li_dt, integrator="cn_euler"))
    tried = {}
    for steps in STEPS_A_UNIT:
        try:
            tried[steps] = float(f"{error(end(dt=1 / steps)):.2g}")
        except ValueError:  # above the stability bound
            continue
        if tried[steps] <= theirs:
            break
    else:
        raise ValueError(f"no step of ours reaches the error {theirs:.1e} of Li et al.'s scheme: {tried}.")
    return {
        "error of Li et al.": float(f"{theirs:.2g}"),
        "errors of ours by steps a unit": tried,
        "steps a unit": steps,
    }


def time_against_li(options: SolverOptions) -> dict[str, Any]:
    """Time a step of ETDRK4, of our Crank-Nicolson with Euler and of a plain transcription of Li et al.'s."""
    state = _states(options.batch, options.grid, DTYPES[options.dtype])
    li = li_scheme(state, options.viscosity, options.li_dt, options.steps)
    euler = _equation(options, dt=options.li_dt, integrator="cn_euler")
    ours = solve(euler, state[:, None], [options.li_dt * options.steps])[:, 0, 0]
    tolerance = 1e-10 if options.dtype == "float64" else 1e-5
    space = SpectralVorticity((options.grid,) * 2, (1.0, 1.0), state.dtype, "cpu")
    theirs = space.to_grid(space.to_modes(li.read(li.advance(li.start))))
    require_equal("Li et al.'s scheme against cn_euler", {"w": theirs}, {"w": ours}, tolerance)
    runs = {
        li.name: lambda: li.advance(li.start),
        "our CN + Euler": _stepping(euler, state, options.steps),
        "ETDRK4": _stepping(_equation(options, dt=0.01), state, options.steps),
    }
    return _timed(runs, li.name, options)


def time_against_peers(options: SolverOptions) -> dict[str, Any]:
    """Time a step of ours, of exponax and of jax-cfd with the same step and state, as far as they are installed."""
    jax = find_jax(options.packages, options.threads)
    # Few modes, so that codes that cut elsewhere solve the same problem.
    state = fourier.resample(_states(options.batch, 21, torch.float32), (options.grid, options.grid))
    dt = 0.005
    equation = NavierStokes2D(options.viscosity, dt, min_resolution=0.0)
    peers = [] if jax is None else jax_peers(jax, state, options.viscosity, dt, options.steps)
    ours = solve(equation, state[:, None], [dt * options.steps])[:, 0, 0]
    space = SpectralVorticity((options.grid,) * 2, (1.0, 1.0), state.dtype, "cpu")
    for peer in peers:
        theirs = space.to_grid(space.to_modes(peer.read(peer.advance(peer.start))))
        require_equal(f"{peer.name} against ours", {"w": theirs}, {"w": ours}, 1e-4)
    runs: dict[str, Callable[[], object]] = {"ETDRK4": _stepping(equation, state, options.steps)}
    runs.update({peer.name: _calling(peer) for peer in peers})
    table = _timed(runs, "ETDRK4", options)
    installed = [peer.name.split()[0].rstrip(",") for peer in peers]
    table.update({name: "not installed" for name in ("exponax", "jax-cfd") if name not in installed})
    return table


def _equation(options: SolverOptions, **settings: Any) -> NavierStokes2D:
    return NavierStokes2D(options.viscosity, forcing=LiForcing(), min_resolution=0.0, **settings)


def _states(count: int, grid: int, dtype: torch.dtype) -> Tensor:
    """Return Li et al.'s initial fields, cut to the modes that the solver keeps."""
    fields = torch.stack([GaussianRandomField().sample(0, i, (grid, grid)) for i in range(count)])
    space = SpectralVorticity((grid, grid), (1.0, 1.0), torch.float64, "cpu")
    return space.to_grid(space.to_modes(fields)).to(dtype)


def _stepping(equation: NavierStokes2D, state: Tensor, steps: int) -> Callable[[], object]:
    """Return a call that takes some steps, without the set-up that a solution does once."""
    space = SpectralVorticity(tuple(state.shape[1:]), equation.lengths, state.dtype, "cpu")
    source = equation._source_modes(space, state)
    nu = torch.full((1, 1, 1), float(equation.viscosity), dtype=torch.float64)
    integrator: Integrator = INTEGRATORS.build(
        equation.integrator, nu * space.laplacian, equation.dt, state.dtype
    )
    w_hat = space.to_modes(state)

    def run() -> Tensor:
        now = w_hat
        for _ in range(steps):
            now = integrator.step(now, lambda w: space.tendency(w, source))
        return now

    return run


def _calling(peer: Peer) -> Callable[[], object]:
    return lambda: peer.finish(peer.advance(peer.start))


def _timed(runs: dict[str, Callable[[], object]], baseline: str, options: SolverOptions) -> dict[str, Any]:
    # XLA computes in threads of its own, so that the processor time of the whole process is what can be compared.
    clock = time.process_time if options.threads == 1 else time.perf_counter
    seconds = interleave(runs, repeats=options.repeats, clock=clock)
    share = options.batch * options.steps
    return compare({name: [s / share for s in sample] for name, sample in seconds.items()}, baseline)


def _print(title: str, table: dict[str, Any]) -> None:
    print(title)
    for name, row in table.items():
        if isinstance(row, dict):
            speedup = row.get("speedup")
            ratio = f"  {speedup['median']:.2f}x {speedup['interval']}" if speedup else ""
            spread = row["milliseconds"]
            print(f"  {name:28s} {spread['median']:9.4f} ms {spread['quartiles']}{ratio}")
        elif isinstance(row, str):
            print(f"  {name:28s} {row}")


if __name__ == "__main__":
    run_command(main)

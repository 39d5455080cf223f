"""The error of a data set's time step: its own solver against one with steps ten times finer.

    python -m benchmarks.solver_error data=navier_stokes/li_v1e-5 until=5

The first trajectories of the set are solved with the options of its yaml and, in float64, with ``dt`` and
``courant`` divided by ``refine``, on the same grid from the same states. Printed is the relative L2 difference
of each channel at a few times, the largest over the trajectories: what the time step and the set's precision
cost. The error of the grid is another one; ``fine_grid=512`` solves on a finer grid too and prints that.
``without_mean=true`` divides by the norm of the deviation from the mean, for fields of which only that matters, such
as the depth of an ocean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from pdesurrogate.cli import conf_dir
from pdesurrogate.solvers import GENERATORS
from pdesurrogate.solvers.generator import TrajectoryGenerator

from .options import OptionError, parse_options, run_command

STEPS = ("dt", "courant")
"""Options of generators that a finer solution divides."""


@dataclass(frozen=True)
class ErrorOptions:
    """What can be given as ``key=value``; ``generator.key=value`` goes to the generator."""

    data: str = "navier_stokes"
    refine: int = 10
    trajectories: int = 1
    until: float = 0.0
    fine_grid: int = 0
    without_mean: bool = False
    threads: int = 1
    generator_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.refine < 2 or self.trajectories < 1 or self.threads < 1:
            raise OptionError(
                f"refine = {self.refine}, trajectories = {self.trajectories} and threads = {self.threads} must be "
                "at least 2, 1 and 1."
            )


def yaml_options(data: str) -> dict[str, Any]:
    """Return ``data.generator`` of a yaml, composed as ``data/generate.py`` does.

    Raises:
        OptionError: if the data set has no generator with a time step.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("generate", overrides=[f"data={data}"])
    section = OmegaConf.to_container(config["data"], resolve=True)
    options = dict(section.get("generator") or {}) if isinstance(section, dict) else {}
    if "dt" not in options:
        raise OptionError(f"data={data} has no generator with a time step dt.")
    options.pop("num_trajectories", None)
    return options


def build(options: Mapping[str, Any], changes: Mapping[str, Any]) -> TrajectoryGenerator:
    """Return the generator with some options changed."""
    merged = {**options, **changes}
    generator: TrajectoryGenerator = GENERATORS.build(merged.pop("kind"), **merged)
    return generator


def frames(generator: TrajectoryGenerator, count: int, until: float) -> list[Tensor]:
    """Return the frames of the first trajectories up to a time, float64."""
    wanted = sum(1 for time in generator.times if not until or time <= until * (1 + 1e-9))
    if not wanted:
        raise OptionError(f"until = {until} is before the first frame, at t = {generator.times[0]:g}.")
    with torch.inference_mode():
        return [frame.double() for frame in islice(generator.frames(range(count)), wanted)]


def errors(
    found: Sequence[Tensor], reference: Sequence[Tensor], without_mean: bool = False
) -> list[list[float]]:
    """Return the relative L2 difference by frame and channel, the largest over trajectories."""
    table = []
    for ours, theirs in zip(found, reference, strict=True):
        values = theirs.flatten(2)
        norm = (values - values.mean(2, keepdim=True) if without_mean else values).norm(dim=2)
        difference = (ours - theirs).flatten(2).norm(dim=2)
        table.append(torch.where(norm > 0, difference / norm.clamp_min(1e-300), difference).amax(0).tolist())
    return table


def main(words: Sequence[str]) -> None:
    """Measure one data set and print a line for each of a few times."""
    options = parse_options(ErrorOptions, words)
    torch.set_num_threads(options.threads)
    given = {**yaml_options(options.data), **options.generator_options}
    finer = {key: given[key] / options.refine for key in STEPS if given.get(key) is not None}
    plain = build(given, {})
    own = frames(plain, options.trajectories, options.until)
    fine = frames(build(given, {**finer, "dtype": "float64"}), options.trajectories, options.until)
    columns = {"time step": errors(own, fine, options.without_mean)}
    if options.fine_grid:
        grid = {"solve_grid": options.fine_grid, "dtype": "float64"}
        columns["grid"] = errors(
            own, frames(build(given, grid), options.trajectories, options.until), options.without_mean
        )
    steps = ", ".join(f"{key} = {given[key]:g}" for key in finer)
    print(
        f"{options.data}: {steps}, {given.get('dtype', '')}, {options.trajectories} trajectories, grid {plain.grid}"
    )
    shown = sorted({round(k * (len(own) - 1) / 5) for k in range(6)})
    for k in shown:
        texts = [
            f"{name}: " + ", ".join(f"{value:.1e}" for value in table[k]) for name, table in columns.items()
        ]
        print(f"  t = {plain.times[k]:g}  " + "  ".join(texts))


if __name__ == "__main__":
    run_command(main)

"""A surrogate as a program for other runtimes: ``torch.export`` and ONNX, physical units in and out.

The program is one step, ``(history, parameters) -> future``, with the normaliser and static fields inside, and takes
batches of any size. Where the model allows it, it takes any grid as well; where not, one grid, and the log says why. It
is compared with the surrogate itself on batches and grids that it was not traced on before the file gets its name.
"""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..durable import durable_write
from ..registry import load_plugins
from ..surrogate import Surrogate
from ..version import __version__
from .runtimes import Runtime, runtime

log = logging.getLogger(__name__)

Grid = tuple[int, ...]
TOLERANCE = 1e-4
"""Largest deviation from the surrogate, relative to the largest deviation of a channel from its mean."""


@dataclass(frozen=True)
class Exported:
    """What was written, and how it was checked.

    Attributes:
        path: the file.
        grid: the only grid that it takes, None if it takes any that the model does.
        reason: why it takes one grid only; empty otherwise.
        checks: largest relative deviation from the surrogate, by batch size and grid.
    """

    path: Path
    grid: Grid | None
    reason: str
    checks: Mapping[tuple[int, Grid], float]


class FlowMap(nn.Module):
    """A step of a surrogate as a function of the history, and of PDE parameters where there are any."""

    def __init__(self, surrogate: Surrogate) -> None:
        super().__init__()
        self.surrogate = surrogate

    def forward(self, history: Tensor, parameters: Tensor | None = None) -> Tensor:
        """Return the next frames, in physical units."""
        if parameters is None:
            parameters = history.new_zeros(history.shape[0], 0)
        return self.surrogate.step(history, parameters)


def export(config: Mapping[str, Any]) -> None:
    """Write the program of an artifact.

    Args:
        config: plain containers with the keys of ``conf/export.yaml``.

    Raises:
        ValueError: if an option is out of range or the model cannot be exported; it says why.
        FileNotFoundError, OSError: if a file is missing or cannot be written.
    """
    load_plugins(config.get("plugins") or [])
    if not config.get("artifact"):
        raise ValueError("no artifact given. Say: pdesurrogate export runs/RUN_ID/artifact.pt --format onnx")
    chosen = runtime(config["format"])
    artifact = Path(config["artifact"])
    target = Path(config["output"] or artifact.with_name(f"surrogate{chosen.suffix}"))
    if target.is_dir():
        raise ValueError(
            f"{target} is a folder; name a file, such as {target / f'surrogate{chosen.suffix}'}."
        )
    if target.exists() and not config["overwrite"]:
        raise ValueError(f"{target} is there already. Name another output, or replace it by overwrite=true.")
    surrogate = Surrogate.load(artifact)
    made = export_program(surrogate, target, config["format"], grid=config["grid"])
    spec = surrogate.spec
    log.info(
        "%s: history (batch, %d, %d, %s)%s in, future (batch, %d, ...) out, float32, physical units",
        made.path,
        surrogate.history,
        spec.num_channels,
        ", ".join(spec.axis_names),
        f", parameters (batch, {spec.num_parameters})" if spec.num_parameters else "",
        surrogate.horizon,
    )
    if made.reason:
        log.info("It takes the grid %s only: %s", _size(made.grid or ()), made.reason)
    for (batch, grid), error in made.checks.items():
        log.info("Checked with %s, batch %d at %s: deviates by %.1e", chosen.name, batch, _size(grid), error)


def export_program(
    surrogate: Surrogate, path: str | Path, format: str = "torch", *, grid: int | Sequence[int] | None = None
) -> Exported:
    """Write a surrogate's step as a program, after comparing the two.

    Args:
        surrogate: what to export; it stays as it is.
        path: the file.
        format: ``"torch"`` (``torch.export.load(path).module()``) or ``"onnx"``.
        grid: the only grid that the program shall take; None for any, as far as the model allows.

    Raises:
        ValueError: for an unknown format, a package that is missing, a grid that the model cannot take, or a model that
            cannot be exported; it says why.
        OSError: if the file cannot be written; what stood there is unchanged.
    """
    chosen = runtime(format)
    start = grid if grid is not None else surrogate.provenance.get("training_grid")
    if not start:
        raise ValueError(
            "the surrogate does not say on which grid it was trained; name one by grid=[ny, nx]."
        )
    home = _as_grid(start, surrogate)
    surrogate.check_grid(home)
    surrogate = copy.deepcopy(surrogate).eval().cpu()
    if any(p.is_complex() for p in surrogate.parameters()) and format == "onnx":
        raise ValueError(
            f"{_name(surrogate)} cannot be exported to ONNX: its weights are complex numbers, which ONNX does not "
            "know. Export it with format=torch, or choose a model of this package, whose spectral weights are real."
        )
    target, reasons = Path(path), []
    fixed = "the grid was chosen." if grid is not None else _why_fixed(surrogate)
    if fixed:
        reasons.append(fixed)
    with durable_write(target) as temporary, torch.no_grad():
        for only in [home] if fixed else [None, home]:
            try:
                checks = _write(surrogate, chosen, temporary, home, only)
            except OSError:
                raise
            except Exception as error:  # tracers raise errors of many kinds; the reason is told
                log.debug("traceback", exc_info=True)
                reasons.append(_first_line(error))
                continue
            return Exported(target, only, reasons[-1] if reasons else "", checks)
        raise ValueError(f"{_name(surrogate)} cannot be exported with format={format}: {reasons[-1]}")


def _write(
    surrogate: Surrogate, chosen: Runtime, path: Path, home: Grid, only: Grid | None
) -> dict[tuple[int, Grid], float]:
    """Write the program for one grid or for any, and compare it with the surrogate."""
    traced = only or _uneven(surrogate, home)
    spec = surrogate.spec
    facts = {
        "spec": spec.to_dict(),
        "history": surrogate.history,
        "horizon": surrogate.horizon,
        "grid": only,
        "pdesurrogate_version": __version__,
    }
    sizes, arguments = _open_sizes(surrogate, traced, only), _inputs(surrogate, 2, traced)
    FlowMap(surrogate)(*arguments)  # fills tables that are kept by grid with numbers, before a tracer could
    chosen.write(FlowMap(surrogate), arguments, sizes, path, json.dumps(facts))
    program = chosen.load(path)
    checks = {}
    for batch, grid in enumerate([only] * 2 if only else _unseen(surrogate, traced), start=1):
        batch += batch > 1  # 1, 3, 4, ..: the program was traced with 2
        arguments = _inputs(surrogate, batch, grid)
        expected, found = FlowMap(surrogate)(*arguments), program(arguments)
        checks[batch, grid] = error = _deviation(found, expected)
        if not error <= TOLERANCE:
            raise ValueError(
                f"the program deviates from the model by {error:.1e} with batch {batch} on the grid {_size(grid)}."
            )
    return checks


def _why_fixed(surrogate: Surrogate) -> str:
    """Return what a model is known to have against programs for any grid; empty if nothing is known."""
    if getattr(surrogate.model, "grids", "any") == "fixed":
        return "the model was made for one grid."
    if surrogate.spec.geometry == "sphere":
        return "on a sphere, tables of Legendre functions, quadrature and filters belong to one grid."
    return ""


def _deviation(found: Tensor, expected: Tensor) -> float:
    """Return the largest deviation over the largest distance of a channel from its mean; infinite for other shapes."""
    if found.shape != expected.shape:
        return math.inf
    others = [d for d in range(expected.ndim) if d != 2]
    scale = (expected - expected.mean(others, keepdim=True)).abs().amax(others, keepdim=True)
    floor = (
        1e-3 * expected.abs().max()
    )  # of a channel that is constant nothing can be said relative to itself
    return float(((found - expected).abs() / scale.clamp(min=floor + 1e-30)).max())


def _inputs(surrogate: Surrogate, batch: int, grid: Grid) -> tuple[Tensor, ...]:
    """Return a history, and parameters where there are any, like those of the training data; the same each time."""
    generator, spec, normaliser = torch.Generator().manual_seed(0), surrogate.spec, surrogate.normaliser
    noise = torch.randn(batch, surrogate.history, spec.num_channels, *grid, generator=generator)
    history = normaliser.denormalise(noise)
    if not spec.num_parameters:
        return (history,)
    parameters = torch.randn(batch, spec.num_parameters, generator=generator)
    return history, parameters * normaliser.parameter_std + normaliser.parameter_mean


def _open_sizes(surrogate: Surrogate, traced: Grid, only: Grid | None) -> tuple[dict[int, Any], ...]:
    """Return which sizes of each input the program leaves open."""
    from torch.export import Dim

    batch = Dim("batch", min=1, max=4096)
    history: dict[int, Any] = {0: batch}
    if only is None:
        step, shared = _step(surrogate), {}
        for i, name in enumerate(surrogate.spec.axis_names):
            alike = [j for j, n in enumerate(traced) if n == traced[i]]
            if traced[i] not in shared:
                sizes = range(step, traced[i] + 1, step)
                least = next(n for n in sizes if _takes(surrogate, _with(traced, alike, n)))
                shared[traced[i]] = Dim(f"{name}_size", min=-(-least // step), max=8192)
            history[3 + i] = shared[traced[i]] if step == 1 else step * shared[traced[i]]
    return (history, {0: batch}) if surrogate.spec.num_parameters else (history,)


def _uneven(surrogate: Surrogate, home: Grid) -> Grid:
    """Return a grid near ``home`` with another size on every axis, so that the tracer takes no two for the same.

    Axes keep a size in common where the model takes no other grid, such as square ones alone.
    """
    step, traced = _step(surrogate), home
    for i in range(1, len(home)):
        wanted = next(n for n in range(home[i], 4 * home[i] + 8 * step, step) if n not in traced[:i])
        candidate = _with(traced, [i], wanted)
        traced = candidate if _takes(surrogate, candidate) else traced
    return traced


def _unseen(surrogate: Surrogate, traced: Grid) -> list[Grid]:
    """Return grids that the program was not traced on: odd, smaller, larger and longer ones, as the model allows."""
    step = _step(surrogate)
    offsets = ([1, 3, 7], [-1, 1, 2], [5, -2, 1])  # in multiples of the step, axis by axis
    grids = [tuple(n + step * d for n, d in zip(traced, row, strict=False)) for row in offsets]
    grids += [tuple(n + step * row[0] for n in traced) for row in offsets]
    found = [grid for grid in dict.fromkeys(grids) if min(grid) > 0 and _takes(surrogate, grid)]
    if not found:
        raise ValueError(
            f"the model takes none of the grids {', '.join(map(_size, grids))} besides {_size(traced)}."
        )
    return found[: len(offsets)]


def _step(surrogate: Surrogate) -> int:
    """Return what grid sizes must be a multiple of."""
    grids = getattr(surrogate.model, "grids", "any")
    return int(grids.rsplit(" ", 1)[1]) if grids.startswith("multiple of ") else 1


def _takes(surrogate: Surrogate, grid: Grid) -> bool:
    try:
        surrogate.check_grid(grid)
    except ValueError:
        return False
    return True


def _with(grid: Grid, axes: Sequence[int], size: int) -> Grid:
    return tuple(size if axis in axes else n for axis, n in enumerate(grid))


def _as_grid(grid: int | Sequence[int], surrogate: Surrogate) -> Grid:
    """Return the sizes of all axes.

    Raises:
        ValueError: if they are not positive numbers, one an axis.
    """
    names = surrogate.spec.axis_names
    sizes = (grid,) * len(names) if isinstance(grid, int) else tuple(grid)
    if len(sizes) != len(names) or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise ValueError(
            f"grid is {grid}; give a number of points, or {len(names)} of them for the axes {', '.join(names)}."
        )
    return sizes


def _name(surrogate: Surrogate) -> str:
    kind = surrogate.provenance.get("config", {}).get("model", {}).get("kind")
    return str(kind or type(surrogate.model).__name__)


def _size(grid: Sequence[int]) -> str:
    return " x ".join(map(str, grid))


def _first_line(error: Exception) -> str:
    """Return what an error says in a line; of a chain of errors the first, which is the model's own."""
    while (cause := error.__cause__ or error.__context__) is not None and isinstance(cause, Exception):
        error = cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if type(error) is ValueError else f"tracing fails, {type(error).__name__}: {text}"

"""The training step of G-FNO against the authors' code, and against an FNO with as many parameters.

    python -m benchmarks.gfno release=FOLDER name=gfno_p4
    python -m benchmarks.gfno group=p4m num_modes=64 grid=96 width=7 batch=4 history=2 release=FOLDER name=gfno_p4m

``FOLDER`` holds the authors' models, ``OpenPDE/G-FNO/models`` of github.com/divelab/AIRS with ``utils.py`` beside it;
it is imported and run as it is, and so is its FNO, with about as many parameters. Without it the step is timed against
our FNO alone. The release has no weights of ours:
its model is checked to have as many parameters as ours with ``reproduce_release=true``, and its output to turn with its
input as ours does. Grids are square, as ours must be; on others the release is not equivariant (its positions are off
the centre there).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from pdesurrogate.fields import Axis, Batch, DataSpec, Field
from pdesurrogate.fields.point_group import point_group
from pdesurrogate.models import MODELS
from pdesurrogate.models.equivariance import equivariance_error
from pdesurrogate.models.matching import match_parameters, num_real_parameters
from pdesurrogate.training.optimisation import Optimisation

from .devices import choose_clock, choose_device, synchronise, tf32_flags
from .graphs import GRAPH, batch_of, captured, steps_or_reasons
from .harness import CLOCKS, NotEqualError, compare, interleave
from .machine import ALLOCATORS
from .options import OptionError, parse_options, require_at_least_1, require_one_of, run_command
from .passes import gradients_of, step_of
from .record import Record, check_name, timing_settings

OURS = "pdesurrogate"
PLAIN = "pdesurrogate, fno"
RELEASE = "G-FNO, the authors' code"
RELEASE_FNO = "FNO, the authors' code"
NOT_EQUIVARIANT = (PLAIN, RELEASE_FNO)
SPEC = DataSpec((Field("u"),), (Axis("y", 1.0), Axis("x", 1.0)), 1.0)
EQUIVARIANCE = {"full": 1e-4, "tf32": 2e-2}
"""Allowed equivariance error by the arithmetic of products."""


@dataclass(frozen=True)
class GroupOptions:
    """What can be given as ``key=value``."""

    group: str = "p4"
    grid: int = 64
    num_modes: int = 24
    width: int = 10
    history: int = 10
    batch: int = 20
    release: str = ""
    threads: int = 1
    device: str = "cpu"
    precision: str = "full"
    clock: str = "auto"
    repeats: int = 7
    allocator: str = "tuned"
    name: str = ""

    def __post_init__(self) -> None:
        require_at_least_1(self, "grid", "num_modes", "width", "history", "batch", "threads", "repeats")
        require_one_of("group", self.group, ["p4", "p4m"])
        require_one_of("clock", self.clock, ["auto", *CLOCKS])
        require_one_of("precision", self.precision, list(EQUIVARIANCE))
        choose_device(self.device, "Without device=cuda the processor is measured.")
        require_one_of("allocator", self.allocator, ALLOCATORS)
        check_name(self.name)
        if self.release and not (Path(self.release) / "models" / "GFNO.py").is_file():
            raise OptionError(
                f"release is {self.release!r}, which holds no models/GFNO.py; give the folder OpenPDE/G-FNO of a clone "
                "of github.com/divelab/AIRS."
            )


def main(words: Sequence[str]) -> None:
    """Measure, print, and write if there is a name."""
    options = parse_options(GroupOptions, words)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    clock = choose_clock(options.clock, device, options.threads)
    settings = timing_settings(options, clock, options.precision)
    models = contestants(options)
    for model, _ in models.values():
        model.to(device)
    title = (
        f"gfno {options.group}, {options.grid} x {options.grid}, modes {options.num_modes}, width {options.width}, "
        f"batch {options.batch}" + ("" if device.type == "cpu" else f", on {device.type}")
    )
    record = Record("gfno", title, words, settings)
    record.add("parameters", {name: num_real_parameters(model) for name, (model, _) in models.items()})
    history = torch.randn(options.batch, options.history, 1, options.grid, options.grid, device=device)
    target = torch.randn(options.batch, 1, 1, options.grid, options.grid, device=device)
    with tf32_flags(options.precision):
        record.add("equality", check(options, models))
        runs = {name: _step(model, call, history, target) for name, (model, call) in models.items()}
        if device.type == "cuda":
            ours = {name: pair for name, pair in models.items() if name in (OURS, PLAIN)}
            graphs, reasons = steps_or_reasons(
                {name + GRAPH: partial(_graph, *pair, history, target) for name, pair in ours.items()}
            )
            runs |= graphs
            record.add("refused", reasons)
        seconds = interleave(
            runs, repeats=options.repeats, clock=CLOCKS[clock], settle=lambda: synchronise(device)
        )
    rows = compare(seconds, RELEASE if options.release else PLAIN)
    for name, row in rows.items():
        ratio = f"{row['speedup']['median']:.2f}x" if row.get("speedup") else ""
        print(f"{name:28s} {row['milliseconds']['median']:9.1f} ms  {ratio}")
    record.add("phases", {"step": rows})
    print(f"equality: {record.content['equality']}, parameters: {record.content['parameters']}")
    if options.name:
        print(f"written to {record.write(options.name).name}")


def contestants(options: GroupOptions) -> dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]]:
    """Return ours, an FNO as large, and the authors' model where it is given, each with its call on a history."""
    sizes = {
        "num_modes": options.num_modes,
        "coordinates": "symmetric",
        "precision": options.precision,
    }
    torch.manual_seed(0)
    chosen = {"group": options.group, "width": options.width, **sizes}
    ours = MODELS.build("gfno", SPEC, options.history, 1, **chosen)
    match = match_parameters("fno", SPEC, options.history, 1, sizes, num_real_parameters(ours))
    fno = MODELS.build("fno", SPEC, options.history, 1, width=match.value, **sizes)
    found: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
        OURS: (ours, _ours(ours)),
        PLAIN: (fno, _ours(fno)),
    }
    if options.release:
        theirs = _release(options)
        same = MODELS.build("gfno", SPEC, options.history, 1, **chosen, reproduce_release=True)
        counts = num_real_parameters(theirs), num_real_parameters(same)
        if counts[0] != counts[1]:
            raise NotEqualError(f"the release has {counts[0]} parameters and ours of its size {counts[1]}.")
        found[RELEASE] = theirs, _theirs(theirs)
        their_fno = _release_fno(options, num_real_parameters(ours))
        found[RELEASE_FNO] = their_fno, _theirs(their_fno)
    return found


def check(
    options: GroupOptions, models: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]]
) -> dict[str, float]:
    """Return the largest equivariance error, of rotations and reflections of a scalar, unless it is no rounding.

    Raises:
        NotEqualError: if an equivariant model is not equivariant.
    """
    errors = []
    for name, (_, call) in models.items():
        if name in NOT_EQUIVARIANT:
            continue
        # Positions are symmetric about the middle of the array in the release, and about that of the box in ours.
        offset = 0.5 if name == RELEASE else 0.0
        spec = SPEC.replace(axes=tuple(Axis(axis.name, 1.0, offset=offset) for axis in SPEC.axes))
        group, grid = point_group(options.group), (options.grid,) * 2

        def there(u: Tensor, _: Tensor, call: Callable[[Tensor], Tensor] = call) -> Tensor:
            return call(u.to(options.device)).cpu()

        error = equivariance_error(there, spec, group, options.history, grid)
        allowed = EQUIVARIANCE[options.precision]
        if error > allowed:
            raise NotEqualError(f"{name} has the equivariance error {error:.1e}, allowed {allowed:.0e}.")
        errors.append(error)
    return {"after rotation": float(f"{max(errors):.1e}")}


def _ours(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda u: model(u, u.new_empty(len(u), 0))


def _theirs(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def call(u: Tensor) -> Tensor:
        future: Tensor = model(u.permute(0, 3, 4, 1, 2))
        return future.permute(0, 3, 4, 1, 2)

    return call


def _release(options: GroupOptions) -> nn.Module:
    """Build the authors' model of these sizes."""
    model: nn.Module = _imported(options, "models.GFNO").GFNO2d(
        num_channels=1,
        modes=options.num_modes // 2,
        width=options.width,
        initial_step=options.history,
        reflection=options.group == "p4m",
        grid_type="symmetric",
    )
    return model


def _release_fno(options: GroupOptions, parameters: int) -> nn.Module:
    """Build the authors' FNO of the width at which its number of parameters comes closest."""
    modes, kind = options.num_modes // 2, _imported(options, "models.FNO").FNO2d
    best: nn.Module = kind(1, modes, modes, 1, options.history, "symmetric")
    for width in range(2, 1000):
        model = kind(1, modes, modes, width, options.history, "symmetric")
        if abs(num_real_parameters(model) - parameters) > abs(num_real_parameters(best) - parameters):
            break
        best = model
    return best


def _imported(options: GroupOptions, name: str) -> ModuleType:
    sys.path.insert(0, options.release)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(options.release)


def _graph(
    model: nn.Module, call: Callable[[Tensor], Tensor], history: Tensor, target: Tensor
) -> Callable[[], object]:
    optimiser, _ = Optimisation(kind="adam", lr=1e-6, weight_decay=0.0).build(model.parameters(), 1000)

    def losses(batch: Batch) -> Tensor:
        return (call(batch.history) - batch.future).square().flatten(1).mean(1)

    return captured(losses, optimiser, batch_of(history, target))


def _step(
    model: nn.Module, call: Callable[[Tensor], Tensor], history: Tensor, target: Tensor
) -> Callable[[], object]:
    """Return forward, backward and the Adam step: fused on real weights, torch's own on complex ones."""
    is_complex = any(p.is_complex() for p in model.parameters())
    if is_complex:
        optimiser: torch.optim.Optimizer = torch.optim.Adam(model.parameters(), 1e-6)
    else:
        optimiser, _ = Optimisation(kind="adam", lr=1e-6, weight_decay=0.0).build(model.parameters(), 1000)

    return step_of(
        gradients_of(model, lambda: torch.nn.functional.mse_loss(call(history), target)), optimiser
    )


if __name__ == "__main__":
    run_command(main)

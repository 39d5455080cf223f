"""The whole training step of a model against neuraloperator's: forward, backward, Adam.

    python -m benchmarks.step model=fno grid=64 num_modes=24 width=32 batch=16 name=fno_2d
    python -m benchmarks.step model=tfno along=fno grid=64 num_modes=24 width=32 batch=16 name=tfno_2d

Ours runs with fused Adam on real weights, as it is trained; neuraloperator with torch's Adam on its complex
weights and, as a further contestant, with its own AdamW. Both start from the same weights; outputs and
gradients of a mean square are compared first and nothing is timed unless they agree. A model that runs ``along`` has
the same sizes and computes something else: it is timed with the others and compared with none.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pdesurrogate.layers.native import native_library
from pdesurrogate.layers.native.loader import build
from pdesurrogate.models.matching import num_real_parameters
from pdesurrogate.training.optimisation import Optimisation

from .harness import CLOCKS, compare, interleave, require_equal
from .machine import ALLOCATORS
from .memory import peak_of, peaks_in_new_process
from .models import (
    NEURALOPERATOR,
    OURS,
    Side,
    activation_bytes,
    build_ours,
    build_peer,
    smooth_input,
)
from .options import OptionError, parse_options, require_at_least_1, require_one_of, run_command
from .passes import gradients_of, step_of
from .record import Record, check_name, timing_settings

COMPILED = "pdesurrogate, compiled"
OWN_ADAMW = "neuraloperator, its AdamW"
TOLERANCES = {"full": (1e-5, 1e-4), "tf32": (3e-2, 0.15), "bf16": (1e-2, 0.1)}
"""Allowed relative differences of outputs and of gradients."""


@dataclass(frozen=True)
class StepOptions:
    """What can be given as ``key=value``; ``model.key=value`` goes to our model."""

    model: str = "fno"
    grid: tuple[int, ...] = (64,)
    num_modes: tuple[int, ...] = (24,)
    width: int = 32
    batch: int = 16
    ndim: int = 2
    threads: int = 1
    precision: str = "full"
    memory: str = "lean"
    compile: bool = False
    peer: str = "auto"
    along: str = ""
    clock: str = "auto"
    repeats: int = 11
    allocator: str = "tuned"
    peak: bool = True
    name: str = ""
    peak_only: bool = False
    model_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_at_least_1(self, "width", "batch", "threads", "repeats", "ndim")
        require_one_of("precision", self.precision, list(TOLERANCES))
        require_one_of("memory", self.memory, ["speed", "lean", "minimal"])
        require_one_of("clock", self.clock, ["auto", *CLOCKS])
        require_one_of("allocator", self.allocator, ALLOCATORS)
        require_one_of("peer", self.peer, ["auto", "none"])
        check_name(self.name)
        if self.clock == "thread" and self.threads > 1:
            raise OptionError(
                "clock=thread counts one thread and threads is larger; give clock=wall or threads=1."
            )

    def resolved(self) -> StepOptions:
        """Return the options with one size for every axis and the clock chosen."""
        ndim = self.ndim if len(self.grid) == 1 else len(self.grid)
        grid = self.grid * ndim if len(self.grid) == 1 else self.grid
        modes = self.num_modes * ndim if len(self.num_modes) == 1 else self.num_modes
        if len(modes) != len(grid):
            raise OptionError(
                f"grid has {len(grid)} axes and num_modes {len(modes)}; give as many of each, or one."
            )
        clock = ("thread" if self.threads == 1 else "wall") if self.clock == "auto" else self.clock
        return replace(self, grid=grid, num_modes=modes, clock=clock)


class Contest:
    """The contestants of one case, on common weights, input and target."""

    def __init__(self, options: StepOptions) -> None:
        torch.manual_seed(0)
        self.options = options
        wanted: dict[str, Any] = dict(options.model_options)
        also = {"width": options.width, "num_modes": list(options.num_modes), "memory": options.memory}
        if options.precision != "full":
            wanted["precision"] = options.precision
        if options.model == "localno":
            also["reference_grid"] = list(options.grid)  # spacings count in those of the grid at hand
        if options.model in ("fno", "tfno", "localno"):
            also["coordinates"] = "linear"  # neuraloperator's default embedding
        ours = build_ours(options.model, options.grid, wanted=wanted, also=also)
        self.sides = [ours]
        self.company = []
        if options.along:
            name = f"{OURS}, {options.along}"
            self.company.append(build_ours(options.along, options.grid, wanted={}, also=also, name=name))
        peer = None
        if options.peer == "auto":
            peer = build_peer(options.model, ours, width=options.width, num_modes=options.num_modes)
        self.baseline = None
        if peer is not None:
            self.sides.insert(0, peer)
            self.baseline = NEURALOPERATOR
        if options.compile:
            start = time.perf_counter()
            compiled = torch.compile(ours.call)
            self.sides.append(
                replace(ours, name=COMPILED, call=compiled, build_seconds=time.perf_counter() - start)
            )
        self.input = smooth_input(options.batch, options.grid)
        with torch.no_grad():
            self.target = torch.randn_like(self.sides[0].call(self.input))
        self.first_call_seconds = {side.name: self._first_call(side) for side in self.all_sides}

    @property
    def all_sides(self) -> list[Side]:
        """Everything that is timed; `sides` are the models of the same function among them."""
        return [*self.sides, *self.company]

    def check(self) -> dict[str, float]:
        """Compare outputs and gradients of all sides with the first one's; returns the worst differences."""
        values, gradients = TOLERANCES[self.options.precision]
        reference, *others = self.sides
        worst = {"output": 0.0, "gradient": 0.0}
        y, grads = self._evaluate(reference)
        for side in others:
            y_side, grads_side = self._evaluate(side)
            named = f"{side.name} against {reference.name}"
            worst["output"] = max(
                worst["output"], require_equal(f"output of {named}", {"y": y_side}, {"y": y}, values)
            )
            error = require_equal(f"gradients of {named}", grads_side, grads, gradients)
            worst["gradient"] = max(worst["gradient"], error)
        return {key: float(f"{value:.1e}") for key, value in worst.items()}

    def runs(self, phase: str) -> dict[str, Callable[[], object]]:
        """Return the calls of one phase: ``forward`` (no gradients), ``forward + backward`` or ``step``."""
        if phase == "forward":
            return {side.name: self._forward(side) for side in self.all_sides}
        if phase == "forward + backward":
            return {side.name: self._both(side) for side in self.all_sides}
        runs = {side.name: self._step(side, _optimiser(side)) for side in self.all_sides}
        if self.baseline is not None:
            from neuralop.training.adamw import AdamW

            peer = self.sides[0]
            runs[OWN_ADAMW] = self._step(peer, AdamW(peer.module.parameters(), 1e-6))
        return runs

    def _forward(self, side: Side) -> Callable[[], object]:
        def run() -> object:
            with torch.no_grad():
                return side.call(self.input)

        return run

    def _both(self, side: Side) -> Callable[[], object]:
        return gradients_of(
            side.module, lambda: torch.nn.functional.mse_loss(side.call(self.input), self.target)
        )

    def _step(self, side: Side, optimiser: torch.optim.Optimizer) -> Callable[[], object]:
        return step_of(self._both(side), optimiser)

    def _evaluate(self, side: Side) -> tuple[Tensor, dict[str, Tensor]]:
        self._both(side)()
        grads = {name: grad.clone() for name, grad in side.gradients().items()}
        with torch.no_grad():
            return side.call(self.input).clone(), grads

    def _first_call(self, side: Side) -> float:
        start = time.perf_counter()
        self._both(side)()
        return time.perf_counter() - start


def main(words: Sequence[str]) -> None:
    """Measure one case, print it, and write it if it has a name."""
    options = parse_options(StepOptions, words).resolved()
    torch.set_num_threads(options.threads)
    if options.peak_only:
        print(json.dumps(_peaks(options)))
        return
    settings = timing_settings(options, options.clock, options.precision) | {"memory": options.memory}
    contest = Contest(options)
    grid = " x ".join(map(str, options.grid))
    modes = ", ".join(map(str, options.num_modes))
    title = f"{options.model}, {grid}, modes {modes}, width {options.width}, batch {options.batch}"
    title += "" if options.precision == "full" else f", {options.precision}"
    title += "" if native_library() else ", no compiled kernel"
    record = Record("step", title, words, settings)
    record.add("compile_seconds", _compile_seconds())
    record.add("parameters", num_real_parameters(contest.sides[-1].module))
    record.add("equality", contest.check())
    record.add("startup_seconds", _startup(contest))
    clock = CLOCKS[options.clock]
    phases = {}
    for phase in ("forward", "forward + backward", "step"):
        seconds = interleave(contest.runs(phase), repeats=options.repeats, clock=clock, warmup=1)
        phases[phase] = compare(seconds, contest.baseline)
        _print(phase, phases[phase])
    record.add("phases", phases)
    if options.peak:
        field_bytes = activation_bytes(options.batch, options.width, options.grid)
        own = [word for word in words if not word.startswith(("name=", "peak="))]
        peaks = peaks_in_new_process("benchmarks.step", [*own, "peak_only=true"])
        memory = {
            name: {"MiB": round(p / 2**20, 1), "V": round(p / field_bytes, 2)}
            for name, p in peaks.items()
            if p
        }
        record.add("peak_memory", memory)
        print(f"peak memory of forward + backward: {memory}")
    print(f"equality: {record.content['equality']}, start-up: {record.content['startup_seconds']}")
    if options.name:
        print(f"written to {record.write(options.name).name}")


def _peaks(options: StepOptions) -> dict[str, int | None]:
    contest = Contest(options)
    return {side.name: peak_of(contest._both(side), side.module) for side in contest.all_sides}


def _compile_seconds() -> float | None:
    """Return what compiling the pointwise kernel takes on a machine's first run, None where it does not run."""
    if native_library() is None:
        return None
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        build(Path(cache))
        return round(time.perf_counter() - start, 2)


def _startup(contest: Contest) -> dict[str, Any]:
    return {
        side.name: {
            "build": round(side.build_seconds, 2),
            "first step": round(contest.first_call_seconds[side.name], 2),
        }
        for side in contest.all_sides
    }


def _optimiser(side: Side) -> torch.optim.Optimizer:
    if side.name == NEURALOPERATOR:
        return torch.optim.Adam(side.module.parameters(), 1e-6)
    return Optimisation(kind="adam", lr=1e-6, weight_decay=0.0).build(side.module.parameters(), 1000)[0]


def _print(phase: str, table: dict[str, Any]) -> None:
    print(phase)
    for name, row in table.items():
        speedup = row.get("speedup")
        ratio = f"  {speedup['median']:.2f}x {speedup['interval']}" if speedup else ""
        print(
            f"  {name:28s} {row['milliseconds']['median']:9.2f} ms {row['milliseconds']['quartiles']}{ratio}"
        )


if __name__ == "__main__":
    run_command(main)

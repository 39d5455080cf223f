"""T1's training step by resolution: against the FNO at equal size, neuraloperator's FNO, and the authors' T1.

    python -m benchmarks.transform_once grid=64,128,256,512 batch=4 name=t1_resolution
    python -m benchmarks.transform_once grid=64 batch=16 released=/path/to/kairos name=t1_released

The FNO is our own, widened to T1's number of parameters; neuraloperator's has the size that the paper gives to its FNO
on Navier-Stokes (48 modes an axis, 6 layers, width 32). ``released`` is a folder with the authors' code, of which
nothing is kept here: it runs from our weights and on our positions, outputs and gradients are compared first, and
nothing is timed unless they agree. As in the paper, modes and widths are the same on all grids. Steps are forward, mean
square, backward and Adam, fused for our models as they are trained.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pdesurrogate.fields import Batch
from pdesurrogate.models.matching import match_parameters, num_real_parameters

from .devices import choose_clock, choose_device, synchronise, tf32_flags
from .graphs import GRAPH, batch_of, captured, steps_or_reasons
from .harness import CLOCKS, Spread, compare, interleave, require_equal
from .machine import ALLOCATORS
from .memory import peak_of, peaks_in_new_process
from .models import NEURALOPERATOR, OURS, Side, box_spec, build_ours, smooth_input
from .options import OptionError, parse_options, require_one_of, run_command
from .passes import gradients_of, step_of
from .record import Record, check_name, timing_settings

T1, FNO, RELEASED = f"{OURS}, t1", f"{OURS}, fno", "released T1"
PAPERS = f"{NEURALOPERATOR}, the paper's FNO"
TOLERANCES = {"full": (1e-5, 1e-4), "tf32": (1e-2, 5e-2)}
"""Allowed relative differences of outputs and of gradients from the released code, by the arithmetic of products."""


@dataclass(frozen=True)
class TransformOnceOptions:
    """What can be given as ``key=value``; grids are square, one case each."""

    grid: tuple[int, ...] = (64, 128, 256, 512)
    num_modes: int = 24
    width: int = 48
    depth: int = 8
    batch: int = 4
    fno_modes: int = 24
    fno_depth: int = 4
    papers_modes: int = 48
    papers_width: int = 32
    papers_depth: int = 6
    against: str = "all"
    released: str = ""
    threads: int = 1
    device: str = "cpu"
    precision: str = "full"
    clock: str = "auto"
    repeats: int = 7
    allocator: str = "tuned"
    peak: bool = True
    name: str = ""
    peak_only: bool = False

    def __post_init__(self) -> None:
        counts = ("num_modes", "width", "depth", "batch", "fno_modes", "fno_depth", "threads", "repeats")
        for key in (*counts, "papers_modes", "papers_width", "papers_depth"):
            if getattr(self, key) < 1:
                raise OptionError(f"{key} is {getattr(self, key)}; it must be at least 1.")
        require_one_of("against", self.against, ["all", "fno", "neuralop", "released"])
        require_one_of("clock", self.clock, ["auto", *CLOCKS])
        require_one_of("precision", self.precision, list(TOLERANCES))
        choose_device(self.device, "Without device=cuda the processor is measured.")
        require_one_of("allocator", self.allocator, ALLOCATORS)
        check_name(self.name)
        if self.released and not (Path(self.released) / "src" / "models" / "t1.py").is_file():
            raise OptionError(
                f"released is {self.released}, which has no src/models/t1.py; give the folder of the authors' code."
            )
        if self.against == "released" and not self.released:
            raise OptionError("against=released needs the folder of the authors' code: released=/path/to/it.")


def main(words: Sequence[str]) -> None:
    """Measure every grid, print, and write if there is a name."""
    options = parse_options(TransformOnceOptions, words)
    torch.set_num_threads(options.threads)
    with tf32_flags(options.precision):
        _measure(options, words)


def _measure(options: TransformOnceOptions, words: Sequence[str]) -> None:
    if options.peak_only:
        print(json.dumps({f"{n} {name}": peak for n in options.grid for name, peak in _peaks(options, n)}))
        return
    device = torch.device(options.device)
    clock = choose_clock(options.clock, device, options.threads)
    settings = timing_settings(options, clock, options.precision)
    title = f"T1, {options.num_modes} modes, width {options.width}, batch {options.batch}"
    title += "" if device.type == "cpu" else f", {options.precision} on {device.type}"
    record = Record("transform_once", title, words, settings)
    peaks = (
        peaks_in_new_process("benchmarks.transform_once", [*words, "peak_only=true"]) if options.peak else {}
    )
    cases = {}
    for size in options.grid:
        refused: dict[str, str] = {}
        start = time.perf_counter()
        sides = _sides(options, size)
        field = smooth_input(options.batch, (size, size)).to(device)
        equality = _check(sides, field, TOLERANCES[options.precision])
        steps = {name: _step(side, field) for name, side in sides.items()}
        if device.type == "cuda":
            graphs, refused = steps_or_reasons(
                {name + GRAPH: partial(_graph, sides[name], field) for name in (T1, FNO) if name in sides}
            )
            steps |= graphs
        first_call = {name: _seconds_of(step, device) for name, step in steps.items()}
        seconds = interleave(
            steps,
            repeats=options.repeats,
            clock=CLOCKS[clock],
            settle=lambda: synchronise(device),
        )
        ratios = {
            name: Spread.of([a / b for a, b in zip(sample, seconds[T1], strict=True)]).to_dict()
            for name, sample in seconds.items()
            if name != T1
        }
        cases[f"{size} x {size}"] = {
            "phases": {"step": compare(seconds, RELEASED if RELEASED in seconds else None)},
            "t1 is faster than": ratios,
            **({"refused": refused} if refused else {}),
            "first_call_seconds": {name: round(s, 2) for name, s in first_call.items()},
            "parameters": {name: num_real_parameters(side.module) for name, side in sides.items()},
            "equality": equality,
            "MiB": {
                name: round(peak / 2**20, 1)
                for name in sides
                if (peak := peaks.get(f"{size} {name}")) is not None
            },
        }
        _print(size, cases[f"{size} x {size}"], time.perf_counter() - start)
    record.add("cases", cases)
    if options.name:
        print(f"written to {record.write(options.name).name}")


def _sides(options: TransformOnceOptions, size: int) -> dict[str, Side]:
    """Return the contestants of a grid, ours first; the released code has our weights."""
    torch.manual_seed(0)
    grid = (size, size)
    settings = {"width": options.width, "depth": options.depth, "num_modes": options.num_modes}
    like_released = {
        "coordinates": "linear",
        "transform": "dct_everywhere",
        "residual": "sum",
        "reference_grid": size,
    }
    ours = build_ours("t1", grid, wanted={**settings, **like_released}, also={}, name=T1)
    sides = {T1: ours}
    if options.against in ("all", "fno"):
        fno: dict[str, Any] = {"num_modes": options.fno_modes, "depth": options.fno_depth}
        match = match_parameters("fno", box_spec(2), 1, 1, fno, num_real_parameters(ours.module))
        sides[FNO] = build_ours(
            "fno",
            grid,
            wanted={**fno, "width": match.value, "precision": options.precision},
            also={},
            name=FNO,
        )
    if options.against in ("all", "neuralop"):
        sides[PAPERS] = _papers_fno(options)
    if options.released:
        sides[RELEASED] = _released(options, ours, size)
    for side in sides.values():
        side.module.to(options.device)
    return sides


def _papers_fno(options: TransformOnceOptions) -> Side:
    from neuralop.models import FNO as Peer

    start = time.perf_counter()
    peer = Peer(
        n_modes=(options.papers_modes,) * 2,
        in_channels=1,
        out_channels=1,
        hidden_channels=options.papers_width,
        n_layers=options.papers_depth,
    )
    return Side(PAPERS, peer, peer, dict, time.perf_counter() - start)


def _released(options: TransformOnceOptions, ours: Side, size: int) -> Side:
    """Return the authors' network with our weights and our positions."""
    sys.path.insert(0, options.released)
    try:
        module = importlib.import_module("src.models.t1")
    finally:
        sys.path.remove(options.released)
    start = time.perf_counter()
    peer = module.T1_2d(
        options.num_modes,
        options.num_modes,
        options.width,
        (size, size),
        nlayers=options.depth,
        act="gelu",
        transform="dct",
        perform_inverse=True,
    )
    seconds = time.perf_counter() - start
    steps = torch.arange(size) / size
    positions = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), -1)
    peer.get_grid = lambda shape, device: positions.expand(shape[0], -1, -1, -1).to(device)
    peer.load_state_dict(_to_released(ours.module.state_dict(), options.num_modes))

    def call(field: Tensor) -> Tensor:
        return peer(field[:, 0])[:, None]

    return Side(RELEASED, peer, call, _from_released, seconds)


def _to_released(state: Mapping[str, Tensor], num_modes: int) -> dict[str, Tensor]:
    theirs = {"fc1": state["hidden.weight"].T, "fc2": state["project.weight"].T}
    for name, value in state.items():
        head, _, tail = name.rpartition(".")
        if head == "lift":
            theirs[f"fc0.{tail}"] = value
        elif tail == "weight" and head.startswith("layers."):
            theirs[f"{head}.ch_mixing_1"] = value.unflatten(0, (num_modes, num_modes)).permute(2, 3, 0, 1)
        elif head.endswith("mixing"):
            theirs[f"{head.removesuffix('mixing')}spatial_mixing_{int(tail) + 1}"] = value.permute(1, 2, 0)
    return theirs


def _from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours = {"hidden.weight": state["fc1"].T, "project.weight": state["fc2"].T}
    for name, value in state.items():
        head, _, tail = name.rpartition(".")
        if head == "fc0":
            ours[f"lift.{tail}"] = value
        elif tail == "ch_mixing_1":
            ours[f"{head}.weight"] = value.permute(2, 3, 0, 1).flatten(0, 1)
        elif tail.startswith("spatial_mixing_"):
            ours[f"{head}.mixing.{int(tail[-1]) - 1}"] = value.permute(2, 0, 1)
    return ours


def _check(sides: Mapping[str, Side], field: Tensor, tolerances: tuple[float, float]) -> dict[str, float]:
    """Compare ours with the released code, if that takes part."""
    if RELEASED not in sides:
        return {}
    found = {}
    for name in (T1, RELEASED):
        side = sides[name]
        _both(side, field)()
        with torch.no_grad():
            found[name] = {"y": side.call(field).clone()}, {k: g.clone() for k, g in side.gradients().items()}
    output = require_equal(
        "output against the released code", found[T1][0], found[RELEASED][0], tolerances[0]
    )
    gradient = require_equal(
        "gradients against the released code", found[T1][1], found[RELEASED][1], tolerances[1]
    )
    return {"output": float(f"{output:.1e}"), "gradient": float(f"{gradient:.1e}")}


def _both(side: Side, field: Tensor) -> Callable[[], object]:
    target = torch.randn(field.shape, generator=torch.Generator().manual_seed(1)).to(field.device)

    return gradients_of(side.module, lambda: torch.nn.functional.mse_loss(side.call(field), target))


def _step(side: Side, field: Tensor) -> Callable[[], object]:
    parameters = list(side.module.parameters())
    optimiser = torch.optim.Adam(parameters, 1e-6, fused=side.name in (T1, FNO) or None)
    return step_of(_both(side, field), optimiser)


def _graph(side: Side, field: Tensor) -> Callable[[], object]:
    optimiser = torch.optim.Adam(side.module.parameters(), 1e-6, fused=True)

    def losses(batch: Batch) -> Tensor:
        return (side.call(batch.history[:, 0]) - batch.future[:, 0]).square().flatten(1).mean(1)

    return captured(losses, optimiser, batch_of(field.unsqueeze(1), torch.randn_like(field).unsqueeze(1)))


def _seconds_of(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def _peaks(options: TransformOnceOptions, size: int) -> list[tuple[str, int | None]]:
    device = torch.device(options.device)
    field = smooth_input(options.batch, (size, size)).to(device)
    return [
        (name, peak_of(_both(side, field), side.module, device))
        for name, side in _sides(options, size).items()
    ]


def _print(size: int, case: Mapping[str, Any], seconds: float) -> None:
    print(f"{size}² ({seconds:.0f} s), equality {case['equality'] or '-'}")
    for name, row in case["phases"]["step"].items():
        faster = case["t1 is faster than"].get(name)
        ratio = "" if faster is None else f"  t1 is {faster['median']:.2f}x faster {faster['interval']}"
        memory = case["MiB"].get(name, math.nan)
        print(
            f"  {name:34s} {row['milliseconds']['median']:9.1f} ms {memory:8.1f} MiB "
            f"{case['parameters'][name.removesuffix(GRAPH)]:12,d} parameters{ratio}"
        )


if __name__ == "__main__":
    run_command(main)

"""Multi-grid domain decomposition: peak memory and time by regions and halo, and the error by halo.

    python -m benchmarks.multigrid threads=2 name=multigrid

Memory and time are those of one forward and backward pass. The error is that of models trained alike on
`benchmarks.halo_error`'s problem; ``regions=4`` with ``halos=0,4,8`` in 128ths of the box.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pdesurrogate.models import MODELS

from .devices import choose_clock
from .halo_error import DIFFUSION_LENGTH, SPEC, TRAVEL, means_over_seeds, trained_error
from .harness import CLOCKS, compare, interleave, require_equal
from .machine import ALLOCATORS
from .memory import peak_of, peaks_in_new_process
from .models import smooth_input
from .options import parse_options, require_at_least_1, require_one_of, run_command
from .passes import gradients_of
from .record import Record, check_name, timing_settings

PLAIN = "plain"
HALO_UNIT = 128


@dataclass(frozen=True)
class MultiGridOptions:
    """What can be given as ``key=value``; sizes in points, halos in 128ths of the box."""

    grid: tuple[int, ...] = (256, 512)
    regions: tuple[int, ...] = (2, 4, 8)
    halos: tuple[int, ...] = (0, 8)
    base: str = "tfno"
    width: int = 32
    num_modes: int = 24
    batch: int = 1
    threads: int = 1
    clock: str = "auto"
    repeats: int = 5
    allocator: str = "tuned"
    peak: bool = True
    error_grid: int = 64
    error_regions: int = 4
    error_halos: tuple[int, ...] = (0, 4, 8, 16)
    error_width: int = 16
    error_modes: int = 12
    error_steps: int = 400
    error_batch: int = 8
    error_seeds: int = 3
    name: str = ""
    peak_only: bool = False

    def __post_init__(self) -> None:
        counts = (
            "width",
            "num_modes",
            "batch",
            "threads",
            "repeats",
            "error_grid",
            "error_steps",
            "error_seeds",
        )
        require_at_least_1(self, *counts)
        require_one_of("clock", self.clock, ["auto", *CLOCKS])
        require_one_of("allocator", self.allocator, ALLOCATORS)
        check_name(self.name)


def main(words: Sequence[str]) -> None:
    """Measure, print, and write if there is a name."""
    options = parse_options(MultiGridOptions, words)
    torch.set_num_threads(options.threads)
    contestants = {size: _contestants(options, size) for size in options.grid}
    if options.peak_only:
        print(
            json.dumps(
                {f"{n} {name}": peak_of(*run) for n in contestants for name, *run in _runs(options, n)}
            )
        )
        return
    clock = choose_clock(options.clock, torch.device("cpu"), options.threads)
    title = f"Multi-grid decomposition of {options.base}, width {options.width}, {options.num_modes} modes"
    record = Record("multigrid", title, words, timing_settings(options, clock))
    peaks = peaks_in_new_process("benchmarks.multigrid", [*words, "peak_only=true"]) if options.peak else {}
    record.add("equality", _check(options))
    memory = {}
    for size, models in contestants.items():
        seconds = interleave(
            {name: run for name, run, _ in _runs(options, size)},
            repeats=options.repeats,
            clock=CLOCKS[clock],
            warmup=1,
        )
        rows = compare(seconds, PLAIN)
        for name, row in rows.items():
            row |= models[name]
            peak = peaks.get(f"{size} {name}")
            if peak is not None:
                row["MiB"] = round(peak / 2**20, 1)
            print(
                f"{size:5d}² {name:36s} {row.get('MiB', '-'):>8} MiB {row['milliseconds']['median']:9.1f} ms"
            )
        memory[str(size)] = rows
    record.add("memory", memory)
    record.add("error", _errors_by_halo(options))
    if options.name:
        print(f"written to {record.write(options.name).name}")


def _contestants(options: MultiGridOptions, size: int) -> dict[str, dict[str, Any]]:
    """Return what each contestant is, the box as a whole first."""
    found: dict[str, dict[str, Any]] = {PLAIN: {"window": size}}
    for regions in options.regions:
        for halo in options.halos:
            for process in ("sequential", "batch"):
                name = f"{regions * regions} regions, halo {halo}/{HALO_UNIT}, {process}"
                model = _build(options, {"regions": regions, "halo": halo / HALO_UNIT, "process": process})
                model.check_grid((size, size))
                window = model.region_grid((size, size)).window[0]
                found[name] = {"regions": regions, "halo": halo, "process": process, "window": window}
    return found


def _build(options: MultiGridOptions, cut: Mapping[str, Any] | None) -> Any:
    """Return a model with the weights of the seed; levels are as many as the paper has for the regions."""
    torch.manual_seed(0)
    base = {"width": options.width, "num_modes": options.num_modes}
    if cut is None:
        return MODELS.build(options.base, SPEC, 1, 1, **base)
    levels = int(cut["regions"]).bit_length() - 1
    return MODELS.build("mgtfno", SPEC, 1, 1, base=options.base, base_options=base, levels=levels, **cut)


def _runs(options: MultiGridOptions, size: int) -> list[tuple[str, Callable[[], object], nn.Module]]:
    """Return one forward and backward pass of every contestant, and its model."""
    field = smooth_input(options.batch, (size, size))
    runs = []
    for name, facts in _contestants(options, size).items():
        cut = None
        if name != PLAIN:
            cut = {"halo": facts["halo"] / HALO_UNIT, **{k: facts[k] for k in ("regions", "process")}}
        model = _build(options, cut)
        runs.append((name, _both(model, field), model))
    return runs


def _both(model: nn.Module, field: Tensor) -> Callable[[], object]:
    def loss() -> Tensor:
        future: Tensor = model(field[:, None], field.new_zeros(len(field), 0))
        return future.square().mean()

    return gradients_of(model, loss)


def _check(options: MultiGridOptions) -> dict[str, float]:
    """Compare regions one at a time with regions at once, on the first grid."""
    field = smooth_input(options.batch, (options.grid[0],) * 2)
    found = []
    for process in ("sequential", "batch"):
        cut = {"regions": options.regions[0], "halo": options.halos[-1] / HALO_UNIT, "process": process}
        model = _build(options, cut)
        _both(model, field)()
        with torch.no_grad():
            future = model(field[:, None], field.new_zeros(len(field), 0))
        found.append(({"future": future}, {name: p.grad.clone() for name, p in model.named_parameters()}))
    (one, one_grads), (all_at_once, all_grads) = found
    output = require_equal("output, one at a time against at once", one, all_at_once, 1e-5)
    gradient = require_equal("gradients, one at a time against at once", one_grads, all_grads, 1e-4)
    return {"output": float(f"{output:.1e}"), "gradient": float(f"{gradient:.1e}")}


def _errors_by_halo(options: MultiGridOptions) -> dict[str, Any]:
    """Return the errors of trained models: on the whole box, and by regions for every halo and number of levels."""
    base = {"width": options.error_width, "num_modes": options.error_modes}
    plain = {"kind": options.base, **base}
    most = options.error_regions.bit_length() - 1
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [({"halo": None, "levels": None}, plain)]
    for levels in sorted({0, most}):
        for halo in options.error_halos:
            cut = {"regions": options.error_regions, "levels": levels, "halo": halo / HALO_UNIT}
            model = {"kind": "mgtfno", "base": options.base, "base_options": base, "process": "batch", **cut}
            cases.append(({"halo": halo, "levels": levels}, model))
    rows = []
    for facts, model in cases:
        errors = [
            trained_error(
                model,
                size=options.error_grid,
                steps=options.error_steps,
                batch=options.error_batch,
                seed=seed,
            )
            for seed in range(options.error_seeds)
        ]
        rows.append({**facts, **means_over_seeds(errors)})
        print(f"halo {facts['halo']} levels {facts['levels']}: error {100 * rows[-1]['mean']:.3g} %")
    return {
        "problem": SPEC.equation,
        "travel": [t * HALO_UNIT for t in TRAVEL],
        "diffusion length": DIFFUSION_LENGTH * HALO_UNIT,
        "grid": options.error_grid,
        "regions": options.error_regions,
        "steps": options.error_steps,
        "seeds": options.error_seeds,
        "rows": rows,
    }


if __name__ == "__main__":
    run_command(main)

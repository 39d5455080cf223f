"""The whole training step on a GPU: one kernel after the other, and as one CUDA graph, against neuraloperator's.

    python -m benchmarks.gpu grid=64 num_modes=24 width=32 batch=20 name=gpu_fno_2d
    python -m benchmarks.gpu grid=256 num_modes=32 width=64 batch=16 precisions=tf32,bf16 name=gpu_fno_2d_large

For every precision the TF32 flags of both sides are the same. Outputs and gradients are compared before anything is
timed. A contestant that cannot run on the device, or cannot be recorded, is listed with the reason. Beside the times
stands the byte floor: the time in which the device copies `FLOOR_FIELDS` activation fields, which is what a step of
four layers must read and write at least.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pdesurrogate.fields import Batch
from pdesurrogate.layers import available_backends
from pdesurrogate.training.optimisation import Optimisation

from .devices import choose_device, synchronise, tf32_flags
from .graphs import GRAPH, batch_of, captured, recorded, steps_or_reasons
from .harness import compare, interleave, require_equal
from .memory import peak_of
from .models import NEURALOPERATOR, OURS, Side, activation_bytes, build_ours, build_peer, smooth_input
from .options import OptionError, parse_options, require_at_least_1, require_one_of, run_command
from .record import Record, check_name
from .step import TOLERANCES

FLOOR_FIELDS = 46.0
"""Activation fields that a step of a four-layer model must move: 17 forward, 29 backward, everything fused."""


@dataclass(frozen=True)
class GpuOptions:
    """What can be given as ``key=value``."""

    grid: tuple[int, ...] = (64, 64)
    num_modes: tuple[int, ...] = (24, 24)
    width: int = 32
    batch: int = 20
    precisions: str = "full,tf32,bf16"
    backends: str = "dft,fft,triton"
    memory: str = "speed"
    repeats: int = 31
    device: str = "cuda"
    name: str = ""

    def __post_init__(self) -> None:
        require_at_least_1(self, "width", "batch", "repeats")
        for precision in self.precisions.split(","):
            require_one_of("precisions", precision, list(TOLERANCES))
        for backend in self.backends.split(","):
            require_one_of("backends", backend, ["dft", "fft", "triton"])
        require_one_of("memory", self.memory, ["speed", "lean", "minimal"])
        check_name(self.name)
        choose_device(
            self.device,
            "device=cpu runs the same comparison without graphs; for CPU figures use python -m benchmarks.step.",
        )

    def shape(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return grid and modes with one entry per axis."""
        grid = self.grid * 2 if len(self.grid) == 1 else self.grid
        modes = self.num_modes * len(grid) if len(self.num_modes) == 1 else self.num_modes
        if len(modes) != len(grid):
            raise OptionError(
                f"grid has {len(grid)} axes and num_modes {len(modes)}; give as many of each, or one."
            )
        return grid, modes


class GpuContest:
    """The contestants of one precision on one device, on common weights, input and target."""

    def __init__(self, options: GpuOptions, precision: str) -> None:
        torch.manual_seed(0)
        self.options, self.precision = options, precision
        self.device = torch.device(options.device)
        self.grid, self.modes = options.shape()
        self.refused: dict[str, str] = {}
        u = smooth_input(options.batch, self.grid).to(self.device)
        target = torch.randn_like(u)
        self.batch = batch_of(u.unsqueeze(1), target.unsqueeze(1))
        self.sides = self._sides()

    def check(self) -> dict[str, float]:
        """Compare outputs and gradients of all sides with neuraloperator's; returns the worst differences."""
        values, gradients = TOLERANCES[self.precision]
        worst = {"output": 0.0, "gradient": 0.0}
        found = []
        for side in self.sides:
            side.module.zero_grad(set_to_none=True)
            y = side.call(self.batch.history[:, 0])
            torch.nn.functional.mse_loss(y, self.batch.future[:, 0]).backward()
            found.append((y.detach().clone(), {n: g.clone() for n, g in side.gradients().items()}))
        reference, grads = found[0]
        for side, (y, grad) in zip(self.sides[1:], found[1:], strict=True):
            what = f"of {side.name} against {NEURALOPERATOR}"
            error = require_equal(f"output {what}", {"y": y}, {"y": reference}, values)
            worst["output"] = max(worst["output"], error)
            worst["gradient"] = max(
                worst["gradient"], require_equal(f"gradients {what}", grad, grads, gradients)
            )
        return {key: float(f"{value:.1e}") for key, value in worst.items()}

    def steps(self) -> dict[str, Callable[[], object]]:
        """Return a training step of every contestant that runs here."""
        steps: dict[str, Callable[[], object]] = {}
        for side in self.sides:
            steps[side.name] = self._eager(side)
            if self.device.type != "cuda":
                self.refused[side.name + GRAPH] = f"CUDA graphs need a GPU and this is {self.device.type}"
                continue
            graphs, reasons = steps_or_reasons({side.name + GRAPH: partial(self._graphed, side)})
            steps |= graphs
            self.refused |= reasons
        return steps

    def _sides(self) -> list[Side]:
        also = {"width": self.options.width, "num_modes": list(self.modes), "coordinates": "linear"}
        sides: list[Side] = []
        peer: Side | None = None
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        able = available_backends(self.device, dtype, len(self.grid))
        for backend in self.options.backends.split(","):
            name = f"{OURS}, {backend}"
            if backend not in able or (backend == "fft" and dtype == torch.bfloat16):
                self.refused[name] = f"not available on {self.device.type} for {dtype}"
                continue
            wanted = {"backend": backend, "precision": self.precision, "memory": self.options.memory}
            side = build_ours("fno", self.grid, wanted=wanted, also=also, name=name)
            if peer is None:
                peer = build_peer("fno", side, width=self.options.width, num_modes=self.modes)
                first = side
            else:
                side.module.load_state_dict(first.module.state_dict())
            side.module.to(self.device)
            sides.append(side)
        if peer is None:
            raise OptionError(f"none of backends={self.options.backends} runs on {self.device}.")
        peer.module.to(self.device)
        return [peer, *sides]

    def _losses(self, side: Side, batch: Batch) -> Tensor:
        difference = side.call(batch.history[:, 0]) - batch.future[:, 0]
        return difference.square().flatten(1).mean(1)

    def _optimiser(self, side: Side, *, capturable: bool) -> torch.optim.Optimizer:
        if side.name != NEURALOPERATOR:
            settings = Optimisation(kind="adam", lr=1e-6, weight_decay=0.0)
            return settings.build(side.module.parameters(), 1000)[0]
        return torch.optim.Adam(side.module.parameters(), 1e-6, capturable=capturable)

    def _eager(self, side: Side) -> Callable[[], object]:
        optimiser = self._optimiser(side, capturable=False)

        def step() -> None:
            optimiser.zero_grad(set_to_none=True)
            self._losses(side, self.batch).mean().backward()
            optimiser.step()

        return step

    def _graphed(self, side: Side) -> Callable[[], object]:
        optimiser = self._optimiser(side, capturable=True)
        if side.name != NEURALOPERATOR:
            return captured(partial(self._losses, side), optimiser, self.batch)

        def step() -> Tensor:
            optimiser.zero_grad(set_to_none=True)
            losses = self._losses(side, self.batch)
            losses.mean().backward()
            optimiser.step()
            return losses.detach()

        return recorded(step)

    def peaks(self) -> dict[str, int]:
        """Return what the forward and backward pass of every side takes at its peak, in bytes."""

        def both(side: Side) -> None:
            side.module.zero_grad(set_to_none=True)
            self._losses(side, self.batch).mean().backward()

        found = {side.name: peak_of(partial(both, side), side.module, self.device) for side in self.sides}
        return {name: peak for name, peak in found.items() if peak is not None}


def copy_bytes_per_second(device: torch.device, num_bytes: int = 2**28) -> float:
    """Return what a device reads and writes per second when it copies."""
    source = torch.empty(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    seconds = interleave(
        {"copy": lambda: target.copy_(source)}, repeats=9, settle=lambda: synchronise(device)
    )["copy"]
    return 2 * num_bytes / sorted(seconds)[4]


def main(words: Sequence[str]) -> None:
    """Measure every precision, print the tables, and write them if there is a name."""
    options = parse_options(GpuOptions, words)
    device = torch.device(options.device)
    grid, modes = options.shape()
    title = (
        f"Training step on {device.type}, fno, {' x '.join(map(str, grid))}, modes {', '.join(map(str, modes))}, width "
        f"{options.width}, batch {options.batch}"
    )
    settings = {
        "threads": torch.get_num_threads(), "clock": "wall", "allocator": "torch", "repeats": options.repeats,
        "precision": options.precisions, "memory": options.memory,
    }  # fmt: skip
    record = Record("gpu", title, words, settings)
    floor = (
        FLOOR_FIELDS * activation_bytes(options.batch, options.width, grid) / copy_bytes_per_second(device)
    )
    phases: dict[str, Any] = {}
    equality: dict[str, float] = {}
    refused: dict[str, dict[str, str]] = {}
    for precision in options.precisions.split(","):
        with tf32_flags(precision):
            start = time.perf_counter()
            contest = GpuContest(options, precision)
            equality = {k: max(v, equality.get(k, 0.0)) for k, v in contest.check().items()}
            peaks = contest.peaks()
            steps = contest.steps()
            ready = time.perf_counter() - start
            seconds = interleave(steps, repeats=options.repeats, settle=lambda: synchronise(device))
        table = compare(seconds, NEURALOPERATOR)
        for name, row in table.items():
            fields_floor = floor / 2 if precision == "bf16" and name != NEURALOPERATOR else floor
            if name in peaks:
                row["peak_MiB"] = round(peaks[name] / 2**20, 1)
            row["of the byte floor"] = float(f"{1e3 * fields_floor / row['milliseconds']['median']:.3g}")
        phases[precision] = table
        refused[precision] = contest.refused
        _print(precision, table, contest.refused, ready)
    record.add("equality", equality)
    record.add("phases", phases)
    record.add("refused", refused)
    record.add("byte_floor_milliseconds", float(f"{1e3 * floor:.3g}"))
    if options.name:
        print(f"written to {record.write(options.name).name}")


def _print(precision: str, table: dict[str, Any], refused: dict[str, str], ready: float) -> None:
    print(f"{precision} (ready after {ready:.1f} s)")
    for name, row in table.items():
        speed = f"{row['speedup']['median']:.2f}x" if "speedup" in row else ""
        peak = f", {row['peak_MiB']} MiB" if "peak_MiB" in row else ""
        print(
            f"  {name:<32}{row['milliseconds']['median']:>10.3f} ms  {speed:<8} {row['of the byte floor']:.2f} of the "
            f"byte floor{peak}"
        )
    for name, reason in refused.items():
        print(f"  {name:<32} not here: {reason}")


if __name__ == "__main__":
    run_command(main)

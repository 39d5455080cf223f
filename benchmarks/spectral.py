"""The spectral convolution alone against neuraloperator's, over grids and numbers of modes.

    python -m benchmarks.spectral only=64x64 name=spectral

``m`` modes per sign on every axis: ``2m`` on a full axis, ``m`` on the half axis (all of them where the grid
has fewer). No bias on either side. Inputs lie in each side's own layout; the change of layout happens once per
model and is part of ``benchmarks.step``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pdesurrogate.layers import SpectralConv, spectral_weight_from_neuralop, spectral_weight_to_neuralop

from .devices import choose_clock
from .harness import CLOCKS, compare, interleave, require_equal
from .machine import ALLOCATORS
from .models import NEURALOPERATOR
from .options import OptionError, parse_options, require_at_least_1, require_one_of, run_command
from .record import Record, check_name, timing_settings


@dataclass(frozen=True)
class Case:
    """One size: grid, modes per sign, batch and channels."""

    grid: tuple[int, ...]
    half_modes: int
    batch: int
    channels: int

    @property
    def label(self) -> str:
        """The case in a word, such as ``64x64 m12 B16 C32``."""
        return f"{'x'.join(map(str, self.grid))} m{self.half_modes} B{self.batch} C{self.channels}"

    @property
    def num_modes(self) -> tuple[int, ...]:
        """Kept modes per axis, counting both signs; ``m`` (from zero) on the half axis."""
        full = [min(2 * self.half_modes, n) for n in self.grid[:-1]]
        return (*full, min(2 * (self.half_modes - 1), self.grid[-1]))


CASES = (
    *(Case((64, 64), m, 16, 32) for m in (8, 12, 16, 24, 32)),
    *(Case((128, 128), m, 4, 32) for m in (8, 12, 16, 32)),
    *(Case((256, 256), m, 2, 32) for m in (8, 16, 32)),
    *(Case((32, 32, 32), m, 2, 32) for m in (8, 12)),
    *(Case((64, 64, 64), m, 1, 20) for m in (8, 16)),
    Case((64, 64, 40), 8, 2, 20),
    Case((64, 64), 12, 16, 64),
)


@dataclass(frozen=True)
class SpectralOptions:
    """What can be given as ``key=value``."""

    only: str = ""
    backends: str = "auto"
    threads: int = 1
    clock: str = "auto"
    repeats: int = 9
    allocator: str = "tuned"
    name: str = ""

    def __post_init__(self) -> None:
        require_at_least_1(self, "threads", "repeats")
        require_one_of("clock", self.clock, ["auto", *CLOCKS])
        require_one_of("allocator", self.allocator, ALLOCATORS)
        check_name(self.name)
        if not self.cases():
            known = "; ".join(case.label for case in CASES)
            raise OptionError(f"only={self.only} is in the name of no case. The cases: {known}.")

    def cases(self) -> list[Case]:
        """Return the cases whose label contains ``only``."""
        return [case for case in CASES if self.only in case.label]


Contestant = tuple[Callable[[], Tensor], Callable[[], tuple[Tensor, ...]], Callable[[Tensor], Tensor]]
"""Forward without gradients, forward with gradients of input and weight, and output to channels-first."""


def contestants(case: Case, backends: Sequence[str]) -> tuple[dict[str, Contestant], dict[str, float]]:
    """Return the sides by name, the first being neuraloperator's, and the seconds of their first calls."""
    from neuralop.layers.spectral_convolution import SpectralConv as PeerConv

    torch.manual_seed(0)
    channels, modes = case.channels, case.num_modes
    u = torch.randn(case.batch, channels, *case.grid)
    gradient = torch.randn_like(u)
    ours = {name: SpectralConv(channels, channels, modes, backend=name) for name in backends}
    weight = next(iter(ours.values())).weight.detach()
    peer = PeerConv(channels, channels, modes, bias=False)
    with torch.no_grad():
        peer.weight.tensor.copy_(spectral_weight_to_neuralop(weight, modes))
        for conv in ours.values():
            conv.weight.copy_(weight)
    sides = {NEURALOPERATOR: _contestant(peer, peer.weight.tensor, u, gradient, lambda y: y)}
    for name, conv in ours.items():
        inputs = _to_layout(u), _to_layout(gradient)
        sides[f"pdesurrogate, {name}"] = _contestant(conv, conv.weight, *inputs, _from_layout)
    first = {}
    for name, (_, both, _) in sides.items():
        start = time.perf_counter()
        both()
        first[name] = round(time.perf_counter() - start, 3)
    return sides, first


def check(sides: dict[str, Contestant]) -> dict[str, float]:
    """Compare outputs and gradients with neuraloperator's."""
    reference = _evaluated(sides[NEURALOPERATOR], of_peer=True)
    worst = {"output": 0.0, "gradient": 0.0}
    for name, side in sides.items():
        if name == NEURALOPERATOR:
            continue
        found = _evaluated(side, of_peer=False)
        for key, tolerance in (("output", 1e-5), ("gradient", 1e-4)):
            error = require_equal(f"{key} of {name}", found[key], reference[key], tolerance)
            worst[key] = max(worst[key], error)
    return {key: float(f"{value:.1e}") for key, value in worst.items()}


def main(words: Sequence[str]) -> None:
    """Measure the chosen cases, print them, and write them if there is a name."""
    options = parse_options(SpectralOptions, words)
    clock = choose_clock(options.clock, torch.device("cpu"), options.threads)
    torch.set_num_threads(options.threads)
    settings = timing_settings(options, clock)
    record = Record("spectral", "Spectral convolution", words, settings)
    cases: dict[str, Any] = {}
    for case in options.cases():
        sides, first = contestants(case, options.backends.split(","))
        found: dict[str, Any] = {"equality": check(sides), "first_call_seconds": first, "phases": {}}
        for phase, which in (("forward", 0), ("forward + backward", 1)):
            runs = {name: side[which] for name, side in sides.items()}
            seconds = interleave(runs, repeats=options.repeats, clock=CLOCKS[clock], warmup=1)
            found["phases"][phase] = compare(seconds, NEURALOPERATOR)
        cases[case.label] = found
        _print(case.label, found["phases"])
    record.add("cases", cases)
    if options.name:
        print(f"written to {record.write(options.name).name}")


def _contestant(
    conv: Any, weight: Tensor, u: Tensor, gradient: Tensor, to_common: Callable[[Tensor], Tensor]
) -> Contestant:
    u_grad = u.clone().requires_grad_()

    def forward() -> Tensor:
        with torch.no_grad():
            result: Tensor = conv(u)
            return result

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(conv(u_grad), [u_grad, weight], gradient)

    return forward, both, to_common


def _evaluated(side: Contestant, *, of_peer: bool) -> dict[str, dict[str, Tensor]]:
    forward, both, to_common = side
    grad_u, grad_weight = both()
    grad_weight = spectral_weight_from_neuralop(grad_weight) if of_peer else grad_weight
    gradients = {"u": to_common(grad_u), "weight": grad_weight}
    return {"output": {"v": to_common(forward())}, "gradient": gradients}


def _to_layout(u: Tensor) -> Tensor:
    return u.movedim(1, -1).movedim(-2, 1).contiguous()


def _from_layout(v: Tensor) -> Tensor:
    return v.movedim(-1, 1).movedim(2, -1)


def _print(label: str, phases: dict[str, Any]) -> None:
    words = []
    for phase, table in phases.items():
        for name, row in table.items():
            speedup = f" {row['speedup']['median']:.2f}x" if "speedup" in row else ""
            words.append(f"{name} {phase} {row['milliseconds']['median']:.2f} ms{speedup}")
    print(f"{label}: {'; '.join(words)}", flush=True)


if __name__ == "__main__":
    run_command(main)

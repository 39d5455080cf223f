"""The optimiser's step alone: fused Adam on real weights against Adam on complex ones.

    python -m benchmarks.optimiser width=64 name=optimiser

All contestants update the weights of the same FNO with the same gradients. torch's Adam treats real and
imaginary parts as separate reals, so that its result on complex weights must equal ours; neuraloperator's
AdamW takes |g|² for the second moment, which is another update, and is timed only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pdesurrogate.models.matching import num_real_parameters
from pdesurrogate.training.optimisation import Optimisation

from .devices import choose_clock
from .harness import CLOCKS, compare, interleave, require_equal
from .machine import ALLOCATORS
from .models import OURS, build_ours, build_peer
from .options import parse_options, require_at_least_1, require_one_of, run_command
from .record import Record, check_name, timing_settings

BASELINE = "torch Adam, complex weights"
FOREACH = "torch Adam foreach, complex weights"
OWN = "neuraloperator AdamW"
LR = 1e-3


@dataclass(frozen=True)
class OptimiserOptions:
    """What can be given as ``key=value``."""

    width: int = 64
    num_modes: int = 24
    threads: int = 1
    clock: str = "auto"
    repeats: int = 21
    allocator: str = "tuned"
    name: str = ""

    def __post_init__(self) -> None:
        require_at_least_1(self, "threads", "repeats", "width", "num_modes")
        require_one_of("clock", self.clock, ["auto", *CLOCKS])
        require_one_of("allocator", self.allocator, ALLOCATORS)
        check_name(self.name)


def main(words: Sequence[str]) -> None:
    """Measure, print, and write if there is a name."""
    options = parse_options(OptimiserOptions, words)
    clock = choose_clock(options.clock, torch.device("cpu"), options.threads)
    torch.set_num_threads(options.threads)
    settings = timing_settings(options, clock)
    title = f"Optimiser step, FNO of width {options.width}, {options.num_modes} modes"
    record = Record("optimiser", title, words, settings)
    runs, states, first, reals = contestants(options)
    for run in runs.values():
        run()
    error = require_equal("weights after the steps", states[OURS](), states[BASELINE](), 1e-6)
    record.add("parameters", reals)
    record.add("equality", {"weights": float(f"{error:.1e}")})
    record.add("first_call_seconds", first)
    seconds = interleave(runs, repeats=options.repeats, clock=CLOCKS[clock])
    table = compare(seconds, BASELINE)
    record.add("phases", {"optimiser step": table})
    for name, row in table.items():
        speedup = f"  {row['speedup']['median']:.2f}x" if "speedup" in row else ""
        print(f"{name:38s} {row['milliseconds']['median']:9.3f} ms{speedup}")
    if options.name:
        print(f"written to {record.write(options.name).name}")


def contestants(
    options: OptimiserOptions,
) -> tuple[
    dict[str, Callable[[], object]], dict[str, Callable[[], Mapping[str, Tensor]]], dict[str, float], int
]:
    """Return step functions, functions that give the weights under our names, first-call times, and size."""
    from neuralop.training.adamw import AdamW

    torch.manual_seed(0)
    also = {"width": options.width, "num_modes": options.num_modes, "coordinates": "linear"}
    ours = build_ours("fno", (64, 64), wanted={}, also=also)
    modes = (options.num_modes,) * 2
    sides = {OURS: ours}
    for name in (BASELINE, FOREACH, OWN):
        peer = build_peer("fno", ours, width=options.width, num_modes=modes)
        if peer is None:
            raise RuntimeError("there is a peer of fno")
        sides[name] = peer
    u = torch.randn(1, 1, 64, 64)
    sides[BASELINE].call(u).square().mean().backward()
    mapped = sides[BASELINE].gradients()
    for parameter_name, parameter in ours.module.named_parameters():
        parameter.grad = mapped[parameter_name].clone()
    grads = [p.grad for p in sides[BASELINE].module.parameters()]
    for name in (FOREACH, OWN):
        for parameter, grad in zip(sides[name].module.parameters(), grads, strict=True):
            parameter.grad = None if grad is None else grad.clone()
    constant = Optimisation(kind="adam", lr=LR, weight_decay=0.0, schedule="constant", warmup=0.0)
    builders: dict[str, Callable[..., torch.optim.Optimizer]] = {
        OURS: lambda p: constant.build(p, 1)[0],
        BASELINE: lambda p: torch.optim.Adam(p, LR),
        FOREACH: lambda p: torch.optim.Adam(p, LR, foreach=True),
        OWN: lambda p: AdamW(p, LR),
    }
    steps: dict[str, Callable[[], object]] = {}
    first = {}
    for name, side in sides.items():
        optimiser = builders[name](list(side.module.parameters()))
        steps[name] = partial(_step, optimiser)
        start = time.perf_counter()
        optimiser.step()
        first[name] = round(time.perf_counter() - start, 3)
    states = {
        name: (lambda side=side: side.ours(dict(side.module.named_parameters())))
        for name, side in sides.items()
    }
    return steps, states, first, num_real_parameters(ours.module)


def _step(optimiser: torch.optim.Optimizer) -> None:
    optimiser.step()


if __name__ == "__main__":
    run_command(main)

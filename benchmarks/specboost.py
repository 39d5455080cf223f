"""What boosting costs: a forecast against the sum of its stages, and the memory of training against one larger model.

    python -m benchmarks.specboost threads=2 name=specboost

All contestants run in turn in every repeat. A forecast of the boosted model is divided by the time of its stages, each
called alone on input that is ready, in the same repeat. A training step is a forward and backward pass: of the first
stage, of the last one with the earlier forecasts from memory or computed anew, and of one model with the parameters of
all stages. Optimisers are left out; theirs is the same for a stage and for a model of its size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pdesurrogate.models import MODELS
from pdesurrogate.models.matching import match_parameters, num_real_parameters

from .devices import choose_clock
from .harness import CLOCKS, compare, interleave, require_equal
from .machine import ALLOCATORS
from .memory import peak_of, peaks_in_new_process
from .models import activation_bytes, box_spec
from .options import OptionError, parse_options, require_at_least_1, require_one_of, run_command
from .passes import gradients_of
from .record import Record, check_name, timing_settings

WHOLE = "specboost"
SUM = "sum of its stages"
LARGE = "one model of all parameters"


@dataclass(frozen=True)
class BoostOptions:
    """What can be given as ``key=value``."""

    base: str = "fno"
    grid: int = 64
    width: int = 32
    num_modes: int = 24
    stages: int = 2
    batch: int = 16
    threads: int = 1
    clock: str = "auto"
    repeats: int = 11
    allocator: str = "tuned"
    peak: bool = True
    name: str = ""
    peak_only: bool = False

    def __post_init__(self) -> None:
        require_at_least_1(self, "grid", "width", "num_modes", "batch", "threads", "repeats")
        if self.stages < 2:
            raise OptionError(f"stages is {self.stages}; boosting has at least 2.")
        require_one_of("clock", self.clock, ["auto", *CLOCKS])
        require_one_of("allocator", self.allocator, ALLOCATORS)
        check_name(self.name)


class Contest:
    """The boosted model, its parts, and a model of as many parameters."""

    def __init__(self, options: BoostOptions) -> None:
        torch.manual_seed(0)
        self.options = options
        spec, base = box_spec(2), {"width": options.width, "num_modes": options.num_modes}
        self.model: Any = MODELS.build(
            WHOLE, spec, 1, 1, base=options.base, base_options=base, num_stages=options.stages
        )
        match = match_parameters(options.base, spec, 1, 1, base, num_real_parameters(self.model))
        self.large: nn.Module = MODELS.build(options.base, spec, 1, 1, **{**base, "width": match.value})
        self.history = torch.randn(options.batch, 1, 1, options.grid, options.grid)
        self.parameters = torch.zeros(options.batch, 0)
        self.models, self.inputs = self._parts()

    @torch.no_grad()
    def _parts(self) -> tuple[list[nn.Module], list[Tensor]]:
        """Return the stages' models and what each of them is given."""
        future = self.model.stages[0](self.history, self.parameters)
        models, inputs = [self.model.stages[0]], [self.history]
        for stage in range(1, self.options.stages):
            correction = self.model.correction(stage)
            models.append(correction.model)
            inputs.append(correction.input(self.history, future))
            future = correction(self.history, self.parameters, future)
        return models, inputs

    def check(self) -> float:
        """Compare the boosted forecast with the sum by hand; return the relative difference."""
        with torch.no_grad():
            by_hand = sum(m(u, self.parameters) for m, u in zip(self.models, self.inputs, strict=True))
            whole = self.model(self.history, self.parameters)
        return require_equal("boosted forecast", {"future": whole}, {"future": by_hand}, 1e-5)

    def forecasts(self) -> dict[str, Callable[[], object]]:
        """Return one forecast of the whole, and of each stage by itself."""

        def call(module: nn.Module, history: Tensor) -> Callable[[], object]:
            def run() -> object:
                with torch.no_grad():
                    return module(history, self.parameters)

            return run

        parts = {
            f"stage {i}": call(m, u)
            for i, (m, u) in enumerate(zip(self.models, self.inputs, strict=True), start=1)
        }
        return {WHOLE: call(self.model, self.history), **parts}

    def steps(self) -> dict[str, Callable[[], object]]:
        """Return one forward and backward pass of every kind of training."""
        last = self.options.stages - 1
        with torch.no_grad():
            earlier = self.model.earlier(last, self.history, self.parameters)

        def step(stage: int, forward: Callable[[], Tensor]) -> Callable[[], object]:
            gradients = gradients_of(self.model, lambda: forward().square().mean())

            def run() -> None:
                self.model.begin_stage(stage)
                gradients()

            return run

        def large() -> Tensor:
            future: Tensor = self.large(self.history, self.parameters)
            return future.square().mean()

        correction = self.model.correction(last)
        return {
            "stage 1": step(0, lambda: self.model(self.history, self.parameters)),
            f"stage {last + 1}, forecasts from memory": step(
                last, lambda: correction(self.history, self.parameters, earlier)
            ),
            f"stage {last + 1}, forecasts anew": step(
                last, lambda: self.model(self.history, self.parameters)
            ),
            LARGE: gradients_of(self.large, large),
        }


def main(words: Sequence[str]) -> None:
    """Measure, print, and write if there is a name."""
    options = parse_options(BoostOptions, words)
    torch.set_num_threads(options.threads)
    contest = Contest(options)
    if options.peak_only:
        models = nn.ModuleList([contest.model, contest.large])
        print(json.dumps({name: peak_of(run, models) for name, run in contest.steps().items()}))
        return
    clock = choose_clock(options.clock, torch.device("cpu"), options.threads)
    title = f"{options.stages} stages of {options.base}, width {options.width}, {options.num_modes} modes"
    record = Record("specboost", title, words, timing_settings(options, clock))
    record.add(
        "parameters",
        {
            **{f"stage {i}": num_real_parameters(m) for i, m in enumerate(contest.models, start=1)},
            LARGE: num_real_parameters(contest.large),
        },
    )
    record.add("equality", {"output": float(f"{contest.check():.1e}")})
    seconds = interleave(contest.forecasts(), repeats=options.repeats, clock=CLOCKS[clock], warmup=1)
    parts = {name: sample for name, sample in seconds.items() if name != WHOLE}
    sums = [sum(part) for part in zip(*parts.values(), strict=True)]
    forecast = {**compare({SUM: sums, WHOLE: seconds[WHOLE]}, SUM), **compare(parts, None)}
    _print("forecast", forecast)
    rows = compare(interleave(contest.steps(), repeats=options.repeats, clock=CLOCKS[clock], warmup=1), LARGE)
    _print("forward + backward", rows)
    record.add("phases", {"forecast": forecast, "forward + backward": rows})
    if options.peak:
        field_bytes = activation_bytes(options.batch, options.width, (options.grid, options.grid))
        own = [word for word in words if not word.startswith(("name=", "peak="))]
        peaks = peaks_in_new_process("benchmarks.specboost", [*own, "peak_only=true"])
        memory = {
            name: {"MiB": round(p / 2**20, 1), "V": round(p / field_bytes, 2)}
            for name, p in peaks.items()
            if p
        }
        record.add("peak_memory", memory)
        print(f"peak memory of forward + backward: {memory}")
    if options.name:
        print(f"written to {record.write(options.name).name}")


def _print(phase: str, table: dict[str, Any]) -> None:
    print(phase)
    for name, row in table.items():
        speedup = row.get("speedup")
        ratio = f"  {speedup['median']:.2f}x {speedup['interval']}" if speedup else ""
        print(f"  {name:32s} {row['milliseconds']['median']:9.2f} ms{ratio}")


if __name__ == "__main__":
    run_command(main)

"""FactFormer's training step against the authors' code, and its cost and memory as the grid is refined.

    python -m benchmarks.factformer factformer=FOLDER grid=128 batch=1 name=factformer
    python -m benchmarks.factformer scaling=64,128,256,512 width=32 heads=4 head_dim=16 name=factformer_scaling

``factformer`` is a clone of github.com/BaratiLab/FactFormer; without it ours is timed alone. Both have the same
weights, with queries and keys enlarged until the authors' kernels stand out from the ``eps`` of their normalisation;
outputs and gradients are compared before anything is timed. Ours is timed in all memory modes. With ``scaling``, one
forward and backward pass of ours is measured on square grids of these sizes, one after the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pdesurrogate.fields import Axis, Batch, DataSpec, Field
from pdesurrogate.models import MODELS
from pdesurrogate.training.optimisation import Optimisation

from .devices import choose_clock, choose_device, synchronise, tf32_flags
from .factformer_peer import AuthorsFactFormer, gradients, load
from .graphs import GRAPH, batch_of, captured, steps_or_reasons
from .harness import CLOCKS, compare, interleave, require_equal
from .machine import ALLOCATORS
from .memory import peak_of, peaks_in_new_process
from .options import OptionError, parse_options, require_one_of, run_command
from .passes import gradients_of, step_of
from .record import Record, check_name, timing_settings

AUTHORS = "authors"
MODES = ("speed", "lean", "minimal")
LENGTH = 2 * math.pi
SPEC = DataSpec((Field("vorticity"),), (Axis("y", LENGTH), Axis("x", LENGTH)), 0.0625)
ENLARGED = 50.0
"""Factor on queries and keys: their kernels then have variances of about 1e-3, and ``eps`` is 1e-8."""
TOLERANCES = {"full": (1e-4, 1e-3), "tf32": (0.1, 0.3), "bf16": (0.1, 0.5)}
"""Allowed relative differences of outputs and gradients by the arithmetic of products."""


@dataclass(frozen=True)
class FactFormerOptions:
    """What can be given as ``key=value``; defaults are the paper's for Kolmogorov flow."""

    grid: int = 128
    scaling: tuple[int, ...] = ()
    history: int = 10
    horizon: int = 4
    width: int = 128
    depth: int = 4
    heads: int = 8
    head_dim: int = 64
    kernel_multiplier: int = 2
    batch: int = 1
    threads: int = 1
    device: str = "cpu"
    precision: str = "full"
    clock: str = "auto"
    repeats: int = 7
    allocator: str = "tuned"
    peak: bool = True
    factformer: str = ""
    name: str = ""
    peak_only: bool = False

    def __post_init__(self) -> None:
        for key in ("grid", "history", "horizon", "batch", "threads", "repeats"):
            if getattr(self, key) < 1:
                raise OptionError(f"{key} is {getattr(self, key)}; it must be at least 1.")
        require_one_of("clock", self.clock, ["auto", *CLOCKS])
        require_one_of("precision", self.precision, list(TOLERANCES))
        choose_device(self.device, "Without device=cuda the processor is measured.")
        require_one_of("allocator", self.allocator, ALLOCATORS)
        check_name(self.name)

    def model(self) -> dict[str, Any]:
        """Return options of our model that the authors' has, too."""
        sizes = ("width", "depth", "heads", "head_dim", "kernel_multiplier")
        return {**{key: getattr(self, key) for key in sizes}, "latent_multiplier": 2.0}


class FactFormerContest:
    """The authors' model, where there is one, and ours in all memory modes, on common weights, input and target."""

    def __init__(self, options: FactFormerOptions) -> None:
        torch.manual_seed(0)
        self.modules: dict[str, nn.Module] = {}
        self.refused: dict[str, str] = {}
        first: nn.Module | None = None
        for mode in MODES:
            ours = build(options, mode)
            if first is None:
                first = ours
                with torch.no_grad():
                    for name, weight in ours.named_parameters():
                        if name.endswith(("query.weight", "key.weight")):
                            weight.mul_(ENLARGED)
            ours.load_state_dict(first.state_dict())
            self.modules[f"pdesurrogate, {mode}"] = ours
        self.baseline = None
        if options.factformer:
            peer = AuthorsFactFormer(
                options.factformer, options.history, options.horizon, LENGTH, options.model()
            )
            load(peer, self.modules["pdesurrogate, speed"])
            self.modules = {AUTHORS: peer, **self.modules}
            self.baseline = AUTHORS
        device = torch.device(options.device)
        for module in self.modules.values():
            module.to(device)
        shape = (options.grid, options.grid)
        self.tolerances = TOLERANCES[options.precision]
        self.input = torch.randn(options.batch, options.history, *shape, device=device)
        self.target = torch.randn(options.batch, options.horizon, *shape, device=device)

    def call(self, name: str) -> Tensor:
        """Return the future that a contestant predicts."""
        module = self.modules[name]
        if name == AUTHORS:
            theirs: Tensor = module(self.input)
            return theirs
        none = self.input.new_empty(len(self.input), 0)
        ours: Tensor = module(self.input.unsqueeze(2), none)
        return ours.squeeze(2)

    def both(self, name: str) -> Callable[[], None]:
        """Return a forward and backward pass of a contestant."""
        return gradients_of(self.modules[name], lambda: nn.functional.mse_loss(self.call(name), self.target))

    def check(self) -> dict[str, float]:
        """Compare outputs and gradients of all with the first contestant's; returns the worst differences."""
        reference, *others = self.modules
        worst = {"output": 0.0, "gradient": 0.0}
        values, gradients_allowed = self.tolerances
        with torch.no_grad():
            expected = self.call(reference)
        self.both(reference)()
        for name in others:
            with torch.no_grad():
                found = self.call(name)
            self.both(name)()
            what = f"{name} against {reference}"
            error = require_equal(f"output of {what}", {"future": found}, {"future": expected}, values)
            worst["output"] = max(worst["output"], error)
            if reference == AUTHORS:
                pairs = gradients(self.modules[AUTHORS], self.modules[name])  # type: ignore[arg-type]
            else:
                theirs = dict(self.modules[reference].named_parameters())
                pairs = {
                    key: (theirs[key].grad, p.grad)  # type: ignore[misc]
                    for key, p in self.modules[name].named_parameters()
                }
            error = require_equal(
                f"gradients of {what}",
                {key: mine for key, (_, mine) in pairs.items()},
                {key: other for key, (other, _) in pairs.items()},
                gradients_allowed,
                rounding=1e-4,
            )
            worst["gradient"] = max(worst["gradient"], error)
        return {key: float(f"{value:.1e}") for key, value in worst.items()}

    def runs(self, phase: str) -> dict[str, Callable[[], object]]:
        """Return the calls of a phase: ``forward`` (no gradients), ``forward + backward`` or ``step``."""
        if phase == "forward":
            return {name: torch.no_grad()(lambda name=name: self.call(name)) for name in self.modules}
        if phase == "forward + backward":
            return {name: self.both(name) for name in self.modules}
        steps = {name: self._step(name) for name in self.modules}
        if self.input.device.type == "cuda":
            ours = [name for name in self.modules if name != AUTHORS]
            graphs, self.refused = steps_or_reasons(
                {name + GRAPH: partial(self._graph, name) for name in ours}
            )
            steps |= graphs
        return steps

    def _graph(self, name: str) -> Callable[[], object]:
        module = self.modules[name]
        optimiser = Optimisation(lr=1e-6, weight_decay=1e-4).build(list(module.parameters()), 1000)[0]

        def losses(batch: Batch) -> Tensor:
            future: Tensor = module(batch.history, batch.parameters)
            return (future - batch.future).square().flatten(1).mean(1)

        return captured(losses, optimiser, batch_of(self.input.unsqueeze(2), self.target.unsqueeze(2)))

    def _step(self, name: str) -> Callable[[], object]:
        weights = list(self.modules[name].parameters())
        both = self.both(name)
        optimiser: torch.optim.Optimizer
        if name == AUTHORS:
            optimiser = torch.optim.AdamW([w for w in weights if w.requires_grad], 1e-6, weight_decay=1e-4)
        else:
            optimiser = Optimisation(lr=1e-6, weight_decay=1e-4).build(weights, 1000)[0]

        return step_of(both, optimiser)


def build(options: FactFormerOptions, memory: str) -> nn.Module:
    """Return our model with the paper's positions."""
    module: nn.Module = MODELS.build(
        "factformer",
        SPEC,
        options.history,
        options.horizon,
        position_scale=8.0,
        periodic_positions=False,
        memory=memory,
        precision=options.precision,
        **options.model(),
    )
    return module


def main(words: Sequence[str]) -> None:
    """Measure, print, and write the result if it has a name."""
    options = parse_options(FactFormerOptions, words)
    torch.set_num_threads(options.threads)
    with tf32_flags(options.precision):
        _measure(options, words)


def _measure(options: FactFormerOptions, words: Sequence[str]) -> None:
    if options.peak_only:
        print(json.dumps(_peaks(options)))
        return
    device = torch.device(options.device)
    clock = choose_clock(options.clock, device, options.threads)
    settings = timing_settings(options, clock, options.precision)
    where = f"{options.grid} x {options.grid}, batch {options.batch}"
    where += "" if device.type == "cpu" else f", {options.precision} on {device.type}"
    title = f"FactFormer, width {options.width}, {options.heads} heads of {options.head_dim}"
    record = Record("factformer", f"{title}, {'refined' if options.scaling else where}", words, settings)
    peaks = {}
    if options.peak:
        own = [word for word in words if not word.startswith(("name=", "peak="))]
        peaks = peaks_in_new_process("benchmarks.factformer", [*own, "peak_only=true"])
    if options.scaling:
        phases = _scaling(options, CLOCKS[clock])
        slopes = _slopes(phases["forward + backward"], peaks)
        record.add("slopes", slopes)
        rank = options.head_dim * options.kernel_multiplier
        record.add(
            "remark",
            f"Kernels have rank {rank} and come as factors on axes of more points, where a point costs the same on "
            "every grid; on axes of fewer points it costs the more, the more there are.",
        )
        print(f"exponents over the number of points: {slopes}")
    else:
        contest = FactFormerContest(options)
        record.add("equality", contest.check())
        print(f"equality: {record.content['equality']}")
        phases = {}
        for phase in ("forward", "forward + backward", "step"):
            seconds = interleave(
                contest.runs(phase),
                repeats=options.repeats,
                clock=CLOCKS[clock],
                warmup=1,
                settle=lambda: synchronise(device),
            )
            phases[phase] = compare(seconds, contest.baseline)
        record.add(
            "remark",
            "The default mode is `speed`; the others compute twice what they do not keep, see peak memory.",
        )
        if contest.refused:
            record.add("refused", contest.refused)
    for phase, table in phases.items():
        for name, row in table.items():
            speedup = f"  {row['speedup']['median']:.2f}x" if "speedup" in row else ""
            print(f"{phase}, {name}: {row['milliseconds']['median']:.4g} ms{speedup}")
    record.add("phases", phases)
    if peaks:
        memory = {
            name: {"MiB": round(p / 2**20, 1), "V": _fields(options, name, p)}
            for name, p in peaks.items()
            if p
        }
        record.add("peak_memory", memory)
        print(f"peak memory of forward + backward: {memory}")
    if options.name:
        print(f"written to {record.write(options.name).name}")


def _grids(options: FactFormerOptions) -> dict[str, FactFormerOptions]:
    return {f"{n} x {n}": replace(options, grid=n) for n in options.scaling}


def _alone(options: FactFormerOptions) -> tuple[Callable[[], None], nn.Module]:
    """Return a forward and backward pass of ours, in memory mode ``lean``, and the model."""
    torch.manual_seed(0)
    device = torch.device(options.device)
    module = build(options, "lean").to(device)
    frames = torch.randn(options.batch, options.history, 1, options.grid, options.grid, device=device)
    none = frames.new_empty(options.batch, 0)

    return gradients_of(module, lambda: module(frames, none).square().mean()), module


def _scaling(options: FactFormerOptions, clock: Callable[[], float]) -> dict[str, dict[str, Any]]:
    table = {}
    device = torch.device(options.device)
    for name, sized in _grids(options).items():
        run = {name: _alone(sized)[0]}
        seconds = interleave(
            run, repeats=options.repeats, clock=clock, warmup=1, settle=lambda: synchronise(device)
        )
        table |= compare(seconds, None)
        per_point = 1e6 * table[name]["milliseconds"]["median"] / (options.batch * sized.grid**2)
        table[name]["nanoseconds a point"] = round(per_point, 1)
        print(f"{name}: {per_point:.1f} ns a point")
    return {"forward + backward": table}


def _slopes(table: dict[str, Any], peaks: dict[str, int | None]) -> dict[str, float]:
    """Return the exponents of time and peak memory over the number of points, from the first grid to the last."""
    names = list(table)
    if len(names) < 2:
        return {}
    doublings = 2 * math.log2(int(names[-1].split()[0]) / int(names[0].split()[0]))
    times = [table[name]["milliseconds"]["median"] for name in (names[0], names[-1])]
    slopes = {"time": round(math.log2(times[1] / times[0]) / doublings, 3)}
    first, last = peaks.get(names[0]), peaks.get(names[-1])
    if first and last:
        slopes["memory"] = round(math.log2(last / first) / doublings, 3)
    return slopes


def _peaks(options: FactFormerOptions) -> dict[str, int | None]:
    if options.scaling:
        return {
            name: peak_of(*_alone(sized), torch.device(options.device))
            for name, sized in _grids(options).items()
        }
    contest = FactFormerContest(options)
    return {
        name: peak_of(contest.both(name), module, contest.input.device)
        for name, module in contest.modules.items()
    }


def _fields(options: FactFormerOptions, name: str, peak: int) -> float:
    """Return a peak in fields of the model's width."""
    grid = int(name.split()[0]) if options.scaling else options.grid
    return round(peak / (4 * options.batch * options.width * grid**2), 2)


if __name__ == "__main__":
    run_command(main)

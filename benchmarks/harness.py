"""Interleaved timing of contestants, its statistics, and the check that they compute the same.

Each repeat runs every contestant once, in an order that rotates from repeat to repeat, so that a machine
that slows down does so for all alike. Ratios are paired within a repeat. All spreads are quartiles; the
interval is the 95 % confidence interval of the median from order statistics (binomial, no assumption on the
distribution).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "thread": time.thread_time}
"""``thread`` is the calling thread's own CPU time: other programs on the machine count less."""


class NotEqualError(RuntimeError):
    """Contestants that should compute the same do not; no time of theirs means anything."""


@dataclass(frozen=True)
class Spread:
    """Median of a sample with its quartiles and the 95 % confidence interval of the median."""

    median: float
    quartiles: tuple[float, float]
    interval: tuple[float, float]

    @classmethod
    def of(cls, sample: Sequence[float]) -> Spread:
        """Summarise a sample of at least one number."""
        ordered = sorted(sample)
        low, high = _median_ranks(len(ordered))
        quarter = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
        return cls(statistics.median(ordered), (quarter[0], quarter[2]), (ordered[low], ordered[high]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers of four digits."""
        return {
            "median": _digits(self.median),
            "quartiles": [_digits(q) for q in self.quartiles],
            "interval": [_digits(q) for q in self.interval],
        }


def interleave(
    runs: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
    warmup: int = 2,
    settle: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Return the seconds of every run of every contestant, ``repeats`` each.

    Args:
        runs: contestants by name; each call is one measurement.
        repeats: measurements of each.
        clock: seconds from any origin.
        warmup: calls of each before the first measurement.
        settle: called before each reading of the clock (synchronises a GPU).

    Raises:
        ValueError: without contestants or repeats.
    """
    if not runs or repeats < 1:
        raise ValueError(f"{len(runs)} contestants and {repeats} repeats: at least one of each is needed.")
    for run in runs.values():
        for _ in range(warmup):
            run()
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            settle()
            start = clock()
            runs[name]()
            settle()
            seconds[name].append(clock() - start)
    return seconds


def compare(seconds: Mapping[str, Sequence[float]], baseline: str | None) -> dict[str, Any]:
    """Return milliseconds of every contestant and, against ``baseline``, how many times faster it is.

    The speed-up of a repeat is the baseline's time over the contestant's in that same repeat.
    """
    table: dict[str, Any] = {}
    for name, sample in seconds.items():
        table[name] = {"milliseconds": Spread.of([1e3 * s for s in sample]).to_dict()}
        if baseline is not None and name != baseline:
            ratios = [b / s for b, s in zip(seconds[baseline], sample, strict=True)]
            table[name]["speedup"] = Spread.of(ratios).to_dict()
    return table


def require_equal(
    what: str,
    ours: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    tolerance: float,
    *,
    rounding: float = 0.0,
) -> float:
    """Return the largest relative L2 difference over tensors of the same name.

    A tensor that is zero but for rounding, such as the gradient of a bias before a norm, has a norm below ``rounding``
    times the largest of all; its difference is relative to that.

    Raises:
        NotEqualError: if it is above ``tolerance`` or not a number, or if the names differ.
    """
    if ours.keys() != reference.keys():
        odd = sorted(ours.keys() ^ reference.keys())
        raise NotEqualError(f"{what}: only one side has {', '.join(odd)}.")
    worst, where = 0.0, ""
    least = rounding * max((float(value.detach().norm()) for value in reference.values()), default=0.0)
    for name, value in reference.items():
        error = _relative(ours[name], value, least)
        if not error <= worst:  # also true for NaN
            worst, where = error, name
    if not worst <= tolerance:
        raise NotEqualError(
            f"{what}: {where} differs by {worst:.1e} relative, {tolerance:.0e} is allowed. Nothing was timed."
        )
    return worst


def _relative(ours: Tensor, reference: Tensor, least: float) -> float:
    if ours.shape != reference.shape:
        return math.inf
    ours, reference = (
        (torch.view_as_real(t) if t.is_complex() else t).detach().cpu().double() for t in (ours, reference)
    )
    return float((ours - reference).norm() / reference.norm().clamp_min(max(least, 1e-30)))


def _median_ranks(size: int) -> tuple[int, int]:
    """Indices of the order statistics that enclose the median with at least 95 % confidence, or the ends."""
    tail, low = 0.0, 0
    for k in range((size - 1) // 2):
        tail += math.comb(size, k) / 2**size
        if tail > 0.025:
            break
        low = k
    return low, size - 1 - low


def _digits(value: float) -> float:
    return float(f"{value:.4g}")

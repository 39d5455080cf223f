"""The verdict on a claim, computed from the errors of every seed and test sample.

A claim is a ratio of two means and a bound. The interval of the ratio covers 95 % of a bootstrap over seeds and test
samples (Efron and Tibshirani 1993, chapter 13, percentiles): each draw takes seeds and samples with replacement, the
same samples on both sides where both were tested on the same trajectories, the same seeds where both are the same
runs. With three seeds such an interval is on the narrow side; it says more about samples than about seeds.

    reproduced   the whole interval is below the bound
    partly       the ratio is below the bound and its interval is not; or a weaker bound is given and the whole
                 interval is below that
    not          otherwise, and where a side has no number

Costs such as numbers of parameters have no interval: their ratio alone decides. The time to an error is compared at an
error that both sides reach: for each seed the larger one of their best validation errors. It is the share of a run's
steps after which its validation error was first that low, times the time of the run (of all its threads on a CPU).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .schema import COSTS, TIME_TO_ERROR, VERDICTS, Claim, ClaimFile, Selection

DRAWS = 2000


@dataclass(frozen=True)
class Finding:
    """What came out.

    Attributes:
        verdict: one of `VERDICTS`.
        ratio: of the means; NaN if a side has no number.
        low, high: ends of its 95 % interval; equal to the ratio for costs.
        reason: in words made from the numbers.
        why: the file's explanation for this verdict, empty if it gives none.
    """

    verdict: str
    ratio: float
    low: float
    high: float
    reason: str
    why: str = ""


def judge(file: ClaimFile, claim: Claim, result: Mapping[str, Any]) -> Finding:
    """Return the verdict on one claim of a file.

    Args:
        file: where it stands.
        claim: the claim.
        result: the recorded content of one scale.
    """
    sides = (claim.of, claim.over)
    if refused := next((text for side in sides if (text := _refusal(file, side, result))), ""):
        return Finding("not", math.nan, math.nan, math.nan, refused, claim.why.get("not", ""))
    if claim.of.measure in COSTS:
        if claim.of.measure == TIME_TO_ERROR:
            of, over = (np.mean(times) for times in _times_to_error(file, claim, result))
        else:
            of, over = (_costs(file, side, result).mean() for side in sides)
        ratio = low = high = float(of / over)
    else:
        ratio, low, high = ratio_of_means(
            *(_errors(file, side, result) for side in sides),
            paired_samples=_test_set(file, claim.of, result) == _test_set(file, claim.over, result),
            paired_seeds=_runs_of(file, claim.of) == _runs_of(file, claim.over),
        )
    verdict, reason = decide(ratio, low, high, claim.below, claim.partly_below)
    return Finding(verdict, ratio, low, high, reason, claim.why.get(verdict, ""))


def decide(
    ratio: float, low: float, high: float, below: float, partly_below: float | None
) -> tuple[str, str]:
    """Return the verdict on a ratio with its interval, and the reason in words."""
    if math.isnan(ratio):
        return "not", "both errors are infinite"
    if high < below:
        return "reproduced", f"below {below:g} with its whole interval"
    if ratio < below:
        return "partly", f"below {below:g} on average, not with its whole interval"
    if partly_below is not None and high < partly_below:
        return "partly", f"not below {below:g}, below {partly_below:g} with its whole interval"
    weaker = "" if partly_below is None else f", nor with its whole interval below {partly_below:g}"
    return "not", f"not below {below:g}{weaker}"


def ratio_of_means(
    of: np.ndarray, over: np.ndarray, *, paired_samples: bool, paired_seeds: bool
) -> tuple[float, float, float]:
    """Return the ratio of the means of two tables (seed, sample) and its 95 % bootstrap interval.

    The draws are the same in every call and under every version of numpy: a page made from the same numbers is the
    same page.
    """
    stream = random.Random(0)
    samples = _counts(stream, of.shape[1])
    seeds = _counts(stream, of.shape[0])
    other_samples = samples if paired_samples else _counts(stream, over.shape[1])
    other_seeds = seeds if paired_seeds else _counts(stream, over.shape[0])
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = float(np.divide(of.mean(), over.mean()))
        draws = np.divide(_means(of, seeds, samples), _means(over, other_seeds, other_samples))
    if np.isnan(draws).any():  # infinity over infinity in some draw: the interval has no ends
        return ratio, math.nan, math.inf
    ordered = np.sort(draws)
    tail = round(0.025 * DRAWS)
    return ratio, float(ordered[tail]), float(ordered[-1 - tail])


def overall(findings: Sequence[Finding]) -> str:
    """Return the verdict on a file: that of all its claims if they agree, else partly."""
    verdicts = {finding.verdict for finding in findings}
    return verdicts.pop() if len(verdicts) == 1 else VERDICTS[1]


def _counts(stream: random.Random, size: int) -> np.ndarray:
    """Return how often each of ``size`` things is drawn, (draw, thing)."""
    words = np.frombuffer(stream.randbytes(4 * DRAWS * size), "<u4").reshape(DRAWS, size)
    drawn = (words * (size / 2**32)).astype(int)
    return np.apply_along_axis(np.bincount, 1, drawn, minlength=size)


def _means(table: np.ndarray, seeds: np.ndarray, samples: np.ndarray) -> np.ndarray:
    finite = np.where(np.isfinite(table), table, 0.0)
    means = np.einsum("ds,sn,dn->d", seeds, finite, samples) / table.size
    blown_up = np.einsum("ds,sn,dn->d", seeds, (~np.isfinite(table)).astype(float), samples) > 0
    return np.where(blown_up, np.inf, means)


def runs_of(result: Mapping[str, Any], arm: str, data_set: str) -> list[Mapping[str, Any]]:
    """Return the recorded runs of an arm on a set, by seed."""
    found = [run for run in result["runs"] if run["arm"] == arm and run["set"] == data_set]
    return sorted(found, key=lambda run: run["seed"])


def error_table(
    runs: Sequence[Mapping[str, Any]], grid: int, measure: str, field: str = ""
) -> np.ndarray | None:
    """Return errors, or another measure of every test sample, (seed, sample) on a grid; None where refused.

    They are means over fields unless one is named.
    """
    rows = []
    for run in runs:
        errors = run["errors"][str(grid)]
        if "refused" in errors:
            return None
        fields = errors[measure]
        chosen = [fields[field]] if field else list(fields.values())
        values = np.array([[math.inf if v is None else v for v in row] for row in chosen])
        rows.append(values.mean(0))
    return np.array(rows)


def _errors(file: ClaimFile, side: Selection, result: Mapping[str, Any]) -> np.ndarray:
    table = error_table(runs_of(result, *_runs_of(file, side)), side.grid, side.measure, side.field)
    if table is None:
        raise ValueError(f"{side.arm} has no errors at grid {side.grid}.")
    return table


def _costs(file: ClaimFile, side: Selection, result: Mapping[str, Any]) -> np.ndarray:
    return np.array([run[side.measure] for run in runs_of(result, *_runs_of(file, side))], dtype=float)


def _times_to_error(
    file: ClaimFile, claim: Claim, result: Mapping[str, Any]
) -> tuple[list[float], list[float]]:
    """Return the times of both sides to the error that both reach, by seed."""
    runs = [{run["seed"]: run for run in runs_of(result, *_runs_of(file, s))} for s in (claim.of, claim.over)]
    clock = _clock(result)
    times: tuple[list[float], list[float]] = ([], [])
    for seed in runs[0].keys() & runs[1].keys():
        pair = [own[seed] for own in runs]
        level = max(min(error for _, error in run["validated"]) for run in pair)
        for own, run in zip(times, pair, strict=True):
            steps = next(steps for steps, error in run["validated"] if error <= level)
            own.append(run[clock] * steps / run["steps"])
    return times


def _clock(result: Mapping[str, Any]) -> str:
    return "cpu_seconds" if result["settings"]["device"] == "cpu" else "seconds"


def _refusal(file: ClaimFile, side: Selection, result: Mapping[str, Any]) -> str:
    """Return why a side has no number; empty if it has."""
    runs = runs_of(result, *_runs_of(file, side))
    if not runs:
        return f"{side.arm} has no runs on {file.set_of(side)}"
    if side.measure == TIME_TO_ERROR:
        complete = all(run.get("validated") and run.get(_clock(result)) for run in runs)
        return "" if complete else f"{side.arm} has no record of its validations"
    if side.measure in COSTS:
        return "" if all(run.get(side.measure) for run in runs) else f"{side.arm} has no {side.measure}"
    for run in runs:
        errors = run["errors"][str(side.grid)]
        if "refused" in errors:
            return f"{side.arm} does not take that grid: {errors['refused']}"
        if side.measure not in errors:
            return f"{side.arm} has no record of its {side.measure.replace('_', ' ')}"
        if side.field and side.field not in errors[side.measure]:
            return f"{side.arm} has no field {side.field}"
    return ""


def _runs_of(file: ClaimFile, side: Selection) -> tuple[str, str]:
    return side.arm, file.set_of(side)


def _test_set(file: ClaimFile, side: Selection, result: Mapping[str, Any]) -> Any:
    return result["sets"][file.set_of(side)]["test_checksum"]

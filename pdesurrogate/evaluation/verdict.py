"""The result in one sentence, and how its numbers are written."""

from __future__ import annotations

import html
import math

from .results import HEADLINE, Estimate, Evaluation


def on_grid(grid: tuple[int, ...]) -> str:
    """Return ``"64 × 64"``."""
    return " × ".join(map(str, grid))


def error_text(value: float) -> str:
    """Return an error as a percentage with three digits, or what became of it."""
    return f"{_three_digits(100 * value)} %" if math.isfinite(value) else "diverged"


def interval_text(estimate: Estimate) -> str:
    """Return ``"2.9–3.4 %"``; empty where there is no interval."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    return f"{_three_digits(100 * estimate.low)}–{_three_digits(100 * estimate.high)} %"


def typeset(sentence: str) -> str:
    """Return a sentence as HTML whose sizes and percentages do not break over lines."""
    text = html.escape(sentence)
    for breakable in (" ×", "× ", " %"):
        text = text.replace(breakable, breakable.replace(" ", "\u00a0"))
    return text


def verdict(evaluation: Evaluation) -> str:
    """Return how far off the surrogate is, beside its rivals, and whether that holds on grids it never saw."""
    main, grid = evaluation.main, evaluation.training_grid
    own = evaluation.rollout(main, grid)
    interval = interval_text(own)
    certainty = f" (95 % interval {interval})" if interval else ""
    what = (
        f"is off by {error_text(own.mean)} on average{certainty}" if math.isfinite(own.mean) else "diverges"
    )
    sentence = f"Over {evaluation.horizon} frames on its training grid of {on_grid(grid)} points, {main.label} {what}"
    rivals = [
        (c.label, evaluation.rollout(c, grid).mean)
        for c in evaluation.contenders
        if c is not main and not evaluation.score(c, grid).refused
    ]
    sentence += ", against " + _listed([f"{error_text(e)} for {label}" for label, e in rivals])
    better = [label for label, error in rivals if error < own.mean]
    if better:
        sentence += f", and so does worse than {_listed(better)}"
    return sentence + _transfer(evaluation, own.mean) + "."


def second_sentence(evaluation: Evaluation) -> str:
    """Return what one step costs in error, and how many trajectories stand behind the numbers."""
    own = evaluation.one_step(evaluation.main, evaluation.training_grid)
    last = evaluation.headline.rollout[HEADLINE].mean()[-1].mean().item()
    plural = "trajectory" if own.n == 1 else "trajectories"
    return (
        f"A single step is off by {error_text(own.mean)}, the last of the {evaluation.horizon} frames by "
        f"{error_text(last)}. Errors are relative L2 errors on {own.n} test {plural} that took no part in training."
    )


def _transfer(evaluation: Evaluation, own: float) -> str:
    changes = []
    for grid in evaluation.grids:
        if grid == evaluation.training_grid:
            continue
        error = evaluation.rollout(evaluation.main, grid).mean
        relative = f" ({_signed(100 * (error / own - 1))} %)" if own > 0 and math.isfinite(error) else ""
        changes.append(f"{error_text(error)}{relative} at {on_grid(grid)}")
    return f"; on grids it never saw the error is {_listed(changes)}" if changes else ""


def _listed(items: list[str]) -> str:
    return ", ".join(items[:-1]) + " and " + items[-1] if len(items) > 1 else "".join(items)


def _three_digits(value: float) -> str:
    """Return three significant digits with their zeros; numbers from 100 on are rounded to whole ones."""
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:#.3g}".rstrip(".")


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−").replace("+0.0", "±0.0").replace("−0.0", "±0.0")

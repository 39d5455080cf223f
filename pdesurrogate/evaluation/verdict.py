"""The result in two sentences, and what stands behind them in a third."""

from __future__ import annotations

import math

from ..metrics.table import FEWEST_SAMPLES
from .comparison import Standing, compare
from .contenders import Coarse, Contender
from .results import DEVIATIONS, HEADLINE, Estimate, Evaluation
from .typography import change_text, counted, error_text, estimate_text, interval_text, listed, on_grid


def verdict(evaluation: Evaluation) -> str:
    """Return how far off the surrogate is, beside its rivals, and what becomes of that on other grids."""
    main, grid = evaluation.main, evaluation.training_grid
    own = evaluation.rollout(main, grid)
    sentence = (
        f"Over {counted(evaluation.horizon, 'frame')} on its training grid of {on_grid(grid)} points, "
        f"{main.label} {_size_of(own)}{_in_deviations(evaluation)}"
    )
    rivals = [c for c in evaluation.contenders if c is not main and not evaluation.score(c, grid).refused]
    return f"{sentence}{_beside(evaluation, rivals)}.{_elsewhere(evaluation)}"


def second_sentence(evaluation: Evaluation) -> str:
    """Return what one step costs in error, and how many trajectories stand behind the numbers."""
    own = evaluation.one_step(evaluation.main, evaluation.training_grid)
    table = evaluation.headline.rollout[HEADLINE]
    last = error_text(table.mean()[-1].mean().item(), undefined=table.undefined)
    end = f", the last of the {evaluation.horizon} frames by {last}" if evaluation.horizon > 1 else ""
    return (
        f"A single step is off by {estimate_text(own)}{end}. Errors are relative L2 errors on "
        f"{counted(own.n, 'test trajectory', 'test trajectories')}."
    )


def _size_of(own: Estimate) -> str:
    if not math.isfinite(own.mean):
        return (
            "has no relative error, because the truth vanishes in some frames"
            if own.undefined
            else "diverges"
        )
    interval = interval_text(own)
    return f"is off by {estimate_text(own)} on average" + (f" (95 % interval {interval})" if interval else "")


def _in_deviations(evaluation: Evaluation) -> str:
    """Return the VRMSE where the fields are mostly their mean, which flatters the relative L2 error."""
    own = evaluation.error(evaluation.main, DEVIATIONS)
    if not (evaluation.mean_dominates and math.isfinite(own.mean)):
        return ""
    return (
        f", or {estimate_text(own)} of the truth's standard deviation (VRMSE), which says more here because the mean "
        "of the truth is larger than its fluctuations"
    )


def _beside(evaluation: Evaluation, rivals: list[Contender]) -> str:
    """Return the rivals' errors, who is ahead of the surrogate, and who cannot be told from it."""
    measured = [(c.label, evaluation.error(c, HEADLINE)) for c in rivals]
    finite = [f"{estimate_text(e)} for {label}" for label, e in measured if math.isfinite(e.mean)]
    text = f", against {listed(finite)}" if finite else ""
    standings = _standings(evaluation, rivals, HEADLINE)
    worse, alike, unknown = (
        [c.label for c in rivals if standings[c.label] is s]
        for s in (Standing.WORSE, Standing.ALIKE, Standing.UNKNOWN)
    )
    clauses = []
    if worse:
        clauses.append(f"does worse than {listed(worse)}")
    if alike:
        clauses.append(f"is not distinguishable from {listed(alike)}")
    if clauses:
        text += f", and so {listed(clauses)}"
    if unknown:
        text += f"; fewer than {FEWEST_SAMPLES} trajectories do not tell whether it differs from {listed(unknown)}"
    return text + _other_measures(evaluation, rivals, excused={*worse})


def _other_measures(evaluation: Evaluation, rivals: list[Contender], excused: set[str]) -> str:
    """Return in which other measures a rival is ahead that is not ahead in the headline."""
    clauses = []
    for metric in evaluation.headline.rollout:
        standings = _standings(evaluation, rivals, metric)
        ahead = [label for label, s in standings.items() if s is Standing.WORSE and label not in excused]
        if ahead and metric != HEADLINE:
            clauses.append(f"in {metric_name(metric)} it does worse than {listed(ahead)}")
    return f"; {listed(clauses)}" if clauses else ""


def _standings(evaluation: Evaluation, rivals: list[Contender], metric: str) -> dict[str, Standing]:
    own = evaluation.error(evaluation.main, metric)
    return {c.label: compare(own, evaluation.error(c, metric)) for c in rivals}


def _elsewhere(evaluation: Evaluation) -> str:
    """Return the error on the other grids, and whether running there beats resampling the training grid's run."""
    main, home = evaluation.main, evaluation.rollout(evaluation.main, evaluation.training_grid)
    others = [grid for grid in evaluation.grids if grid != evaluation.training_grid]
    if not others:
        return ""
    parts = []
    for grid in others:
        runner = evaluation.runner(grid)
        error = evaluation.rollout(runner, grid)
        change = change_text(error.mean, home.mean)
        around = "" if runner is main else ", resampled around"
        parts.append(
            f"{estimate_text(error)} at {on_grid(grid)}{around}" + (f" ({change})" if change else "")
        )
    return f" On other grids its error is {listed(parts)}{_beside_resampling(evaluation, others[-1])}."


def _beside_resampling(evaluation: Evaluation, grid: tuple[int, ...]) -> str:
    main = evaluation.main
    coarse = next((c for c in evaluation.contenders if isinstance(c, Coarse) and c.native is main), None)
    if coarse is None or evaluation.score(coarse, grid).refused or evaluation.runner(grid) is not main:
        return ""
    error = evaluation.rollout(coarse, grid)
    outcome = {
        Standing.BETTER: ": better",
        Standing.WORSE: ": worse",
        Standing.ALIKE: ": no better, no worse",
        Standing.UNKNOWN: "",
    }[compare(error, evaluation.rollout(main, grid))]
    return (
        f"; running it at {on_grid(evaluation.training_grid)} and resampling gives {estimate_text(error)} "
        f"at {on_grid(grid)}{outcome}"
    )


def metric_name(name: str) -> str:
    """Return ``"VRMSE"`` for an acronym and words for words."""
    words = name.replace("_l", " L").replace("_", " ")
    return words if "_" in name else name.upper()

"""By how much one row errs more than another, on the same trajectories: differences, intervals, and a table."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from ..metrics.table import FEWEST_SAMPLES, bootstrap_interval, mean_interval
from .comparison import Standing, compare
from .contenders import Contender
from .results import HEADLINE, Estimate, Evaluation
from .tables import captioned
from .typography import counted, on_grid, signed_points
from .verdict import metric_name

ARTIFACTS = ("main", "compared", "ensemble")
"""Roles of the rows that are compared with each other; all other rows are compared with the main one alone."""
WORDS = {
    Standing.BETTER: "errs less",
    Standing.WORSE: "errs more",
    Standing.ALIKE: "not told apart",
    Standing.UNKNOWN: "",
}


@dataclass(frozen=True)
class Difference:
    """Errors of one row less those of another, trajectory by trajectory; positive where the first errs more.

    Attributes:
        row: the first.
        against: the second.
        own, other: their errors.
    """

    row: Contender
    against: Contender
    own: Estimate
    other: Estimate

    @property
    def mean(self) -> float:
        """Mean over trajectories; NaN where both are infinite."""
        return float((self.own.samples - self.other.samples).mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Student's 95 % t interval; NaN with too few trajectories."""
        low, high = mean_interval(self.own.samples - self.other.samples).tolist()
        return low, high

    @cached_property
    def bootstrap(self) -> tuple[float, float]:
        """95 % bootstrap interval; NaN with too few trajectories."""
        return bootstrap_interval(self.own.samples - self.other.samples)

    @property
    def standing(self) -> Standing:
        """How the first stands to the second, by the rule of the whole report."""
        return compare(self.own, self.other)


def pairs_of(evaluation: Evaluation) -> list[tuple[Contender, Contender]]:
    """Return which rows are compared on the training grid: all with the main one, and the other artifacts in pairs."""
    home, main = evaluation.training_grid, evaluation.main
    present = [c for c in evaluation.contenders if not evaluation.score(c, home).refused and c is not main]
    others = [c for c in present if c.role in ARTIFACTS]
    return [*((c, main) for c in present), *((b, a) for a, b in combinations(others, 2))]


def difference(
    evaluation: Evaluation, row: Contender, against: Contender, metric: str, protocol: str
) -> Difference:
    """Return the paired difference of two rows on the training grid.

    Args:
        evaluation: that measured them.
        row: the first.
        against: the second.
        metric: a measured one.
        protocol: ``"rollout"`` or ``"one_step"``.
    """
    own, other = (
        Estimate.of(getattr(evaluation.score(c, evaluation.training_grid), protocol)[metric])
        for c in (row, against)
    )
    return Difference(row, against, own, other)


def measures_of(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what is compared: metrics and protocols."""
    return [(HEADLINE, "one_step"), *((metric, "rollout") for metric in evaluation.headline.rollout)]


def paired_table(evaluation: Evaluation) -> str:
    """Return the paired differences with their bootstrap intervals as a table."""
    measures = measures_of(evaluation)
    heads = ["Pair", *(_head(metric, protocol) for metric, protocol in measures)]
    rows = []
    for row, against in pairs_of(evaluation):
        cells = [_cell(difference(evaluation, row, against, m, p)) for m, p in measures]
        label = f"{html.escape(row.label)}<small>less {html.escape(against.label)}</small>"
        rows.append(f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>')
    n = evaluation.rollout(evaluation.main, evaluation.training_grid).n
    certainty = (
        "Small: 95 % bootstrap interval of the mean difference."
        if n >= FEWEST_SAMPLES
        else f"Fewer than {FEWEST_SAMPLES} trajectories have no interval."
    )
    caption = (
        f"<b>Table 2.</b> Paired differences on the training grid, {on_grid(evaluation.training_grid)}: error of the "
        "first row less that of the second on the same trajectory, mean over "
        f"{counted(n, 'trajectory', 'trajectories')}, in percentage points. Hard ones are hard for all, so that "
        f"differences are surer than the errors themselves. {certainty} <i>Errs more</i> or <i>less</i>: the 95 % t "
        "interval of the difference leaves out 0, and the means differ in the digits shown."
    )
    head = "".join(f'<th scope="col">{html.escape(h)}</th>' for h in heads)
    return captioned("table-2", caption, f"<tr>{head}</tr>", rows)


def _head(metric: str, protocol: str) -> str:
    return f"{metric_name(metric)}, {protocol.replace('_', ' ')}"


def _cell(d: Difference) -> str:
    low, high = d.bootstrap
    small = "" if math.isnan(low) else f"<small>{signed_points(low)} to {signed_points(high)}</small>"
    words = WORDS[d.standing]
    mark = f"<small>{words}</small>" if words else ""
    text = signed_points(d.mean) if math.isfinite(d.mean) else "—"
    return f"<td>{text}{small}{mark}</td>"

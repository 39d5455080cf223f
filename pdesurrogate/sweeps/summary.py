"""What came out of a sweep: one line a run, the best first, as text and as ``summary.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..durable import durable_write

SUMMARY = "summary.csv"
FINISHED, PRUNED, FAILED = "finished", "pruned", "failed"
_FACTS = ("rank", "run", "score", "state")


@dataclass(frozen=True)
class Outcome:
    """What came out of one run.

    Attributes:
        number: of the run in the sweep, and name of its folder.
        options: what distinguishes it, by key.
        score: best validation error ``valid/relative_l2``; NaN where there is none.
        state: ``"finished"``, ``"pruned"`` (stopped early, since others were better by then) or ``"failed"``.
    """

    number: int
    options: Mapping[str, str]
    score: float
    state: str


def ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return finished runs by score, the least first, then pruned and failed ones."""
    order = (FINISHED, PRUNED, FAILED)
    return sorted(outcomes, key=lambda o: (order.index(o.state), math.isnan(o.score), o.score, o.number))


def write_summary(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write ``summary.csv`` into the folder of a sweep: ``rank, run, score, state`` and the options of each run."""
    with (
        durable_write(folder / SUMMARY) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows(_rows(outcomes))


def read_summary(folder: Path) -> list[Outcome]:
    """Return what `write_summary` wrote; nothing where there is no such file."""
    path = folder / SUMMARY
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Outcome(
                number=int(row["run"]),
                options={key: value for key, value in row.items() if key not in _FACTS},
                score=float(row["score"] or "nan"),
                state=row["state"],
            )
            for row in csv.DictReader(file)
        ]


def summary_text(folder: Path, outcomes: Sequence[Outcome]) -> str:
    """Return the summary as a table of text; where to find the best run stands below it."""
    if not outcomes:
        return "No run has come to its end."
    rows = _rows(outcomes)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(n) for cell, n in zip(row, widths, strict=True)) for row in rows]
    best = ranked(outcomes)[0]
    if best.state == FINISHED:
        lines.append(f"Best: {folder / str(best.number)}")
    return "\n".join([*lines, f"Summary: {folder / SUMMARY}"])


def _rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    keys = list(dict.fromkeys(key for outcome in outcomes for key in outcome.options))
    rows = [[*_FACTS, *keys]]
    for rank, outcome in enumerate(ranked(outcomes), start=1):
        place = str(rank) if outcome.state == FINISHED else ""
        score = "" if math.isnan(outcome.score) else f"{outcome.score:.6g}"
        options = [str(outcome.options.get(key, "")) for key in keys]
        rows.append([place, str(outcome.number), score, outcome.state, *options])
    return rows

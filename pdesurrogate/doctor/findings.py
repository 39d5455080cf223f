"""What the doctor found, and what is to be done about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``"problem"`` for what makes a training fail or its numbers wrong, ``"warning"`` for what is worth a
            thought, ``"ok"`` otherwise.
        subject: what was looked at, in a word or two.
        sentence: what was found, with numbers, and what to change.
    """

    level: Level
    subject: str
    sentence: str


def ok(subject: str, sentence: str) -> Finding:
    """Return a finding that needs nothing to be done."""
    return Finding("ok", subject, sentence)


def warning(subject: str, sentence: str) -> Finding:
    """Return a finding that is worth a thought."""
    return Finding("warning", subject, sentence)


def problem(subject: str, sentence: str) -> Finding:
    """Return a finding that has to be mended first."""
    return Finding("problem", subject, sentence)


def refusals(subject: str, check: Callable[[], object]) -> list[Finding]:
    """Run a check and return what it refuses as a problem; nothing if it refuses nothing."""
    try:
        check()
    except (ValueError, TypeError, OSError) as error:
        return [problem(subject, str(error))]
    return []


def told(findings: Iterable[Finding]) -> list[str]:
    """Return the findings as lines of text."""
    marks = {"ok": "  ok     ", "warning": "  warning", "problem": "  PROBLEM"}
    return [f"{marks[f.level]}  {f.subject}: {f.sentence}" for f in findings]

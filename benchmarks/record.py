"""One result file: what was measured, on what, from which revision, with every number beside its spread."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from .machine import (
    ROOT,
    describe_call,
    describe_machine,
    describe_versions,
    load_average,
    tune_allocator,
)
from .options import OptionError

RESULTS = ROOT / "benchmarks" / "results"


class Record:
    """Collects a run's facts and writes them as JSON.

    Args:
        kind: which benchmark ("step", "spectral").
        title: heading of its table.
        arguments: words of the command line.
        settings: threads, clock, allocator, repeats and the like.
    """

    def __init__(self, kind: str, title: str, arguments: Sequence[str], settings: dict[str, Any]) -> None:
        self.content: dict[str, Any] = {
            "kind": kind,
            "title": title,
            **describe_call(f"benchmarks.{kind}", [without_place(word) for word in arguments]),
            "machine": describe_machine(),
            "versions": describe_versions(),
            "settings": settings,
            "load_average": [load_average()],
        }

    def add(self, key: str, value: Any) -> None:
        """Put a plain value under a key."""
        self.content[key] = value

    def write(self, name: str) -> Path:
        """Write ``benchmarks/results/<name>.json`` and return its path."""
        self.content["load_average"].append(load_average())
        path = RESULTS / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(self.content))
        return path


class Timed(Protocol):
    """Options of a benchmark that times its contestants."""

    @property
    def threads(self) -> int:
        """Of torch."""

    @property
    def allocator(self) -> str:
        """One of `benchmarks.machine.ALLOCATORS`."""

    @property
    def repeats(self) -> int:
        """Measurements of each contestant."""


def timing_settings(options: Timed, clock: str, precision: str = "full") -> dict[str, Any]:
    """Set the allocator, and return the settings of a record of times.

    Args:
        options: of the benchmark.
        clock: the one that is read, see `benchmarks.devices.choose_clock`.
        precision: of products.
    """
    return {
        "threads": options.threads,
        "clock": clock,
        "allocator": tune_allocator(options.allocator),
        "repeats": options.repeats,
        "precision": precision,
    }


def without_place(word: str) -> str:
    """Return an option with FOLDER for an absolute path: where somebody keeps things is their own affair."""
    key, equals, value = word.partition("=")
    return f"{key}=FOLDER" if equals and Path(value).is_absolute() else word


def to_json(content: Any) -> str:
    """Return indented JSON in which a list of numbers stays on one line."""
    text = json.dumps(content, indent=1)
    number = r"(?:-?\d[\d.eE+-]*|null)"
    lists = re.compile(rf"\[\s+({number}(?:,\s+{number})*)\s+\]")
    return lists.sub(lambda found: f"[{' '.join(found.group(1).split())}]", text) + "\n"


def check_name(name: str) -> None:
    """Refuse a result name that is no plain file name.

    Raises:
        OptionError: saying what is allowed.
    """
    if name and not re.fullmatch(r"[a-z0-9_]+", name):
        raise OptionError(
            f"name is {name!r}; use small letters, digits and underscores, it becomes a file name."
        )

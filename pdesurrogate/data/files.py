"""Data files: whether they are there, and what stands beside them if not."""

from __future__ import annotations

import difflib
from pathlib import Path


def listing(folder: Path, at_most: int = 12) -> str:
    """Return the names in a folder as text for a message."""
    if not folder.is_dir():
        return "nothing (the folder does not exist)"
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:at_most]) + (", ..." if len(names) > at_most else "") or "nothing"


def require_file(path: Path) -> None:
    """Refuse a path that is not a file.

    Raises:
        ValueError: naming an unfinished file of that name, or the nearest names in the folder.
    """
    if path.is_file():
        return
    part = path.with_name(path.name + ".part")
    if part.exists():
        raise ValueError(
            f"{path} is not finished: its generation was interrupted and left {part.name}. Run the same "
            "data/generate.py command again; it goes on where it stopped."
        )
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=3, cutoff=0.5)
    raise ValueError(
        f"there is no file {path}. "
        + (f"Did you mean {' or '.join(near)}?" if near else f"The folder holds {listing(path.parent)}.")
    )

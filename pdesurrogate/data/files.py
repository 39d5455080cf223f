"""Data files: whether they are there, and what stands beside them if not."""

from __future__ import annotations

import difflib
import re
from pathlib import Path


class MissingFiles(ValueError):
    """Files of a set of our own are not there.

    Attributes:
        what: which, and where.
        command: what makes them; None if it is not known.
    """

    def __init__(self, what: str, command: str | None = None) -> None:
        self.what, self.command = what, command
        way = (
            f"To make the files, run: {command}"
            if command
            else "A set of conf/data is made by python data/generate.py data=NAME, one of your own by StoreWriter or "
            "data/convert.py."
        )
        super().__init__(f"{what}. {way}")

    def __reduce__(self) -> tuple[type[MissingFiles], tuple[str, str | None]]:
        """Travel between processes with the same sentence."""
        return type(self), (self.what, self.command)


def listing(folder: Path, at_most: int = 12) -> str:
    """Return the names in a folder as text for a message."""
    if not folder.is_dir():
        return "nothing (the folder does not exist)"
    names = sorted(entry.name for entry in folder.iterdir())
    return ", ".join(names[:at_most]) + (", ..." if len(names) > at_most else "") or "nothing"


def size_text(num_bytes: int) -> str:
    """Return a number of bytes as text for a message."""
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes < 2**30 else f"{num_bytes / 2**30:.2f} GiB"


def shard_files(path: Path) -> dict[Path, tuple[int, int]]:
    """Return the complete shards beside the file of a split, each with its index and how many there are in all."""
    pattern = re.compile(re.escape(path.stem) + r"\.shard-(\d+)-of-(\d+)" + re.escape(path.suffix))
    names = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    found = {name: match for name in names if (match := pattern.fullmatch(name.name))}
    return {name: (int(match[1]), int(match[2])) for name, match in found.items()}


def missing_shards(path: Path) -> str:
    """Return a sentence about the shards that a split still lacks; empty if it is not made in shards."""
    there = set(shard_files(path).values())
    if not there:
        return ""
    count = max(count for _, count in there)
    missing = [f"shard={i}/{count}" for i in range(count) if (i, count) not in there]
    if not missing:
        return (
            f"All shards of {path} are complete but not joined: run the data/generate.py command of any of them "
            "again."
        )
    return (
        f"{path} is made in {count} shards, of which {', '.join(missing)} {'are' if len(missing) > 1 else 'is'} not "
        "complete: run data/generate.py with what is missing; the last one joins them."
    )


def require_path(path: Path) -> None:
    """Refuse a path where there is neither a file nor a folder.

    Raises:
        ValueError: naming the nearest names in the folder.
    """
    if not path.is_dir():
        require_file(path)


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
    if sentence := missing_shards(path):
        raise ValueError(f"there is no file {path}. {sentence}")
    missing = path
    while not missing.parent.is_dir():  # the first part of the path that is not there
        missing = missing.parent
    what = "file" if missing == path else f"folder {missing}, and so no file"
    siblings = [entry.name for entry in missing.parent.iterdir()]
    near = difflib.get_close_matches(missing.name, siblings, n=3, cutoff=0.5)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file. It holds {listing(path)}.")
    raise ValueError(
        f"there is no {what} {path}. "
        + (
            f"Did you mean {' or '.join(near)}?"
            if near
            else f"{missing.parent} holds {listing(missing.parent)}."
        )
    )

"""Lists of files from a path in a configuration: one file, a folder, or a pattern."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .files import listing, require_path


def files_of(path: str | Path, suffixes: Iterable[str]) -> list[Path]:
    """Return the files that a path means, in the order of the numbers in their names.

    Args:
        path: a file, a folder (all files in it with one of the suffixes), or a pattern with ``*``.
        suffixes: ``(".h5", ".hdf5")``.

    Raises:
        ValueError: if there are none; the nearest names are given.
    """
    text = str(path)
    wanted = tuple(suffixes)
    if any(sign in text for sign in "*?["):
        found = [Path(name) for name in glob.iglob(text, recursive=True)]  # noqa: PTH207 (a pattern with folders)
        if not found:
            folder = Path(text.split("*")[0]).parent
            raise ValueError(f"no file matches {text}. {folder} holds {listing(folder)}.")
    else:
        file = Path(path)
        require_path(file)
        found = [file]
        if file.is_dir():
            found = [p for p in file.iterdir() if p.suffix in wanted and p.is_file()]
            if not found:
                raise ValueError(f"{file} has no files {' or '.join(wanted)}; it holds {listing(file)}.")
    return sorted((p.absolute() for p in found), key=lambda p: natural(str(p)))


def natural(text: str) -> list[tuple[int, int | str]]:
    """Return a key that sorts ``smoke_2`` before ``smoke_10``."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", text)]


def same(what: str, found: Mapping[Any, object]) -> None:
    """Refuse files that differ in something that all files of a set share.

    Raises:
        ValueError: naming the first file, the one that differs, and how.
    """
    (first, wanted), *others = found.items()
    for name, value in others:
        if value != wanted:
            raise ValueError(
                f"{name} has {what} {value} and {first} {wanted}; all files of a set share one. Give them "
                "separately, for instance by a pattern."
            )

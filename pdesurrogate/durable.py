"""Files that appear whole or not at all: write beside, flush to disk, rename."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def durable_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block succeeds.

    The content is flushed to disk before the rename, so that a kill or a power cut leaves either the old
    file or the new one. When the block raises, the temporary file is removed and ``path`` is untouched.

    Raises:
        OSError: for a full disk or missing permission, with a sentence that names the file.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(final)
    except OSError as error:
        raise OSError(
            error.errno, f"could not write {final}: {error.strerror or error}. What stood there is unchanged."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path) -> None:
    """Remove from a folder and those in it what writes that were killed have left; only for its sole writer."""
    for leftover in Path(folder).rglob(".*.*[0-9].tmp"):
        leftover.unlink(missing_ok=True)

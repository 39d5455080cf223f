"""Files and sets of files that appear whole or not at all: write beside, flush to disk, rename."""

from __future__ import annotations

import os
import shutil
import socket
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


@contextmanager
def durable_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder; what the block writes there stands under ``path`` when it succeeds, all or nothing.

    A folder that is not there appears by one rename. In one that is there, files are replaced after all new ones are
    on the disk; if one of them cannot be put in place, the older ones come back. Other files in it stay. When the
    block raises, nothing under ``path`` has changed. What a killed process of this machine left here before is removed.

    Raises:
        OSError: for a full disk or missing permission, with a sentence that names the folder.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    beside = final if final.is_dir() else final.parent
    stem = f".{final.absolute().name}.{socket.gethostname()}."
    temporary = beside / f"{stem}{os.getpid()}.part"
    try:
        _remove_abandoned(beside, stem)
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if final.is_dir():
            _replace_files(temporary, final)
        else:
            temporary.rename(final)
    except OSError as error:
        raise OSError(
            error.errno, f"could not write {final}: {error.strerror or error}. What stood there is unchanged."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(beside: Path, stem: str) -> None:
    """Remove unfinished folders of processes of this machine that are no more, unless files were being replaced."""
    for folder in beside.glob(f"{stem}*.part"):
        pid = folder.name.removeprefix(stem).removesuffix(".part")
        if pid.isdigit() and not _is_running(int(pid)) and not (folder / ".older").is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _replace_files(source: Path, target: Path) -> None:
    """Move all files of a folder into another; on failure the other one is as it was."""
    older = source / ".older"
    older.mkdir()
    files = sorted(file for file in source.iterdir() if file != older)
    try:
        for file in files:
            if (target / file.name).exists():
                (target / file.name).replace(older / file.name)
            file.replace(target / file.name)
    except OSError:
        for file in files:
            if not file.exists():
                (target / file.name).replace(file)
            if (older / file.name).exists():
                (older / file.name).replace(target / file.name)
        raise

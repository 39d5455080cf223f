"""A copy of a data set in our store, made once, for files whose windows are slow to read."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pdesurrogate.version import __version__

from .store import StoredTrajectories
from .store_writer import FileTaken, StoreWriter
from .trajectories import DataSet, Trajectories

log = logging.getLogger(__name__)


def rechunked(dataset: DataSet, folder: Path) -> DataSet:
    """Return the same data set read from a copy in our store, which is made where it is not there yet.

    The copy's name holds a digest of what it was made from, the files' content included; other files, another
    split or other options give another copy. An interrupted copy goes on where it stopped.

    Args:
        dataset: what is copied.
        folder: where copies are kept.

    Raises:
        ValueError: if the data cannot be read, the disk is too small, or another process is making the copy.
    """
    checksums = {name: split.checksum() for name, split in dataset.splits.items()}
    content = json.dumps([checksums, dataset.spec.to_dict()], sort_keys=True)
    target = folder / f"{dataset.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    paths = write_store(dataset, target, {"source_checksums": checksums})
    splits: dict[str, Trajectories] = {name: StoredTrajectories(path) for name, path in paths.items()}
    return DataSet(dataset.name, splits, {**dataset.provenance, "rechunked": str(target)})


def write_store(
    dataset: DataSet,
    folder: Path,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    report: Callable[[str, int], None] | None = None,
) -> dict[str, Path]:
    """Write every split of a data set to ``folder/{split}.h5`` and return the files; complete ones are kept.

    Args:
        dataset: what is written.
        folder: where.
        attributes: further facts for the files.
        overwrite: whether to replace files that are there.
        report: called with the split and the number of a trajectory when it is written.

    Raises:
        ValueError: if the data cannot be read or written, or a file of other content is there.
    """
    paths = {}
    for name, split in dataset.splits.items():
        path = folder / f"{name}.h5"
        if path.exists() and overwrite:
            path.unlink()
        if path.exists():
            _require_same(path, split)
        else:
            facts = {
                "title": dataset.name,
                "split": name,
                "equation": split.spec.equation,
                "pdesurrogate_version": __version__,
                "provenance": dict(dataset.provenance),
                **(attributes or {}),
            }
            _write(path, name, split, facts, report)
        paths[name] = path
    return paths


def _write(
    path: Path,
    name: str,
    split: Trajectories,
    facts: Mapping[str, Any],
    report: Callable[[str, int], None] | None,
) -> None:
    writer = StoreWriter(
        path,
        spec=split.spec,
        grid=split.grid,
        num_trajectories=split.num_trajectories,
        times=split.times,
        attributes=facts,
    )
    with writer:
        log.info("%s: copying %d trajectories", path, len(writer.pending))
        for trajectory in list(writer.pending):
            writer.write(
                trajectory, split.frames(trajectory, 0, split.num_frames), split.parameters(trajectory)
            )
            if report is not None:
                report(name, trajectory)
        writer.finish()


def _require_same(path: Path, split: Trajectories) -> None:
    stored = StoredTrajectories(path)
    shapes = [(t.num_trajectories, t.num_frames, t.grid) for t in (stored, split)]
    differences = stored.spec.mismatches(split.spec)
    if shapes[0] != shapes[1]:
        differences.append(f"(trajectories, frames, grid) are {shapes[0]} there and {shapes[1]} here")
    if differences:
        raise FileTaken(
            f"{path} is there already and holds something else: {'; '.join(differences)}. Choose another folder, or "
            "give overwrite=true."
        )

"""The data: splits, times, values that are missing or constant, splits that share content, and how files are read."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from ..data.datamodule import TrajectoryDataModule
from ..data.files import size_text
from ..data.store import StoredTrajectories
from ..data.trajectories import Trajectories
from ..fields import DataSpec
from .findings import Finding, ok, problem, warning
from .scan import Scan, scan, shared_frames

NUM_READ, READING_SECONDS = 16, 4.0
"""Random windows that are timed at most, and seconds after which no further one is."""
READ_ANEW, READ_RATE = 5e-4, 4e8
"""Seconds for a window and bytes a second that reading from a store keeps to on a slow processor."""


def look_at_data(data: TrajectoryDataModule, num_trajectories: int | None) -> list[Finding]:
    """Return what is wrong with a data set, or could be.

    Args:
        data: the opened data set.
        num_trajectories: how many trajectories of a split are read, evenly spread; None for all.
    """
    splits = data.dataset.splits
    findings = [*_schema(data)]
    scans = {name: scan(split, num_trajectories) for name, split in splits.items()}
    for name, split in splits.items():
        findings += [*_times(name, split), *_values(name, scans[name])]
    findings += [*_channels(data.spec, scans), *_leakage(scans), *_parameters(data)]
    base = splits.get("train", next(iter(splits.values())))
    span = data.stride * (data.history + data.horizon - 1) + 1
    look = _chunks if isinstance(base, StoredTrajectories) else _reading
    return [*findings, *look(base, span, data.reads_once)]


def _schema(data: TrajectoryDataModule) -> list[Finding]:
    spec, splits = data.spec, data.dataset.splits
    sizes = ", ".join(f"{name} {s.num_trajectories} x {s.num_frames} frames" for name, s in splits.items())
    stored = next(iter(splits.values())).grid
    at = " x ".join(map(str, data.grid)) + (
        "" if stored == data.grid else f" (stored {' x '.join(map(str, stored))})"
    )
    unit = "" if spec.time_units == "1" else f" {spec.time_units}"
    findings = [
        ok(
            "data",
            f"{data.dataset.name}: {', '.join(spec.channel_names)} at {at}, dt {spec.dt:g}{unit}, "
            f"{', '.join(f'{a.name} {a.boundary}' for a in spec.axes)}; {sizes}.",
        )
    ]
    for name, why, level in (
        ("train", "there is nothing to train on", problem),
        ("valid", "training picks its best weights by it", problem),
        ("test", "evaluation has nothing to measure on", warning),
    ):
        if name not in splits:
            findings.append(level("splits", f"there is no split {name!r}: {why}."))
    return findings


def _times(name: str, split: Trajectories) -> list[Finding]:
    steps = np.diff(np.asarray(split.times, dtype=np.float64))
    if len(steps) and not np.allclose(steps, split.spec.dt, rtol=1e-3, atol=0):
        return [
            problem(
                "times",
                f"frames of {name} are {steps.min():g} to {steps.max():g} apart and the spec says dt = "
                f"{split.spec.dt:g}. Correct the spec or the times; a model learns the step that is in the data.",
            )
        ]
    return []


def _values(name: str, found: Scan) -> list[Finding]:
    looked = f"{found.num_read} of {found.num_trajectories} trajectories of {name}"
    if found.refusals:
        more = f" (and {len(found.refusals) - 1} more trajectories)" if len(found.refusals) > 1 else ""
        return [problem("values", f"{found.refusals[0]}{more}")]
    speed = f", read at {found.megabytes_per_second:.0f} MB/s" if found.megabytes_per_second else ""
    advice = "" if found.num_read == found.num_trajectories else "; num_trajectories=null looks at all"
    return [ok("values", f"no NaN in {looked}{speed}{advice}.")]


def _channels(spec: DataSpec, scans: dict[str, Scan]) -> list[Finding]:
    """Return channels that hold one value, that move although static, or do not move although not."""
    findings = []
    home = scans.get("train", next(iter(scans.values())))
    if home.statistics is None:
        return []
    for i, (name, is_static) in enumerate(zip(spec.channel_names, spec.static_channels, strict=True)):
        mean, std = float(home.statistics.mean[i]), float(home.statistics.std[i])
        if std <= 1e-12 * abs(mean) or std == 0:
            tell = warning if is_static else problem
            findings.append(
                tell(
                    "channels",
                    f"{name!r} is {mean:g} everywhere in train: there is nothing to learn of it. Leave the field out.",
                )
            )
            continue
        if std < 1e-5 * abs(mean):
            findings.append(
                warning(
                    "channels",
                    f"{name!r} varies by {std / abs(mean):.0e} of its mean, {mean:g}, at which single precision is "
                    "coarse. Store the deviation from a reference value.",
                )
            )
        moves = any(s.moves is not None and bool(s.moves[i]) for s in scans.values())
        if is_static and moves:
            findings.append(
                problem(
                    "channels",
                    f"{name!r} is declared static and changes along trajectories. Drop is_static from its Field: a "
                    "surrogate would hold it still.",
                )
            )
        elif not is_static and not moves and home.num_frames > 1:
            findings.append(
                warning(
                    "channels",
                    f"{name!r} never changes along a trajectory. Declare its Field is_static=True: it is then given "
                    "rather than forecast and scored.",
                )
            )
    return findings or [ok("channels", "every channel varies, and static ones stay.")]


def _leakage(scans: dict[str, Scan]) -> list[Finding]:
    """Return trajectories that two splits share, or that one holds twice, whole or from some frame on."""
    findings = []
    names = list(scans)
    for i, one in enumerate(names):
        for other in names[i:]:
            pairs = shared_frames(scans[one], scans[other])
            if not pairs:
                continue
            (a, frame_a), (b, frame_b) = pairs[0]
            where = f"trajectory {b} of {other}, frame {frame_b}, is trajectory {a} of {one}, frame {frame_a}"
            if one == other:
                findings.append(warning("duplicates", f"{where} ({len(pairs)} pairs). Remove the copies."))
            else:
                findings.append(
                    problem(
                        "leakage",
                        f"{one} and {other} share {len(pairs)} trajectories, whole or in part: {where}. Errors on "
                        f"{other} would be too good. Split by trajectory, never by window.",
                    )
                )
    return findings or [ok("leakage", "no frame of one trajectory is found in another.")]


def _parameters(data: TrajectoryDataModule) -> list[Finding]:
    """Compare the PDE parameters of train with those of the other splits."""
    splits, names = data.dataset.splits, data.spec.parameter_names
    if not names or "train" not in splits:
        return []
    values = {k: np.stack([s.parameters(i) for i in range(s.num_trajectories)]) for k, s in splits.items()}
    train, findings = values.pop("train"), []
    for i, name in enumerate(names):
        low, high = float(train[:, i].min()), float(train[:, i].max())
        if low == high:
            findings.append(
                warning(
                    "parameters",
                    f"{name!r} is {low:g} in all of train: a model cannot learn what it does, and forecasts at other "
                    "values are guesses.",
                )
            )
        for split, others in values.items():
            outside = int(((others[:, i] < low) | (others[:, i] > high)).sum())
            if outside:
                findings.append(
                    warning(
                        "parameters",
                        f"{name!r} of {outside} of {len(others)} trajectories of {split} lies outside of train's "
                        f"{low:g} to {high:g}: errors there are of extrapolation.",
                    )
                )
    known = {row.tobytes() for row in train}
    if len(known) > 1:
        for split, others in values.items():
            repeated = sum(row.tobytes() in known for row in others)
            if repeated:
                findings.append(
                    warning(
                        "parameters",
                        f"{repeated} of {len(others)} trajectories of {split} have parameters that train has too: "
                        "their errors are of new initial states, not of new parameters. For those, split by parameter.",
                    )
                )
    return findings or [
        ok("parameters", f"{', '.join(names)}: {split_ranges(train, names)}; no value in two splits.")
    ]


def split_ranges(train: np.ndarray, names: Sequence[str]) -> str:
    """Return the range of each parameter as text."""
    return ", ".join(f"{train[:, i].min():g} to {train[:, i].max():g}" for i in range(len(names)))


def _chunks(split: Trajectories, span: int, reads_once: bool) -> list[Finding]:
    """Compare the chunks of an HDF5 file with the windows that are read from it."""
    path = getattr(split, "path", None)
    if path is None or not Path(path).is_file() or not h5py.is_hdf5(path):
        return []
    with h5py.File(path, "r") as file:
        variable = file.get(split.spec.channel_names[0])
        layout = (split.num_trajectories, split.num_frames, *split.grid)
        if not isinstance(variable, h5py.Dataset) or variable.shape != layout:
            return []
        chunks = variable.chunks
        is_compressed = variable.compression is not None
    if chunks is None:
        return [ok("chunks", f"{Path(path).name} is contiguous: a window of {span} frames is one read.")]
    factor = read_over_used(chunks, layout, span)
    text = (
        f"{Path(path).name} has chunks of {' x '.join(map(str, chunks))} (trajectory, time, space); a window of {span} "
        f"frames reads {factor:.1f} times what it uses"
    )
    if factor <= 4 or reads_once:
        held = "; the split is held in memory and read once" if reads_once else ""
        return [ok("chunks", f"{text}{', compressed' if is_compressed else ''}{held}.")]
    return [
        warning(
            "chunks",
            f"{text}. Hold the split in memory (data.cache=ram) if it fits, or let data.rechunk=FOLDER make a "
            "copy once, in chunks of one trajectory, a few frames and all of space.",
        )
    ]


def _reading(split: Trajectories, span: int, reads_once: bool) -> list[Finding]:
    """Read random windows of files that are not our store, and compare the time with what a store would need.

    What counts is the processor's time, for inflating and for copying what a window does not use.
    """
    rng = np.random.default_rng(0)
    size = 4 * split.spec.num_channels * math.prod(split.grid)
    seconds: list[float] = []
    while len(seconds) < NUM_READ and sum(seconds) < READING_SECONDS:
        trajectory = int(rng.integers(split.num_trajectories))
        start = int(rng.integers(max(1, split.num_frames - span + 1)))
        began = time.process_time()
        split.frames(trajectory, start, min(start + span, split.num_frames))
        seconds.append(time.process_time() - began)
    typical = float(np.median(seconds))
    usual = READ_ANEW + span * size / READ_RATE
    text = (
        f"a random window of {span} frames, {span * size / 2**10:.0f} KiB, takes {1e3 * typical:.1f} ms of "
        f"the processor to read, {typical / usual:.1f} times what it may take from a store"
    )
    if typical <= 4 * usual or reads_once:
        held = "; the split is held in memory and read once" if reads_once else ""
        return [ok("reading", f"{text}{held}.")]
    needed = split.num_trajectories * split.num_frames * size
    return [
        warning(
            "reading",
            f"{text}. Let data.rechunk=FOLDER make a copy once, {size_text(needed)} and quick to read at random, or "
            "hold the split in memory (data.cache=ram).",
        )
    ]


def read_over_used(chunks: Sequence[int], shape: Sequence[int], span: int) -> float:
    """Return how much more than a window of ``span`` frames is read, for windows that begin anywhere.

    A window of s frames meets ``(s - 1 + c) / c`` chunks of c frames on average.
    """
    per_window = chunks[0] * min(span - 1 + chunks[1], max(shape[1], chunks[1])) / span
    padding = math.prod(math.ceil(n / c) * c / n for n, c in zip(shape[2:], chunks[2:], strict=True))
    return per_window * padding

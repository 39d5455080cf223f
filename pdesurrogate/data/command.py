"""``pdesurrogate data``: list the public data sets, check downloads, and say what is in a file."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pdesurrogate.registry import did_you_mean

from .files import listing
from .manifest import check_files, find_listed, read_manifest

USAGE = """usage: pdesurrogate data list
       pdesurrogate data check [NAME ...] [in=data/downloads]
       pdesurrogate data info PATH [option=value ...]

  list   the public data sets that can be read: reader, split, size, licence, source
  check  whether downloaded files are complete: sizes and checksums where they are known
  info   what a file or folder holds, told by its content: fields, units, axes, splits, chunks, statistics;
         or, with layout=LAYOUT.yaml, what a layout of your own makes of it
"""
SHADES = " .:-=+*#%@"
THUMBNAIL = (16, 48)


def main(words: Sequence[str]) -> None:
    """Run a command.

    Raises:
        ValueError: for an unknown command or option, and whatever the reader refuses.
    """
    command, *rest = words or ["--help"]
    commands = {"list": _list, "check": _check, "info": _info}
    if command in ("--help", "-h", "help"):
        sys.stdout.write(USAGE)
    elif command not in commands:
        raise ValueError(f"there is no command data {command!r}.{did_you_mean(command, commands)}\n\n{USAGE}")
    else:
        sys.stdout.write(commands[command](rest) + "\n")


def _list(words: Sequence[str]) -> str:
    if words:
        raise ValueError(f"data list takes no arguments; given: {' '.join(words)}.")
    lines = []
    for name, listed in read_manifest().items():
        size = ", ".join(sorted({f.about or f"{f.size} bytes" for f in listed.files if f.about or f.size}))
        lines += [
            f"{name}: {listed.title}",
            f"  data={listed.reader}; {len(listed.files)} file(s), {size or 'size unknown'}",
        ]
        lines += [
            f"  split: {listed.split}",
            f"  licence: {listed.licence}",
            f"  source: {listed.source}",
            "",
        ]
    return "\n".join(lines).rstrip()


def _check(words: Sequence[str]) -> str:
    folder = Path(next((w[3:] for w in words if w.startswith("in=")), "data/downloads"))
    names = [word for word in words if not word.startswith("in=")]
    sets = read_manifest()
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; name the one with the downloads by in=FOLDER.")
    chosen = [find_listed(name, sets) for name in names] or list(sets.values())
    lines, wrong = [], []
    for listed in chosen:
        findings = check_files(listed, folder)
        if not names:
            findings = [(name, finding) for name, finding in findings if finding != "missing"]
        lines += [f"{listed.name}: {name}: {finding}" for name, finding in findings]
        wrong += [name for name, finding in findings if "again" in finding or finding == "missing"]
    if wrong:
        raise ValueError("\n".join([*lines, f"{len(wrong)} file(s) are missing or damaged."]))
    return "\n".join(lines) or f"{folder} holds no file of a listed data set."


def _info(words: Sequence[str]) -> str:
    if not words:
        raise ValueError(f"data info needs a path.\n\n{USAGE}")
    path = Path(words[0])
    given = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(
                f"{word!r} is no option; options are written option=value, such as viscosity=1e-3."
            )
        given[key] = _literal(value)
    return describe(path, given)


def describe(path: Path, given: dict[str, Any] | None = None) -> str:
    """Return what a file or folder holds, in lines of text.

    Args:
        path: the file or folder.
        given: options of its reader that the content does not tell.

    Raises:
        ValueError: if the path does not exist or the file cannot be read.
    """
    from . import DATASETS
    from .recognition import recognise

    found = recognise(path)
    if "layout" in (given or {}):
        found = "custom", {"path": str(path)}
    if found is None:
        return "\n".join([f"{path}: in no format that a reader knows", *_way_out(path)])
    kind, options = found
    options.update(given or {})
    missing = [name for name, value in options.items() if value is None and name not in (given or {})]
    lines = [f"{path}: format {kind}"]
    if missing:
        lines.append(
            f"  the content does not tell {', '.join(missing)}; give {missing[0]}=VALUE to see the rest."
        )
        return "\n".join([*lines, _arrays(path)] if path.is_file() else lines)
    dataset = DATASETS.build(kind, **options)
    lines += _spec_lines(dataset.spec)
    for name, split in dataset.splits.items():
        size = 4 * split.num_trajectories * split.num_frames * split.spec.num_channels
        for n in split.grid:
            size *= n
        lines.append(
            f"  {name}: {split.num_trajectories} trajectories of {split.num_frames} frames on "
            f"{' x '.join(map(str, split.grid))}, t = {split.times[0]:g} to {split.times[-1]:g}, {size / 2**20:.1f} MiB"
        )
    lines += _statistics(next(iter(dataset.splits.values())))
    return "\n".join([*lines, _arrays(path)] if path.is_file() else lines)


def _way_out(path: Path) -> list[str]:
    """Return what to do with a file or folder that names no format of its own, and what it holds."""
    from .containers import container_kind

    if path.is_dir():
        try:
            container_kind(path)
        except ValueError:
            return [f"  a folder with {listing(path)}; data info FILE says what is in one of them"]
    return [
        "  read by a layout, ten lines of YAML that say which of its arrays are which fields, on which axes:",
        f"    data=custom data.path={path} data.layout=LAYOUT.yaml",
        "  of which data/cards/public_files.md has an example; data info PATH layout=LAYOUT.yaml tries it",
        _arrays(path),
    ]


def _spec_lines(spec: Any) -> list[str]:
    from ..fields.units import with_space

    lines = []
    for field in spec.fields:
        about = [
            with_space(field.units).strip(),
            field.kind,
            *(["static"] if field.is_static else []),
            field.long_name,
        ]
        lines.append(f"  {', '.join(field.channel_names)}: {', '.join(part for part in about if part)}")
    for axis in spec.axes:
        where = f"{axis.origin:g} to {axis.origin + axis.length:g}{with_space(axis.units)}"
        nodes = axis.nodes or ("cell centres" if axis.offset == 0.5 else "nodes")
        lines.append(f"  axis {axis.name}: {where}, {axis.boundary}, {nodes}")
    lines.append(f"  dt: {spec.dt:g}{with_space(spec.time_units)}; geometry: {spec.geometry}")
    if spec.parameters:
        lines.append(f"  parameters: {', '.join(spec.parameter_names)}")
    return [*lines, f"  {spec.equation}"] if spec.equation else lines


def _statistics(split: Any) -> list[str]:
    """Return statistics of some trajectories and a thumbnail of the first channel's last frame."""
    import numpy as np

    chosen = sorted({0, split.num_trajectories // 2, split.num_trajectories - 1})
    last = split.num_frames - 1
    frames = np.concatenate([split.frames(i, f, f + 1) for i in chosen for f in sorted({0, last})])
    lines = [f"  statistics of the first and last frames of trajectories {', '.join(map(str, chosen))}:"]
    for channel, name in enumerate(split.spec.channel_names):
        values = frames[:, channel].astype(np.float64)
        bounds = f"from {values.min():.4g} to {values.max():.4g}"
        lines.append(f"    {name}: mean {values.mean():.4g}, std {values.std():.4g}, {bounds}")
    if split.spec.num_parameters:
        table = np.stack([split.parameters(i) for i in range(split.num_trajectories)])
        for i, name in enumerate(split.spec.parameter_names):
            lines.append(f"    {name}: from {table[:, i].min():.4g} to {table[:, i].max():.4g}")
    lines.append(f"  {split.spec.channel_names[0]}, trajectory 0, last frame:")
    picture = split.frames(0, last, last + 1)[0, 0]
    if split.spec.ndim > 1 and split.spec.axes[-2].is_descending:
        picture = picture[..., ::-1, :]
    return [*lines, textwrap.indent(thumbnail(picture), "    ")]


def thumbnail(field: Any) -> str:
    """Return a field as text, dark to bright; the middle slice of a volume, one row of a line."""
    import numpy as np

    field = np.atleast_2d(field)
    while field.ndim > 2:
        field = field[len(field) // 2]
    rows, columns = (min(n, most) for n, most in zip(field.shape, THUMBNAIL, strict=True))
    picked = field[np.arange(rows) * field.shape[0] // rows][
        :, np.arange(columns) * field.shape[1] // columns
    ]
    low, high = float(picked.min()), float(picked.max())
    scaled = (picked - low) / (high - low if high > low else 1.0)
    shades = np.minimum((scaled * len(SHADES)).astype(int), len(SHADES) - 1)
    return "\n".join("".join(SHADES[s] for s in row) for row in shades[::-1])


def _arrays(path: Path) -> str:
    """Return the arrays of a container with shapes and chunks."""
    from .containers import open_container

    container = open_container(path)
    lines = [f"  container {container.kind}, {_size(path) / 2**20:.1f} MiB"]
    shapes = list(container.shapes().items())
    for name, shape in shapes[:12]:
        lines.append(f"    {name or '(array)'} {shape}: {container.layout(name)}")
    if len(shapes) > 12:
        lines.append(f"    and {len(shapes) - 12} more")
    container.close()
    return "\n".join(lines)


def _size(path: Path) -> int:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _literal(text: str) -> Any:
    import yaml

    try:
        return (
            float(text) if "e" in text.lower() and not text.lower().startswith("e") else yaml.safe_load(text)
        )
    except (ValueError, yaml.YAMLError):
        return text

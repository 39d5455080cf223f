"""A layout: which arrays of a file are which fields, on which axes; ten lines of YAML, or a dict.

For instance, of an ``.npz`` file with ``omega`` (time, x, y)::

    fields:
      vorticity: {array: omega, kind: pseudoscalar, units: s-1}
    axes: [time, x, y]
    space:
      x: {length: 6.283185307179586, boundary: periodic}
      y: {length: 6.283185307179586, boundary: periodic}
    time: {coordinates: t, units: s}
    parameters: {viscosity: viscosity}

- ``fields``: by name; ``array`` (the field's name by default), ``units``, ``kind``, ``components`` of a vector with
  ``arrays``, one for each, or with one array that has the axis ``component``; ``file`` (or ``files``) beside the
  path, where it is another one; ``axes`` of its own; ``static: true``; ``faces: true`` for a vector whose components
  live on the lower faces of cells. A text alone is the array's name.
- ``axes``: of the arrays, in the file's order: ``sample``, ``time``, ``component``, those of ``space``, or
  ``name=index`` to fix one. Not needed where the file names dimensions (netCDF, zarr, xarray); ``dimensions``
  translates those that have other names.
- ``space``: ``boundary`` (periodic, wall, open), and either ``coordinates``, an array, or ``length`` and perhaps
  ``origin`` and ``offset``; ``nodes`` of latitudes; ``units``.
- ``time``: ``dt``, or ``coordinates``, an array, perhaps of numbers of steps with the length of one as ``scale``, a
  number or the name of an array; ``units``.
- ``parameters``: by name; a number, or the name of an array or attribute.
- ``frames``: which of the file's frames, ``crop``: ``{axis: [start, stop]}``; ``geometry``, ``equation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pdesurrogate.fields import Field
from pdesurrogate.registry import did_you_mean

from .array_trajectories import SAMPLE, TIME
from .files import require_file

KEYS = (
    "fields",
    "axes",
    "dimensions",
    "space",
    "time",
    "parameters",
    "frames",
    "crop",
    "geometry",
    "equation",
)
FIELD_KEYS = (
    "array",
    "arrays",
    "file",
    "files",
    "units",
    "kind",
    "components",
    "axes",
    "static",
    "faces",
    "long_name",
    "component",
)
SPACE_KEYS = ("length", "origin", "offset", "boundary", "coordinates", "units", "nodes", "descending")
TIME_KEYS = ("dt", "coordinates", "scale", "units", "start")
COMPONENT = "component"
ALIASES = {
    "latitude": "lat",
    "longitude": "lon",
    "t": TIME,
    "trajectory": SAMPLE,
    "batch": SAMPLE,
    "b": SAMPLE,
    "member": SAMPLE,
}
ORDER = ("lat", "lon", "z", "y", "x")


@dataclass(frozen=True)
class FieldLayout:
    """A field and where its channels are.

    Attributes:
        field: what it is; its units are empty where the layout names none.
        arrays: array of each channel, or of all.
        files: file of each array beside the path; empty for the path itself.
        axes: of its arrays, if they are not those of the layout.
    """

    field: Field
    arrays: tuple[str, ...]
    files: tuple[str, ...] = ()
    axes: tuple[str, ...] | None = None
    has_units: bool = False


@dataclass(frozen=True)
class Layout:
    """A layout as it was written, checked; see the module."""

    fields: tuple[FieldLayout, ...]
    axes: tuple[str, ...] | None = None
    dimensions: Mapping[str, str] = field(default_factory=dict)
    space: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    time: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    frames: tuple[int, ...] | None = None
    crop: Mapping[str, slice] = field(default_factory=dict)
    geometry: str | None = None
    equation: str = ""

    def role(self, dimension: str) -> str:
        """Return what a dimension that a file names is: sample, time, component or an axis of space."""
        return self.dimensions.get(dimension, ALIASES.get(dimension, dimension))


def read_layout(layout: Mapping[str, Any] | str | Path) -> Layout:
    """Return a layout from a dict or a YAML file.

    Raises:
        ValueError: for keys that there are not, with the nearest ones, or values that do not fit.
    """
    content: Any = layout
    owner = "the layout"
    if isinstance(layout, str | Path):
        owner = f"the layout {layout}"
        require_file(Path(layout))
        try:
            content = yaml.safe_load(Path(layout).read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{owner} is no YAML: {error}") from error
    _check_keys(owner, content, KEYS)
    fields = content.get("fields")
    if isinstance(fields, str):
        fields = [fields]
    if isinstance(fields, list | tuple):
        fields = dict.fromkeys(fields)
    if not isinstance(fields, Mapping) or not fields:
        raise ValueError(
            f"{owner} names no fields; give fields: {{vorticity: {{array: omega}}}}, for instance."
        )
    space = content.get("space") or {}
    _check_keys(f"space of {owner}", space, ORDER + tuple(space))
    for name, facts in space.items():
        _check_keys(f"axis {name!r} of {owner}", facts, SPACE_KEYS)
    _check_keys(f"time of {owner}", content.get("time") or {}, TIME_KEYS)
    crop = {}
    for name, bounds in (content.get("crop") or {}).items():
        if not isinstance(bounds, Sequence) or len(bounds) not in (2, 3):
            raise ValueError(f"crop of {name!r} in {owner} is {bounds}; give [start, stop].")
        crop[name] = slice(*bounds)
    axes, frames = content.get("axes"), content.get("frames")
    return Layout(
        fields=tuple(_field(owner, str(name), facts) for name, facts in fields.items()),
        axes=tuple(map(str, axes)) if axes else None,
        dimensions=dict(content.get("dimensions") or {}),
        space=dict(space),
        time=dict(content.get("time") or {}),
        parameters=dict(content.get("parameters") or {}),
        frames=tuple(int(f) for f in frames) if frames is not None else None,
        crop=crop,
        geometry=content.get("geometry"),
        equation=str(content.get("equation") or ""),
    )


def _field(owner: str, name: str, facts: Any) -> FieldLayout:
    if facts is None or isinstance(facts, str):
        facts = {"array": name if facts is None else facts}
    _check_keys(f"field {name!r} of {owner}", facts, FIELD_KEYS)
    components = tuple(map(str, facts.get("components", ())))
    arrays = facts.get("arrays", [facts.get("array", name)])
    files = facts.get("files", [facts["file"]] if "file" in facts else [])
    num_channels = max(1, len(components))
    if len(arrays) not in (1, num_channels) or len(files) not in (0, 1, num_channels):
        raise ValueError(
            f"field {name!r} of {owner} has {num_channels} channels, {len(arrays)} arrays and {len(files)} files; give "
            "one, or one for each channel."
        )
    made = Field(
        name,
        str(facts.get("units", "1")),
        str(facts.get("kind", "vector" if components else "scalar")),  # type: ignore[arg-type]
        components,
        str(facts.get("long_name", "")),
        bool(facts.get("static", False)),
        bool(facts.get("faces", False)),
    )
    axes = facts.get("axes")
    return FieldLayout(
        made,
        tuple(map(str, arrays)),
        tuple(map(str, files)),
        tuple(map(str, axes)) if axes else None,
        "units" in facts,
    )


def _check_keys(owner: str, content: Any, allowed: Sequence[str]) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"{owner} is {content!r}; needed is a mapping with keys of {', '.join(allowed)}.")
    for key in content:
        if key not in allowed:
            raise ValueError(
                f"{owner} has no key {key!r}.{did_you_mean(str(key), allowed)} Allowed: {', '.join(allowed)}."
            )

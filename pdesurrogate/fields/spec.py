"""What a field is: names, units, axes, boundaries, time step and parameters of a PDE's solution.

`DataSpec` is the single source of these facts. Channels, dimensions, boundaries and time steps are
derived from it everywhere and typed nowhere else. Specs are frozen and go to and from plain dicts, so
that they live unchanged in HDF5 attributes, checkpoints and artifacts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from ..registry import check_options
from .spherical.nodes import LatitudeNodes, latitude_rule

Boundary = Literal["periodic", "wall", "open"]
FieldKind = Literal["scalar", "pseudoscalar", "vector"]
Geometry = Literal["plane", "sphere"]
Part = TypeVar("Part")


def _require_member(owner: str, value: str, literal: Any) -> None:
    allowed = get_args(literal)
    if value not in allowed:
        raise ValueError(f"{owner} is {value!r}; allowed: {', '.join(map(repr, allowed))}.")


@dataclass(frozen=True)
class Field:
    """A physical quantity on space.

    Attributes:
        name: the field's name, such as ``"vorticity"``.
        units: units in UDUNITS form, ``"1"`` when dimensionless.
        kind: how it transforms. A ``"pseudoscalar"`` (2-D vorticity) changes sign under reflection;
            the components of a ``"vector"`` mix under rotation.
        components: axis names of a vector's components in channel order; empty for one channel.
        long_name: a phrase for figures and file attributes.
        is_static: whether it stays the same along a trajectory: a coefficient, a bed, a steady force. Such a
            field is given, not forecast: surrogates read it and carry it over, and nothing is scored on it.
        is_on_faces: whether the components of a vector live on the lower faces of cells, as those of the solver `Smoke`
            do: each lies, along its own axis, half a spacing below the axis's coordinates, which are those of centres.
    """

    name: str
    units: str = "1"
    kind: FieldKind = "scalar"
    components: tuple[str, ...] = ()
    long_name: str = ""
    is_static: bool = False
    is_on_faces: bool = False

    def __post_init__(self) -> None:
        _require_member(f"kind of field {self.name!r}", self.kind, FieldKind)
        if (self.kind == "vector") != bool(self.components):
            raise ValueError(
                f"field {self.name!r} of kind {self.kind!r} has components {self.components}; a vector "
                "names one axis per component, other kinds name none."
            )
        if self.is_on_faces and self.kind != "vector":
            raise ValueError(
                f"field {self.name!r} of kind {self.kind!r} is said to live on faces; only the components of a vector "
                "do, each on those of its own axis."
            )

    @property
    def face_axes(self) -> tuple[str | None, ...]:
        """The axis on whose lower faces each channel lives; None for channels at the points themselves."""
        return self.components if self.is_on_faces else (None,) * len(self.channel_names)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the field's channels: ``("velocity_x", "velocity_y")`` or ``("vorticity",)``."""
        return tuple(f"{self.name}_{c}" for c in self.components) or (self.name,)


@dataclass(frozen=True)
class Axis:
    """One axis of space, sampled uniformly at ``origin + (i + offset) · length / size``, or at latitudes of a rule.

    On a sphere the axes are ``lat`` and ``lon``. Latitudes that follow one of the rules of `latitude_rule` say so in
    ``nodes``; their quadrature weights are then known, see `spherical_grid`.

    Attributes:
        name: ``"x"``, ``"y"``, ``"z"``, ``"lat"`` or ``"lon"``.
        length: physical extent of the domain along the axis, in ``units``.
        boundary: what happens at its ends.
        units: units of coordinates along the axis.
        origin: coordinate of the domain's lower end.
        offset: position of the first point in units of the spacing: 0 for nodes, 0.5 for cell centres.
        nodes: None for uniform samples, or the rule of the latitudes from pole to pole: ``"gauss-legendre"``,
            ``"equiangular"`` (with both poles) or ``"cell-centred"``.
        is_descending: whether coordinates fall along the axis, as latitudes that begin at the north pole do.
    """

    name: str
    length: float
    boundary: Boundary = "periodic"
    units: str = "1"
    origin: float = 0.0
    offset: float = 0.0
    nodes: LatitudeNodes | str | None = None
    is_descending: bool = False

    def __post_init__(self) -> None:
        _require_member(f"boundary of axis {self.name!r}", self.boundary, Boundary)
        if self.nodes is not None:
            _require_member(f"nodes of axis {self.name!r}", self.nodes, LatitudeNodes)
            if self.name != "lat" or self.offset:
                raise ValueError(
                    f"axis {self.name!r} with offset = {self.offset} has the nodes {self.nodes!r}; these are latitudes "
                    "from pole to pole: they belong to an axis 'lat' without offset."
                )
        if not (isinstance(self.length, Real) and math.isfinite(self.length) and self.length > 0):
            raise ValueError(
                f"length of axis {self.name!r} is {self.length}; it must be positive and finite: spacings, wavenumbers "
                "and radii are measured by it."
            )

    @property
    def lead(self) -> float:
        """Distance of an array's first point from the end of the domain beside it, in spacings; 0 for rules."""
        return 1.0 - self.offset if self.is_descending and self.nodes is None else self.offset

    def coordinates(self, size: int) -> np.ndarray:
        """Return the ``size`` sample positions, float64; end points of periodic axes appear once."""
        if self.nodes is None:
            ascending = self.origin + (np.arange(size) + self.offset) * (self.length / size)
        else:
            colatitudes, _ = latitude_rule(self.nodes, size)
            ascending = self.origin + self.length * (1 - colatitudes[::-1] / math.pi)
        return ascending[::-1].copy() if self.is_descending else ascending


@dataclass(frozen=True)
class Parameter:
    """A number of the PDE that is constant along a trajectory, such as the viscosity."""

    name: str
    units: str = "1"
    long_name: str = ""


@dataclass(frozen=True)
class DataSpec:
    """Everything that is known about a data set apart from its numbers.

    Attributes:
        fields: quantities in channel order.
        axes: axes of space in array order: ``(y, x)``, ``(z, y, x)`` or ``(lat, lon)``.
        dt: time between consecutive frames, in ``time_units``.
        time_units: units of time.
        geometry: ``"plane"`` or ``"sphere"``.
        parameters: parameters of the PDE, in the order of the parameter vector.
        equation: the PDE as text, for people.
    """

    fields: tuple[Field, ...]
    axes: tuple[Axis, ...]
    dt: float
    time_units: str = "1"
    geometry: Geometry = "plane"
    parameters: tuple[Parameter, ...] = ()
    equation: str = ""

    def __post_init__(self) -> None:
        _require_member("geometry", self.geometry, Geometry)
        if not self.fields or not self.axes:
            raise ValueError("a DataSpec needs at least one field and one axis.")
        if not self.forecast_fields:
            raise ValueError(
                f"the fields {', '.join(field.name for field in self.fields)} are all static: none to forecast."
            )
        if not (math.isfinite(self.dt) and self.dt > 0):
            raise ValueError(f"dt is {self.dt}; the time between frames must be positive.")
        for what, names in (
            ("channel", self.channel_names),
            ("axis", self.axis_names),
            ("parameter", self.parameter_names),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"{what} names {names} repeat; each must be unique.")

    @property
    def num_channels(self) -> int:
        """Number of channels C over all fields."""
        return len(self.channel_names)

    @property
    def num_parameters(self) -> int:
        """Length P of the parameter vector."""
        return len(self.parameters)

    @property
    def ndim(self) -> int:
        """Number of axes of space."""
        return len(self.axes)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of all channels in order."""
        return tuple(name for field in self.fields for name in field.channel_names)

    @property
    def forecast_fields(self) -> tuple[Field, ...]:
        """The fields that change in time, in order: what is forecast and scored."""
        return tuple(field for field in self.fields if not field.is_static)

    @property
    def static_channels(self) -> tuple[bool, ...]:
        """Whether each channel is of a static field."""
        return tuple(field.is_static for field in self.fields for _ in field.channel_names)

    @property
    def face_axes(self) -> tuple[str | None, ...]:
        """The axis on whose lower faces each channel lives; None for channels at the points themselves."""
        return tuple(axis for field in self.fields for axis in field.face_axes)

    @property
    def channel_units(self) -> tuple[str, ...]:
        """Units of all channels in order."""
        return tuple(field.units for field in self.fields for _ in field.channel_names)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names of the axes in array order."""
        return tuple(axis.name for axis in self.axes)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the PDE parameters in order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def lengths(self) -> tuple[float, ...]:
        """Physical extents in array order."""
        return tuple(axis.length for axis in self.axes)

    @property
    def boundaries(self) -> tuple[Boundary, ...]:
        """Boundary of each axis in array order."""
        return tuple(axis.boundary for axis in self.axes)

    @property
    def is_periodic(self) -> bool:
        """Whether every axis is periodic."""
        return all(boundary == "periodic" for boundary in self.boundaries)

    @property
    def _kinds(self) -> tuple[FieldKind, ...]:
        return tuple(field.kind for field in self.fields)

    @property
    def _axis_units(self) -> tuple[str, ...]:
        return tuple(axis.units for axis in self.axes)

    @property
    def _axis_nodes(self) -> tuple[str, ...]:
        return tuple(
            f"{axis.nodes or 'uniform'}, {'descending' if axis.is_descending else 'ascending'}"
            for axis in self.axes
        )

    def spacings(self, grid: Sequence[int]) -> tuple[float, ...]:
        """Return the physical grid spacing along each axis for ``grid`` points; the mean one of latitude rules."""
        return tuple(axis.length / n for axis, n in zip(self.axes, grid, strict=True))

    def replace(self, **changes: Any) -> DataSpec:
        """Return a copy with some attributes changed."""
        return dataclasses.replace(self, **changes)

    def mismatches(self, other: DataSpec) -> list[str]:
        """Return one sentence per physical difference from ``other``; empty when interchangeable.

        Compared are channels with units and kinds, axes with length, units, boundary, nodes and direction,
        geometry, dt with its units, and parameter names. Long names and the equation text are for people and may
        differ.
        """
        sentences = []
        pairs: list[tuple[str, Any, Any]] = [
            ("channels", self.channel_names, other.channel_names),
            ("units", self.channel_units, other.channel_units),
            ("kinds of fields", self._kinds, other._kinds),
            ("static channels", self.static_channels, other.static_channels),
            ("axes on whose faces channels live", self.face_axes, other.face_axes),
            ("axes", self.axis_names, other.axis_names),
            ("units of axes", self._axis_units, other._axis_units),
            ("boundaries", self.boundaries, other.boundaries),
            ("nodes and directions of axes", self._axis_nodes, other._axis_nodes),
            ("geometry", self.geometry, other.geometry),
            ("units of time", self.time_units, other.time_units),
            ("parameters", self.parameter_names, other.parameter_names),
        ]
        for what, mine, theirs in pairs:
            if mine != theirs:
                sentences.append(f"{what} are {mine} on one side and {theirs} on the other")
        same_lengths = len(self.lengths) == len(other.lengths) and all(
            math.isclose(a, b, rel_tol=1e-6) for a, b in zip(self.lengths, other.lengths, strict=True)
        )
        if not same_lengths:
            sentences.append(f"lengths are {self.lengths} on one side and {other.lengths} on the other")
        if not math.isclose(self.dt, other.dt, rel_tol=1e-6):
            sentences.append(f"dt is {self.dt} on one side and {other.dt} on the other")
        return sentences

    def to_dict(self) -> dict[str, Any]:
        """Return plain types only (dict, list, str, float), fit for JSON and checkpoints."""
        plain: dict[str, Any] = _plain(dataclasses.asdict(self))
        for field in plain["fields"]:
            for flag in ("is_static", "is_on_faces"):
                if not field[flag]:  # written only where it says something: older files have no such key
                    del field[flag]
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DataSpec:
        """Rebuild a spec from `to_dict`.

        Raises:
            ValueError: naming the keys that are missing or unknown.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        if not {"fields", "axes", "dt"} <= set(data) or not set(data) <= known:
            raise ValueError(
                f"a DataSpec needs the keys fields, axes and dt and allows {sorted(known)}; "
                f"given: {sorted(data)}."
            )
        content = dict(data)
        content["fields"] = tuple(
            _build(Field, {**f, "components": tuple(f.get("components", ()))}) for f in data["fields"]
        )
        content["axes"] = tuple(_build(Axis, a) for a in data["axes"])
        content["parameters"] = tuple(_build(Parameter, p) for p in data.get("parameters", ()))
        return cls(**content)


def _build(part: type[Part], data: Mapping[str, Any]) -> Part:
    check_options(f"a {part.__name__} of a DataSpec", part, data, num_positional=0)
    return part(**data)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    # Readers give numbers of NumPy, which are floats to Python and foreign to files that hold plain types.
    return value.item() if isinstance(value, np.generic) else value

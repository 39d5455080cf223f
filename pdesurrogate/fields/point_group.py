"""Rotations by quarter turns and reflections of the plane, and what they do to physical fields.

An element ``g`` maps positions ``(y, x)`` by a signed permutation matrix ``A``; axes before these two (``z``) stay. It
maps a field ``u`` to

    (g u)(x) = ρ(g) u(A⁻¹ x)

where ``ρ`` leaves scalars alone, multiplies pseudoscalars (2-D vorticity) by ``det A`` and the components of vectors by
``A``. Positions count from the centre of the grid, so that an array of points is mapped onto itself; on a periodic axis
this is the same as counting from a point, up to a shift.

==========  =====  =====================================================
group       order  elements
==========  =====  =====================================================
``p1``      1      the identity: no symmetry but those of translations
``p2``      2      half turn
``pm``      2      reflection ``x → -x``
``pmm``     4      reflections of ``x`` and of ``y``
``p4``      4      quarter turns
``p4m``     8      quarter turns and reflections
==========  =====  =====================================================
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..registry import did_you_mean
from .spec import Axis, DataSpec, Field

Matrix = tuple[tuple[int, int], tuple[int, int]]

IDENTITY: Matrix = ((1, 0), (0, 1))
QUARTER_TURN: Matrix = ((0, -1), (1, 0))
"""``(y, x) → (-x, y)``, which is ``torch.rot90(u, 1, (-2, -1))`` of an array."""
HALF_TURN: Matrix = ((-1, 0), (0, -1))
MIRROR: Matrix = ((1, 0), (0, -1))
"""``x → -x``, which is ``torch.flip(u, (-1,))`` of an array."""
GENERATORS: dict[str, tuple[Matrix, ...]] = {
    "p1": (),
    "p2": (HALF_TURN,),
    "pm": (MIRROR,),
    "pmm": (HALF_TURN, MIRROR),
    "p4": (QUARTER_TURN,),
    "p4m": (QUARTER_TURN, MIRROR),
}


@dataclass(frozen=True)
class Element:
    """One element of a point group.

    Attributes:
        matrix: ``A`` on ``(y, x)``, a signed permutation.
    """

    matrix: Matrix

    @property
    def swaps_axes(self) -> bool:
        """Whether the two axes of the plane change places."""
        return self.matrix[0][0] == 0

    @property
    def determinant(self) -> int:
        """1 for rotations, -1 for reflections."""
        (a, b), (c, d) = self.matrix
        return a * d - b * c

    def after(self, other: Element) -> Element:
        """Return the element that acts like ``other`` and then this one."""
        rows = (np.array(self.matrix) @ np.array(other.matrix)).tolist()
        return Element(((rows[0][0], rows[0][1]), (rows[1][0], rows[1][1])))

    @property
    def inverse(self) -> Element:
        """The element that undoes this one: the transposed matrix."""
        (a, b), (c, d) = self.matrix
        return Element(((a, c), (b, d)))

    def act_on_points(
        self, u: Float[Tensor, "*lead y x"], shifts: tuple[int, int] = (0, 0)
    ) -> Float[Tensor, "*lead y_too x_too"]:
        """Return ``u(A⁻¹ x)`` on the last two axes, every channel for itself.

        Args:
            u: fields.
            shifts: points by which an axis is moved on after it was reversed, 1 where the first of its points stays.
        """
        if self.swaps_axes:
            u = u.transpose(-2, -1)
        signs = [next(entry for entry in row if entry) for row in self.matrix]
        flipped = [dim for dim, sign in zip((-2, -1), signs, strict=True) if sign < 0]
        moved = [dim for dim in flipped if shifts[dim]]
        u = u.flip(flipped) if flipped else u
        return u.roll([shifts[dim] for dim in moved], moved) if moved else u


@dataclass(frozen=True)
class PointGroup:
    """A finite group of rotations and reflections of the plane.

    Attributes:
        name: a key of `GENERATORS`.
        elements: the identity first.
    """

    name: str
    elements: tuple[Element, ...]

    def __len__(self) -> int:
        return len(self.elements)

    @property
    def swaps_axes(self) -> bool:
        """Whether an element exchanges the axes, for which these must be alike."""
        return any(element.swaps_axes for element in self.elements)

    @property
    def has_reflections(self) -> bool:
        """Whether an element is a reflection."""
        return any(element.determinant < 0 for element in self.elements)

    @property
    def symmetries(self) -> frozenset[str]:
        """``"rotation"`` by quarter turns and ``"reflection"``, where the group has them."""
        named = {"rotation": self.swaps_axes, "reflection": self.has_reflections}
        return frozenset(name for name, is_there in named.items() if is_there)

    @cached_property
    def products(self) -> np.ndarray:
        """``products[g, h]``, the index of ``g h``."""
        return np.array([[self.elements.index(g.after(h)) for h in self.elements] for g in self.elements])

    @cached_property
    def inverses(self) -> np.ndarray:
        """``inverses[g]``, the index of ``g⁻¹``."""
        return np.array([self.elements.index(g.inverse) for g in self.elements])


@lru_cache
def point_group(name: str) -> PointGroup:
    """Return the group of a name.

    Raises:
        ValueError: if there is none, with the nearest name and all names.
    """
    if name not in GENERATORS:
        raise ValueError(
            f"Unknown point group {name!r}.{did_you_mean(str(name), GENERATORS)} Allowed: {', '.join(GENERATORS)}."
        )
    elements = [Element(IDENTITY)]
    while True:
        found = [Element(m).after(g) for g, m in itertools.product(elements, GENERATORS[name])]
        new = [g for g in dict.fromkeys(found) if g not in elements]
        if not new:
            return PointGroup(name, tuple(elements))
        elements += new


def channel_action(group: PointGroup, spec: DataSpec) -> Float[Tensor, "element channel channel"]:
    """Return ``ρ`` on the channels of a spec, a signed permutation matrix for every element, float64.

    Raises:
        ValueError: if a field has no action: on a sphere, on a line, or a vector whose components are not those along
            axes, or lack one that the group mixes in.
    """
    if len(group) == 1:
        return torch.eye(spec.num_channels, dtype=torch.float64)[None]
    _require_plane(group, spec)
    action = torch.zeros(len(group), spec.num_channels, spec.num_channels, dtype=torch.float64)
    start = 0
    for field in spec.fields:
        stop = start + len(field.channel_names)
        for g, element in enumerate(group.elements):
            action[g, start:stop, start:stop] = _field_action(group, element, field, spec.axis_names)
        start = stop
    return action


def transform(
    u: Float[Tensor, "*lead channel *space"],
    element: Element,
    action: Float[Tensor, "channel channel"],
    axes: Sequence[Axis],
) -> Float[Tensor, "*lead channel *space_too"]:
    """Return ``ρ(g) u(A⁻¹ x)``.

    Args:
        u: fields, with the axes of space at the end and the channels before them.
        element: ``g``.
        action: ``ρ(g)``, an entry of `channel_action`.
        axes: of space.
    """
    moved = u
    if len(axes) > 1:
        first, second = (_shift_of_reversed(axis) for axis in axes[-2:])
        moved = element.act_on_points(u, (first, second))
    source, sign = (t.to(u.device) for t in sources_and_signs(action))
    return moved.index_select(u.ndim - len(axes) - 1, source) * sign.to(u.dtype).view(-1, *[1] * len(axes))


def sources_and_signs(
    action: Float[Tensor, "*lead channel channel"],
) -> tuple[Int[Tensor, "*lead channel"], Float[Tensor, "*lead channel"]]:
    """Return signed permutations as the channel that each one comes from, and its sign: exact, and cheaper to apply."""
    return action.abs().argmax(dim=-1), action.sum(dim=-1)


def _shift_of_reversed(axis: Axis) -> int:
    """Return by how many points a reversed periodic axis is moved on for its points to lie where they were."""
    return round(1 - 2 * axis.offset) if axis.boundary == "periodic" else 0


def require_square(owner: str, group: PointGroup, spec: DataSpec, grid: Sequence[int] | None = None) -> None:
    """Refuse a box that the group does not map onto itself.

    Args:
        owner: with which messages begin.
        group: the group.
        spec: of the data.
        grid: points along each axis; None to check the lengths alone.

    Raises:
        ValueError: if the group exchanges the last two axes and they differ in length, or the grid does in points, or
            there are no two axes.
    """
    if not group.swaps_axes:
        return
    _require_plane(group, spec)
    first, second = spec.axes[-2:]
    if not math.isclose(first.length, second.length, rel_tol=1e-6):
        raise ValueError(
            f"{owner}: quarter turns of the group {group.name!r} exchange the axes {first.name} and {second.name}, "
            f"which have the lengths {first.length:g} and {second.length:g}. Use a group without quarter turns: pmm, "
            "pm, p2 or p1."
        )
    if grid is not None and grid[-2] != grid[-1]:
        raise ValueError(
            f"{owner}: quarter turns of the group {group.name!r} exchange the axes {first.name} and {second.name}, "
            f"which have {grid[-2]} and {grid[-1]} points. Use a square grid, or a group without quarter turns: pmm, "
            "pm, p2 or p1."
        )


def _require_plane(group: PointGroup, spec: DataSpec) -> None:
    if spec.geometry == "plane" and spec.ndim > 1:
        return
    where = f"a {spec.geometry}" if spec.geometry != "plane" else f"the axis {spec.axis_names[0]!r} alone"
    raise ValueError(
        f"the point group {group.name!r} acts on the last two axes of a plane or a box and the data live on "
        f"{where}. Use group=p1, translations alone."
    )


def unlike_boundaries(group: PointGroup, spec: DataSpec) -> tuple[str, str] | None:
    """Return the boundaries of the last two axes where the group exchanges these and they differ, else None."""
    if not group.swaps_axes or spec.boundaries[-2] == spec.boundaries[-1]:
        return None
    return spec.boundaries[-2], spec.boundaries[-1]


def _field_action(
    group: PointGroup, element: Element, field: Field, axis_names: Sequence[str]
) -> Float[Tensor, "component component"]:
    if field.kind != "vector":
        sign = element.determinant if field.kind == "pseudoscalar" else 1
        return torch.full((1, 1), float(sign), dtype=torch.float64)
    plane = axis_names[-2:]
    unknown = [component for component in field.components if component not in axis_names]
    if unknown or len(set(field.components)) < len(field.components):
        raise ValueError(
            f"field {field.name!r} is a vector with the components {field.components}, and the axes are "
            f"{tuple(axis_names)}: {', '.join(unknown) or 'one repeats'}. The group {group.name!r} turns components "
            "along axes: name one axis per component in the data's spec, or use group=p1."
        )
    absent = [name for name in plane if name not in field.components]
    if group.swaps_axes and len(absent) == 1:
        raise ValueError(
            f"field {field.name!r} has no component along {absent[0]!r}, and quarter turns of the group {group.name!r} "
            f"mix it with that along {next(name for name in plane if name not in absent)!r}. Give both, or use a group "
            "without quarter turns."
        )
    size = len(field.components)
    action = torch.zeros(size, size, dtype=torch.float64)
    for i, to in enumerate(field.components):
        for j, from_ in enumerate(field.components):
            if to in plane and from_ in plane:
                action[i, j] = element.matrix[plane.index(to)][plane.index(from_)]
            elif to == from_:
                action[i, j] = 1.0
    return action

"""Which numbers of a group convolution's kernel meet which mode: tables of whole numbers, built once per size.

A kernel on a point group ``H`` is ``Ψ_h(k)``, one matrix of channels for every element and mode, with ``Ψ_h(-k)`` the
complex conjugate of ``Ψ_h(k)``, as it is the spectrum of a real kernel. The group convolution of fields on the group

    v̂_s(k) = Σ_h Ψ_{s⁻¹h}( A_s⁻¹ k ) û_h(k)                                                                     (*)

(Helwig et al. 2023, arXiv:2306.05697, section 4) is the same for the modes of one orbit. With ``k = A_r q``,
``s = r t⁻¹`` and ``h = r u``,

    v̂_{r t⁻¹}(A_r q) = Σ_u Ψ_{t u}( A_t q ) û_{r u}(A_r q)

so that one matrix ``(u, t)`` of blocks serves all rows ``r``: it holds the free numbers of the orbit of ``q``, each
once. This is how `SpectralTables` stores orbits whose points all differ. Of modes on axes and diagonals of reflections,
and of few others, the blocks ``Ψ_h(k)`` are stored as they are in (*), one mode of every pair ``±k``; that of ``k = 0``
is real.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..fields.fourier import layout_order
from ..fields.point_group import PointGroup, point_group

Mode = tuple[int, ...]


def symmetric_modes(num_modes: Sequence[int]) -> tuple[int, ...]:
    """Return how many modes an axis keeps when ``-k`` is kept with ``k``: of an even number, one less."""
    return tuple(n - 1 + n % 2 for n in num_modes)


def kept_modes(num_modes: Sequence[int]) -> list[Mode]:
    """Return the kept modes in the engine's order, half axis first, each in the order of the axes; odd numbers."""
    order = layout_order(len(num_modes))
    ranges = []
    for place, axis in enumerate(order):
        reach = num_modes[axis] // 2
        ranges.append([*range(reach + 1), *([] if place == 0 else range(-reach, 0))])
    modes = []
    for entries in itertools.product(*ranges):
        by_axis = dict(zip(order, entries, strict=True))
        modes.append(tuple(by_axis[axis] for axis in range(len(num_modes))))
    return modes


def is_upper(mode: Mode) -> bool:
    """Whether a mode stands for the pair ``±k``: its last entry that is not zero is positive."""
    return next((k > 0 for k in reversed(mode) if k), False)


def negative(mode: Mode) -> Mode:
    """Return ``-k``."""
    return tuple(-k for k in mode)


@dataclass(frozen=True)
class Action:
    """A point group on modes.

    Attributes:
        group: the group.
        plane: positions of its two axes among those of the modes.
    """

    group: PointGroup
    plane: tuple[int, int]

    def move(self, element: int, mode: Mode) -> Mode:
        """Return ``A_g k``."""
        moved = list(mode)
        first, second = self.plane
        if len(self.group) > 1:
            (a, b), (c, d) = self.group.elements[element].matrix
            moved[first] = a * mode[first] + b * mode[second]
            moved[second] = c * mode[first] + d * mode[second]
        return tuple(moved)

    def half_turn(self, ndim: int) -> int | None:
        """Return the element that acts as ``-1`` on all axes, None where there is none."""
        probe = tuple(range(1, ndim + 1))
        return next((g for g in range(len(self.group)) if self.move(g, probe) == negative(probe)), None)


@dataclass(frozen=True, eq=False)
class SpectralTables:
    """Where the numbers of a kernel are stored and how they are used.

    Attributes:
        action: the group on modes.
        num_modes: kept modes of each axis, odd.
        generators: modes ``q``, one of every orbit whose matrix is stored as a whole.
        columns: elements ``t`` of those matrices.
        rows: mode of row ``r`` of every orbit, ``(row, orbit)``, an index of the kept modes.
        conjugated: of each row, whether its mode is held as the conjugate of the one in ``rows``.
        sources: of each row ``r`` and ``u``, the element ``r u``.
        results: for every slot (a row whose modes are written) and ``s``: row, column and whether it is conjugated,
            ``(slot, element, 3)``.
        slots: the rows whose modes are written, each mode once.
        partners: for every slot, the row that reads the same modes as conjugates, -1 for none.
        mirrored: kept modes that are the conjugates of others, and those others, ``(2, mode)``.
        singles: kept modes that are computed one by one, by (*).
        stored: modes whose blocks are stored singly, ``k = 0`` the last.
        index: block of every kept mode, ``h`` and ``s`` in the concatenation of orbits ``(q, u, t)`` and single modes
            ``(k, h)``.
        signs: 1, or -1 where that block is conjugated.
    """

    action: Action
    num_modes: tuple[int, ...]
    generators: tuple[Mode, ...]
    columns: tuple[int, ...]
    rows: np.ndarray
    conjugated: tuple[bool, ...]
    sources: np.ndarray
    results: np.ndarray
    slots: tuple[int, ...]
    partners: tuple[int, ...]
    mirrored: np.ndarray
    singles: np.ndarray
    stored: tuple[Mode, ...]
    index: np.ndarray
    signs: np.ndarray

    @property
    def num_orbits(self) -> int:
        """Number of orbits that are stored as a whole."""
        return len(self.generators)


@lru_cache(maxsize=64)
def spectral_tables(name: str, num_modes: tuple[int, ...], plane: tuple[int, int]) -> SpectralTables:
    """Return the tables of a group for kept modes.

    Args:
        name: of the point group.
        num_modes: of each axis in the order of space, odd.
        plane: positions of the group's two axes.
    """
    group = point_group(name)
    action, order = Action(group, plane), len(group)
    modes = kept_modes(num_modes)
    place = {mode: i for i, mode in enumerate(modes)}
    turn = action.half_turn(len(num_modes))
    half = layout_order(len(num_modes))[0]
    columns = _coset(group, turn)
    pattern, generators = _orbits(action, modes, half, turn)

    rows = np.zeros((order, len(generators)), dtype=np.int64)
    for r, q in itertools.product(range(order), range(len(generators))):
        point = action.move(r, generators[q])
        rows[r, q] = place[negative(point) if pattern[r] else point]
    slots = tuple(r for r in range(order) if turn is None or not pattern[r])
    partners = tuple(-1 if turn is None else int(group.products[turn, r]) for r in slots)
    results = np.zeros((len(slots), order, 3), dtype=np.int64)
    for i, r in enumerate(slots):
        for s in range(order):
            t = group.products[group.inverses[s], r]
            row, conjugate = r, pattern[r]
            if t not in columns:  # then the half turn of it is
                row, conjugate = int(group.products[turn, r]), True
                t = group.products[group.inverses[s], row]
            results[i, s] = row, columns.index(int(t)), conjugate

    is_written = np.zeros(len(modes), dtype=bool)
    is_written[rows[list(slots)]] = True
    others = np.flatnonzero(~is_written)
    pairs = [(i, place[negative(modes[i])]) for i in others if negative(modes[i]) in place]
    mirrored = np.array([pair for pair in pairs if is_written[pair[1]]], dtype=np.int64).reshape(-1, 2).T
    singles = np.setdiff1d(others, mirrored[0])
    stored = _stored(action, [modes[i] for i in singles])
    index, signs = _blocks(action, modes, generators, columns, stored)
    return SpectralTables(
        action=action,
        num_modes=num_modes,
        generators=tuple(generators),
        columns=columns,
        rows=rows,
        conjugated=pattern,
        sources=group.products,
        results=results,
        slots=slots,
        partners=partners,
        mirrored=mirrored,
        singles=singles,
        stored=stored,
        index=index,
        signs=signs,
    )


@lru_cache(maxsize=64)
def isotropic_index(name: str, num_modes: tuple[int, ...], plane: tuple[int, int]) -> np.ndarray:
    """Return the orbit of every kept mode, counted from 0, where ``±k`` and ``A_g k`` are one orbit."""
    action = Action(point_group(name), plane)
    seen: dict[Mode, int] = {}
    index = []
    for mode in kept_modes(num_modes):
        first = min(_signed_orbit(action, mode))
        index.append(seen.setdefault(first, len(seen)))
    return np.array(index, dtype=np.int64)


def tied_index(group: PointGroup) -> np.ndarray:
    """Return ``s⁻¹h`` for every ``s`` and ``h``: which matrix of a pointwise group convolution joins ``h`` to ``s``."""
    inverses: np.ndarray = group.inverses
    return np.array([[group.products[inverses[s], h] for h in range(len(group))] for s in range(len(group))])


def _signed_orbit(action: Action, mode: Mode) -> set[Mode]:
    points = {action.move(g, mode) for g in range(len(action.group))}
    return points | {negative(k) for k in points}


def _coset(group: PointGroup, turn: int | None) -> tuple[int, ...]:
    """Return one element of every pair ``t``, ``-t``, or all elements where there is no ``-1``."""
    chosen: list[int] = []
    for t in range(len(group)):
        if turn is None or int(group.products[turn, t]) not in chosen:
            chosen.append(t)
    return tuple(chosen)


def _orbits(
    action: Action, modes: list[Mode], half: int, turn: int | None
) -> tuple[tuple[bool, ...], list[Mode]]:
    """Return of every row whether its modes are conjugated, and a mode of every orbit of which that holds."""
    full = 2 * len(action.group) // (1 if turn is None else 2)
    orbits: dict[Mode, list[Mode]] = {}
    for mode in modes:
        points = _signed_orbit(action, mode)
        if len(points) == full:
            orbits.setdefault(min(points), sorted(points))

    def rows_of(mode: Mode) -> list[Mode]:
        return [action.move(r, mode) for r in range(len(action.group))]

    # Modes on the plane k_d = 0 are held with both signs, and can be read either way.
    clear = [
        tuple(k[half] < 0 for k in rows_of(point))
        for points in orbits.values()
        for point in points
        if all(k[half] for k in rows_of(point))
    ]
    if not clear:
        return (False,) * len(action.group), []
    pattern = min(clear)

    def fits(mode: Mode) -> bool:
        return all(k[half] == 0 or (k[half] < 0) == c for k, c in zip(rows_of(mode), pattern, strict=True))

    chosen = [next((point for point in points if fits(point)), None) for points in orbits.values()]
    return pattern, [point for point in chosen if point is not None]


def _stored(action: Action, singles: list[Mode]) -> tuple[Mode, ...]:
    """Return the modes whose blocks (*) needs for the single ones, one of every pair, zero the last."""
    needed = {
        moved if is_upper(moved) else negative(moved)
        for mode in singles
        for moved in _signed_orbit(action, mode)
        if any(moved)
    }
    return (*sorted(needed), (0,) * len(singles[0]))


def _blocks(
    action: Action,
    modes: list[Mode],
    generators: list[Mode],
    columns: tuple[int, ...],
    stored: tuple[Mode, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Return for every kept mode, ``h`` and ``s`` the block ``Ψ_{s⁻¹h}(A_s⁻¹ k)`` and its sign."""
    group, order = action.group, len(action.group)
    products, inverses = group.products.tolist(), group.inverses.tolist()
    home: dict[Mode, tuple[int, int]] = {}
    for q, generator in enumerate(generators):
        for column, t in enumerate(columns):
            home[action.move(t, generator)] = q, column
    single = {mode: i for i, mode in enumerate(stored)}
    offset = len(generators) * order * len(columns)

    def block(mode: Mode, h: int) -> tuple[int, int]:
        for point, sign in ((mode, 1), (negative(mode), -1)):
            if point in single:
                return offset + single[point] * order + h, sign
            if point in home:
                q, column = home[point]
                u = products[inverses[columns[column]]][h]
                return (q * order + u) * len(columns) + column, sign
        raise ValueError(f"the mode {mode} has no block.")

    index = np.zeros((len(modes), order, order), dtype=np.int64)
    signs = np.zeros((len(modes), order, order), dtype=np.int64)
    for s in range(order):
        back = inverses[s]
        for i, mode in enumerate(modes):
            moved = action.move(back, mode)
            for h in range(order):
                index[i, h, s], signs[i, h, s] = block(moved, products[back][h])
    return index, signs

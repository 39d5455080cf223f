"""A room imports only from floors below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FLOORS = {
    "version": -1,
    "registry": -1,
    "durable": -1,
    "interruption": -1,
    "allocator": -1,
    "launch": -1,
    "trainer_options": -1,
    "fields": 0,
    "solvers": 1,
    "layers": 1,
    "data": 2,
    "models": 2,
    "surrogate": 3,
    "metrics": 3,
    "deploy": 4,
    "training": 4,
    "evaluation": 5,
    "doctor": 5,
    "config_errors": 6,
    "submission": 6,
    "sweeps": 6,
    "cli": 7,
}
# Doors that open upwards, each with its reason and whether it may stand at the top of a file.
DOORS = {
    ("surrogate", "deploy"): "inside a method: Surrogate.load, save and predict are the user's way to files",
    ("training", "deploy"): "a neighbour on its floor: training ends by writing the artifact",
}


def room_of(path: Path) -> str:
    return path.parts[1].removesuffix(".py")


def imported_rooms(path: Path, tree: ast.AST) -> Iterator[str]:
    """Rooms of the package that some part of a module imports."""
    package = path.parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            target = (*base, *(node.module.split(".") if node.module else ()))
            names = [(*target, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "pdesurrogate" and len(name) > 1:
                yield name[1]


def edges(package_files):
    for path, tree in package_files.items():
        for room in imported_rooms(path, tree):
            if path != Path("pdesurrogate/__init__.py") and room != room_of(path):
                yield path, room_of(path), room


def test_every_room_has_a_floor(package_files):
    rooms = {room_of(path) for path in package_files} - {"__init__"}
    assert rooms <= set(FLOORS), f"give a floor to {rooms - set(FLOORS)}"


def test_no_room_imports_from_its_own_floor_or_above(package_files):
    climbs = [
        f"{path} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"
        for path, room, other in edges(package_files)
        if other in FLOORS
        and (room, other) not in DOORS
        # The ground below the floors has no order of its own.
        and FLOORS[other] >= FLOORS[room]
        and FLOORS[room] >= 0
    ]
    assert climbs == []


def test_the_ground_imports_nothing_above_it(package_files):
    climbs = [
        (str(path), other)
        for path, room, other in edges(package_files)
        if FLOORS[room] < 0 and FLOORS.get(other, 99) >= 0
    ]
    assert climbs == []


def test_the_way_up_from_surrogate_to_deploy_stays_inside_methods(package_files):
    path = Path("pdesurrogate/surrogate.py")
    if path not in package_files:
        pytest.skip("there is no surrogate.py")
    at_the_top = [n for n in package_files[path].body if isinstance(n, ast.Import | ast.ImportFrom)]
    rooms = {room for node in at_the_top for room in imported_rooms(path, node)}
    assert "deploy" not in rooms


def test_no_exception_is_left_that_nobody_uses(package_files):
    used = {(room, other) for _, room, other in edges(package_files)}
    assert set(DOORS) <= used


@pytest.mark.parametrize(
    ("line", "rooms"),
    [
        ("from ..training.run import train", {"training"}),
        ("from .. import training", {"training"}),
        ("from .sibling import thing", {"models"}),
        ("import pdesurrogate.training", {"training"}),
        ("from pdesurrogate import training", {"training"}),
        ("def f():\n    from ..training import run", {"training"}),
        ("import torch", set()),
    ],
)
def test_every_way_to_write_an_import_is_seen(line, rooms):
    assert set(imported_rooms(Path("pdesurrogate/models/fno.py"), ast.parse(line))) == rooms

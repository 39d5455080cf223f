"""Tables that must outlive their caches.

Plans and transforms live in caches that drop what has not been asked for in a while. Who refers to their memory
without holding the objects, as a recorded CUDA graph does, collects them here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Table = TypeVar("Table")

_KEEPERS: list[list[object]] = []


@contextmanager
def keep_tables() -> Iterator[list[object]]:
    """Collect every plan, transform and table that is handed out meanwhile, in the order of the requests."""
    mine: list[object] = []
    _KEEPERS.append(mine)
    try:
        yield mine
    finally:
        _KEEPERS[:] = [keeper for keeper in _KEEPERS if keeper is not mine]


def kept(table: Table) -> Table:
    """Return a table after giving it to all who collect."""
    for keeper in _KEEPERS:
        keeper.append(table)
    return table

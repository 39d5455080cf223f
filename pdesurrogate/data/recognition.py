"""Which public format a file or folder is in, told by its content.

Every reader registers a function ``(path, look) -> options``: the options of its data set where it knows the
content, None where it does not. An option that the content does not tell is None and must be given.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdesurrogate.registry import Registry

from .containers import Container, container_kind, open_container
from .files import require_path

FORMATS = Registry("format", "pdesurrogate.data")


class Recognised:
    """What was found out about files while formats look at them; opens each file once."""

    def __init__(self) -> None:
        self._kinds: dict[Path, str] = {}
        self._containers: dict[Path, Container] = {}

    def kind(self, path: Path) -> str:
        """Return the kind of a container, ``"folder"``, or ``""`` where it is none."""
        if path not in self._kinds:
            try:
                self._kinds[path] = container_kind(path)
            except ValueError:
                self._kinds[path] = "folder" if path.is_dir() else ""
        return self._kinds[path]

    def container(self, path: Path) -> Container:
        """Return the open container of a file."""
        if path not in self._containers:
            self._containers[path] = open_container(path)
        return self._containers[path]

    def shapes(self, path: Path) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of a file's arrays; nothing for folders."""
        return {} if self.kind(path) in ("", "folder") else self.container(path).shapes()

    def attributes(self, path: Path) -> dict[str, Any]:
        """Return the attributes of a file; nothing for folders."""
        return {} if self.kind(path) in ("", "folder") else self.container(path).attributes()

    def close(self) -> None:
        """Close all files."""
        for container in self._containers.values():
            container.close()


def recognise(path: Path) -> tuple[str, dict[str, Any]] | None:
    """Return the kind of data set that a path holds and the options that open it, None if no reader knows it.

    Raises:
        ValueError: if the path does not exist, or is a file that no container is.
    """
    require_path(path)
    look = Recognised()
    try:
        if path.is_file():
            container_kind(path)
        for name in FORMATS.names():
            options = FORMATS.get(name)(path, look)
            if options is not None:
                return name, options
    finally:
        look.close()
    return None

"""Open containers of one process: each is opened when it is first read, and a pickled pool opens them anew."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .interface import UNREADABLE, Container, unreadable
from .opening import NAMES, open_container

AT_MOST = 64


class ContainerPool:
    """Keeps the files that were read last open, at most 64 of them; never carries one into another process.

    Zip files (``.npz``, ``.pt``) hold a checksum of every member. It is compared once, when a file is opened
    for the first time; a pool that was pickled or forked afterwards knows that.

    Threads of one process that read ahead share it: they read inside `reading`, one at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._open: OrderedDict[Path, Container] = OrderedDict()
        self._verified: set[Path] = set()

    def get(self, path: Path) -> Container:
        """Return the open container of a file.

        Raises:
            ValueError: if it cannot be opened, or its checksums do not fit.
        """
        self._own()
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        container = open_container(path)
        self._verify(path, container)
        while len(self._open) >= AT_MOST:
            self._open.popitem(last=False)[1].close()
        self._open[path] = container
        return container

    @contextmanager
    def reading(self, path: Path) -> Iterator[Container]:
        """Lend the open container of a file, which no other thread closes or reads meanwhile.

        Raises:
            ValueError: as `get`.
        """
        self._own()
        with self._lock:
            yield self.get(path)

    def close(self) -> None:
        """Close all files."""
        if self._process == os.getpid():
            for container in self._open.values():
                container.close()
        self._open = OrderedDict()

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_process": -1, "_open": OrderedDict(), "_verified": self._verified}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def _own(self) -> None:
        """Begin anew in a forked process: handles belong to the parent, and the lock may be held by a thread of it."""
        if self._process != os.getpid():
            self._lock, self._open = threading.RLock(), OrderedDict()
            self._process = os.getpid()

    def _verify(self, path: Path, container: Container) -> None:
        verify = getattr(container, "verify", None)
        if verify is None or path in self._verified:
            return
        try:
            verify()
        except UNREADABLE as error:
            container.close()
            raise unreadable(path, NAMES[container.kind], error) from error
        self._verified.add(path)

"""Reading plain chunks of an HDF5 file by their position, without going through the HDF5 library for every window."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

AT_ONCE = 512
"""Frames of one scattered read; systems allow 1024 parts."""


class ChunkReader:
    """Frames of variables whose chunks hold some whole frames of one trajectory, as those of the store do.

    Where chunks lie is asked of HDF5 once; a window is then one scattered read for each channel and chunk. Only
    uncompressed little-endian float32 can be read like this; `of` returns None for anything else.

    Args:
        descriptor: the open file's descriptor.
        positions: first byte of each chunk, ``(channel, trajectory, chunk)``.
        chunk_frames: frames of a chunk.
    """

    def __init__(self, descriptor: int, positions: np.ndarray, chunk_frames: int) -> None:
        self._descriptor = descriptor
        self._positions = positions
        self._chunk_frames = chunk_frames

    @classmethod
    def of(cls, file: h5py.File, names: Sequence[str]) -> ChunkReader | None:
        """Return the reader of some variables of one shape, or None where they are not laid out for it."""
        if not hasattr(os, "preadv") or file.userblock_size or file.driver != "sec2":
            return None
        variables = [file[name] for name in names]
        shape, chunks = variables[0].shape, variables[0].chunks
        for variable in variables:
            is_plain = variable.dtype == np.dtype("<f4") and not variable.id.get_create_plist().get_nfilters()
            if not is_plain or variable.shape != shape or variable.chunks != chunks:
                return None
        if chunks is None or chunks[0] != 1 or chunks[2:] != shape[2:]:
            return None
        num_chunks = -(-shape[1] // chunks[1])
        positions = np.full((len(names), shape[0], num_chunks), -1, dtype=np.int64)
        for channel, variable in enumerate(variables):

            def note(info: Any, rows: np.ndarray = positions[channel]) -> None:
                trajectory, frame = info.chunk_offset[:2]
                rows[trajectory, frame // chunks[1]] = info.byte_offset

            variable.id.chunk_iter(note)
        if (positions < 0).any():  # space that was never taken
            return None
        return cls(file.id.get_vfd_handle(), positions, chunks[1])

    def read(self, trajectory: int, start: int, targets: Sequence[np.ndarray] | np.ndarray) -> None:
        """Read the frames from ``start`` on of a trajectory into arrays ``(channel, *space)``, one a frame.

        Raises:
            OSError: if the file ends before them.
        """
        stop, frame_bytes = start + len(targets), targets[0][0].nbytes
        for channel in range(len(targets[0])):
            for chunk in range(start // self._chunk_frames, (stop - 1) // self._chunk_frames + 1):
                begin = chunk * self._chunk_frames
                end = min(stop, begin + self._chunk_frames)
                for first in range(max(start, begin), end, AT_ONCE):
                    last = min(end, first + AT_ONCE)
                    parts = [targets[frame - start][channel] for frame in range(first, last)]
                    position = (
                        int(self._positions[channel, trajectory, chunk]) + (first - begin) * frame_bytes
                    )
                    got = os.preadv(self._descriptor, parts, position)
                    if got != (last - first) * frame_bytes:
                        raise OSError(f"the file ends inside chunk {chunk} of channel {channel}")

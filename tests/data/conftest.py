"""Small stores on disk, and data sets made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pdesurrogate.data.store import StoredTrajectories, StoreWriter
from pdesurrogate.data.trajectories import DataSet
from pdesurrogate.fields import DataSpec

WriteStore = Callable[..., np.ndarray]


@pytest.fixture
def write_store() -> WriteStore:
    """Return a function that writes a store of random numbers and returns its frames."""

    def write(
        path: Path,
        spec: DataSpec,
        *,
        grid: tuple[int, ...] = (8, 12),
        num_trajectories: int = 3,
        num_frames: int = 5,
        seed: int = 0,
        **attributes: Any,
    ) -> np.ndarray:
        shape = (num_trajectories, num_frames, spec.num_channels, *grid)
        frames = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        times = spec.dt * np.arange(num_frames)
        with StoreWriter(
            path,
            spec=spec,
            grid=grid,
            num_trajectories=num_trajectories,
            times=times,
            attributes={"title": "noise", "seed": seed, **attributes},
        ) as writer:
            for i in writer.pending.copy():
                writer.write(i, frames[i], np.full(spec.num_parameters, 0.5 + i, dtype=np.float32))
            writer.finish()
        return frames

    return write


@pytest.fixture
def torus_set(tmp_path: Path, torus_spec: DataSpec, write_store: WriteStore) -> DataSet:
    """A data set on a 16 x 16 grid: 6, 3 and 2 trajectories of 7 frames."""
    files = {}
    for seed, (split, count) in enumerate({"train": 6, "valid": 3, "test": 2}.items()):
        path = tmp_path / "set" / f"{split}.h5"
        write_store(path, torus_spec, grid=(16, 16), num_trajectories=count, num_frames=7, seed=seed)
        files[split] = StoredTrajectories(path)
    return DataSet("noise", files)

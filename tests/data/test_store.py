"""Stores of trajectories: what is written is read back, by us and by others."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from pdesurrogate.data import DATASETS
from pdesurrogate.data.opening import open_dataset
from pdesurrogate.data.store import StoredTrajectories, StoreWriter
from pdesurrogate.fields import DataSpec

WriteStore = Callable[..., np.ndarray]


def settings(spec: DataSpec, **changes: Any) -> dict[str, Any]:
    return {
        "spec": spec,
        "grid": (4, 6),
        "num_trajectories": 3,
        "times": spec.dt * np.arange(5),
        "attributes": {"title": "a", "seed": 1},
    } | changes


def test_what_is_written_is_read_back_bit_for_bit(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    frames = write_store(tmp_path / "a.h5", smoke_spec)
    stored = StoredTrajectories(tmp_path / "a.h5")
    assert stored.spec == smoke_spec
    assert (stored.grid, stored.num_trajectories, stored.num_frames) == ((8, 12), 3, 5)
    np.testing.assert_array_equal(stored.times, [0.0, 0.5, 1.0, 1.5, 2.0])
    np.testing.assert_array_equal(stored.frames(2, 1, 4), frames[2, 1:4])
    assert stored.frames(0, 0, 5).dtype == np.float32
    assert stored.parameters(1).shape == (0,)
    assert stored.attributes["seed"] == 0
    assert stored.attributes["title"] == "noise"


def test_parameters_are_read_back(tmp_path: Path, torus_spec: DataSpec, write_store: WriteStore) -> None:
    write_store(tmp_path / "a.h5", torus_spec)
    stored = StoredTrajectories(tmp_path / "a.h5")
    np.testing.assert_array_equal([stored.parameters(i) for i in range(3)], [[0.5], [1.5], [2.5]])


@pytest.mark.parametrize("engine", [None, "h5netcdf"])
def test_xarray_shows_names_coordinates_units_and_attributes(
    tmp_path: Path, torus_spec: DataSpec, write_store: WriteStore, engine: Any
) -> None:
    frames = write_store(tmp_path / "a.h5", torus_spec, solver="etdrk4", options={"dt": 0.1}, dealias=True)
    with xarray.open_dataset(tmp_path / "a.h5", engine=engine) as opened:
        vorticity = opened["vorticity"]
        assert vorticity.dims == ("trajectory", "time", "y", "x")
        np.testing.assert_array_equal(vorticity.values, frames[:, :, 0])
        np.testing.assert_allclose(opened["x"].values, np.arange(12) / 12)
        np.testing.assert_allclose(opened["time"].values, np.arange(5))
        assert vorticity.attrs["units"] == "s-1"
        assert opened["y"].attrs == {"units": "m", "axis": "Y", "boundary": "periodic", "long_name": "y"}
        assert opened["viscosity"].attrs["units"] == "m2 s-1"
        assert opened.attrs["Conventions"].startswith("CF")
        assert opened.attrs["solver"] == "etdrk4"
        assert json.loads(opened.attrs["options"]) == {"dt": 0.1}
        assert DataSpec.from_dict(json.loads(opened.attrs["spec"])) == torus_spec


def test_a_pickled_copy_carries_no_handle(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    frames = write_store(tmp_path / "a.h5", smoke_spec)
    stored = StoredTrajectories(tmp_path / "a.h5")
    stored.frames(0, 0, 1)
    copy = pickle.loads(pickle.dumps(stored))
    np.testing.assert_array_equal(copy.frames(1, 0, 5), frames[1])


def test_the_data_set_store_names_what_is_missing_and_the_command(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    with pytest.raises(ValueError, match=r"lacks train.h5, valid.h5, test.h5.*python data/generate.py data="):
        DATASETS.build("store", root=str(tmp_path / "nowhere"))
    section = {"kind": "store", "root": str(tmp_path), "made_by": "python data/generate.py data=darcy/li"}
    with pytest.raises(
        ValueError, match=r"nothing\. To make the files, run: python data/generate\.py data=darcy/li$"
    ):
        open_dataset(section)
    with pytest.raises(ValueError, match=r"run: python data/generate\.py data=darcy/li$"):
        open_dataset({**section, "kind": "camera"})
    write_store(tmp_path / "train.h5", smoke_spec)
    with pytest.raises(ValueError, match=r"lacks valid.h5, test.h5; it holds train.h5"):
        DATASETS.build("store", root=str(tmp_path))


def test_the_data_set_store_opens_its_splits(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    for seed, split in enumerate(("train", "valid", "test")):
        write_store(tmp_path / f"{split}.h5", smoke_spec, seed=seed, num_trajectories=seed + 1)
    data = DATASETS.build("store", root=str(tmp_path))
    assert {name: split.num_trajectories for name, split in data.splits.items()} == {
        "train": 1,
        "valid": 2,
        "test": 3,
    }
    assert data.spec == smoke_spec
    assert data.provenance["valid"]["seed"] == 1
    json.dumps(dict(data.provenance))
    two = DATASETS.build("store", root=str(tmp_path), splits={"train": "valid.h5", "test": "test.h5"})
    assert set(two.splits) == {"train", "test"}
    with pytest.raises(ValueError, match="'validation'"):
        DATASETS.build("store", root=str(tmp_path), splits={"train": "train.h5", "validation": "valid.h5"})


def test_splits_of_different_specs_are_refused(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    write_store(tmp_path / "train.h5", smoke_spec)
    write_store(tmp_path / "valid.h5", smoke_spec)
    write_store(tmp_path / "test.h5", smoke_spec.replace(dt=0.25))
    with pytest.raises(ValueError, match=r"train and test differ: dt is 0.5 on one side and 0.25"):
        DATASETS.build("store", root=str(tmp_path))


def test_chunks_waste_hardly_any_space(tmp_path: Path, torus_spec: DataSpec) -> None:
    times = torus_spec.dt * np.arange(21)
    changes = {"grid": (128, 128), "num_trajectories": 2, "times": times}
    StoreWriter(tmp_path / "a.h5", **settings(torus_spec, **changes)).close()
    (part,) = tmp_path.glob("a.h5*")
    size = part.stat().st_size
    assert size < 1.1 * 2 * 21 * 128 * 128 * 4 * torus_spec.num_channels

"""Stores that are damaged, foreign or incomplete are refused in a sentence."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pdesurrogate.data.store import StoredTrajectories
from pdesurrogate.fields import DataSpec

WriteStore = Callable[..., np.ndarray]


def test_verify_finds_a_flipped_bit(tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore) -> None:
    write_store(tmp_path / "a.h5", smoke_spec)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["velocity_y"][1, 4, 0, 0] *= -1
    stored = StoredTrajectories(tmp_path / "a.h5")
    stored.verify(0)
    with pytest.raises(ValueError, match="trajectory 1 does not match its checksum"):
        stored.verify(1)


def test_verify_finds_a_damaged_parameter(
    tmp_path: Path, torus_spec: DataSpec, write_store: WriteStore
) -> None:
    write_store(tmp_path / "a.h5", torus_spec)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file[torus_spec.parameter_names[0]][1] += 1.0
    stored = StoredTrajectories(tmp_path / "a.h5")
    stored.verify(0)
    with pytest.raises(ValueError, match="trajectory 1 does not match its checksum"):
        stored.verify(1)


def test_files_of_the_first_format_are_read_and_their_frames_are_checked(
    tmp_path: Path, torus_spec: DataSpec, write_store: WriteStore
) -> None:
    frames = write_store(tmp_path / "a.h5", torus_spec)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file.attrs["store_format"]
        file["checksum"][:] = [zlib.crc32(trajectory) for trajectory in frames]
    stored = StoredTrajectories(tmp_path / "a.h5")
    np.testing.assert_array_equal(stored.frames(1, 0, 5), frames[1])
    for i in range(3):
        stored.verify(i)


def test_a_file_of_a_newer_format_is_refused(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    write_store(tmp_path / "a.h5", smoke_spec)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["store_format"] = 3
    with pytest.raises(ValueError, match=r"a\.h5 has the store format 3; this version reads formats 1 to 2"):
        StoredTrajectories(tmp_path / "a.h5")


def test_the_checksum_tells_content_apart(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_store(tmp_path / f"{name}.h5", smoke_spec, seed=seed, title=name)
    first, same, other = (StoredTrajectories(tmp_path / f"{name}.h5").checksum() for name in "abc")
    assert first == same
    assert first != other


def test_nan_in_a_file_is_named_when_it_is_read(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    write_store(tmp_path / "a.h5", smoke_spec)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["velocity_y"][1, 3, 0, 0] = np.nan
    stored = StoredTrajectories(tmp_path / "a.h5")
    stored.frames(1, 0, 3)
    with pytest.raises(ValueError, match=r"a.h5: trajectory 1 .*channel 'velocity_y', frame 3"):
        stored.frames(1, 2, 5)


def test_a_missing_file_is_answered_with_the_nearest_name(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    write_store(tmp_path / "train.h5", smoke_spec)
    with pytest.raises(ValueError, match=r"there is no file .*trian.h5. Did you mean train.h5\?"):
        StoredTrajectories(tmp_path / "trian.h5")
    with pytest.raises(
        ValueError, match=r"there is no folder .*nowhere, and so no file .*train.h5. .* holds train.h5"
    ):
        StoredTrajectories(tmp_path / "nowhere" / "train.h5")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused_in_a_sentence(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore, share: float
) -> None:
    path = tmp_path / "a.h5"
    write_store(path, smoke_spec)
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(ValueError, match=r"a.h5 cannot be read as HDF5 .*truncated, damaged"):
        StoredTrajectories(path)


@pytest.mark.parametrize("name", ["velocity_x", "time", "checksum"])
def test_a_missing_variable_is_named(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore, name: str
) -> None:
    write_store(tmp_path / "a.h5", smoke_spec)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file[name]
    with pytest.raises(ValueError, match=f"lacks the variables {name}"):
        StoredTrajectories(tmp_path / "a.h5")


def test_a_missing_parameter_is_named(tmp_path: Path, torus_spec: DataSpec, write_store: WriteStore) -> None:
    write_store(tmp_path / "a.h5", torus_spec)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["viscosity"]
    with pytest.raises(ValueError, match="lacks the variables viscosity"):
        StoredTrajectories(tmp_path / "a.h5")


def test_foreign_hdf5_and_broken_specs_are_refused(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["u"] = np.zeros(3)
    with pytest.raises(ValueError, match="lacks the attribute 'spec'"):
        StoredTrajectories(tmp_path / "foreign.h5")
    for broken in ("{", "[]", '{"fields": []}'):
        write_store(tmp_path / "a.h5", smoke_spec)
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            file.attrs["spec"] = broken
        with pytest.raises(ValueError, match="'spec' cannot be understood"):
            StoredTrajectories(tmp_path / "a.h5")
        (tmp_path / "a.h5").unlink()


def test_a_variable_of_another_shape_is_refused(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    write_store(tmp_path / "a.h5", smoke_spec)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["smoke"]
        file["smoke"] = np.zeros((3, 5, 8))
    with pytest.raises(ValueError, match=r"needs the shape \(trajectory, time, y, x\)"):
        StoredTrajectories(tmp_path / "a.h5")


@pytest.mark.parametrize("wanted", [(3, 0, 1), (-1, 0, 1), (0, 0, 6), (0, 2, 2), (0, -1, 1)])
def test_indices_outside_the_file_are_refused(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore, wanted: tuple[int, int, int]
) -> None:
    write_store(tmp_path / "a.h5", smoke_spec)
    with pytest.raises(ValueError, match="asked for; there are"):
        StoredTrajectories(tmp_path / "a.h5").frames(*wanted)

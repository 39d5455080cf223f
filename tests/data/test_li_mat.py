from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from pdesurrogate.data import DATASETS
from pdesurrogate.data.datamodule import TrajectoryDataModule
from pdesurrogate.data.li_mat import LiMat, mat_version

N, NX, NY, T = 7, 6, 8, 5  # different sizes, so that no transposition goes unnoticed


def content(**changes: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.standard_normal((N, NX, NY)).astype(np.float32),
        "u": rng.standard_normal((N, NX, NY, T)).astype(np.float32),
        "t": np.arange(1.0, T + 1)[None],
    }
    return {name: array for name, array in (arrays | changes).items() if array is not None}


def write_v5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    scipy.io.savemat(path, arrays)


def write_v5_compressed(path: Path, arrays: dict[str, np.ndarray]) -> None:
    scipy.io.savemat(path, arrays, do_compression=True)


def write_v73(path: Path, arrays: dict[str, np.ndarray], **storage: Any) -> None:
    """Write what MATLAB's ``save -v7.3`` writes: HDF5 after a block of 512 bytes, axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            dataset = file.create_dataset(name, data=array.T, **storage)
            dataset.attrs["MATLAB_class"] = np.bytes_("single" if array.dtype == np.float32 else "double")
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan 01 00:00:00 2020 HDF5 schema 1.00 ."
    with path.open("r+b") as file:
        file.write(text.ljust(116) + bytes(8) + b"\x00\x02IM")


def write_v73_chunked(path: Path, arrays: dict[str, np.ndarray]) -> None:
    write_v73(path, arrays, chunks=True, compression="gzip")


WRITERS = [write_v5, write_v5_compressed, write_v73, write_v73_chunked]
every_version = pytest.mark.parametrize("write", WRITERS)


@every_version
def test_both_versions_give_the_same_frames_with_x_last(tmp_path: Path, write: Any) -> None:
    arrays = content()
    write(tmp_path / "ns.dat", arrays)
    data = LiMat(tmp_path / "ns.dat", viscosity=1e-3)
    assert data.version == ("5" if "v5" in write.__name__ else "7.3")
    assert data.grid == (NY, NX)
    assert (data.num_trajectories, data.num_frames) == (N, T)
    np.testing.assert_array_equal(data.times, [1, 2, 3, 4, 5])
    for i in (3, 0, 6):
        frames = data.frames(i, 1, 4)
        assert frames.dtype == np.float32
        assert frames.shape == (3, 1, NY, NX)
        for frame, y, x in np.ndindex(3, NY, NX):
            assert frames[frame, 0, y, x] == arrays["u"][i, x, y, 1 + frame]
    np.testing.assert_allclose(data.parameters(2), [1e-3])
    assert data.spec.channel_names == ("vorticity",)
    assert data.spec.is_periodic


@every_version
def test_the_initial_vorticity_can_be_the_first_frame(tmp_path: Path, write: Any) -> None:
    arrays = content()
    write(tmp_path / "ns.mat", arrays)
    data = LiMat(tmp_path / "ns.mat", viscosity=1e-3, include_initial=True)
    np.testing.assert_array_equal(data.times, [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(data.frames(4, 0, 1)[0, 0], arrays["a"][4].T)
    np.testing.assert_array_equal(data.frames(4, 1, 2)[0, 0], arrays["u"][4, ..., 0].T)


def test_version_73_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdesurrogate.data.li_mat.BLOCK_BYTES", 2 * 4 * NX * NY * T)
    arrays = content()
    write_v73(tmp_path / "ns.mat", arrays)
    data = LiMat(tmp_path / "ns.mat", viscosity=1e-3)
    for i in (0, 1, 6, 3):
        np.testing.assert_array_equal(data.frames(i, 0, T)[:, 0], arrays["u"][i].transpose(2, 1, 0))
    assert data._block is not None
    assert data._block[2].shape[0] == 2


@every_version
def test_a_pickled_copy_carries_no_data(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "ns.mat", content())
    data = LiMat(tmp_path / "ns.mat", viscosity=1e-3)
    frames = data.frames(5, 0, T)
    pickled = pickle.dumps(data)
    assert len(pickled) < 4000
    np.testing.assert_array_equal(pickle.loads(pickled).frames(5, 0, T), frames)


def test_splits_take_the_first_for_training_and_the_last_for_test(tmp_path: Path) -> None:
    arrays = content()
    write_v73(tmp_path / "ns.mat", arrays)
    data = DATASETS.build("li_mat", path=str(tmp_path / "ns.mat"), viscosity=1e-3, train=3, valid=1, test=2)
    expected = {"train": [0, 1, 2], "valid": [3], "test": [5, 6]}
    for split, samples in expected.items():
        assert data.splits[split].num_trajectories == len(samples)
        for i, sample in enumerate(samples):
            np.testing.assert_array_equal(
                data.splits[split].frames(i, 0, 1)[0, 0], arrays["u"][sample, ..., 0].T
            )
    assert len({split.checksum() for split in data.splits.values()}) == 3
    without = DATASETS.build(
        "li_mat", path=str(tmp_path / "ns.mat"), viscosity=1e-3, train=5, valid=0, test=2
    )
    assert set(without.splits) == {"train", "test"}
    with pytest.raises(ValueError, match="holds 7 trajectories; train=5, valid=1 and test=2 need 8"):
        DATASETS.build("li_mat", path=str(tmp_path / "ns.mat"), viscosity=1e-3, train=5, valid=1, test=2)


def test_a_set_in_two_halves_is_one_data_set_whichever_is_named(tmp_path: Path) -> None:
    whole = content()["u"]
    halves = [tmp_path / f"ns_data_V100_N4_T5_{half}.mat" for half in (1, 2)]
    for half, rows in zip(halves, (slice(0, 4), slice(4, N)), strict=True):
        write_v5(half, {name: values[rows] if name != "t" else values for name, values in content().items()})
    options = {"viscosity": 1e-3, "train": 5, "valid": 0, "test": 2}
    sets = [DATASETS.build("li_mat", path=str(half), **options) for half in halves]
    assert sets[0].splits["train"].checksum() == sets[1].splits["train"].checksum()
    for name, first, count in (("train", 0, 5), ("test", 5, 2)):
        split = sets[0].splits[name]
        frames = np.stack([split.frames(i, 0, T) for i in range(count)])
        np.testing.assert_array_equal(frames[:, :, 0], whole[first : first + count].transpose(0, 3, 2, 1))
    batch = TrajectoryDataModule(sets[0], batch_size=4, cache="none").windows("train").batch([17, 0])
    np.testing.assert_array_equal(batch.history[:, 0, 0], whole[[4, 0], :, :, [1, 0]].swapaxes(1, 2))
    halves[1].unlink()
    with pytest.raises(ValueError, match="4 trajectories; train=5"):
        DATASETS.build("li_mat", path=str(halves[0]), **options)
    halves[1].write_bytes(halves[0].read_bytes())
    with pytest.raises(ValueError, match="are the same file"):
        DATASETS.build("li_mat", path=str(halves[0]), **options)


@every_version
def test_the_data_module_trains_on_it(tmp_path: Path, write: Any) -> None:
    arrays = content()
    write(tmp_path / "ns.mat", arrays)
    data = DATASETS.build("li_mat", path=str(tmp_path / "ns.mat"), viscosity=1e-3, train=4, valid=1, test=2)
    module = TrajectoryDataModule(data, history=2, horizon=3, batch_size=4, cache="ram")
    (batch,) = module.train_dataloader()
    for row, i in enumerate(batch.trajectory):
        np.testing.assert_array_equal(batch.future[row, 2, 0].numpy(), arrays["u"][i, ..., 4].T)


def test_times_that_were_not_thinned_out_with_the_frames_are(tmp_path: Path) -> None:
    times = 0.25 * np.arange(1, 4 * T + 1)[None]
    write_v5(tmp_path / "ns.mat", content(t=times))
    np.testing.assert_allclose(LiMat(tmp_path / "ns.mat", viscosity=1e-4).times, 0.25 + np.arange(T))


@every_version
def test_a_time_step_that_is_not_the_files_is_refused(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "ns.mat", content(t=0.25 * np.arange(1, T + 1)[None]))
    with pytest.raises(ValueError, match=r"the frames are \[0.25\] apart and dt is 1.0"):
        LiMat(tmp_path / "ns.mat", viscosity=1e-3)
    assert LiMat(tmp_path / "ns.mat", viscosity=1e-3, dt=0.25).times[-1] == 1.25
    write(tmp_path / "late.mat", content(t=np.arange(10.0, 10 + T)[None]))
    with pytest.raises(ValueError, match="use include_initial=false"):
        LiMat(tmp_path / "late.mat", viscosity=1e-3, include_initial=True)


@every_version
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": None}, "lacks the variables u; it holds a, t"),
        ({"u": np.zeros((N, NX, NY), np.float32)}, r"u has the shape \(7, 6, 8\); needed are four axes"),
        ({"t": np.arange(1.0, 4.0)[None]}, r"t has 3 entries for the 5 frames of u, \(7, 6, 8, 5\)\.$"),
        (
            {"u": np.zeros((N, T, NX, NY), np.float32)},
            r"a has the shape \(7, 6, 8\); u, \(7, 5, 6, 8\), asks for \(7, 5, 6\).* another order; save it as",
        ),
        (
            {"u": np.zeros((T, N, NX, NY), np.float32), "a": None},
            r"t has 5 entries for the 8 frames of u, \(5, 7, 6, 8\).* another order; save it as .sample, x, y, time",
        ),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, write: Any, change: dict[str, Any], message: str) -> None:
    write(tmp_path / "ns.mat", content(**change))
    with pytest.raises(ValueError, match=message):
        LiMat(tmp_path / "ns.mat", viscosity=1e-3)


@every_version
def test_an_initial_vorticity_that_is_missing_or_misshapen_is_refused(tmp_path: Path, write: Any) -> None:
    write(tmp_path / "without.mat", content(a=None))
    with pytest.raises(ValueError, match="lacks the variables a"):
        LiMat(tmp_path / "without.mat", viscosity=1e-3, include_initial=True)
    write(tmp_path / "other.mat", content(a=np.zeros((N, NY, NX), np.float32)))
    with pytest.raises(ValueError, match=r"a has the shape \(7, 8, 6\)"):
        LiMat(tmp_path / "other.mat", viscosity=1e-3, include_initial=True)


@every_version
def test_nan_is_named_by_file_trajectory_and_frame(tmp_path: Path, write: Any) -> None:
    u = content()["u"]
    u[4, 2, 3, 1] = np.nan
    write(tmp_path / "ns.mat", content(u=u))
    data = LiMat(tmp_path / "ns.mat", viscosity=1e-3)
    data.frames(4, 2, T)
    with pytest.raises(ValueError, match=r"ns.mat: trajectory 4 .*channel 'vorticity', frame 1"):
        data.frames(4, 0, T)


@every_version
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 0.8, 0.95])
def test_a_truncated_file_is_refused_in_a_sentence(tmp_path: Path, write: Any, share: float) -> None:
    path = tmp_path / "ns.mat"
    write(path, content(t=None))
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(
        ValueError, match=r"ns.mat .*(truncated or damaged|Truncated downloads|lacks the var)"
    ):
        LiMat(path, viscosity=1e-3).frames(6, 0, T)


def test_a_file_that_is_not_matlabs_is_refused_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "page.mat").write_text("<!DOCTYPE html>" + "x" * 200)
    with pytest.raises(ValueError, match=r"page.mat is not a MATLAB file of version 5 or 7.3"):
        LiMat(tmp_path / "page.mat", viscosity=1e-3)
    with pytest.raises(ValueError, match=r"there is no file .*Did you mean page.mat\?"):
        LiMat(tmp_path / "pages.mat", viscosity=1e-3)


def test_big_endian_headers_are_read(tmp_path: Path) -> None:
    for name, tail, version in (("a", b"\x01\x00MI", "5"), ("b", b"\x02\x00MI", "7.3")):
        (tmp_path / name).write_bytes(bytes(124) + tail)
        assert mat_version(tmp_path / name) == version


def test_files_that_matlab_wrote_are_told_apart(shared_data: Path) -> None:
    assert mat_version(shared_data / "matlab/testhdf5_7.4_GLNX86.mat") == "7.3"
    assert mat_version(shared_data / "matlab/cylinder_nektar_t0_vorticity.mat") == "5"
    for name in ("testhdf5_7.4_GLNX86.mat", "cylinder_nektar_t0_vorticity.mat"):
        with pytest.raises(ValueError, match=r"lacks the variables u; it holds|u has the shape"):
            LiMat(shared_data / "matlab" / name, viscosity=1e-3)


def test_a_viscosity_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"viscosity is 0.0; it must be positive"):
        LiMat(tmp_path / "ns.mat", viscosity=0.0)

"""Each reader gives the frames, axes, times and parameters of a file in the layout that is distributed."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from pathlib import Path

import layouts
import numpy as np
import pytest

from pdesurrogate.data import DATASETS
from pdesurrogate.data.containers import pool
from pdesurrogate.data.containers.numpy_files import NpzContainer
from pdesurrogate.data.opening import open_data, open_dataset
from pdesurrogate.data.recognition import recognise

every_layout = pytest.mark.parametrize("name", list(layouts.LAYOUTS))


def opened(made):
    return DATASETS.build(made.kind, **made.options)


@every_layout
def test_every_frame_parameter_and_axis_comes_out_as_it_went_in(made, name):
    case = made[name]
    data = opened(case)
    assert set(data.splits) == set(case.truth)
    assert data.spec.channel_names == case.channels
    assert data.spec.dt == pytest.approx(case.dt, rel=1e-6)
    found = tuple((axis.name, axis.length, axis.boundary) for axis in data.spec.axes)
    assert [(n, b) for n, _, b in found] == [(n, b) for n, _, b in case.axes]
    np.testing.assert_allclose(
        [length for _, length, _ in found], [length for _, length, _ in case.axes], rtol=1e-6
    )
    for split, truth in case.truth.items():
        trajectories = data.splits[split]
        assert (trajectories.num_trajectories, trajectories.num_frames) == truth.shape[:2]
        assert trajectories.grid == truth.shape[3:]
        np.testing.assert_allclose(np.diff(trajectories.times), case.dt, rtol=1e-6)
        for i, frames in enumerate(truth):
            np.testing.assert_array_equal(trajectories.frames(i, 0, len(frames)), frames)
            np.testing.assert_array_equal(trajectories.frames(i, 1, 2), frames[1:2])
        if split in case.parameters:
            rows = [trajectories.parameters(i) for i in range(trajectories.num_trajectories)]
            np.testing.assert_allclose(rows, case.parameters[split], rtol=1e-6)


@every_layout
def test_the_content_tells_the_format_whatever_the_name(made, name, tmp_path):
    case = made[name]
    path = case.path
    if path.is_file() and name not in ("gfno", "pdebench_compressible", "pdebench_compressible_3d"):
        path = tmp_path / "renamed.bin"
        path.symlink_to(case.path)
    found = recognise(path)
    assert (found and found[0]) == (None if case.kind == "custom" else case.kind)


def checksums_of(pickled: bytes) -> list[str]:
    """Digests of all frames of pickled trajectories, for a process of its own."""
    import hashlib

    digests = []
    for trajectories in pickle.loads(pickled):
        digest = hashlib.sha256()
        for i in range(trajectories.num_trajectories):
            digest.update(trajectories.frames(i, 0, trajectories.num_frames).tobytes())
        digests.append(digest.hexdigest())
    return digests


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_read_what_one_process_reads(made, method):
    splits = [opened(case).splits["train"] for case in made.values()]
    for trajectories in splits:  # files are open here when the workers start
        trajectories.frames(0, 0, 1)
    pickled = pickle.dumps(splits)
    assert len(pickled) < 60_000 * len(splits)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(checksums_of, (pickled,)) == checksums_of(pickled)


def test_a_thread_closes_no_file_that_another_reads(made, monkeypatch):
    """More files than stay open: to open one is to close another."""
    case = made["scalarflow"]
    trajectories = opened(case).splits["train"]
    monkeypatch.setattr(pool, "AT_MOST", 1)
    original, threads = NpzContainer.read, []

    def read(container, *what):
        if not threads:
            last = trajectories.num_frames - 1
            threads.append(threading.Thread(target=trajectories.frames, args=(0, last, last + 1)))
            threads[0].start()
            threads[0].join(0.05)  # it does not end: it waits until this file has been read
            assert threads[0].is_alive()
        return original(container, *what)

    monkeypatch.setattr(NpzContainer, "read", read)
    np.testing.assert_array_equal(trajectories.frames(0, 0, 2), case.truth["train"][0, :2])
    threads[0].join()


def test_workers_of_the_loader_give_the_same_batches(made):
    case = made["the_well"]
    section = {"kind": case.kind, **case.options, "cache": "none", "batch_size": 4, "history": 2}
    batches = {}
    for num_workers in (0, 2):
        module = open_data({**section, "num_workers": num_workers})
        batches[num_workers] = [batch.history.sum().item() for batch in module.train_dataloader()]
        module.teardown("fit")
    assert batches[0] == batches[2]


@every_layout
def test_checksums_follow_content_and_not_place(made, name):
    case = made[name]
    data = opened(case)
    sums = {split: trajectories.checksum() for split, trajectories in data.splits.items()}
    assert sums == {split: trajectories.checksum() for split, trajectories in opened(case).splits.items()}
    assert len(set(sums.values())) == len(sums)


def test_a_copy_in_the_store_is_made_once_and_gives_the_same_windows(made, tmp_path):
    case = made["pdebench_rdb"]
    section = {"kind": case.kind, **case.options, "cache": "none", "batch_size": 8, "rechunk": str(tmp_path)}
    first = open_data(section)
    (copy,) = tmp_path.iterdir()
    stamps = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    again = open_data(section)
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == stamps
    direct = open_data({k: v for k, v in section.items() if k != "rechunk"})
    for a, b, c in zip(*(module.train_dataloader() for module in (first, again, direct)), strict=True):
        assert a.history.equal(b.history)
        assert a.future.equal(c.future)
        assert a.parameters.equal(c.parameters)
    other = open_data({**section, "split": {"rule": "trajectory", "train": 5, "valid": 2, "test": 3}})
    assert len(list(tmp_path.iterdir())) == 2
    assert other.dataset.splits["train"].num_trajectories == 5


def test_dam_breaks_are_pooled_as_gfno_does(made):
    case = made["pdebench_rdb"]
    data = open_dataset({"kind": case.kind, **case.options, "pool_size": 2, "num_frames": 4})
    truth = case.truth["train"][3, :4].reshape(4, 1, 3, 2, 4, 2).mean((3, 5))
    np.testing.assert_allclose(data.splits["train"].frames(3, 0, 4), truth, atol=1e-6)


def test_weather_is_standardised_at_each_point_where_statistics_are_given(made, tmp_path):
    import torch

    case = made["pdearena_weather"]
    stats = {
        n: {"mean": np.full(s, m), "std": np.full(s, 2.0)}
        for n, s, m in (("pres", (6, 12), 1.0), ("vor", (1, 6, 12), 3.0))
    }
    torch.save(
        {n: {k: torch.from_numpy(v) for k, v in d.items()} for n, d in stats.items()},
        tmp_path / "normstats.pt",
    )
    data = open_dataset({"kind": case.kind, **case.options, "normstats": str(tmp_path / "normstats.pt")})
    expected = (case.truth["train"] - np.array([1.0, 3.0])[:, None, None]) / 2
    np.testing.assert_allclose(data.splits["train"].frames(1, 0, 4), expected[1], rtol=1e-6)
    assert data.spec.channel_units == ("1", "1")


def test_winds_and_zarr_stores_of_runs_are_read(made, tmp_path):
    case = made["pdearena_weather"]
    data = open_dataset({"kind": case.kind, **case.options, "variables": ["wind", "div"]})
    assert data.spec.channel_names == ("wind_lon", "wind_lat", "divergence")
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(tmp_path / "train.zarr"), mode="w")
    values = {name: layouts.noise(3, 8, 1, 6, 12, seed=i) for i, name in enumerate(("u", "v", "vor", "div"))}
    values["pres"] = layouts.noise(3, 8, 6, 12)
    for name, array in values.items():
        group.create_array(name, data=array)
    data = open_dataset({"kind": "pdearena", "root": str(tmp_path)})
    np.testing.assert_array_equal(data.splits["train"].frames(2, 0, 4)[:, 1], values["vor"][2, 4:, 0])
    assert recognise(tmp_path) == ("pdearena", {"root": str(tmp_path)})


def test_the_wells_colatitudes_become_latitudes_and_southward_components_northward(tmp_path):
    import h5py

    velocity = layouts.noise(2, 4, 6, 12, 2)
    with h5py.File(tmp_path / "planetswe_IC00_s1.hdf5", "w") as file:
        file.attrs.update(
            dataset_name="planetswe", grid_type="equiangular", n_spatial_dims=2, n_trajectories=2
        )
        file["dimensions/time"] = np.arange(4.0)
        file["dimensions/theta"] = np.deg2rad(90 - layouts.GAUSSIAN_6)
        file["dimensions/phi"] = 2 * np.pi * np.arange(12) / 12
        file["dimensions"].attrs["spatial_dims"] = ["theta", "phi"]
        file.create_group("t0_fields").attrs["field_names"] = np.array([], dtype=h5py.string_dtype())
        file["t1_fields/velocity"] = velocity
        file["t1_fields"].attrs["field_names"] = ["velocity"]
    data = open_dataset({"kind": "the_well", "root": str(tmp_path / "planetswe_IC00_s1.hdf5")})
    lat, lon = data.spec.axes
    assert (lat.nodes, lat.is_descending, lon.boundary) == ("gauss-legendre", True, "periodic")
    np.testing.assert_allclose(lat.coordinates(6), layouts.GAUSSIAN_6, atol=1e-6)
    frames = data.splits["train"].frames(0, 0, 4)
    np.testing.assert_array_equal(frames[:, 0], velocity[0, ..., 1])
    np.testing.assert_array_equal(frames[:, 1], -velocity[0, ..., 0])


def test_incompressible_files_of_equal_content_count_once(made, tmp_path, caplog):
    case = made["pdebench_incompressible"]
    for name, source in (("a-1.h5", "512-2"), ("a-2.h5", "512-10"), ("a-3.h5", "512-2")):
        (tmp_path / name).write_bytes((case.path / f"ns_incom_inhom_2d_{source}.h5").read_bytes())
    data = open_dataset({"kind": "pdebench", "path": str(tmp_path)})
    assert sum(split.num_trajectories for split in data.splits.values()) == 10
    assert "a-3.h5 has the same content as" in caplog.text


def test_images_of_one_camera_are_read(tmp_path):
    for t in range(3):
        (tmp_path / "sim_000000").mkdir(exist_ok=True)
        np.savez_compressed(
            tmp_path / "sim_000000" / f"imgsTarget_{t:06d}.npz", data=layouts.noise(5, 7, 4, 1, seed=t)
        )
    data = open_dataset({"kind": "scalarflow", "root": str(tmp_path), "what": "images", "camera": 3})
    frames = data.splits["train"].frames(0, 0, 3)
    np.testing.assert_array_equal(frames[2, 0], layouts.noise(5, 7, 4, 1, seed=2)[3, :, :, 0])


def test_a_pattern_sorts_files_by_their_numbers(made):
    case = made["pdebench_incompressible"]
    data = open_dataset({"kind": "pdebench", "path": str(case.path / "ns_incom*.h5")})
    np.testing.assert_array_equal(data.splits["train"].frames(0, 0, 5), case.truth["train"][0])
    assert Path(data.provenance["path"]).name == "ns_incom*.h5"


def test_chunks_of_several_samples_are_inflated_once_in_a_pass_over_trajectories(made, monkeypatch):
    from pdesurrogate.data.containers.hdf5 import Hdf5Container

    case = made["pdebench_compressible"]
    split = opened(case).splits["train"]
    reads = []
    original = Hdf5Container.read
    monkeypatch.setattr(
        Hdf5Container, "read", lambda self, *given: reads.append(given) or original(self, *given)
    )
    for i in range(8):
        np.testing.assert_array_equal(split.frames(i, 0, 5), case.truth["train"][i])
    assert len(reads) == 2 * 4  # two blocks of four samples for each of four arrays
    split.frames(3, 1, 3)
    assert len(reads) == 3 * 4

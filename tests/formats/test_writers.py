"""What we write opens in the field's tools, and comes back as it went out."""

from __future__ import annotations

import h5py
import layouts
import numpy as np
import pytest
import xarray
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from pdesurrogate.cli import conf_dir
from pdesurrogate.data.conversion import convert
from pdesurrogate.data.opening import open_dataset
from pdesurrogate.data.pdebench_writer import write_pdebench
from pdesurrogate.data.rechunked import write_store
from pdesurrogate.data.store import StoredTrajectories
from pdesurrogate.data.well_writer import write_well

PLANE = ["gfno", "neuralop_darcy", "pdebench_compressible_3d", "pdearena_flow", "custom", "pdebench_tensor"]


def opened(case):
    return open_dataset({"kind": case.kind, **case.options})


def assert_same(data, again, tolerance=0.0):
    assert not data.spec.mismatches(again.spec)
    assert set(data.splits) == set(again.splits)
    for name, split in data.splits.items():
        other = again.splits[name]
        assert (split.grid, split.num_frames, split.num_trajectories) == (
            other.grid,
            other.num_frames,
            other.num_trajectories,
        )
        np.testing.assert_allclose(other.times, split.times, rtol=1e-6)
        for i in range(split.num_trajectories):
            np.testing.assert_array_equal(
                other.frames(i, 0, split.num_frames), split.frames(i, 0, split.num_frames)
            )
            np.testing.assert_array_equal(other.parameters(i), split.parameters(i))


@pytest.mark.parametrize("name", [*PLANE, "spherical_run", "pdearena_weather"])
def test_the_wells_schema_and_back(made, tmp_path, name):
    data = opened(made[name])
    write_well(data, tmp_path / data.name)
    assert_same(data, open_dataset({"kind": "the_well", "root": str(tmp_path / data.name)}))


@pytest.mark.parametrize("name", PLANE)
def test_pdebenchs_layout_and_back(made, tmp_path, name):
    data = opened(made[name])
    paths = write_pdebench(data, tmp_path)
    for path, split in zip(paths, data.splits.values(), strict=True):
        whole = open_dataset(
            {
                "kind": "pdebench",
                "path": str(path),
                "split": {"train": split.num_trajectories, "valid": 0, "test": 0},
            }
        )
        assert not data.spec.mismatches(whole.spec)
        for i in range(split.num_trajectories):
            np.testing.assert_array_equal(
                whole.splits["train"].frames(i, 0, split.num_frames), split.frames(i, 0, split.num_frames)
            )
            np.testing.assert_array_equal(whole.splits["train"].parameters(i), split.parameters(i))
    with h5py.File(paths[0]) as file:  # as PDEBench's loaders read it
        keys = sorted(file.keys())
        values = np.array(file[keys[0]]["data"], dtype="f")
        assert values.shape[0] == len(file[keys[0]]["grid"]["t"])
        assert values.shape[1] == len(file[keys[0]]["grid"]["x"])
    if data.spec.ndim == 2:
        np.testing.assert_array_equal(
            values, layouts.np.moveaxis(data.splits["train"].frames(0, 0, len(values)), 1, -1).swapaxes(1, 2)
        )


@pytest.mark.parametrize("name", ["the_well", "gfno", "pdearena_flow"])
def test_the_wells_own_dataset_opens_what_we_write(made, tmp_path, name):
    pytest.importorskip(
        "the_well", reason="The Well's package is not installed; it is among the dev requirements"
    )
    from the_well.data import WellDataset

    data = opened(made[name])
    if name == "the_well":  # tensors come back as scalars; they are written as such
        data = open_dataset(
            {**made[name].options, "kind": "the_well", "fields": ["tracer", "bed", "velocity"]}
        )
    write_well(data, tmp_path)
    theirs = WellDataset(
        path=str(tmp_path / "data" / "train"),
        normalization_path=str(tmp_path / "stats.yaml"),
        n_steps_input=2,
        n_steps_output=1,
        use_normalization=False,
    )
    split = data.splits["train"]
    starts = split.num_frames - 2
    assert len(theirs) == split.num_trajectories * starts
    for window in (0, starts, len(theirs) - 1):
        trajectory, start = divmod(window, starts)
        sample = theirs[window]
        frames = split.frames(trajectory, start, start + 3)
        moving = ~np.array(data.spec.static_channels)
        expected = frames[:, moving].transpose(0, *range(frames.ndim - 1, 1, -1), 1)
        np.testing.assert_array_equal(sample["input_fields"], expected[:2])
        np.testing.assert_array_equal(sample["output_fields"], expected[2:])
        np.testing.assert_allclose(
            sample["constant_scalars"].ravel(), split.parameters(trajectory), rtol=1e-6
        )
        if not moving.all():
            static = frames[0, ~moving].transpose(*range(frames.ndim - 2, 0, -1), 0)
            np.testing.assert_array_equal(sample["constant_fields"], static)
    code = {"wall": 0, "open": 1, "periodic": 2}
    wanted = [[code[axis.boundary]] * 2 for axis in reversed(data.spec.axes)]
    np.testing.assert_array_equal(theirs[0]["boundary_conditions"], wanted)


def test_the_wells_statistics_are_those_of_the_train_split(made, tmp_path):
    data = opened(made["pdearena_flow"])
    write_well(data, tmp_path)
    stats = yaml.safe_load((tmp_path / "stats.yaml").read_text())
    frames = made["pdearena_flow"].truth["train"].astype(np.float64)
    assert stats["mean"]["density"] == pytest.approx(frames[:, :, 0].mean())
    assert stats["std"]["velocity"] == pytest.approx(frames[:, :, 1:].std((0, 1, 3, 4)))
    assert stats["rms_delta"]["density"] == pytest.approx(
        np.sqrt((np.diff(frames[:, :, 0], axis=1) ** 2).mean())
    )


def test_the_store_keeps_everything_and_xarray_reads_it(made, tmp_path):
    for name, case in made.items():
        data = opened(case)
        paths = write_store(data, tmp_path / name)
        split = data.splits["train"]
        stored = StoredTrajectories(paths["train"])
        assert stored.spec == split.spec
        np.testing.assert_array_equal(
            stored.frames(1, 0, split.num_frames), split.frames(1, 0, split.num_frames)
        )
        with xarray.open_dataset(paths["train"], engine="h5netcdf", decode_times=False) as dataset:
            first = split.spec.channel_names[0]
            assert dataset[first].dims == ("trajectory", "time", *split.spec.axis_names)
            np.testing.assert_array_equal(dataset[first][1], split.frames(1, 0, split.num_frames)[:, 0])


def composed(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = OmegaConf.to_container(compose("convert", overrides=list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return config


@pytest.mark.parametrize("to", ["store", "the_well", "pdebench"])
def test_the_command_converts(made, tmp_path, monkeypatch, to):
    monkeypatch.setenv("PDESURROGATE_RUN_ID", "test")
    from pdesurrogate.cli import _register_resolvers

    _register_resolvers()
    case = made["gfno"]
    config = composed("data=gfno", f"to={to}", f"out={tmp_path / 'out'}")
    config["data"].update(case.options)
    convert(config)
    files = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    name = case.path.stem
    assert (
        files
        == {
            "store": ["test.h5", "train.h5", "valid.h5"],
            "the_well": [f"{name}.hdf5"] * 3 + ["stats.yaml"],
            "pdebench": [f"{name}_{split}.h5" for split in ("test", "train", "valid")],
        }[to]
    )
    if to == "store":
        convert(config)  # complete files are kept
        config["data"]["test"] = 1
        with pytest.raises(
            ValueError, match=r"test.h5 is there already and holds something else: .trajectories"
        ):
            convert(config)
    else:
        with pytest.raises(
            ValueError, match=r"is there already\. Choose another folder, or give overwrite=true"
        ):
            convert(config)
    convert({**config, "overwrite": True})
    for change, message in (
        ({"to": "well"}, "Did you mean 'the_well'"),
        ({"out": None}, "out is empty"),
        ({"overwrite": "yes"}, "must be true or false"),
    ):
        with pytest.raises(ValueError, match=message):
            convert({**config, **change})


def test_spheres_have_no_layout_in_pdebench(made, tmp_path):
    with pytest.raises(ValueError, match="no layout for data on a sphere; convert to=the_well"):
        write_pdebench(opened(made["spherical_run"]), tmp_path)


def test_an_interrupted_copy_goes_on_and_leaves_nothing_half_written(made, tmp_path, monkeypatch):
    data = opened(made["pdebench_rdb"])
    done = []

    def interrupt(split, trajectory):
        done.append(trajectory)
        if len(done) == 3:
            raise KeyboardInterrupt

    for writer in (write_store, write_well, write_pdebench):
        done.clear()
        with pytest.raises(KeyboardInterrupt):
            writer(data, tmp_path / writer.__name__, report=interrupt)
        assert not [p for p in (tmp_path / writer.__name__).rglob("*.h*5") if p.is_file()]
    done.clear()
    write_store(data, tmp_path / "write_store", report=lambda split, i: done.append((split, i)))
    assert ("train", 2) not in done  # those that were written before are kept
    assert ("train", 3) in done

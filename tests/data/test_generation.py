import copy
import logging
import os
import signal
import subprocess
import sys
import time
from collections import namedtuple

import h5py
import numpy as np
import pytest
import torch
import xarray
import yaml

from pdesurrogate.data import generation
from pdesurrogate.data.generation import generate, generate_splits
from pdesurrogate.data.store import StoredTrajectories
from pdesurrogate.solvers import GENERATORS

OPTIONS = {"solve_grid": 24, "grid": 16, "num_frames": 3, "dt": 0.1, "seed": 3}
NUMBERS = {"train": 5, "valid": 2, "test": 3}


def build(**options):
    return GENERATORS.build("navier_stokes", **{**OPTIONS, **options})


def content(path):
    stored = StoredTrajectories(path)
    frames = [stored.frames(i, 0, stored.num_frames) for i in range(stored.num_trajectories)]
    parameters = [stored.parameters(i) for i in range(stored.num_trajectories)]
    return np.stack(frames), np.stack(parameters)


@pytest.fixture
def finished(tmp_path):
    """The files of one uninterrupted run."""
    return generate_splits(build(), tmp_path / "finished", NUMBERS, device="cpu")


def test_each_split_file_holds_its_trajectories_as_the_solver_gives_them(finished):
    assert {name: path.name for name, path in finished.items()} == {n: f"{n}.h5" for n in NUMBERS}
    generator = build()
    for name, path in finished.items():
        frames, parameters = content(path)
        assert frames.shape == (NUMBERS[name], 3, 1, 16, 16)
        indices = [generation.FIRST_TRAJECTORY[name] + i for i in range(NUMBERS[name])]
        expected = np.stack([torch.cat(list(generator.frames([i]))).numpy() for i in indices])
        np.testing.assert_array_equal(frames, expected)
        np.testing.assert_array_equal(parameters, generator.parameters(indices))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neither_batch_size_nor_threads_change_a_bit(tmp_path, batch_size, num_threads, dtype):
    generator = build(dtype=dtype, solve_grid=65, grid=65, viscosity=[1e-3, 1e-2])
    paths = []
    before = torch.get_num_threads()
    try:
        for name, size, threads in (("one", 5, 1), ("other", batch_size, num_threads)):
            torch.set_num_threads(threads)
            paths.append(
                generate_splits(generator, tmp_path / name, {"train": 5}, batch_size=size, device="cpu")[
                    "train"
                ]
            )
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*map(content, paths), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_trajectory_is_in_two_splits_and_a_larger_split_keeps_its_trajectories(finished, tmp_path):
    frames = {name: content(path)[0] for name, path in finished.items()}
    starts = np.concatenate([f[:, 0].reshape(len(f), -1) for f in frames.values()])
    distances = np.linalg.norm(starts[:, None] - starts[None], axis=-1) + 1e9 * np.eye(len(starts))
    assert distances.min() > 0.1
    larger = generate_splits(build(), tmp_path / "larger", {"train": 7, "test": 3}, device="cpu")
    np.testing.assert_array_equal(content(larger["train"])[0][:5], frames["train"])
    np.testing.assert_array_equal(content(larger["test"])[0], frames["test"])


def test_xarray_shows_fields_coordinates_and_what_made_them(finished):
    with xarray.open_dataset(finished["test"], engine="h5netcdf") as dataset:
        assert dataset["vorticity"].dims == ("trajectory", "time", "y", "x")
        np.testing.assert_allclose(dataset["time"], [0.0, 1.0, 2.0])
        np.testing.assert_allclose(dataset["x"], np.arange(16) / 16)
        np.testing.assert_allclose(dataset["viscosity"], 1e-3)
        assert dataset.attrs["seed"] == 3
        assert dataset.attrs["solver_dt"] == 0.1
        assert dataset.attrs["solve_grid"] == 24
        assert dataset.attrs["integrator"] == "etdrk4"
        assert "ν Δω" in dataset.attrs["equation"]
        assert "LiForcing" in dataset.attrs["forcing"]
        assert "amplitude=original" in dataset.attrs["initial_condition"]
        assert dataset.attrs["pdesurrogate_version"]


def test_finished_files_with_the_same_options_are_kept(finished, caplog):
    stamps = {path: path.stat().st_mtime_ns for path in finished.values()}
    with caplog.at_level(logging.INFO):
        generate_splits(build(), finished["train"].parent, NUMBERS, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in finished.values()} == stamps
    assert caplog.text.count("already there") == 3


@pytest.mark.parametrize(
    ("options", "numbers", "difference"),
    [
        ({"drag": 0.5}, NUMBERS, "drag is 0.0 there and 0.5 here"),
        ({"viscosity": 2e-3}, NUMBERS, "viscosity_range is"),
        ({"seed": 4}, NUMBERS, "seed is 3 there and 4 here"),
        ({"dt": 0.05}, NUMBERS, "solver_dt is 0.1 there and 0.05 here"),
        ({"grid": 24}, NUMBERS, r"grid is \(16, 16\) there and \(24, 24\) here"),
        ({"start": 1.0}, NUMBERS, "first frame at t is 0.0 there and 1.0 here"),
        ({"num_frames": 4}, NUMBERS, "num_frames is 3 there and 4 here"),
        ({}, {**NUMBERS, "test": 4}, "num_trajectories is 3 there and 4 here"),
    ],
)
def test_files_made_with_other_options_are_refused_and_left_alone(finished, options, numbers, difference):
    before = {path: path.read_bytes() for path in finished.values()}
    folder = finished["train"].parent
    with pytest.raises(ValueError, match=difference) as error:
        generate_splits(build(**options), folder, numbers, device="cpu")
    assert "overwrite=true" in str(error.value)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_overwrite_replaces_finished_and_unfinished_files_of_other_options(finished):
    folder = finished["train"].parent
    finished["train"].rename(folder / "train.h5.part")
    paths = generate_splits(build(drag=0.5), folder, NUMBERS, device="cpu", overwrite=True)
    assert all(StoredTrajectories(path).attributes["drag"] == 0.5 for path in paths.values())
    assert not (folder / "train.h5.part").exists()


def test_overwrite_continues_unfinished_files_of_the_same_options(tmp_path, monkeypatch):
    interrupt_after(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        generate_splits(build(), tmp_path, NUMBERS, device="cpu")
    monkeypatch.undo()
    solved = count_solved(monkeypatch)
    generate_splits(build(), tmp_path, NUMBERS, device="cpu", overwrite=True)
    assert len(solved) == 10 - 4


def test_an_unfinished_file_of_other_options_is_refused_with_the_difference_and_left_alone(
    tmp_path, monkeypatch
):
    interrupt_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        generate_splits(build(), tmp_path, NUMBERS, device="cpu")
    monkeypatch.undo()
    before = (tmp_path / "train.h5.part").read_bytes()
    with pytest.raises(
        ValueError, match=r"train\.h5\.part was left by a run with other .*: drag is 0\.0 there and 0\.5"
    ):
        generate_splits(build(drag=0.5), tmp_path, NUMBERS, device="cpu")
    assert (tmp_path / "train.h5.part").read_bytes() == before


def interrupt_after(monkeypatch, number):
    """Press Ctrl-C when so many trajectories have been written."""
    written = []
    original = generation.StoreWriter.write

    def write(self, trajectory, frames, parameters):
        if len(written) == number:
            raise KeyboardInterrupt
        original(self, trajectory, frames, parameters)
        written.append(trajectory)

    monkeypatch.setattr(generation.StoreWriter, "write", write)


def count_solved(monkeypatch):
    solved = []
    original = generation.StoreWriter.write

    def write(self, trajectory, frames, parameters):
        solved.append(trajectory)
        original(self, trajectory, frames, parameters)

    monkeypatch.setattr(generation.StoreWriter, "write", write)
    return solved


def test_an_interruption_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, finished, monkeypatch):
    interrupt_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt, match=r"train\.h5\.part; run the same command again to go on"):
        generate_splits(build(), tmp_path, NUMBERS, batch_size=2, device="cpu")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["train.h5.part"]
    monkeypatch.undo()
    solved = count_solved(monkeypatch)
    paths = generate_splits(build(), tmp_path, NUMBERS, device="cpu")
    assert len(solved) == 10 - 3
    for name, path in paths.items():
        np.testing.assert_array_equal(content(path)[0], content(finished[name])[0])


KILLED = """
import sys
from pathlib import Path
import yaml
from pdesurrogate.data.generation import generate
generate(yaml.safe_load(Path(sys.argv[1]).read_text()))
"""


def config_for(root, **options):
    generator = {"kind": "navier_stokes", **OPTIONS, "dt": 0.005, "num_trajectories": {"train": 5}, **options}
    return {
        "data": {"kind": "store", "root": str(root), "generator": generator},
        "batch_size": 2,
        "device": "cpu",
        "overwrite": False,
    }


def test_a_killed_generation_continues_to_the_same_bits(tmp_path, repository):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(config_for(tmp_path / "killed")))
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(config)], env=environment)
    part = tmp_path / "killed" / "train.h5.part"
    deadline = time.monotonic() + 60
    while num_written(part) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.exists()
    assert not (tmp_path / "killed" / "train.h5").exists()
    assert 2 <= num_written(part) < 5

    generate(config_for(tmp_path / "killed"))
    generate(config_for(tmp_path / "whole"))
    killed, whole = (tmp_path / name / "train.h5" for name in ("killed", "whole"))
    np.testing.assert_array_equal(content(killed)[0], content(whole)[0])
    assert StoredTrajectories(killed).checksum() == StoredTrajectories(whole).checksum()
    assert not part.exists()


def num_written(part):
    """Trajectories marked as written, read past the writer's lock."""
    try:
        with h5py.File(part, "r", locking=False) as file:
            return int(file["written"][:].sum())
    except (OSError, KeyError):
        return 0


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(generation.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10**4, 10**4))
    with pytest.raises(
        ValueError, match=r"train\.h5, .*test\.h5 need \d\.\d MiB together and 0\.0 MiB are free"
    ):
        generate_splits(build(), tmp_path / "new", NUMBERS, device="cpu")
    assert not (tmp_path / "new").exists()


def test_a_trajectory_that_cannot_be_solved_is_named_and_the_others_are_kept(tmp_path):
    class Spoiled:
        def __init__(self):
            self._sound = build()
            self.spec, self.grid, self.times = self._sound.spec, self._sound.grid, self._sound.times
            self.attributes = self._sound.attributes
            self.parameters = self._sound.parameters

        def frames(self, indices, device="cpu", names=None):
            for frame in self._sound.frames(indices, device, names):
                if indices == [3]:
                    raise ValueError(f"trajectory {names[0]} blew up")
                yield frame

    with pytest.raises(ValueError, match="trajectory 3 of train blew up"):
        generate_splits(Spoiled(), tmp_path, {"train": 5}, batch_size=1, device="cpu")
    assert num_written(tmp_path / "train.h5.part") == 3
    generate_splits(build(), tmp_path, {"train": 5}, device="cpu")


def test_progress_lines_say_how_much_is_done_and_how_long_it_takes(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        generate_splits(build(), tmp_path, NUMBERS, device="cpu")
    assert "train: 5 of 5 trajectories (100 %)" in caplog.text
    assert "about 0 s left" in caplog.text


def test_memory_holds_one_batch_of_frames(tmp_path, monkeypatch):
    alive, most = 0, 0
    original = generation.solve_batch

    def solve(file, generator, batch, device, advance):
        nonlocal alive, most
        alive += len(batch)
        most = max(most, alive)
        yield from original(file, generator, batch, device, advance)
        alive -= len(batch)

    monkeypatch.setattr(generation, "solve_batch", solve)
    generate_splits(build(), tmp_path, {"train": 5}, batch_size=2, device="cpu")
    assert most == 2


def test_the_shipped_configuration_generates(tmp_path, repository):
    data = yaml.safe_load((repository / "conf" / "data" / "navier_stokes.yaml").read_text())
    how = yaml.safe_load((repository / "conf" / "generate.yaml").read_text())
    data["root"] = str(tmp_path)
    data["generator"] |= {"num_trajectories": {"test": 1}, "num_frames": 2, "solve_grid": 32, "grid": 32}
    generate({"data": data, **{key: how[key] for key in ("batch_size", "device", "overwrite")}})
    assert content(tmp_path / "test.h5")[0].shape == (1, 2, 1, 32, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_trajectories": {"trian": 3}}, "Did you mean 'train'"),
        ({"num_trajectories": {"train": 0}}, r"num_trajectories\.train is 0"),
        ({"num_trajectories": {}}, "num_trajectories is empty"),
        ({"kind": "navier_stoks"}, "Did you mean 'navier_stokes'"),
        ({"num_trajectories": {"train": "many"}}, r"num_trajectories\.train is many"),
        ({"viscosty": 1e-3}, "Did you mean 'viscosity'"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_wrong_settings_are_refused_before_a_file_is_touched(tmp_path, change, message):
    config = config_for(tmp_path / "new", **change)
    with pytest.raises(ValueError, match=message):
        generate(config)
    assert not (tmp_path / "new").exists()


def test_a_data_set_without_a_generator_is_refused_with_what_to_do(tmp_path):
    config = copy.deepcopy(config_for(tmp_path))
    del config["data"]["generator"]
    with pytest.raises(ValueError, match="has no generator"):
        generate(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"device": "cuda:99"}, "device is 'cuda:99'"), ({"batch_size": 0}, "batch_size is 0")],
)
def test_an_unusable_device_or_batch_size_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        generate_splits(build(), tmp_path / "new", NUMBERS, **{"device": "cpu", **options})
    assert not (tmp_path / "new").exists()

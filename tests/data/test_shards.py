import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml

from pdesurrogate.data import generation
from pdesurrogate.data.generation import generate_splits
from pdesurrogate.data.shards import Shard
from pdesurrogate.data.split_files import SplitFile
from pdesurrogate.data.store import StoredTrajectories, store
from pdesurrogate.solvers import GENERATORS

OPTIONS = {"solve_grid": 16, "grid": 12, "num_frames": 2, "dt": 0.25, "seed": 3, "viscosity": [1e-2, 1e-1]}
NUMBERS = {"train": 5, "test": 2}


def build(**options):
    return GENERATORS.build("navier_stokes", **{**OPTIONS, **options})


def run(root, shard=None, **options):
    arguments = {key: options.pop(key) for key in ("overwrite", "batch_size") if key in options}
    return generate_splits(build(**options), root, NUMBERS, device="cpu", shard=shard, **arguments)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def whole(tmp_path):
    """The bytes of the files that one process makes."""
    return {name: path.read_bytes() for name, path in run(tmp_path / "whole").items()}


@pytest.mark.parametrize("order", ["012", "201"])
def test_three_shards_in_any_order_give_the_very_bytes_of_one_process(tmp_path, whole, order):
    root = tmp_path / "sharded"
    for batch_size, index in enumerate(order, 1):
        paths = run(root, f"{index}/3", batch_size=batch_size)
    assert {name: path.read_bytes() for name, path in paths.items()} == whole
    assert names(root) == ["test.h5", "train.h5"]


def test_shards_are_contiguous_and_share_a_split_evenly(tmp_path):
    split = SplitFile("valid", tmp_path / "valid.h5", 11)
    files = Shard(0, 4).all_of(split)
    assert [(file.start, file.num_trajectories) for file in files] == [(0, 2), (2, 3), (5, 3), (8, 3)]
    assert [file.first_trajectory - 2**30 for file in files] == [0, 2, 5, 8]
    assert [file.path.name for file in files][:2] == ["valid.shard-0-of-4.h5", "valid.shard-1-of-4.h5"]
    assert len(Shard(0, 20).all_of(split)) == 11


def test_more_shards_than_trajectories_join_too(tmp_path, whole):
    for index in range(7):
        run(tmp_path / "sharded", f"{index}/7")
    assert (tmp_path / "sharded" / "train.h5").read_bytes() == whole["train"]


def test_a_shard_alone_is_a_file_of_the_store_and_says_what_is_missing(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(tmp_path, "1/3")
    assert names(tmp_path) == ["test.shard-1-of-3.h5", "train.shard-1-of-3.h5"]
    assert "train.h5 is made when all its shards are complete; missing: 0/3, 2/3" in caplog.text
    shard = StoredTrajectories(tmp_path / "train.shard-1-of-3.h5")
    assert shard.num_trajectories == 2
    assert shard.attributes["shard"] == "1/3"
    assert shard.attributes["first_trajectory"] == 1
    np.testing.assert_array_equal(shard.parameters(0), build().parameters([1])[0])


def test_reading_a_split_whose_shards_are_missing_names_them(tmp_path):
    run(tmp_path, "1/3")
    sentence = r"train\.h5 is made in 3 shards, of which shard=0/3, shard=2/3 are not complete"
    with pytest.raises(ValueError, match=sentence):
        store(str(tmp_path), {"train": "train.h5"})
    with pytest.raises(ValueError, match=sentence):
        StoredTrajectories(tmp_path / "train.h5")
    run(tmp_path, "0/3")
    with pytest.raises(ValueError, match="of which shard=2/3 is not complete"):
        StoredTrajectories(tmp_path / "train.h5")


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
    return written


def test_an_interrupted_array_completes_to_the_same_bytes(tmp_path, monkeypatch, whole):
    root = tmp_path / "sharded"
    run(root, "0/2")
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt, match=r"train\.shard-1-of-2\.h5\.part; run the same command again"):
        run(root, "1/2")
    monkeypatch.undo()
    assert not (root / "train.h5").exists()
    solved = interrupt_after(monkeypatch, 100)
    run(root, "1/2")
    # Two of the three of train and one of test are solved; then five and two are joined.
    assert len(solved) == 3 + 7
    assert {path.stem: path.read_bytes() for path in root.iterdir()} == whole


@pytest.mark.parametrize("number", [0, 2])
def test_an_interrupted_join_is_continued_by_any_shard_and_loses_nothing(
    tmp_path, monkeypatch, whole, number
):
    root = tmp_path / "sharded"
    run(root, "0/2")
    interrupt_after(monkeypatch, 3 + 1 + number)  # shard 1/2 holds three of train and one of test
    with pytest.raises(KeyboardInterrupt):
        run(root, "1/2")
    monkeypatch.undo()
    assert "train.h5.part" in names(root)
    assert "train.h5" not in names(root)
    with pytest.raises(ValueError, match="is not finished"):
        StoredTrajectories(root / "train.h5")
    solved = interrupt_after(monkeypatch, 100)
    run(root, "0/2")
    assert len(solved) == 7 - number
    assert {path.stem: path.read_bytes() for path in root.iterdir()} == whole


def test_a_run_without_shards_takes_those_that_are_complete_and_solves_the_rest(tmp_path, monkeypatch, whole):
    root = tmp_path / "sharded"
    run(root, "1/2")
    batches = []
    original = generation.solve_batch

    def solve(file, generator, batch, *others):
        batches.append((file.split, batch))
        return original(file, generator, batch, *others)

    monkeypatch.setattr(generation, "solve_batch", solve)
    run(root)
    assert batches == [("train", [0, 1]), ("test", [0])]
    assert {path.stem: path.read_bytes() for path in root.iterdir()} == whole


def test_shards_of_other_options_are_refused_and_left_alone(tmp_path):
    run(tmp_path, "0/2")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"shard-0-of-2\.h5 is there already .* drag is 0.0 there and 0.5"):
        run(tmp_path, "0/2", drag=0.5)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(ValueError, match=r"shard-0-of-2\.h5 is a shard of other options: drag is 0.0"):
        run(tmp_path, drag=0.5)
    for index in range(2):
        paths = run(tmp_path, f"{index}/2", drag=0.5, overwrite=True)
    assert StoredTrajectories(paths["train"]).attributes["drag"] == 0.5
    assert names(tmp_path) == ["test.h5", "train.h5"]


def test_a_damaged_shard_is_named_and_not_joined(tmp_path):
    import h5py

    run(tmp_path, "0/2")
    with h5py.File(tmp_path / "train.shard-0-of-2.h5", "r+") as file:
        file["vorticity"][1, 0, 3, 3] += 1.0
    with pytest.raises(ValueError, match=r"shard-0-of-2\.h5: trajectory 1 does not match its checksum"):
        run(tmp_path, "1/2")
    assert "train.h5" not in names(tmp_path)


def test_finished_splits_are_kept_whatever_the_shard(tmp_path, whole, monkeypatch):
    solved = interrupt_after(monkeypatch, 100)
    run(tmp_path / "whole", "1/4")
    assert solved == []
    assert names(tmp_path / "whole") == ["test.h5", "train.h5"]


@pytest.mark.parametrize("shard", ["4/4", "1", "-1/4", "one/two", 3, "0/0"])
@pytest.mark.usefixtures("as_users_run")
def test_a_shard_that_does_not_exist_is_refused_before_anything_is_touched(tmp_path, shard):
    with pytest.raises(ValueError, match=r"0/4, 1/4, 2/4 and 3/4"):
        run(tmp_path / "new", shard)
    assert not (tmp_path / "new").exists()


def config_of(root):
    generator = {"kind": "navier_stokes", **OPTIONS, "num_trajectories": NUMBERS}
    data = {"root": str(root), "generator": generator}
    return {"data": data, "batch_size": 2, "device": "cpu", "overwrite": False, "shard": None}


def started_by(monkeypatch, launcher, rank, size):
    names = {
        "torchrun": ("RANK", "WORLD_SIZE"),
        "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    }[launcher]
    for name, value in zip((*names, "SLURM_STEP_ID"), (rank, size, 0), strict=True):
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_ranks_share_a_set_out_and_give_the_very_bytes_of_one_process(tmp_path, monkeypatch, whole, launcher):
    root = tmp_path / "ranks"
    for rank in (1, 0, 2):
        started_by(monkeypatch, launcher, rank, 3)
        generation.generate(config_of(root))
        assert ("train.h5" in names(root)) == (rank == 2), "the last one joins"
    assert {path.stem: path.read_bytes() for path in root.iterdir()} == whole


def test_the_ranks_of_an_arrays_tasks_divide_the_shard_of_their_task(tmp_path, monkeypatch, whole):
    root, made = tmp_path / "array", []
    for task, rank in ((0, 0), (1, 1), (0, 1), (1, 0)):
        started_by(monkeypatch, "srun", rank, 2)
        generation.generate({**config_of(root), "shard": f"{task}/2"})
        made += [names(root)]
    assert made[1] == [f"{s}.shard-{i}-of-4.h5" for s, i in (("test", 3), ("train", 0), ("train", 3))]
    assert {path.stem: path.read_bytes() for path in root.iterdir()} == whole


def test_a_batch_script_is_one_process_however_many_tasks_its_job_has(tmp_path, monkeypatch, whole):
    for name, value in {"SLURM_JOB_ID": 1, "SLURM_NTASKS": 4, "SLURM_PROCID": 0}.items():
        monkeypatch.setenv(name, str(value))
    generation.generate(config_of(tmp_path / "script"))
    assert {path.stem: path.read_bytes() for path in (tmp_path / "script").iterdir()} == whole


PROCESS = """
import sys
from pathlib import Path
import yaml
from pdesurrogate.data.generation import generate
generate({**yaml.safe_load(Path(sys.argv[1]).read_text()), "shard": sys.argv[2]})
"""


def test_processes_at_the_same_time_make_the_set_together(tmp_path, repository, whole):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config_of(tmp_path / "sharded")))
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    commands = [[sys.executable, "-c", PROCESS, str(path), f"{i}/2"] for i in range(2)]
    processes = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    made = {p.stem: p.read_bytes() for p in (tmp_path / "sharded").iterdir()}
    assert made == whole

"""Damaged, foreign and misleading files are refused in a sentence; nothing of them is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import layouts
import numpy as np
import pytest
import torch

from pdesurrogate.data.command import describe
from pdesurrogate.data.opening import open_data, open_dataset
from pdesurrogate.data.recognition import recognise

PROOF = Path("was_run")


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return (PROOF.write_text, ("boom",))


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pt_file_that_carries_code_is_refused_and_not_run(tmp_path, monkeypatch, new_format):
    monkeypatch.chdir(tmp_path)
    content = {"x": torch.zeros(3, 4, 4), "y": torch.zeros(3, 4, 4), "more": Bomb()}
    torch.save(content, "evil.pt", _use_new_zipfile_serialization=new_format)
    layout = {"fields": ["x"], "axes": ["sample", "y", "x"], "space": {}}
    for section in ({"kind": "neuralop_pt"}, {"kind": "spherical_swe"}, {"kind": "custom", "layout": layout}):
        with pytest.raises(ValueError, match=r"evil.pt holds more than tensors: loading it would run code"):
            open_dataset({**section, "path": "evil.pt"})
    with pytest.raises(ValueError, match="would run code"):
        describe(Path("evil.pt"))
    assert not PROOF.exists()


def test_pickled_arrays_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("evil.npz", u=np.zeros((2, 3, 4)), bomb=np.array([Bomb()], dtype=object))
    np.save("evil.npy", np.array([Bomb()], dtype=object))
    layout = {
        "fields": ["u"],
        "axes": ["sample", "time", "x"],
        "space": {"x": {"length": 1, "boundary": "wall"}},
    }
    layout["time"] = {"dt": 1}
    assert (
        open_dataset({"kind": "custom", "path": "evil.npz", "layout": layout}).splits["train"].num_frames == 3
    )
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        open_dataset({"kind": "custom", "path": "evil.npy", "layout": layout})
    assert not PROOF.exists()


@pytest.mark.parametrize(
    "kind", ["li_mat", "gfno", "neuralop_pt", "pdebench", "factformer", "spherical_swe", "custom"]
)
def test_a_path_that_does_not_exist_names_the_nearest(tmp_path, kind):
    (tmp_path / "ns_V1e-3_N5000_T50.mat").write_bytes(b"")
    options = {"li_mat": {"viscosity": 1.0}, "custom": {"layout": {"fields": ["u"]}}}.get(kind, {})
    with pytest.raises(ValueError, match=r"there is no file .*Did you mean ns_V1e-3_N5000_T50.mat\?"):
        open_dataset({"kind": kind, "path": str(tmp_path / "ns_V1e-3_N5000_T5.mat"), **options})


def test_a_folder_that_is_missing_on_the_way_is_named_with_the_nearest(tmp_path):
    (tmp_path / "downloads").mkdir()
    place = tmp_path / "downlaods" / "deep" / "u.npy"
    with pytest.raises(
        ValueError,
        match=r"there is no folder .*/downlaods, and so no file .*/u\.npy\. Did you mean downloads\?",
    ):
        open_dataset({"kind": "factformer", "path": str(place)})


@pytest.mark.parametrize("kind", ["pdearena", "the_well", "scalarflow"])
def test_a_folder_that_does_not_exist_or_holds_something_else_is_named(tmp_path, kind):
    (tmp_path / "shear_flow").mkdir()
    (tmp_path / "shear_flow" / "readme.txt").write_text("")
    with pytest.raises(ValueError, match="Did you mean shear_flow"):
        open_dataset({"kind": kind, "root": str(tmp_path / "shaer_flow")})
    with pytest.raises(ValueError, match=r"readme.txt"):
        open_dataset({"kind": kind, "root": str(tmp_path / "shear_flow")})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x1f\x8b" + b"x" * 300, "unpack it first"),
        (b"garbage" * 50, "begins with b'garbageg'"),
    ],
)
def test_what_a_file_is_not_is_said(tmp_path, content, message):
    (tmp_path / "data.h5").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        recognise(tmp_path / "data.h5")
    with pytest.raises(ValueError, match=message):
        open_dataset({"kind": "pdebench", "path": str(tmp_path / "data.h5")})


def copy_of(case, tmp_path):
    """A copy of a file or folder that may be damaged, and the section that opens it."""
    import shutil

    place = tmp_path / case.path.name
    (shutil.copytree if case.path.is_dir() else shutil.copy)(case.path, place)
    key = "root" if "root" in case.options else "path"
    section = {"kind": case.kind, **case.options, key: str(place)}
    return place / case.file.relative_to(case.path) if case.path.is_dir() else place, section


def change(file, edit):
    with h5py.File(file, "r+") as opened:
        edit(opened)


def replaced(name, values):
    def edit(file):
        facts = dict(file[name].attrs)
        del file[name]
        file[name] = values
        file[name].attrs.update(facts)

    return edit


CHANGES = {
    "pdebench_rdb": [
        (lambda f: f["0003"].__delitem__("data"), "group '0003' lacks data or grid/t"),
        (
            replaced("0004/data", np.zeros((5, 4, 3, 1), np.float32)),
            r"group '0004' has the shape .*\(5, 4, 3, 1\)",
        ),
        (replaced("0000/grid/x", np.arange(6.0)), r"the grid asks for \(5, 6, 6\)"),
        (replaced("0000/grid/t", np.arange(5.0) ** 2), "the frames are 1, 3, 5, 7 apart"),
        (lambda f: [f.__delitem__(k) for k in list(f)], "is in no layout of PDEBench; it holds nothing"),
    ],
    "pdebench_compressible": [
        (lambda f: f.__delitem__("Vy"), r"density has the shape .*; Vy does not fit, or is not there"),
        (replaced("x-coordinate", np.arange(6.0)), r"x-coordinate has 6 points and the arrays 8 along x"),
        (replaced("t-coordinate", np.arange(9.0)), "t-coordinate is 9 entries long for 5 frames"),
        (replaced("pressure", np.zeros(3)), r"pressure does not fit"),
    ],
    "pdearena_flow": [
        (lambda f: f["train"].__delitem__("vx"), "vx and vy need one shape|lacks|vx"),
        (replaced("train/dt", np.array([6.0, 7.0])), "all samples need one time step"),
        (lambda f: f.move("train", "other"), "needs one group train, valid or test"),
        (replaced("train/buo_y", np.full(2, np.nan)), "the parameter 'buoyancy' is not finite"),
    ],
    "the_well": [
        (lambda f: f.__delitem__("dimensions"), "lacks dimensions of The Well's schema"),
        (lambda f: f["t0_fields"].__delitem__("tracer"), "names 'tracer' and does not hold it"),
        (replaced("dimensions/y", np.cos(np.linspace(0, 3, 6))), "the points along y are not evenly spaced"),
        (replaced("dimensions/x", np.arange(6.0)), "differs from|lengths are|the shape"),
        (replaced("t0_fields/tracer", np.zeros((2, 5, 6, 8), np.float32)), "gives .time, y, x."),
        (lambda f: f.attrs.__delitem__("n_trajectories"), "lacks n_trajectories"),
    ],
}


@pytest.mark.parametrize(
    ("name", "number"), [(n, i) for n, all_ in CHANGES.items() for i in range(len(all_))]
)
def test_missing_and_transposed_parts_are_named(made, tmp_path, name, number):
    edit, message = CHANGES[name][number]
    file, section = copy_of(made[name], tmp_path)
    change(file, edit)
    with pytest.raises(ValueError, match=message):
        open_dataset(section).splits["train"].frames(0, 0, 2)


HOLES = {
    "pdebench_rdb": ("0003/data", (2, 3, 3, 0), r"group '0003': trajectory 3 .*channel 'depth', frame 2"),
    "pdebench_compressible": ("Vy", (3, 2, 3, 3), r"sample 3: trajectory 3 .*channel 'velocity_y', frame 2"),
    "pdearena_flow": ("train/u", (1, 2, 3, 3), r"sample 1: trajectory 1 .*channel 'density', frame 2"),
    "the_well": (
        "t2_fields/stress",
        (1, 2, 3, 3, 0, 1),
        r"sample 1: trajectory 1 .*channel 'stress_xy', frame 2",
    ),
}


@pytest.mark.parametrize("name", HOLES)
def test_nan_is_named_by_file_sample_channel_and_frame(made, tmp_path, name):
    array, place, message = HOLES[name]
    file, section = copy_of(made[name], tmp_path)
    change(file, lambda f: f[array].__setitem__(place, np.nan))
    split = open_dataset(section).splits["train"]
    for i in range(split.num_trajectories):
        split.frames(i, 0, 2)
    with pytest.raises(ValueError, match=rf"{file.name}, .*{message}"):
        _ = [split.frames(i, 0, 5) for i in range(split.num_trajectories)]
    with pytest.raises(ValueError, match=message):
        list(open_data({**section, "cache": "none", "batch_size": 1}).train_dataloader())


def test_mixed_resolutions_are_refused_by_name(made, tmp_path):
    file, section = copy_of(made["pdearena_flow"], tmp_path)
    small = layouts.noise(2, 5, 4, 6)
    other = file.with_name(file.name.replace("train_1", "train_9"))
    with h5py.File(other, "w") as written:
        group = written.create_group("train")
        for name in ("u", "vx", "vy"):
            group[name] = small
        group["dt"] = np.full(2, 6.0)
    with pytest.raises(
        ValueError, match=rf"{other.name} has the shape \(t, x, y\) \(5, 4, 6\) and .*\(5, 8, 6\)"
    ):
        open_dataset(section)
    np.savez_compressed(
        tmp_path / "smoke_0.npz",
        fluid_field=layouts.noise(5, 8, 6, 4, 1),
        velocity=layouts.noise(5, 8, 6, 4, 3),
    )
    for i in range(1, 8):
        np.savez_compressed(
            tmp_path / f"smoke_{i}.npz",
            fluid_field=layouts.noise(5, 4, 6, 4, 1),
            velocity=layouts.noise(5, 4, 6, 4, 3),
        )
    with pytest.raises(
        ValueError, match=r"smoke_1.npz: fluid_field gives \(time, z, y, x\) = \(5, 4, 6, 4\)"
    ):
        open_dataset({"kind": "factformer", "path": str(tmp_path)}).splits["train"].frames(1, 0, 5)


def test_a_damaged_member_of_an_archive_is_named(made, tmp_path):
    file, section = copy_of(made["neuralop_nsforcing"], tmp_path)
    with zipfile.ZipFile(file) as archive:
        biggest = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(file.read_bytes())
    content[biggest.header_offset + len(content[:30]) + biggest.file_size // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"\(PyTorch\) cannot be read: the checksum of its part"):
        open_dataset(section)


def test_too_few_frames_and_recordings_are_refused(made, tmp_path):
    file, section = copy_of(made["scalarflow"], tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="frames 000000 lack one of density and velocity"):
        open_dataset(section)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutations are read in forked processes")
def test_no_mutation_of_any_file_crashes_hangs_or_passes_a_checksum(tmp_path):
    """200 truncations and flipped bits for each layout, read in processes of their own."""
    worker = Path(__file__).with_name("fuzz_worker.py")
    done = subprocess.run(
        [sys.executable, str(worker), str(tmp_path), "200"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(layouts.LAYOUTS)
    for name, outcome in found.items():
        assert outcome["status"] == 0, (name, outcome, done.stderr[-3000:])
        assert outcome["refused"] > 15, (name, outcome)
        assert outcome["refused"] + outcome["read"] == 200, (name, outcome)
        if name in PROTECTED:
            assert outcome["wrong"] == 0, (name, outcome)


PROTECTED = {
    "li_v5_deflated",
    "neuralop_burgers",
    "neuralop_darcy",
    "neuralop_nsforcing",
    "factformer_smoke",
    "scalarflow",
    "spherical_run",
    "spherical_pairs",
    "custom",
}
"""Files whose containers hold checksums of all numbers: zip archives and deflated streams."""

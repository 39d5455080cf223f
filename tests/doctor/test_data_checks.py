import dataclasses
import re

import h5py
import numpy as np
import pytest

from pdesurrogate.data.opening import open_data
from pdesurrogate.doctor.data_checks import look_at_data, read_over_used
from pdesurrogate.doctor.run import doctor, examine


def told(findings, level):
    return [f"{f.subject}: {f.sentence}" for f in findings if f.level == level]


def test_a_healthy_set_passes(write_set, healthy_frames, compose, caplog):
    write_set(healthy_frames)
    findings = examine(compose())
    assert told(findings, "problem") == []
    assert told(findings, "warning") == []
    with caplog.at_level("INFO"):
        doctor(compose())
    assert "Nothing stands in the way of training." in caplog.text
    assert "set: tracer, bed at 8 x 8" in caplog.text


def constant(frames):
    for values in frames.values():
        values[:, :, 0] = 3.0


def moving_bed(frames):
    frames["valid"][1, 2, 1, 0, 0] += 1


def copied_trajectory(frames):
    frames["test"][1] = frames["train"][3]


def cut_by_window(frames):
    frames["test"][0, 0, 0] = frames["train"][2, 3, 0]  # the state; the bed stays its own


SICK = {
    "a constant channel": (constant, r"channels: 'tracer' is 3 everywhere in train"),
    "a static field that moves": (moving_bed, r"channels: 'bed' is declared static and changes"),
    "a trajectory in two splits": (
        copied_trajectory,
        r"leakage: train and test share 1 trajectories.*trajectory 1 of test, frame 0, is trajectory 3 of train",
    ),
    "a trajectory cut in two": (
        cut_by_window,
        r"trajectory 0 of test, frame 0, is trajectory 2 of train, frame 3.*never by window",
    ),
    "no valid split": (lambda frames: frames.pop("valid"), r"lacks valid.h5"),
}


@pytest.mark.parametrize(("harm", "sentence"), SICK.values(), ids=SICK)
def test_what_spoils_a_training_is_a_problem(write_set, healthy_frames, compose, harm, sentence):
    harm(healthy_frames)
    write_set(healthy_frames)
    (found,) = told(examine(compose()), "problem")
    assert re.search(sentence, found), found
    with pytest.raises(ValueError, match="1 problem to mend before training"):
        doctor(compose())


def test_values_that_are_missing_are_found_where_they_are(write_set, healthy_frames, compose):
    root = write_set(healthy_frames)
    with h5py.File(root / "valid.h5", "r+") as file:
        file["tracer"][1, 2, 0, 0] = np.nan
    (found,) = told(examine(compose()), "problem")
    assert "valid.h5" in found
    assert "trajectory 1 holds NaN or infinite values (channel 'tracer', frame 2)" in found


def test_few_trajectories_are_read_where_there_are_many_and_it_is_said(write_set, healthy_frames, compose):
    root = write_set(healthy_frames)
    with h5py.File(root / "train.h5", "r+") as file:
        file["tracer"][1, 2, 0, 0] = np.nan
    findings = examine(compose("num_trajectories=2"))
    assert told(findings, "problem") == []
    assert any(
        "2 of 5 trajectories of train" in text and "num_trajectories=null" in text
        for text in told(findings, "ok")
    )
    assert len(told(examine(compose("num_trajectories=null")), "problem")) == 1


def test_a_time_step_that_is_not_the_specs_is_a_problem(write_set, healthy_frames, compose):
    root = write_set(healthy_frames)
    with h5py.File(root / "test.h5", "r+") as file:
        file["time"][:] = np.arange(4) * 0.25
    (found,) = told(examine(compose()), "problem")
    assert "frames of test are 0.25 to 0.25 apart and the spec says dt = 0.5" in found


def test_a_field_that_stands_still_is_to_be_declared_static(write_set, healthy_frames, compose, spec):
    fields = tuple(dataclasses.replace(field, is_static=False) for field in spec.fields)
    write_set(healthy_frames, spec=spec.replace(fields=fields))
    (found,) = told(examine(compose()), "warning")
    assert "'bed' never changes along a trajectory. Declare its Field is_static=True" in found


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"train": [2.0] * 5, "valid": [2.0] * 2, "test": [2.0] * 2}, "'viscosity' is 2 in all of train"),
        ({"test": [9.0, 1.55]}, "'viscosity' of 1 of 2 trajectories of test lies outside of train's"),
        (
            {"train": [1, 2, 3, 4, 5], "test": [2, 2.5]},
            "1 of 2 trajectories of test have parameters that train has too",
        ),
    ],
)
def test_parameters_are_compared_between_splits(write_set, healthy_frames, compose, parameters, sentence):
    write_set(healthy_frames, parameters)
    findings = examine(compose())
    assert told(findings, "problem") == []
    (found,) = told(findings, "warning")
    assert sentence in found


def test_the_cost_of_chunks_is_counted_against_windows():
    shape = (100, 20, 64, 64)
    assert read_over_used((1, 1, 64, 64), shape, 2) == 1
    assert read_over_used((1, 20, 64, 64), shape, 2) == 10  # a whole trajectory for two frames
    assert read_over_used((8, 1, 64, 64), shape, 2) == 8  # eight trajectories for one
    assert read_over_used((1, 4, 64, 64), shape, 4) == pytest.approx(7 / 4)
    assert read_over_used((1, 1, 48, 64), shape, 1) == pytest.approx(1.5)


def test_chunks_that_cost_much_are_told_with_what_to_do(write_set, healthy_frames, compose):
    root = write_set(healthy_frames)
    with h5py.File(root / "train.h5", "r+") as file:
        values = file["tracer"][:]
        del file["tracer"]
        file.create_dataset("tracer", data=values, chunks=(5, 4, 8, 8))
    (found,) = told(examine(compose("data.cache=none")), "warning")
    assert "chunks of 5 x 4 x 8 x 8" in found
    assert "let data.rechunk=FOLDER make a copy once" in found
    assert told(examine(compose("data.cache=auto")), "warning") == []  # this small set is held
    assert told(examine(compose("data.cache=ram")), "warning") == []


def test_files_that_are_slow_to_read_at_random_are_told_with_what_to_do(tmp_path):
    frames = np.random.default_rng(0).normal(size=(6, 24, 192, 192)).astype(np.float32)
    layout = {
        "fields": ["u"],
        "axes": ["sample", "time", "x", "y"],
        "space": {name: {"length": 1, "boundary": "periodic"} for name in "xy"},
        "time": {"dt": 1},
    }
    np.savez_compressed(tmp_path / "packed.npz", u=frames)
    np.savez(tmp_path / "plain.npz", u=frames)
    found = {}
    for name in ("packed", "plain"):
        for cache in ("none", "ram"):
            section = {
                "kind": "custom",
                "path": str(tmp_path / f"{name}.npz"),
                "layout": layout,
                "grid": None,
            }
            data = open_data({**section, "cache": cache})
            found[name, cache] = [f for f in look_at_data(data, 1) if f.subject == "reading"]
    assert [found[key][0].level for key in found] == ["warning", "ok", "ok", "ok"]
    assert "Let data.rechunk=FOLDER make a copy once" in found["packed", "none"][0].sentence
    assert "held in memory" in found["packed", "ram"][0].sentence
    assert "a random window of 2 frames, 288 KiB" in found["plain", "none"][0].sentence

"""Splits share no trajectory, whoever makes them."""

from __future__ import annotations

import numpy as np
import pytest

from pdesurrogate.data.opening import open_dataset
from pdesurrogate.data.splits import Partition, by_parameter, by_trajectory, first_and_last


def test_a_partition_cannot_hold_a_trajectory_twice():
    with pytest.raises(ValueError, match="trajectory 3 is in train and in test; splits must not share"):
        Partition({"train": (1, 2, 3), "test": (3,)}, 5, "by hand")
    with pytest.raises(ValueError, match="trajectory 1 is in train and in train"):
        Partition({"train": (1, 1)}, 5, "by hand")
    with pytest.raises(ValueError, match="test asks for trajectory 5; there are 5"):
        Partition({"train": (0,), "test": (5,)}, 5, "by hand")
    with pytest.raises(ValueError, match="no split 'dev'; allowed: train, valid, test"):
        Partition({"dev": (0,)}, 5, "by hand")


def test_shares_and_numbers_give_the_same_splits():
    assert by_trajectory(20, 0.5, 0.25, 0.25).splits == by_trajectory(20, 10, 5, 5).splits
    shuffled = by_trajectory(20, 0.5, 0.25, 0.25, seed=3)
    assert shuffled.splits == by_trajectory(20, 0.5, 0.25, 0.25, seed=3).splits
    assert shuffled.splits != by_trajectory(20, 0.5, 0.25, 0.25, seed=4).splits
    assert sorted(sum(shuffled.splits.values(), ())) == list(range(20))
    assert [len(by_trajectory(2).splits[s]) for s in ("train", "valid", "test")] == [1, 0, 1]
    with pytest.raises(ValueError, match="give a number of trajectories, or a share"):
        by_trajectory(20, 1.5)
    with pytest.raises(ValueError, match="holds 4 trajectories; train=3, valid=1 and test=1 need 5"):
        first_and_last(4, 3, 1, 1)


def test_values_that_are_held_out_are_never_trained_on_and_both_tests_share_one_training_set():
    values = {"reynolds": np.repeat([100.0, 200.0, 300.0, 400.0], 10), "other": np.zeros(40)}
    out = by_parameter(values, "reynolds", held_out=[300.0], valid=0.2, test=0.2)
    inside = by_parameter(values, "reynolds", held_out=[300.0], valid=0.2, test=0.2, distribution="in")
    assert out.splits["train"] == inside.splits["train"]
    assert out.splits["valid"] == inside.splits["valid"]
    reynolds = values["reynolds"]
    assert set(reynolds[list(out.splits["test"])]) == {300.0}
    for split in ("train", "valid", "test"):
        assert set(reynolds[list(inside.splits[split])]) == {100.0, 200.0, 400.0}
    assert not set(out.splits["test"]) & set(inside.splits["test"])
    limits = by_parameter(values, "reynolds", above=350.0, below=150.0)
    assert set(reynolds[list(limits.splits["train"])]) == {200.0, 300.0}


def test_values_of_their_own_for_every_trajectory_are_split_by_a_limit():
    values = {"buoyancy": np.linspace(0.2, 0.5, 40)}
    found = by_parameter(values, "buoyancy", above=0.4, distribution="in")
    assert [len(found.splits[s]) for s in ("train", "valid", "test")] == [21, 3, 3]
    assert max(values["buoyancy"][list(found.splits["train"])]) < 0.4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameter": "raynolds", "above": 1}, "no parameter 'raynolds'. Did you mean 'reynolds'"),
        ({"parameter": "reynolds"}, "needs held_out="),
        (
            {"parameter": "reynolds", "held_out": [150.0]},
            "no trajectory has reynolds = 150; there are: 100, 200",
        ),
        ({"parameter": "reynolds", "above": 1000}, "0 of 4 trajectories are held out"),
        ({"parameter": "reynolds", "above": 1, "distribution": "off"}, "allowed: 'in', 'out'"),
    ],
)
def test_a_split_by_parameter_that_holds_nothing_out_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        by_parameter({"reynolds": np.array([100.0, 100.0, 200.0, 200.0])}, **options)


def test_any_reader_takes_another_rule(made):
    case = made["pdebench_rdb"]
    section = {"kind": case.kind, **case.options}
    data = open_dataset(
        {**section, "split": {"rule": "parameter", "parameter": "dam_radius", "above": 0.365}}
    )
    assert {split: t.num_trajectories for split, t in data.splits.items()} == {
        "train": 5,
        "valid": 1,
        "test": 3,
    }
    assert data.provenance["split"] == "by dam_radius, tested out of distribution"
    np.testing.assert_allclose([data.splits["test"].parameters(i)[0] for i in range(3)], [0.37, 0.38, 0.39])
    with pytest.raises(
        ValueError, match=r"no rule 'params' of splitting.* Allowed: source, trajectory, parameter"
    ):
        open_dataset({**section, "split": {"rule": "params"}})
    with pytest.raises(ValueError, match=r"has no option 'sed'. Did you mean 'seed'"):
        open_dataset({**section, "split": {"rule": "trajectory", "sed": 1}})


def test_a_file_in_two_folders_of_the_well_is_refused(made, tmp_path):
    import shutil

    case = made["the_well"]
    shutil.copytree(case.path, tmp_path / "shear")
    folder = tmp_path / "shear" / "data"
    shutil.copy(folder / "train" / "shear_Re_100.hdf5", folder / "test" / "again.hdf5")
    with pytest.raises(ValueError, match=r"are the same file; splits must not share trajectories"):
        open_dataset({"kind": "the_well", "root": str(tmp_path / "shear")})

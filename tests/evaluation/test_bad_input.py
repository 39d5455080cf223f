"""Each mistake is one sentence, told before anything heavy runs, and leaves nothing behind."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from pdesurrogate.deploy.devices import choose_device
from pdesurrogate.evaluation import run as evaluation_run
from pdesurrogate.evaluation.run import evaluate
from pdesurrogate.fields import Field


@pytest.fixture
def refused(configure, monkeypatch):
    """Evaluate with some changed keys and return the sentence; fails if any model was run first."""

    def attempt(kind: type[Exception] = ValueError, **changes: object) -> str:
        config = configure(**changes)
        monkeypatch.setattr(evaluation_run, "run", lambda *_: pytest.fail("models ran before the check"))
        with pytest.raises(kind) as caught:
            evaluate(config)
        if config["artifact"]:
            assert not (Path(config["artifact"]).parent / "evaluation").exists()
        return str(caught.value)

    return attempt


def test_an_artifact_must_be_named_and_exist(refused, tmp_path):
    assert "artifact=runs/RUN_ID/artifact.pt" in refused(artifact=None)
    assert "no file" in refused(FileNotFoundError, artifact=str(tmp_path / "run" / "artefact.pt"))


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("key", ["artifact", "compare", "ensemble"])
def test_code_in_an_artifact_is_refused_and_not_run(refused, tmp_path, key):
    path, witness = tmp_path / "evil.pt", tmp_path / "witness"
    path.write_bytes(pickle.dumps(Malicious(witness)))
    message = refused(**{key: str(path) if key == "artifact" else [str(path)]})
    assert "refused" in message
    assert not witness.exists()


def test_data_with_another_time_step_are_refused_with_both_values(refused, replace_waves, wave, spec):
    replace_waves(wave(1, 1)[None], spec=spec.replace(dt=0.25))
    message = refused()
    assert "0.125" in message
    assert "0.25" in message
    assert "dt" in message


@pytest.mark.parametrize(
    ("field", "mine", "theirs"),
    [
        (Field("dye"), "('tracer',)", "('dye',)"),
        (Field("tracer", "kg m-3"), "('1',)", "('kg m-3',)"),
        (Field("tracer", kind="pseudoscalar"), "scalar", "pseudoscalar"),
    ],
)
def test_other_names_units_and_kinds_are_refused_with_both_sides(
    refused, replace_waves, wave, spec, field, mine, theirs
):
    replace_waves(wave(1, 1)[None], spec=spec.replace(fields=(field,)))
    message = refused()
    assert "artifact.pt and the data set" in message
    assert mine in message
    assert theirs in message


def test_an_empty_test_split_is_refused(refused, monkeypatch):
    from pdesurrogate.data.store import StoredTrajectories

    monkeypatch.setattr(
        StoredTrajectories, "num_trajectories", property(lambda _: 0, lambda *_: None), raising=False
    )
    assert "is empty; there is nothing to evaluate on" in refused()


def test_a_stride_of_two_doubles_the_time_step_of_the_data(refused, waves):
    assert "dt" in refused(
        data={"kind": "store", "root": str(waves), "splits": {"test": "test.h5"}, "stride": 2}
    )


def test_a_rival_of_other_data_is_refused_by_its_name(refused, make_artifact, spec):
    rival = make_artifact("rival", spec=spec.replace(dt=0.5))
    assert str(rival) in refused(compare=[str(rival)])


def test_a_grid_above_the_stored_one_is_refused(refused):
    message = refused(resolutions=[64])
    assert "64" in message
    assert "32" in message


def test_a_grid_below_the_modes_of_the_model_is_refused(refused, make_artifact):
    artifact = make_artifact("fno", kind="fno", width=4, depth=1, num_modes=12)
    message = refused(artifact=str(artifact), resolutions=[8])
    assert "cannot be evaluated at 8 x 8: 12 modes" in message


@pytest.mark.parametrize("entry", ["64", 0, [16], [16, -16], 16.5])
def test_a_resolution_that_is_no_grid_is_refused(refused, entry):
    assert "resolutions has the entry" in refused(resolutions=[entry])


def test_a_horizon_beyond_the_data_names_the_longest_possible(refused):
    assert "horizon=8 or less" in refused(horizon=9)


def test_numbers_out_of_range_are_refused(refused):
    for key in ("horizon", "batch_size", "num_trajectories"):
        assert f"{key} is 0" in refused(**{key: 0})


def test_an_unknown_metric_is_refused_with_a_suggestion(refused):
    assert "Did you mean 'vrmse'" in refused(metrics=["vrms"])


def test_a_metric_that_the_domain_does_not_have_is_refused(refused):
    message = refused(metrics=["boundary_error"])
    assert "metrics has 'boundary_error'" in message
    assert "periodic along y, x" in message


def test_an_unknown_protocol_is_refused_with_a_suggestion(refused):
    assert "Did you mean 'spectral'" in refused(protocol=["spectal"])
    assert "give one or both" in refused(protocol=[])


def test_a_section_of_weights_and_biases_needs_a_project_and_a_known_mode(refused):
    assert "give project" in refused(wandb={"mode": "offline"})
    assert "Did you mean 'offline'" in refused(wandb={"project": "flows", "mode": "ofline"})


def test_a_missing_test_split_is_refused(refused, waves):
    (waves / "test.h5").rename(waves / "train.h5")
    assert "no split 'test'" in refused(
        data={"kind": "store", "root": str(waves), "splits": {"train": "train.h5"}}
    )


def test_a_moved_folder_is_found_by_data_root_and_other_kinds_say_what_to_set(refused, waves, tmp_path):
    waves.rename(tmp_path / "moved")
    assert "waves" in refused()
    message = refused(data={"kind": "li_mat", "path": "x.mat", "viscosity": 1e-3}, data_root="/elsewhere")
    assert "data.path" in message
    set_of_ours = {"kind": "store", "root": str(waves), "made_by": "python data/generate.py data=waves"}
    message = refused(data=set_of_ours, data_root=str(tmp_path / "else where"))
    assert message.endswith(f"run: python data/generate.py data=waves 'data.root={tmp_path / 'else where'}'")


def test_a_folder_that_is_a_file_is_refused(refused, tmp_path):
    occupied = tmp_path / "occupied"
    occupied.write_text("here first")
    assert "not a folder" in refused(OSError, output=str(occupied / "report"))


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="allowed: auto"):
        choose_device("gpu3")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no GPU"):
            choose_device("cuda")


def test_nan_in_the_truth_stops_with_the_name_of_the_trajectory(configure, monkeypatch):
    from pdesurrogate.data.store import StoredTrajectories

    honest = StoredTrajectories.frames

    def broken(self, trajectory, start, stop):
        frames = honest(self, trajectory, start, stop).copy()
        if trajectory == 2:
            frames[-1, 0, 3, 3] = np.nan
        return frames

    monkeypatch.setattr(StoredTrajectories, "frames", broken)
    config = configure()
    with pytest.raises(ValueError, match="test trajectory 2 has NaN"):
        evaluate(config)
    assert not (Path(config["artifact"]).parent / "evaluation").exists()


def test_a_full_disk_leaves_the_older_report_as_it_was(configure, monkeypatch):
    config = configure()
    evaluate(config)
    folder = Path(config["artifact"]).parent / "evaluation"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def no_space(self, *_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", no_space)
        with pytest.raises(OSError, match="No space left"):
            evaluate(config | {"horizon": 3})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before

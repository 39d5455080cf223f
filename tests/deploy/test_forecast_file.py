"""The command that forecasts from a file to a file."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray

from pdesurrogate.deploy.forecast_file import forecast
from pdesurrogate.fields import Axis, DataSpec, Field, Normaliser, Parameter
from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate

SPEC = DataSpec(
    fields=(Field("tracer"),),
    axes=(Axis("y", 1.0), Axis("x", 1.0)),
    dt=0.5,
    parameters=(Parameter("viscosity"),),
)
OPTIONS = {"width": 2, "depth": 1, "num_modes": 2}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an artifact, and a file of two runs of five frames on a grid that the artifact knows nothing of."""
    torch.manual_seed(0)
    provenance = {"config": {"model": {"kind": "fno", **OPTIONS}}}
    model = MODELS.build("fno", SPEC, 1, 1, **OPTIONS)
    normaliser = Normaliser([0.0], [1.0], [1.0], [1.0])
    Surrogate(SPEC, normaliser, model, history=1, horizon=1, provenance=provenance).save(
        tmp_path / "artifact.pt"
    )
    values = np.random.default_rng(0).normal(size=(2, 5, 6, 9)).astype(np.float32)
    coordinates = {"time": 0.5 * np.arange(5), "y": np.arange(6) / 6, "x": np.arange(9) / 9}
    dataset = xarray.Dataset({"tracer": (("run", "time", "y", "x"), values)}, coordinates)
    dataset.to_netcdf(tmp_path / "in.nc", engine="h5netcdf")
    return tmp_path


@pytest.fixture
def configure(place):
    def configured(**changes):
        return {
            "artifact": str(place / "artifact.pt"),
            "input": str(place / "in.nc"),
            "output": str(place / "out.nc"),
            "steps": 3,
            "initial_time": None,
            "parameters": {"viscosity": 1.5},
            "batch_size": 16,
            "device": "cpu",
            "overwrite": False,
            **changes,
        }

    return configured


@pytest.mark.parametrize(("initial_time", "frames"), [(None, 5), (1.0, 3)])
def test_a_forecast_starts_from_the_last_frame_or_from_the_time_that_is_named(
    place, configure, initial_time, frames
):
    forecast(configure(initial_time=initial_time))
    surrogate = Surrogate.load(place / "artifact.pt")
    with xarray.open_dataset(place / "in.nc") as given, xarray.open_dataset(place / "out.nc") as made:
        expected = surrogate.predict(given.isel(time=slice(None, frames)), 3, parameters={"viscosity": 1.5})
        xarray.testing.assert_allclose(made, expected)
        assert made.time[0] == given.time[frames - 1] + 0.5


def test_a_file_that_is_there_is_replaced_on_request_only(place, configure):
    (place / "out.nc").write_bytes(b"mine")
    with pytest.raises(ValueError, match="overwrite=true"):
        forecast(configure())
    assert (place / "out.nc").read_bytes() == b"mine"
    forecast(configure(overwrite=True))
    with xarray.open_dataset(place / "out.nc") as made:
        assert made.sizes["lead_time"] == 3


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


REFUSALS = {
    "no input": ({"input": None}, "no input given"),
    "a missing file": (
        {"input": "{}/it.nc"},
        r"there is no file .*it\.nc\. Its folder holds artifact\.pt, in\.nc",
    ),
    "no data": ({"input": "{}/artifact.pt"}, "cannot be opened as a dataset"),
    "the same file": ({"output": "{}/in.nc", "overwrite": True}, "input and output are the same file"),
    "a folder": ({"output": "{}"}, "is a folder"),
    "steps": ({"steps": 0}, "steps is 0"),
    "a time": ({"initial_time": 1.1}, "no frame is at that time; they run from 0.0 to 2.0"),
    "text for a time": ({"initial_time": "noon"}, "such as"),
    "a parameter": ({"parameters": {}}, "needs the PDE parameter 'viscosity'"),
    "a device": ({"device": "abacus"}, "allowed: auto, cpu"),
    "more than the disk holds": ({"steps": 10**15}, "GiB are free"),
}


@pytest.mark.parametrize(("changes", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_done_is_refused_and_no_file_is_left(place, configure, changes, sentence):
    filled = {key: value.format(place) if isinstance(value, str) else value for key, value in changes.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        forecast(configure(**filled))
    assert sorted(path.name for path in place.iterdir()) == ["artifact.pt", "in.nc"]


def test_the_command_takes_words_and_refuses_an_artifact_with_code_in_it(place, repository):
    evil, witness = place / "evil.pt", place / "witness"
    evil.write_bytes(pickle.dumps({"format": "pdesurrogate-artifact", "model": Malicious(witness)}))

    def command(*words):
        code = "from pdesurrogate.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, "predict", *words],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
            check=False,
        )

    refused = command("in.nc", "out.nc", "artifact=evil.pt", "steps=2")
    assert refused.returncode == 1
    assert "nothing in it was run" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not witness.exists()
    assert not (place / "out.nc").exists()
    done = command("in.nc", "out file.nc", "artifact=artifact.pt", "steps=2", "+parameters.viscosity=1.5")
    assert done.returncode == 0, done.stderr
    assert "Forecast of tracer, 2 steps" in done.stdout
    assert (place / "out file.nc").is_file()

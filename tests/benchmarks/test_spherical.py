"""The benchmark of spherical operators on the smallest case, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import record, spherical, tables
from benchmarks.options import OptionError


@pytest.fixture(autouse=True)
def _results_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_layers_and_models_of_the_sphere_are_measured_and_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(spherical, "find_torch_harmonics", lambda folder: None)
    options = ["num_lat=12", "width=4", "depth=2", "max_degree=5", "cutoff=0.6", "batch=1", "repeats=2"]
    spherical.main([*options, "packages=/somewhere", "name=tiny"])
    found = json.loads((tmp_path / "tiny.json").read_text())
    assert found["phases"].keys() == {
        "spectral layer",
        "local operator",
        "SFNO, forward + backward",
        "LSNO, forward + backward",
    }
    assert all(table["pdesurrogate"]["milliseconds"]["median"] > 0 for table in found["phases"].values())
    assert "packages=FOLDER" in found["command"]
    assert "torch-harmonics is not installed" in capsys.readouterr().out
    assert "Operators on the sphere, 12 x 24" in tables.page({"tiny": found})


def test_degrees_that_the_grid_cannot_carry_are_refused():
    with pytest.raises(OptionError, match="at least 13 x 25 points"):
        spherical.main(["num_lat=12", "max_degree=12"])

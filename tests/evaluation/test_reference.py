"""The solver that made the data, beside a surrogate: where it errs as much, what that costs, and how twins part."""

from __future__ import annotations

import json
import math

import pytest
import torch

from pdesurrogate.data.generation import generate_splits
from pdesurrogate.data.opening import open_data
from pdesurrogate.deploy.artifact import save_artifact
from pdesurrogate.evaluation.reference import (
    Reference,
    SolverRun,
    coarsest_reaching,
    find_reference,
    solver_curve,
    solver_grids,
    twin_errors,
)
from pdesurrogate.evaluation.run import evaluate
from pdesurrogate.evaluation.truth import Truth
from pdesurrogate.fields import Normaliser
from pdesurrogate.models import MODELS
from pdesurrogate.solvers import GENERATORS
from pdesurrogate.surrogate import Surrogate

OPTIONS = {
    "kind": "navier_stokes",
    "viscosity": 5e-3,
    "initial_condition": {"amplitude": "paper", "alpha": 2.5, "tau": 7.0},
    "solve_grid": 32,
    "grid": 32,
    "num_frames": 4,
    "dt_frame": 0.5,
    "dt": 0.125,
    "start": 1.0,
}


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    """A small data set and the section of a configuration that it was made by."""
    root = tmp_path_factory.mktemp("flow")
    options = dict(OPTIONS)
    generator = GENERATORS.build(options.pop("kind"), **options)
    generate_splits(generator, root, {"test": 2}, device="cpu")
    return {"kind": "store", "root": str(root), "splits": {"test": "test.h5"}, "generator": OPTIONS}


@pytest.fixture(scope="module")
def truth(section):
    data = open_data(section | {"grid": 16})
    return Truth(data.trajectories("test", (32, 32)), (0, 1), 1, torch.device("cpu")), data


def reference_of(section, truth):
    _, data = truth
    return find_reference(section, data.dataset.splits["test"], data.spec)


def test_the_solver_goes_on_from_a_stored_frame_as_it_did_when_it_made_the_data(section, truth):
    stored, _ = truth
    reference = reference_of(section, truth)
    assert isinstance(reference, Reference)
    frames = stored.frames([1], 0, 4)
    solved = torch.stack(list(reference.forecast(frames[:, 0], [1], 3)), dim=1)
    torch.testing.assert_close(solved, frames[:, 1:], rtol=1e-3, atol=1e-5)


SMALL_SETS = {
    "smoke with a jet": {
        "kind": "smoke",
        "grid": [24, 16],
        "solve_grid": [48, 32],
        "lengths": [24.0, 16.0],
        "order": "balanced",
        "scheme": "second_order",
        "top": "open",
        "initial_condition": "clear",
        "inflow": {"radius": 4.0, "speed": 1.0, "noise": 0.3, "depth": 16.0},
        "num_frames": 4,
        "dt_frame": 1.0,
        "dt": 0.5,
        "start": 8.0,
    },
    "a dam break without discharge": {
        "kind": "dam_break",
        "solve_grid": 64,
        "grid": 32,
        "num_frames": 5,
        "dt_frame": 0.2,
    },
    "a dam break with discharge": {
        "kind": "dam_break",
        "solve_grid": 32,
        "grid": 32,
        "num_frames": 5,
        "dt_frame": 0.2,
        "has_discharge": True,
        "boundary": "periodic",
    },
    "a sphere of winds over a mountain": {
        "kind": "spherical_shallow_water",
        "initial_condition": "random_winds",
        "fields": ["displacement", "wind"],
        "orography": "mountain",
        "truncation": 15,
        "grid": [33, 64],
        "nodes": "cell-centred",
        "num_frames": 4,
        "dt_frame": 1800.0,
        "dt": 600.0,
    },
}


@pytest.mark.parametrize("name", SMALL_SETS)
def test_every_solver_goes_on_from_frames_and_errs_less_on_finer_grids(name, tmp_path):
    options = dict(SMALL_SETS[name])
    generator = GENERATORS.build(options.pop("kind"), **options)
    generate_splits(generator, tmp_path, {"test": 1}, device="cpu")
    section = {
        "kind": "store",
        "root": str(tmp_path),
        "splits": {"test": "test.h5"},
        "generator": SMALL_SETS[name],
    }
    data = open_data(section)
    stored = Truth(data.trajectories("test", data.grid), (0,), 2, torch.device("cpu"))
    reference = reference_of(section, (stored, data))
    assert isinstance(reference, Reference), reference
    runs = solver_curve(reference, stored, stored, 2, enough=0.0)
    errors = [run.error for run in runs]
    assert runs[-1].grid == generator.grid
    if generator.grid == generator.solve_grid:
        assert errors[-1] < 1e-4
    assert errors[-1] <= 1.5 * min(errors)
    assert errors[0] > 3 * errors[-1]
    twin = twin_errors(reference, stored, 2, size=1e-3)
    if reference.generator.has_whole_states:
        assert twin.mean()[0].mean() == pytest.approx(1e-3, rel=1.0)
    else:
        assert twin is None


def test_errors_fall_with_the_grid_until_they_are_small_enough(section, truth):
    stored, _ = truth
    reference = reference_of(section, truth)
    runs = solver_curve(reference, stored, stored, 3, enough=1e-3)
    assert [run.grid[0] for run in runs] == [8, 12, 16, 24, 32][: len(runs)]
    assert runs[-1].error <= 1e-3 < runs[-2].error
    assert runs[0].error > runs[-1].error
    assert all(run.ms_per_frame > 0 for run in runs)
    assert runs[0].dt == pytest.approx(0.5)
    assert coarsest_reaching(runs, runs[0].error) is runs[0]
    assert coarsest_reaching(runs, 1e-9) is None


def test_twins_begin_with_the_disturbance_and_do_not_part_at_once(section, truth):
    stored, _ = truth
    table = twin_errors(reference_of(section, truth), stored, 3, size=0.01)
    assert table.values.shape == (2, 3, 1)
    assert (table.values > 1e-3).all()
    assert (table.values < 0.1).all()


def test_a_solver_that_is_not_the_one_that_made_the_file_is_not_run(section, truth):
    other = section | {"generator": {**OPTIONS, "viscosity": 1e-3}}
    assert "not the one that made the test file: viscosity_range" in reference_of(other, truth)
    assert "does not say" in reference_of({**section, "generator": None}, truth)
    random_forcing = {**OPTIONS, "forcing": {"kind": "gaussian"}}
    assert isinstance(reference_of(section | {"generator": random_forcing}, truth), str)


def test_grids_of_the_solver_keep_the_shape_of_the_box():
    assert solver_grids((64,)) == [(8,), (12,), (16,), (24,), (32,), (48,), (64,)]
    assert solver_grids((32, 64))[:2] == [(8, 16), (12, 24)]
    assert solver_grids((32, 64))[-1] == (32, 64)


def test_an_unstable_run_is_infinitely_wrong():
    run = SolverRun((8, 8), 0.1, torch.tensor([0.1, math.inf]).double(), 1.0)
    assert run.error == math.inf
    assert coarsest_reaching([run], 1.0) is None


def test_the_report_compares_at_equal_error_and_draws_the_twin(section, tmp_path, configure):
    data = open_data(section)
    model = MODELS.build("persistence", data.spec, 1, 1)
    provenance = {"config": {"model": {"kind": "persistence"}, "data": section}, "training_grid": [16, 16]}
    normaliser = Normaliser([0.0], [1.0], parameter_mean=[0.0], parameter_std=[1.0])
    surrogate = Surrogate(data.spec, normaliser, model, history=1, horizon=1, provenance=provenance)
    path = save_artifact(surrogate, tmp_path / "run" / "artifact.pt")
    evaluate(configure(artifact=str(path), horizon=3, metrics=[]))
    found = json.loads((path.parent / "evaluation" / "metrics.json").read_text())
    (cost,) = found["cost"]
    assert cost["speed_up"] > 0
    assert cost["solver_grid"] == found["solver"][-1]["grid"]
    assert found["solver"][-1]["grid"][0] < 32  # the coarsest that errs as little, not the grid of the data
    assert found["twin"]["n"] == 2
    by_name = {c["property"]: c for c in found["certificates"]}
    assert by_name["shift"]["by_equation"] is False  # Li et al.'s forcing depends on the place
    assert by_name["shift"]["error"] == 0
    assert by_name["conservation of mean vorticity"]["by_equation"] is True
    page = (path.parent / "evaluation" / "report.html").read_text()
    assert "the coarsest grid on which that errs no more" in page
    assert "the equation, disturbed once by the error of one step" in page
    assert "solver on 8 × 8" in page

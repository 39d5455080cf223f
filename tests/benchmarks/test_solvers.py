"""The benchmarks of solvers on the smallest cases: what they print is measured, and what they refuse."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch

from benchmarks import li_gpu, record, solver_error, solver_navier_stokes, solver_smoke, tables
from benchmarks.harness import NotEqualError
from benchmarks.options import OptionError

COARSE = ["generator.solve_grid=32", "generator.grid=16", "generator.num_frames=3"]


@pytest.fixture(autouse=True)
def _results_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_grad_enabled(True)


def printed_errors(text, name):
    return [float(value) for value in re.findall(rf"{name}: ([^,\s]+)", text)]


def test_the_error_of_a_time_step_falls_with_its_order(capsys):
    errors = []
    for dt in (0.1, 0.05):
        options = ["data=navier_stokes", "refine=8", *COARSE, f"generator.dt={dt}", "generator.dtype=float64"]
        solver_error.main(options)
        errors.append(printed_errors(capsys.readouterr().out, "time step")[-1])
    assert 10 < errors[0] / errors[1] < 25  # 16 for fourth order


def test_errors_relative_to_the_deviation_from_the_mean_are_the_larger_ones(capsys):
    small = ["generator.num_frames=2"]
    found = []
    for option in ("without_mean=false", "without_mean=true"):
        solver_error.main(["data=shallow_water/sphere_random_small", "refine=2", *small, option])
        found.append(printed_errors(capsys.readouterr().out, "time step")[-1])
    assert found[1] > 20 * found[0] > 0


def test_the_error_of_a_grid_is_measured_beside_it(capsys):
    solver_error.main(["data=navier_stokes/li_v1e-3_small", "until=2", *COARSE, "fine_grid=48"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "navier_stokes/li_v1e-3_small: dt = 0.05, courant = 2, float32, 1 trajectories"
    )
    assert len(lines) == 3  # t = 1 and t = 2
    assert 1e-7 < printed_errors(lines[-1], "grid")[0] < 0.1


def test_our_cost_at_equal_error_is_measured_and_recorded(tmp_path, capsys):
    tiny = [
        "grid=16",
        "viscosity=1e-3",
        "until=1",
        "batch=2",
        "steps=2",
        "repeats=2",
        "trajectories=1",
        "li_dt=0.005",
    ]
    solver_navier_stokes.main([*tiny, "name=tiny"])
    found = json.loads((tmp_path / "tiny.json").read_text())
    accuracy = found["accuracy"]
    ours = accuracy["errors of ours by steps a unit"][str(accuracy["steps a unit"])]
    assert ours <= accuracy["error of Li et al."] < 1e-3
    # How much cheaper it is, is a matter of the machine's load; that fewer steps do is not.
    assert accuracy["steps a unit"] < accuracy["steps a unit of Li et al."] == 200
    assert found["cheaper than Li et al. at equal error"] > 0
    assert {"ETDRK4", "our CN + Euler", "Li et al., CN + Euler"} <= set(
        found["phases"]["step, forced, float64"]
    )
    assert "at equal error a trajectory is" in capsys.readouterr().out


def test_a_scheme_that_is_not_li_et_als_is_not_timed(monkeypatch):
    original = solver_navier_stokes.li_scheme
    monkeypatch.setattr(solver_navier_stokes, "li_scheme", lambda w, nu, dt, n: original(w, 1.1 * nu, dt, n))
    options = solver_navier_stokes.SolverOptions(grid=16, batch=1, steps=20)
    with pytest.raises(NotEqualError, match=r"Li et al\.'s scheme against cn_euler"):
        solver_navier_stokes.time_against_li(options)


def test_a_set_is_generated_and_timed(tmp_path, capsys):
    small = ["trajectories=3", "batch=2", "solve_grid=64", "num_frames=1", "device=cpu", "dt=0.025"]
    li_gpu.main(["data=navier_stokes/li_v1e-3", *small, f"folder={tmp_path / 'set'}", "name=tiny"])
    assert "3 trajectories of 1 frames" in capsys.readouterr().out
    assert (tmp_path / "set" / "train.h5").is_file()
    assert json.loads((tmp_path / "tiny.json").read_text())["seconds"] > 0


SMOKE_TINY = ["grid=16", "grid_3d=6", "check_grid=8", "batch=2", "steps=1", "repeats=2"]


class StandIn:
    """A PhiFlow that takes our own steps, times a factor, in the place of the process that runs the real one."""

    version, factor = "of the test", 1.0

    def __init__(self, python, density, *, length, dt, viscosity, buoyancy, precision, threads):
        case = solver_smoke.Case(density.ndim, length, dt, viscosity, 1.0, 1.0, buoyancy)
        self.run = solver_smoke._stepping(case.equation(), solver_smoke._at_rest(density)[None], 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def steps(self, count):
        self.end = self.run()

    def state(self):
        return self.factor * self.end[0]


def test_a_step_of_smoke_is_measured_and_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(solver_smoke, "PhiFlowSmoke", StandIn)
    solver_smoke.main([*SMOKE_TINY, "phiflow=somewhere/python", "name=tiny"])
    found = json.loads((tmp_path / "tiny.json").read_text())
    assert "somewhere" not in json.dumps(found)
    assert set(found["equality"]) == {"PDEArena, 2-D", "FactFormer, 3-D"}
    plane = found["phases"]["PDEArena, 2-D, 16 x 16"]
    assert set(plane) == {"PhiFlow of the test", "ours", "ours, 2 together", "ours, second order"}
    assert plane["ours, second order"]["speedup"]["median"] < 1  # the stand-in takes the cheaper steps
    assert "milliseconds a step" in capsys.readouterr().out
    assert "FactFormer, 3-D, 6 x 6 x 6" in tables.page({"tiny": found})


def test_without_phiflow_our_smoke_is_timed_alone(capsys):
    solver_smoke.main([*SMOKE_TINY, "grid_3d=0"])
    printed = capsys.readouterr().out
    assert "ours, 2 together" in printed
    assert "FactFormer" not in printed


def test_a_phiflow_that_computes_something_else_is_not_timed(monkeypatch):
    monkeypatch.setattr(solver_smoke, "PhiFlowSmoke", StandIn)
    monkeypatch.setattr(StandIn, "factor", 1.01)
    with pytest.raises(NotEqualError, match=r"PDEArena, 2-D: our step against PhiFlow: .* differs by"):
        solver_smoke.main([*SMOKE_TINY, "phiflow=python"])


def test_an_interpreter_without_phiflow_ends_with_one_sentence(tmp_path):
    for python, message in (
        (str(tmp_path / "nowhere"), "cannot be run"),
        (sys.executable, "Is PhiFlow 2.5.3 there"),
    ):
        with pytest.raises(OptionError, match=message):
            solver_smoke.main([*SMOKE_TINY, f"phiflow={python}"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_the_gpu_benchmark_says_so():
    with pytest.raises(OptionError, match="there is no CUDA device here"):
        li_gpu.main([])


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (solver_error.main, ["data=li_navier_stokes"], "has no generator with a time step"),
        (solver_error.main, ["refine=1"], "refine = 1"),
        (solver_error.main, ["data=navier_stokes", "until=0.5"], "is before the first frame, at t = 1"),
        (solver_error.main, ["generator.solve_gird=8"], "Did you mean 'solve_grid'"),
        (solver_navier_stokes.main, ["dtype=float16"], "dtype is 'float16'"),
        (solver_navier_stokes.main, ["gird=64"], "Did you mean 'grid'"),
        (solver_navier_stokes.main, ["li_dt=0"], "li_dt is 0"),
        (li_gpu.main, ["batch=0"], "batch is 0"),
        (solver_smoke.main, ["grid=3"], "grid is 3; it must be at least 4"),
        (solver_smoke.main, ["repeats=0"], "repeats is 0"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_wrong_options_end_with_one_sentence(main, words, message):
    with pytest.raises(ValueError, match=message):
        main(words)

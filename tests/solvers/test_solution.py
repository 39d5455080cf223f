"""`solve`: one way in for tensors, single states and labelled data, and every way of misusing it."""

import numpy as np
import pytest
import torch
import xarray

from pdesurrogate.solvers import EQUATIONS, solve
from pdesurrogate.solvers.equation import Equation
from pdesurrogate.solvers.navier_stokes import NavierStokes2D

OPTIONS = {"viscosity": 1e-3, "dt": 0.05, "forcing": "li"}
TIMES = [0.0, 0.5, 1.0]


@pytest.fixture
def equation():
    return NavierStokes2D(**OPTIONS)


@pytest.fixture
def labelled(random_vorticity):
    """Three states as a user has them: axes in another order, labels, coordinates, units."""
    w = random_vorticity(24, num_fields=3).numpy()
    points = np.arange(24) / 24
    return xarray.Dataset(
        {"vorticity": (("x", "trajectory", "y"), w.transpose(2, 0, 1), {"units": "1"})},
        coords={"y": points, "x": points, "trajectory": ["a", "b", "c"]},
        attrs={"history": "drawn"},
    )


def test_frames_are_stacked_along_time(equation, random_vorticity):
    state = random_vorticity(24, num_fields=2)[:, None]
    found = solve(equation, state, TIMES)
    assert found.shape == (2, 3, 1, 24, 24)
    for k, frame in enumerate(equation.frames(state, TIMES)):
        assert torch.equal(found[:, k], frame)


def test_an_equation_is_known_by_name_and_parameters(equation, random_vorticity):
    state = random_vorticity(24)[:, None]
    assert torch.equal(solve("navier_stokes", state, TIMES, **OPTIONS), solve(equation, state, TIMES))


@pytest.mark.parametrize("name", EQUATIONS.names())
def test_what_is_registered_as_an_equation_follows_the_protocol(name):
    kind = EQUATIONS.get(name)
    assert all(hasattr(kind, member) for member in ("fields", "axes", "frames"))


def test_one_state_without_a_batch_gives_one_trajectory(equation, random_vorticity):
    state = random_vorticity(24)
    assert torch.equal(solve(equation, state, TIMES), solve(equation, state[None], TIMES)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_solution_has_the_precision_of_the_state(equation, random_vorticity, dtype):
    assert solve(equation, random_vorticity(24).to(dtype), TIMES).dtype == dtype


def test_times_may_be_an_array(equation, random_vorticity):
    state = random_vorticity(24)
    assert torch.equal(solve(equation, state, np.array(TIMES)), solve(equation, state, TIMES))


@pytest.mark.usefixtures("as_users_run")
def test_a_dataset_gives_a_dataset_with_time_and_the_same_numbers(equation, labelled, random_vorticity):
    found = solve(equation, labelled, TIMES)
    assert found["vorticity"].dims == ("trajectory", "time", "y", "x")
    assert found["time"].values.tolist() == TIMES
    assert found["trajectory"].values.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(found["y"], labelled["y"], rtol=0, atol=1e-15)
    assert found.attrs["history"] == "drawn"
    assert "NavierStokes2D(viscosity=0.001" in found.attrs["equation"]
    expected = solve(equation, random_vorticity(24, num_fields=3)[:, None], TIMES)
    np.testing.assert_array_equal(found["vorticity"], expected[:, :, 0])


def test_a_dataset_of_one_state_has_no_trajectory_axis_afterwards_either(equation, labelled):
    found = solve(equation, labelled.isel(trajectory=1, drop=True), TIMES)
    assert found["vorticity"].dims == ("time", "y", "x")
    expected = solve(equation, labelled, TIMES)["vorticity"][1]
    np.testing.assert_allclose(found["vorticity"], expected, rtol=0, atol=1e-14)


def test_the_last_frame_of_a_dataset_starts_the_next_solution(equation, labelled):
    first = solve(equation, labelled, TIMES)
    second = solve(equation, first.isel(time=-1), TIMES)
    whole = solve(equation, labelled, [2.0])
    np.testing.assert_allclose(second["vorticity"][:, -1], whole["vorticity"][:, 0], rtol=0, atol=1e-12)


def test_a_trajectory_that_fails_is_named_by_its_label(equation, labelled):
    labelled["vorticity"][:, 1] *= 100
    with pytest.raises(ValueError, match=r"trajectory b at t = 0: dt = 0\.05 exceeds"):
        solve(equation, labelled, TIMES)


def renamed(data):
    return data.rename(vorticity="w")


def with_time(data):
    return data.expand_dims(time=[0.0])


def with_depth(data):
    return data.expand_dims(z=[0.0])


def per_second(data):
    data["vorticity"].attrs["units"] = "s-1"
    return data


def in_metres(data):
    data["y"].attrs["units"] = "m"
    return data


def with_both_ends(data):
    return data.assign_coords(x=np.linspace(0, 1, 24))


def with_another_viscosity(data):
    return data.assign(viscosity=("trajectory", [1e-3, 1e-3, 2e-3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed, "lacks the variable 'vorticity'; it holds w"),
        (with_time, r"choose it with dataset.isel\(time=0\)"),
        (with_depth, r"has the dimensions \('z', 'x', 'trajectory', 'y'\)"),
        (per_second, "in units of 's-1' and the equation is in '1'"),
        (in_metres, "axis 'y' is in units of 'm'"),
        (with_both_ends, "the end of a periodic axis appears once"),
        (with_another_viscosity, r"records viscosity = \[0.001, 0.001, 0.002\] and the equation has 0.001"),
    ],
)
def test_a_dataset_that_is_not_the_equations_is_refused(equation, labelled, change, message):
    with pytest.raises(ValueError, match=message):
        solve(equation, change(labelled), TIMES)


def test_parameters_recorded_beside_the_state_may_be_the_equations(labelled):
    nu = torch.tensor([1e-3, 2e-3, 5e-3], dtype=torch.float64)
    data = labelled.assign(viscosity=("trajectory", nu.numpy()))
    found = solve("navier_stokes", data, TIMES, viscosity=nu, dt=0.05)
    alone = solve("navier_stokes", data.isel(trajectory=[2]), TIMES, viscosity=5e-3, dt=0.05)
    np.testing.assert_allclose(found["vorticity"][2], alone["vorticity"][0], rtol=0, atol=1e-13)


class NotAnEquation:
    """Has fields and axes, and no way to solve anything."""

    fields = axes = ()


@pytest.mark.parametrize(
    ("equation", "options", "error", "message"),
    [
        ("navier_stoke", {}, ValueError, "Did you mean 'navier_stokes'"),
        ("navier_stokes", {"viscosty": 1e-3, "dt": 0.05}, ValueError, "Did you mean 'viscosity'"),
        (NotAnEquation(), {}, TypeError, "the equation is a NotAnEquation"),
        (NavierStokes2D(**OPTIONS), {"dt": 0.1}, ValueError, "dt were given beside a finished equation"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_what_is_no_equation_is_refused(random_vorticity, equation, options, error, message):
    with pytest.raises(error, match=message):
        solve(equation, random_vorticity(24), TIMES, **options)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (np.zeros((1, 24, 24)), TypeError, "the initial state is a ndarray"),
        (torch.zeros(24, 24), ValueError, r"has the shape \(24, 24\)"),
        (torch.zeros(2, 3, 24, 24), ValueError, r"the 1 channel\(s\) vorticity"),
        (torch.zeros(0, 1, 24, 24), ValueError, "holds no trajectory"),
        (torch.zeros(1, 24, 24, dtype=torch.int32), ValueError, "torch.int32; allowed: float32 and float64"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_a_state_of_another_kind_is_refused(equation, state, error, message):
    with pytest.raises(error, match=message):
        solve(equation, state, TIMES)


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        ([], ValueError, "times is empty"),
        (1.0, TypeError, r"times is 1\.0; give a sequence of numbers"),
        (["noon"], TypeError, r"times is \['noon'\]; give a sequence of numbers"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_what_are_no_times_is_refused(equation, random_vorticity, times, error, message):
    with pytest.raises(error, match=message):
        solve(equation, random_vorticity(24), times)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "navier_stokes",
            {"viscosity": "1e-3", "dt": 0.1},
            "viscosity is '1e-3'; it must be a finite number",
        ),
        ("navier_stokes", {"viscosity": 1e-3, "dt": None}, "dt is None; it must be finite and positive"),
        (
            "navier_stokes",
            {"viscosity": 1e-3, "dt": 0.1, "lengths": 1.0},
            r"lengths are 1\.0; give .*\(y, x\)",
        ),
        ("shallow_water", {"gravity": "9.81"}, "gravity is '9.81'; it must be finite and positive"),
        (
            "smoke",
            {"buoyancy": [0.1, 0.2]},
            r"buoyancy is \[0.1, 0.2\]; it must be a finite number, or a tensor",
        ),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_an_option_of_another_type_is_refused_by_its_name(name, options, message):
    with pytest.raises(ValueError, match=message):
        solve(name, torch.zeros(1, 3, 8, 8), [0.1], **options)


def test_every_equation_of_a_batch_is_an_equation_by_protocol(equation):
    assert isinstance(equation, Equation)


def test_shallow_water_is_solved_by_its_name_and_keeps_its_volume():
    y, x = torch.meshgrid(*[(torch.arange(24, dtype=torch.float64) + 0.5) / 24 - 0.5] * 2, indexing="ij")
    depth = torch.where(y**2 + x**2 < 0.04, 2.0, 1.0).double()
    state = torch.stack([depth, 0 * depth, 0 * depth])
    found = solve("shallow_water", state, [0.0, 0.1, 0.2], boundaries=("wall", "wall"))
    assert found.shape == (3, 3, 24, 24)
    assert torch.equal(found[0], state)
    assert not torch.allclose(found[2], state, atol=0.1)
    torch.testing.assert_close(found[:, 0].mean((1, 2)), depth.mean().expand(3), rtol=1e-14, atol=0)

import numpy as np
import pytest
import torch

from pdesurrogate import solvers
from pdesurrogate.fields import fourier
from pdesurrogate.solvers import GENERATORS
from pdesurrogate.solvers.forcing import GaussianForcing, LiForcing, SampledForcing, TorusForcing
from pdesurrogate.solvers.navier_stokes import NavierStokes2D
from pdesurrogate.solvers.random_fields import GaussianRandomField

SMALL = {"solve_grid": 32, "grid": 16, "num_frames": 3, "dt": 0.05, "dtype": "float64"}


def solve(indices, **options):
    generator = GENERATORS.build("navier_stokes", **{**SMALL, **options})
    return torch.stack(list(generator.frames(indices)), dim=1)


def test_a_trajectory_is_the_solution_from_its_random_field_on_the_stored_grid():
    start = GaussianRandomField().sample(7, 4, (32, 32))
    solver = NavierStokes2D(viscosity=1e-3, dt=0.05, forcing=LiForcing())
    expected = fourier.resample(solvers.solve(solver, start[None, None], [0.0, 1.0, 2.0]), (16, 16))
    assert torch.equal(solve([4], seed=7), expected)


def test_leaving_out_a_spin_up_shifts_the_frames():
    assert torch.equal(solve([0], start=1.0, num_frames=2), solve([0], num_frames=3)[:, 1:])


@pytest.mark.parametrize(
    "change",
    [
        {"viscosity": 5e-3},
        {"forcing": {"kind": "none"}},
        {"forcing": {"kind": "li", "amplitude": 0.2}},
        {"drag": 0.1},
        {"length": 2.0},
        {"initial_condition": {"amplitude": "paper"}},
        {"seed": 1},
        {"solve_grid": 48},
        {"start": 1.0},
        {"dt_frame": 2.0},
        {"dt": 0.1},
        {"integrator": "cn_euler"},
        {"courant": 0.1},
        {"regrid": "stride"},
        {"forcing": {"kind": "torus"}},
        {"initial_condition": "rest"},
        {"reynolds": 500.0},
        {"dtype": "float32"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_changes_the_numbers_and_is_recorded(change):
    base, other = (GENERATORS.build("navier_stokes", **{**SMALL, **extra}) for extra in ({}, change))
    assert not torch.equal(solve([2]).double(), solve([2], **change).double())
    recorded = [(g.attributes, g.spec.to_dict(), g.times.tolist()) for g in (base, other)]
    assert recorded[0] != recorded[1]


def test_a_range_of_viscosities_gives_each_trajectory_its_own():
    generator = GENERATORS.build("navier_stokes", **SMALL, viscosity=[1e-4, 1e-2])
    nu = generator.parameters(range(200))
    assert nu.shape == (200, 1)
    assert nu.min() >= 1e-4
    assert nu.max() <= 1e-2
    assert np.median(nu) == pytest.approx(1e-3, rel=0.4)
    several = torch.stack(list(generator.frames([3, 8])), 1)
    alone = solve([8], viscosity=float(generator._viscosity_of([8])[0]))
    torch.testing.assert_close(several[1:], alone, rtol=0, atol=1e-13)


def test_viscosities_may_be_drawn_uniformly():
    generator = GENERATORS.build("navier_stokes", **SMALL, viscosity=[1e-4, 1e-2], viscosity_draw="uniform")
    nu = generator.parameters(range(400))[:, 0]
    assert nu.mean() == pytest.approx(5.05e-3, rel=0.1)
    assert nu.std() == pytest.approx(9.9e-3 / 12**0.5, rel=0.1)
    assert generator.attributes["viscosity_draw"] == "uniform"


def test_a_random_forcing_is_drawn_for_each_trajectory_and_recorded_as_parameters():
    generator = GENERATORS.build("navier_stokes", **SMALL, forcing={"kind": "torus"}, viscosity=[1e-3, 1e-2])
    drawn = generator.parameters([0, 5])
    assert len(generator.spec.parameters) == drawn.shape[1] == 13
    assert ((drawn[:, 1:] >= 0) & (drawn[:, 1:] < 1)).all()
    assert not np.isclose(drawn[0], drawn[1]).any()
    together = torch.stack(list(generator.frames([0, 5])), dim=1)
    alone = torch.stack(list(generator.frames([5])), dim=1)
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-13)
    forcing = TorusForcing(torch.from_numpy(drawn[1:, 1:].astype(np.float64)))
    nu = torch.from_numpy(drawn[1:, 0].astype(np.float64))
    start = GaussianRandomField().sample(0, 5, (32, 32))
    expected = solvers.solve(
        "navier_stokes", start[None, None], [0.0, 1.0, 2.0], viscosity=nu, dt=0.05, forcing=forcing
    )
    torch.testing.assert_close(alone, fourier.resample(expected, (16, 16)), rtol=0, atol=1e-6)


def test_a_gaussian_forcing_is_drawn_for_each_trajectory_and_is_a_channel_of_every_frame():
    options = {"forcing": {"kind": "gaussian"}, "initial_condition": "rest", "length": 2 * np.pi, "seed": 3}
    generator = GENERATORS.build("navier_stokes", **SMALL, **options, reynolds=500.0)
    assert generator.spec.channel_names == ("vorticity", "forcing")
    assert generator.spec.static_channels == (False, True)
    assert generator.parameters([4]).tolist() == [[np.float32(0.002)]]
    frames = solve([4, 9], **options, reynolds=500.0)
    assert frames.shape == (2, 3, 2, 16, 16)
    source = GaussianForcing().draw_field(3, 9, (32, 32), (2 * np.pi, 2 * np.pi))
    forcing = frames[1, :, 1]
    torch.testing.assert_close(forcing[0], fourier.resample(source, (16, 16)), rtol=0, atol=1e-14)
    assert torch.equal(forcing[0], forcing[2])
    assert frames[:, 0, 0].abs().max() == 0
    still = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    box = {"lengths": (2 * np.pi, 2 * np.pi), "forcing": SampledForcing(source[None])}
    expected = solvers.solve("navier_stokes", still, [1.0, 2.0], viscosity=2e-3, dt=0.05, **box)
    found = frames[1, 1:, :1]
    torch.testing.assert_close(found, fourier.resample(expected, (16, 16))[0], rtol=0, atol=1e-12)
    assert not torch.equal(
        source, GaussianRandomField((2 * np.pi,) * 2, 4.0, 3.0, "paper").sample(3, 9, (32, 32))
    )


def test_striding_takes_points_of_the_solver_grid():
    fine = solve([1], grid=32)
    assert torch.equal(solve([1], regrid="stride"), fine[..., ::2, ::2])


def test_attributes_are_text_and_numbers_and_tell_the_options():
    attributes = GENERATORS.build("navier_stokes", **SMALL).attributes
    assert all(isinstance(value, str | int | float) for value in attributes.values())
    assert "LiForcing(amplitude=0.1" in attributes["forcing"]
    assert "amplitude=original" in attributes["initial_condition"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"viscosty": 1e-3}, "Did you mean 'viscosity'"),
        ({"forcing": {"kind": "kolmogorow"}}, "Did you mean 'kolmogorov'"),
        ({"forcing": {"kind": "li", "amplitud": 1.0}}, "Did you mean 'amplitude'"),
        ({"initial_condition": {"amplitud": "paper"}}, "Did you mean 'amplitude'"),
        ({"initial_condition": {"lengths": [1.0, 1.0]}}, "no option 'lengths'"),
        ({"grid": 64}, "finer than solve_grid = 32"),
        ({"dtype": "float16"}, "allowed: float32, float64"),
        ({"dt": 0.3}, "does not divide"),
        ({"viscosity": [1e-2, 1e-3]}, "low <= high"),
        ({"viscosity": "thick"}, "viscosity is thick"),
        ({"seed": -1}, "seed is -1; it must be an integer from 0 upwards"),
        ({"solve_grid": "fine"}, "solve_grid is 'fine'"),
        ({"dt": "small"}, "dt is 'small'"),
        ({"viscosity": 1e-3, "reynolds": 500.0}, "are both given"),
        ({"reynolds": 0.0}, "reynolds is 0.0; it must be finite and positive"),
        ({"reynolds": "large"}, "reynolds is 'large'"),
        ({"initial_condition": "still"}, "initial_condition is 'still'; give 'rest'"),
        ({"forcing": {"kind": "gaussian", "amplitude": "papers"}}, "Did you mean 'paper'"),
        ({"viscosity_draw": "normal"}, "viscosity_draw is 'normal'; allowed: log, uniform"),
        ({"regrid": "mean"}, "regrid is 'mean'; allowed: spectral, stride"),
        ({"regrid": "stride", "grid": 12}, "grid = 12 does not divide solve_grid = 32"),
        ({"courant": 9.0}, "courant is 9.0; etdrk4 is stable"),
        ({"courant": "high"}, "courant is 'high'"),
        ({"min_resolution": -1.0}, "min_resolution is -1.0"),
    ],
)
@pytest.mark.usefixtures("as_users_run")
def test_wrong_options_are_refused_before_anything_is_solved(options, message):
    with pytest.raises(ValueError, match=message):
        GENERATORS.build("navier_stokes", **{**SMALL, **options})

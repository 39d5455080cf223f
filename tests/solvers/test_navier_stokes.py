import math
import re

import numpy as np
import pytest
import torch

from pdesurrogate.fields import fourier
from pdesurrogate.solvers import solve
from pdesurrogate.solvers.forcing import KolmogorovForcing, LiForcing, SymmetricForcing
from pdesurrogate.solvers.navier_stokes import NavierStokes2D
from pdesurrogate.solvers.vorticity import SpectralVorticity

BOX = (2 * math.pi, 2 * math.pi)


def points(grid, lengths=(1.0, 1.0)):
    y, x = (torch.arange(grid, dtype=torch.float64) * (length / grid) for length in lengths)
    return y[:, None], x[None, :]


def run(solver, start, times):
    return solve(solver, start[:, None], times)


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(
    ("integrator", "bound"), [("etdrk4", 1e-12), ("cn_euler", 1e-6)]
)  # Crank-Nicolson errs by (dt λ)³/12 a step
def test_taylor_green_vortices_decay_exactly(integrator, bound):
    y, x = points(32)
    start = (2 * math.pi * x).cos() * (2 * math.pi * y).cos()
    solver = NavierStokes2D(viscosity=1e-3, dt=0.05, integrator=integrator)
    found = run(solver, start[None], [2.0])[0, 0, 0]
    exact = start * math.exp(-2 * 1e-3 * (2 * math.pi) ** 2 * 2.0)
    assert relative(found, exact) < bound


def test_taylor_green_vortices_decay_in_single_precision_too():
    y, x = points(32)
    start = ((2 * math.pi * x).cos() * (2 * math.pi * y).cos()).to(torch.float32)
    found = run(NavierStokes2D(viscosity=1e-3, dt=0.05), start[None], [2.0])[0, 0, 0]
    assert found.dtype == torch.float32
    assert relative(found, start * math.exp(-4e-3 * (2 * math.pi) ** 2)) < 1e-6


@pytest.mark.parametrize("lengths", [(1.0, 1.0), (2.0, 1.0), (1.0, 3.0)])
def test_a_mode_of_a_rectangular_box_decays_with_its_own_wavenumber(lengths):
    y, x = points(24, lengths)
    ky, kx = 2 * math.pi * 2 / lengths[0], 2 * math.pi * 3 / lengths[1]
    start = (ky * y + kx * x).sin()
    found = run(NavierStokes2D(viscosity=1e-3, dt=0.05, lengths=lengths, drag=0.2), start[None], [1.0])[
        0, 0, 0
    ]
    assert relative(found, start * math.exp(-(1e-3 * (ky**2 + kx**2) + 0.2))) < 1e-12


def test_velocity_has_the_documented_sign():
    y, x = points(32, BOX)
    space = SpectralVorticity((32, 32), BOX, torch.float64, "cpu")
    # u = sin y, v = 2 sin x has the vorticity v_x - u_y = 2 cos x - cos y.
    vorticity = 2 * x.cos() - y.cos()
    u, v = space.velocity(space.to_modes(vorticity[None]))[0]
    torch.testing.assert_close(u, y.sin().expand(32, 32), atol=1e-13, rtol=0)
    torch.testing.assert_close(v, 2 * x.sin().expand(32, 32), atol=1e-13, rtol=0)


def test_advection_of_two_modes_is_the_jacobian_by_hand():
    y, x = points(32, BOX)
    space = SpectralVorticity((32, 32), BOX, torch.float64, "cpu")
    # u = sin y, v = sin 2x: w = 2 cos 2x - cos y and u w_x + v w_y = -4 sin y sin 2x + sin 2x sin y.
    vorticity = 2 * (2 * x).cos() - y.cos()
    advected = space.to_grid(space.advection(space.to_modes(vorticity[None])))[0]
    torch.testing.assert_close(advected, -3 * (2 * x).sin() * y.sin(), atol=1e-13, rtol=0)


def test_flux_and_convective_forms_of_advection_agree(random_vorticity):
    space = SpectralVorticity((64, 64), (1.0, 1.0), torch.float64, "cpu")
    w_hat = space.to_modes(random_vorticity(64, num_fields=3, bound=21))
    u, v = space.velocity(w_hat).unbind(1)
    w_y, w_x = fourier.gradient(space.to_grid(w_hat), (1.0, 1.0)).unbind(1)
    convective = space.to_modes(u * w_x + v * w_y)
    assert relative(space.advection(w_hat), convective) < 1e-11


def test_products_do_not_alias(random_vorticity):
    """A field that fills the kept modes of a grid is advected as on a grid with room for all products."""
    w = random_vorticity(48, bound=15)
    coarse = SpectralVorticity((48, 48), (1.0, 1.0), torch.float64, "cpu")
    fine = SpectralVorticity((128, 128), (1.0, 1.0), torch.float64, "cpu")
    advected = fine.to_grid(fine.advection(fine.to_modes(fourier.resample(w, (128, 128)))))
    expected = coarse.to_modes(fourier.resample(advected, (48, 48)))
    assert relative(coarse.advection(coarse.to_modes(w)), expected) < 1e-12


def test_laminar_kolmogorov_flow_is_held():
    y, _ = points(64, BOX)
    rate = 0.02 * 16 + 0.1
    steady = (-4.0 / rate * (4 * y).cos()).expand(64, 64).contiguous()
    solver = NavierStokes2D(
        viscosity=0.02, dt=0.005, lengths=BOX, forcing=KolmogorovForcing(1.0, 4), drag=0.1
    )
    assert relative(run(solver, steady[None], [1.0])[0, 0, 0], steady) < 1e-12


def test_kolmogorov_flow_spins_up_from_rest_to_its_steady_state():
    y, _ = points(64, BOX)
    solver = NavierStokes2D(
        viscosity=0.02, dt=0.005, lengths=BOX, forcing=KolmogorovForcing(1.0, 4), drag=0.1
    )
    rate = 0.02 * 16 + 0.1
    found = run(solver, torch.zeros(1, 64, 64, dtype=torch.float64), [0.5, 1.0])[0, :, 0]
    for frame, time in zip(found, (0.5, 1.0), strict=True):
        exact = (-4.0 / rate * (1 - math.exp(-rate * time)) * (4 * y).cos()).expand(64, 64)
        assert relative(frame, exact) < 1e-12


@pytest.mark.usefixtures("as_users_run")
def test_etdrk4_converges_with_fourth_order_in_time(random_vorticity):
    start = random_vorticity(32)

    def solve(steps):
        return run(NavierStokes2D(viscosity=1e-3, dt=1 / steps, forcing=LiForcing()), start, [1.0])

    reference = solve(320)
    steps = [20, 40, 80]
    errors = [relative(solve(n), reference) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(4.0, abs=0.2)


def test_crank_nicolson_euler_converges_with_first_order_in_time(random_vorticity):
    start = random_vorticity(32)
    reference = run(NavierStokes2D(viscosity=1e-3, dt=1 / 160, forcing=LiForcing()), start, [1.0])
    steps = [40, 80, 160]
    errors = []
    for n in steps:
        solver = NavierStokes2D(viscosity=1e-3, dt=1 / n, forcing=LiForcing(), integrator="cn_euler")
        errors.append(relative(run(solver, start, [1.0]), reference))
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.1)


def test_crank_nicolson_euler_is_the_scheme_of_li_et_al(random_vorticity):
    """An independent transcription of the scheme in numpy, convective form, full spectrum."""
    size, dt, nu = 32, 1e-2, 1e-3
    start = random_vorticity(size)
    k = np.fft.fftfreq(size, 1 / size) * 2 * np.pi
    ky, kx = np.meshgrid(k, k, indexing="ij")
    k2 = kx**2 + ky**2
    inverse = np.divide(1.0, k2, out=np.zeros_like(k2), where=k2 > 0)
    mask = (np.abs(kx) <= 2 * np.pi * size / 3) & (np.abs(ky) <= 2 * np.pi * size / 3)
    y, x = (a.numpy() for a in points(size))
    f_hat = np.fft.fft2(0.1 * (np.sin(2 * np.pi * (x + y)) + np.cos(2 * np.pi * (x + y))))
    w_hat = np.fft.fft2(start[0].numpy())
    for _ in range(20):
        u, v = np.fft.ifft2(1j * ky * inverse * w_hat).real, np.fft.ifft2(-1j * kx * inverse * w_hat).real
        w_x, w_y = np.fft.ifft2(1j * kx * w_hat).real, np.fft.ifft2(1j * ky * w_hat).real
        advection = mask * np.fft.fft2(u * w_x + v * w_y)
        w_hat = ((1 - dt * nu * k2 / 2) * w_hat + dt * (f_hat - advection)) / (1 + dt * nu * k2 / 2)
    solver = NavierStokes2D(viscosity=nu, dt=dt, forcing=LiForcing(), integrator="cn_euler")
    found = run(solver, start, [0.2])[0, 0, 0]
    assert relative(found, torch.from_numpy(np.fft.ifft2(w_hat).real)) < 1e-12


@pytest.mark.usefixtures("as_users_run")
def test_error_falls_exponentially_with_the_number_of_modes(random_vorticity):
    def solve(grid):
        solver = NavierStokes2D(viscosity=1e-3, dt=0.01, forcing=LiForcing())
        end = run(solver, 2 * random_vorticity(grid, bound=3), [2.0])[0, 0, 0]
        return fourier.resample(end, (11, 11))

    reference = solve(96)
    grids = [16, 24, 32, 48]
    errors = [relative(solve(grid), reference) for grid in grids]
    kept = [(grid - 1) // 3 for grid in grids]
    decay = -np.diff(np.log(errors)) / np.diff(kept)
    assert (decay > 1.5).all()  # a power law of any order would lose its decay rate as 1/K
    assert errors[-1] < 1e-9 * errors[0]


def test_inviscid_flow_conserves_energy_and_enstrophy(random_vorticity):
    start = random_vorticity(64, bound=8)
    space = SpectralVorticity((64, 64), (1.0, 1.0), torch.float64, "cpu")

    def invariants(w):
        return space.velocity(space.to_modes(w)).square().mean(), w.square().mean()

    end = run(NavierStokes2D(viscosity=0.0, dt=1 / 80), start, [2.0])[:, 0, 0]
    for before, after in zip(invariants(start), invariants(end), strict=True):
        assert abs(after / before - 1).item() < 1e-9
    assert relative(end, start) > 0.1  # and something has happened


def test_drag_alone_damps_every_mode_at_its_rate(random_vorticity):
    """With ω = e^{-μt} W and time τ = (1 - e^{-μt})/μ, inviscid flow with drag is flow without."""
    start, drag = random_vorticity(48, bound=4), 0.5
    slow_time = (1 - math.exp(-drag * 1.0)) / drag
    free = run(NavierStokes2D(viscosity=0.0, dt=slow_time / 80), start, [slow_time])
    damped = run(NavierStokes2D(viscosity=0.0, dt=1 / 80, drag=drag), start, [1.0])
    assert relative(damped, math.exp(-drag) * free) < 1e-8


def test_flow_under_a_symmetric_forcing_commutes_with_rotations_by_90_degrees(random_vorticity):
    start = random_vorticity(48)
    solver = NavierStokes2D(viscosity=1e-3, dt=0.05, forcing=SymmetricForcing())

    def rotate(w):
        return w.transpose(-1, -2).flip(-1).roll(1, -1)  # (y, x) -> (x, -y) about the grid's origin

    assert relative(rotate(run(solver, start, [2.0])), run(solver, rotate(start), [2.0])) < 1e-10
    skewed = NavierStokes2D(viscosity=1e-3, dt=0.05, forcing=LiForcing())
    assert relative(rotate(run(skewed, start, [2.0])), run(skewed, rotate(start), [2.0])) > 1e-2


def test_reflection_turns_vorticity_round(random_vorticity):
    start = random_vorticity(48)
    solver = NavierStokes2D(viscosity=1e-3, dt=0.05)

    def reflect(w):
        return -w.flip(-1).roll(1, -1)

    assert relative(reflect(run(solver, start, [2.0])), run(solver, reflect(start), [2.0])) < 1e-10


@pytest.mark.usefixtures("as_users_run")
def test_kolmogorov_turbulence_equals_jax_cfd_the_closer_the_smaller_the_step(shared_data):
    path = shared_data / "reference_runs" / "jaxcfd_kolmogorov_128.npz"
    with np.load(path, allow_pickle=False) as file:
        omega = torch.from_numpy(file["omega"]).transpose(1, 2).contiguous()  # their axes are (x, y)

    def differences(dt):
        box = {"lengths": BOX, "forcing": KolmogorovForcing(1.0, 4), "drag": 0.1}
        found = run(NavierStokes2D(viscosity=0.02, dt=dt, **box), omega[:1], [0.5, 1.0])[0, :, 0]
        return [relative(frame, theirs) for frame, theirs in zip(found, omega[1:], strict=True)]

    coarse, middle, fine = (differences(dt) for dt in (1 / 24, 1 / 48, 1 / 100))
    assert max(fine) < 5e-9  # what their own step, 1e-3 of Crank-Nicolson, leaves
    assert coarse[1] > 10 * middle[1] > 10 * fine[1]


def test_a_trajectory_does_not_depend_on_its_batch(random_vorticity):
    start = random_vorticity(32, num_fields=5)
    solver = NavierStokes2D(viscosity=1e-3, dt=0.05, forcing=LiForcing())
    together = run(solver, start, [1.0])
    alone = torch.cat([run(solver, start[i : i + 1], [1.0]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-13, atol=1e-15)


def test_each_trajectory_may_have_its_own_viscosity(random_vorticity):
    start = random_vorticity(32, num_fields=2)
    nu = torch.tensor([1e-3, 1e-2], dtype=torch.float64)
    together = run(NavierStokes2D(viscosity=nu, dt=0.05), start, [1.0])
    for i in range(2):
        alone = run(NavierStokes2D(viscosity=float(nu[i]), dt=0.05), start[i : i + 1], [1.0])
        assert relative(together[i : i + 1], alone) < 1e-13


def test_frames_come_at_the_times_asked_for(random_vorticity):
    start = random_vorticity(32)
    solver = NavierStokes2D(viscosity=1e-3, dt=0.05)
    several = run(solver, start, [0.0, 0.5, 0.75, 2.0])
    assert several.shape == (1, 4, 1, 32, 32)
    torch.testing.assert_close(several[:, 0, 0], start, rtol=0, atol=1e-14)
    assert torch.equal(several[:, 2], run(solver, start, [0.75])[:, 0])


def test_gradients_flow_through_the_solver(random_vorticity):
    start = random_vorticity(16).requires_grad_()
    direction = random_vorticity(16, seed=1)
    solver = NavierStokes2D(viscosity=1e-2, dt=0.1)
    run(solver, start, [0.5]).square().mean().backward()
    with torch.no_grad():
        plus, minus = (run(solver, start + s * 1e-5 * direction, [0.5]).square().mean() for s in (1, -1))
    assert (start.grad * direction).sum().item() == pytest.approx(((plus - minus) / 2e-5).item(), rel=1e-6)


def test_a_step_above_the_stability_bound_is_refused_with_the_bound_and_the_trajectory(random_vorticity):
    start = random_vorticity(32, num_fields=3)
    start[1] *= 20
    with pytest.raises(
        ValueError, match=r"trajectory 1 at t = 0: dt = 0\.1 exceeds the stability bound"
    ) as error:
        run(NavierStokes2D(viscosity=1e-3, dt=0.1), start, [1.0])
    bound = float(re.search(r"bound (\S+) of", str(error.value))[1])
    steps = math.ceil(1 / bound)
    run(NavierStokes2D(viscosity=1e-3, dt=1 / steps), start, [1.0])


def test_a_flow_that_outruns_its_step_between_frames_is_named_with_its_time(random_vorticity):
    start = random_vorticity(32, num_fields=2)
    start[0] = 0.0
    start[1] *= 8
    solver = NavierStokes2D(viscosity=0.0, dt=0.0125, integrator="cn_euler")
    with pytest.raises(
        ValueError, match=r"trajectory second at t = 0\.8: dt = 0\.0125 exceeds the stability"
    ):
        list(solver.frames(start[:, None], [20.0], names=["first", "second"]))


def test_times_that_the_step_does_not_divide_are_refused(random_vorticity):
    solver = NavierStokes2D(viscosity=1e-3, dt=0.3)
    with pytest.raises(ValueError, match=r"dt = 0\.3 does not divide the time from 0\.0 to 1\.0"):
        run(solver, random_vorticity(16), [1.0])
    with pytest.raises(ValueError, match=r"increase from 0 on; 0\.3 comes after 0\.6"):
        run(solver, random_vorticity(16), [0.6, 0.3])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (math.nan, "trajectory 1: the initial state has values that are not finite"),
        (math.inf, "trajectory 1: the initial state has values that are not finite"),
        (1e6, r"trajectory 1: the initial vorticity has the mean 3\.91e\+03 and the largest value 1e\+06"),
    ],
)
def test_an_initial_field_with_a_mean_or_without_finite_values_is_refused(random_vorticity, spoil, message):
    start = random_vorticity(16, num_fields=2)
    start[1, 3, 3] = spoil
    with pytest.raises(ValueError, match=message):
        run(NavierStokes2D(viscosity=1e-3, dt=0.05), start, [1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"viscosity": -1e-3}, "viscosity is -0.001"),
        ({"dt": 0.0}, "dt is 0.0"),
        ({"drag": math.nan}, "drag is nan"),
        ({"lengths": (0.0, 1.0)}, "L_y is 0.0"),
        ({"integrator": "rk4"}, "Unknown integrator 'rk4'"),
        ({"forcing": "torus"}, "is a family of random sources"),
        ({"min_resolution": -1.0}, "min_resolution is -1.0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NavierStokes2D(**{"viscosity": 1e-3, "dt": 0.05, **options})

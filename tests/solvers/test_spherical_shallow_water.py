"""Shallow water on a sphere against exact solutions, classical test cases and an independent solver."""

import itertools
import math

import numpy as np
import pytest
import torch

from pdesurrogate.fields.spherical.grid import SphericalGrid
from pdesurrogate.fields.spherical.resampling import resample_sphere
from pdesurrogate.fields.spherical.transforms import SphericalTransform
from pdesurrogate.solvers import INTEGRATORS
from pdesurrogate.solvers.spherical_shallow_water import SphericalShallowWater
from pdesurrogate.solvers.spherical_states import RandomHarmonics

# Annotations are checked in the tests of invariants; in these long solutions that would take most of the time.
pytestmark = pytest.mark.usefixtures("as_users_run")

EARTH = SphericalShallowWater(dt=1.0)
HOUR = 3600.0


def angles(equation, sizes):
    """Latitudes and longitudes in radians, ready to broadcast."""
    grid = equation.grid_of(sizes)
    return torch.tensor(grid.latitudes)[:, None], torch.tensor(grid.longitudes)[None]


def error(found, expected):
    """Relative L2 error of each channel over the points, the mean of the expected depth left out."""
    found, expected = found.flatten(-2), expected.flatten(-2)
    mean = expected.mean(-1, keepdim=True)
    return (found - expected).norm(dim=-1) / (expected - mean).norm(dim=-1)


def last(equation, state, time):
    (frame,) = equation.frames(state, [time])
    return frame


@pytest.mark.parametrize(("degree", "order"), [(1, 0), (4, 4), (7, 3), (10, 2)])
def test_gravity_waves_on_a_sphere_at_rest_have_their_exact_frequency(degree, order):
    depth, height, num_steps = 1e4, 1e-2, 60
    frequency = math.sqrt(EARTH.gravity * depth * degree * (degree + 1)) / EARTH.radius
    dt = 0.65 * 2 * math.pi / frequency / num_steps
    equation = SphericalShallowWater(dt=dt, truncation=10, rotation=0.0)
    transform = SphericalTransform(equation.grid_of((16, 32)), 10, dtype=torch.float64)
    mode = torch.zeros(11, 11, dtype=torch.complex128)
    mode[degree, order] = 1.0
    wave = transform.synthesise(mode)
    state = torch.stack([depth + height * wave, torch.zeros_like(wave), torch.zeros_like(wave)])[None]
    time = num_steps * dt
    found = last(equation, state, time)[0]
    height_now = height * math.cos(frequency * time) * wave
    divergence = height * frequency / depth * math.sin(frequency * time) * wave
    assert (found[0] - depth - height_now).norm() / (height * wave).norm() < 1e-5
    assert (found[2] - divergence).norm() / (height * frequency / depth * wave).norm() < 1e-5
    assert found[1].abs().max() < 1e-6 * frequency * height / depth


@pytest.mark.parametrize("tilt", [0.0, 0.05, math.pi / 2])
def test_a_geostrophic_flow_around_any_axis_is_steady(tilt):
    """Williamson et al. 1992, test case 2."""
    equation = SphericalShallowWater(dt=1200.0, truncation=10, tilt=tilt)
    phi, lam = angles(equation, (16, 32))
    speed = 2 * math.pi * equation.radius / (12 * 86400)
    east = speed * (phi.cos() * math.cos(tilt) + lam.cos() * phi.sin() * math.sin(tilt))
    north = -speed * lam.sin() * math.sin(tilt) * torch.ones_like(phi)
    sine = phi.sin() * math.cos(tilt) - lam.cos() * phi.cos() * math.sin(tilt)
    pressure = equation.radius * equation.rotation * speed + speed**2 / 2
    depth = (2.94e4 - pressure * sine**2) / equation.gravity
    state = equation.state(depth[None], torch.stack([east, north])[None])
    torch.testing.assert_close(equation.wind(state)[0], torch.stack([east, north]), rtol=0, atol=1e-10)
    found = last(equation, state, 86400.0)
    assert float((found - state)[:, 0].norm() / state[:, 0].norm()) < 1e-12
    assert float((found - state)[:, 1:].abs().max()) < 1e-15


def rossby_haurwitz(equation, sizes):
    """Williamson et al. 1992, test case 6: a wave of zonal wavenumber 4."""
    phi, lam = angles(equation, sizes)
    a, rate, num = equation.radius, 7.848e-6, 4
    c = phi.cos()
    east = a * rate * c + a * rate * c ** (num - 1) * (num * phi.sin() ** 2 - c**2) * (num * lam).cos()
    north = -a * rate * num * c ** (num - 1) * phi.sin() * (num * lam).sin()
    mean = rate / 2 * (2 * equation.rotation + rate) * c**2
    mean = mean + rate**2 / 4 * c ** (2 * num) * (
        (num + 1) * c**2 + (2 * num**2 - num - 2) - 2 * num**2 / c**2
    )
    first = 2 * (equation.rotation + rate) * rate / ((num + 1) * (num + 2)) * c**num
    first = first * ((num**2 + 2 * num + 2) - (num + 1) ** 2 * c**2)
    second = rate**2 / 4 * c ** (2 * num) * ((num + 1) * c**2 - (num + 2))
    waves = mean + first * (num * lam).cos() + second * (2 * num * lam).cos()
    depth = 8000.0 + a**2 / equation.gravity * waves
    return equation.state(depth[None], torch.stack([east, north])[None])


def test_a_rossby_haurwitz_wave_travels_at_its_speed_and_keeps_its_wavenumber():
    equation = SphericalShallowWater(dt=1200.0, truncation=21)
    state = rossby_haurwitz(equation, (32, 64))
    found = last(equation, state, 86400.0)
    transform = SphericalTransform(equation.grid_of((32, 64)), 21, dtype=torch.float64)
    before, after = (transform.analyse(frame[0, 1]) for frame in (state, found))
    others = [m for m in range(22) if m % 4]
    assert after[:, others].abs().max() < 1e-12 * after.abs().max()
    travelled = float((before[5, 4] / after[5, 4]).angle()) / 4 % (math.pi / 2)
    # Haurwitz's speed is that of a flow without divergence; waves in a fluid of finite depth are slower.
    expected = 86400 * (4 * 7 * 7.848e-6 - 2 * equation.rotation) / (5 * 6)
    assert 0.9 * expected < travelled < expected
    assert float(after[5, 4].abs() / before[5, 4].abs()) == pytest.approx(1, abs=0.02)


def test_galewskys_jet_agrees_with_torch_harmonics_after_a_day(shared_data):
    file = np.load(shared_data / "reference_runs" / "torchharmonics0.9.3_galewsky_T42_64x128.npz")
    reference = torch.from_numpy(file["fields"])
    reference[:, 0] /= EARTH.gravity

    def errors(dt, hours):
        equation = SphericalShallowWater(dt=dt, truncation=42)
        frames = equation.frames(reference[:1], [hour * HOUR for hour in hours])
        return [
            error(frame[0], reference[list(file["t_hours"]).index(hour)])
            for frame, hour in zip(frames, hours, strict=True)
        ]

    (coarse,) = errors(600.0, [12])
    fine, day = errors(300.0, [12, 24])
    # With steps of 120 s they are 2.5e-5, 5.0e-6, 1.4e-2: what is left is the other solver's, of second order at 60 s.
    assert (day < torch.tensor([5e-5, 1e-5, 3e-2])).all()
    assert (coarse > torch.tensor([8.0, 8.0, 8.0]) * fine).all()


@pytest.mark.parametrize("integrator", INTEGRATORS.names())
def test_errors_fall_with_the_order_of_the_integrator(integrator):
    steps = {4: (1200.0, 600.0, 300.0), 2: (300.0, 150.0, 75.0), 1: (75.0, 37.5, 18.75)}
    order = INTEGRATORS.get(integrator).order
    options = {"truncation": 7, "diffusion_time": HOUR}
    state = RandomHarmonics().state(SphericalShallowWater(dt=1.0, **options), (12, 24), 0, 0)[None]
    exact = last(SphericalShallowWater(dt=50.0, **options), state, HOUR)
    found = [
        last(SphericalShallowWater(dt=dt, integrator=integrator, **options), state, HOUR)
        for dt in steps[order]
    ]
    for channel in range(3):
        errors = [float(error(f, exact)[0, channel]) for f in found]
        slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
        assert slopes[-1] == pytest.approx(order, abs=0.25), (channel, errors)


def test_errors_in_space_fall_faster_than_any_power():
    finest = SphericalGrid(48, 96)

    def solved(truncation):
        equation = SphericalShallowWater(dt=600.0, truncation=truncation)
        phi, lam = angles(equation, finest.shape)
        bump = 100 * torch.exp(6 * (phi.cos() * (lam - 1).cos() * 0.8 + phi.sin() * 0.6 - 1))
        wind = torch.zeros(1, 2, *finest.shape, dtype=torch.float64)
        wind[:, 0] = 30 * phi.cos() * (1 + phi.sin())
        state = equation.state(8000 + bump[None], wind)
        coarse = SphericalGrid(2 * truncation, 4 * truncation)
        state = resample_sphere(state, equation.fields, finest, coarse)
        end = last(equation, state, 3 * HOUR)
        return resample_sphere(end, equation.fields, coarse, finest)

    exact = solved(24)
    errors = torch.stack([error(solved(truncation), exact)[0] for truncation in (6, 11, 16)])
    first, second = errors[0] / errors[1], errors[1] / errors[2]
    assert (second > 20).all()
    # A power of T would shrink the error less the second time, by the exponent that the first time shows.
    exponent = first.log() / math.log(11 / 6)
    assert (second > (16 / 11) ** exponent).all()


@pytest.mark.parametrize("diffusion_order", [4, 8])
def test_hyperdiffusion_decays_each_degree_at_its_rate(diffusion_order):
    equation = SphericalShallowWater(
        dt=HOUR,
        truncation=10,
        rotation=0.0,
        gravity=1e-9,
        diffusion_time=HOUR,
        diffusion_order=diffusion_order,
    )
    transform = SphericalTransform(equation.grid_of((16, 32)), 10, dtype=torch.float64)
    modes = torch.zeros(2, 11, 11, dtype=torch.complex128)
    for degree in (3, 7, 10):
        modes[:, degree, 2] = 1e-15
    vorticity, divergence = transform.synthesise(modes)
    state = torch.stack([torch.full_like(vorticity, 1000.0), vorticity, divergence])[None]
    end = transform.analyse(last(equation, state, 3 * HOUR)[0])
    for degree in (3, 7, 10):
        decay = math.exp(-3 * (degree * (degree + 1) / 110) ** (diffusion_order / 2))
        assert end[1:, degree, 2].real.tolist() == pytest.approx([1e-15 * decay] * 2, rel=1e-6)

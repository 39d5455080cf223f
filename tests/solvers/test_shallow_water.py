"""Planar shallow water against exact solutions, and its orders of convergence."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch.nn.functional import avg_pool2d

from pdesurrogate.solvers.equation import Equation
from pdesurrogate.solvers.shallow_water import PlanarShallowWater

# Annotations are checked in the tests of invariants; in these long solutions that would take much of the time.
pytestmark = pytest.mark.usefixtures("as_users_run")


def slopes(errors):
    return [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]


def still(x):
    return torch.zeros_like(x)


def stoker(x, time, high=2.0, low=1.0):
    """Stoker (1957): a dam between depths ``high`` and ``low`` breaks at x = 0; g = 1. Depth and velocity."""

    def mismatch(depth):  # velocity behind the shock less that behind the rarefaction
        shock = (depth - low) * math.sqrt((depth + low) / (2 * depth * low))
        return shock - 2 * (math.sqrt(high) - math.sqrt(depth))

    middle = brentq(mismatch, low, high, xtol=1e-14)
    speed = 2 * (math.sqrt(high) - math.sqrt(middle))
    shock = middle * speed / (middle - low)
    fan = (2 * math.sqrt(high) - x / time) / 3
    tail, head = (speed - math.sqrt(middle)) * time, -math.sqrt(high) * time
    h = torch.where(x < head, high, torch.where(x < tail, fan**2, torch.where(x < shock * time, middle, low)))
    u = torch.where(
        x < head,
        0.0,
        torch.where(x < tail, 2 * (math.sqrt(high) - fan), torch.where(x < shock * time, speed, 0.0)),
    )
    return h, u, middle


def test_it_is_an_equation():
    assert isinstance(PlanarShallowWater(), Equation)


def test_a_dam_break_on_the_line_is_stokers_solution(solve_on_line):
    errors = []
    for cells in (100, 200, 400):
        x, h, hu = solve_on_line(lambda x: torch.where(x < 0, 2.0, 1.0), still, 0.4, cells)
        exact_h, exact_u, middle = stoker(x, 0.4)
        errors.append(float((h - exact_h).abs().mean()))
        plateau = h[(exact_h - middle).abs() < 1e-6]
        assert float((plateau.median() - middle).abs()) < 5e-3 * middle
    assert (hu - exact_h * exact_u).abs().mean() < 2e-3
    assert errors[-1] < 1.6e-3
    assert all(0.8 < slope < 1.3 for slope in slopes(errors)), (errors, slopes(errors))


def test_a_dam_break_on_dry_ground_is_ritters_solution_and_never_negative(solve_on_line):
    errors, fronts = [], []
    for cells in (100, 200, 400):
        x, h, hu = solve_on_line(lambda x: torch.where(x < 0, 1.0, 0.0), still, 0.6, cells)
        speed = x / 0.6
        exact = torch.where(speed < -1, 1.0, torch.where(speed < 2, (2 - speed).square() / 9, 0.0))
        errors.append(float((h - exact).abs().mean()))
        assert h.min() >= 0
        assert not hu[h <= 1e-6].any()
        assert float(h.mean()) == pytest.approx(0.5, abs=1e-14)
        fronts.append(float(x[h > 1e-5].max()))
    assert errors[-1] < 1e-3
    assert all(slope > 0.8 for slope in slopes(errors)), (errors, slopes(errors))
    assert fronts == sorted(fronts)
    assert 0.85 * 1.2 < fronts[-1] < 1.2


def test_water_swings_in_a_parabolic_bowl_as_thacker_says(solve_on_line):
    """Thacker (1981), J. Fluid Mech. 107: ``b = x² - 1``, a tilted plane of water, moving shores, period 2π/√2."""
    omega, swing = math.sqrt(2.0), 0.5

    def exact(x, time):  # the parabola of the bowl, shifted by the swing
        shift = swing * math.cos(omega * time)
        return (1 - (x - shift).square()).clamp_min(0.0)

    errors = []
    for cells in (50, 100, 200):
        x, h, _ = solve_on_line(
            lambda x: exact(x, 0.0),
            still,
            math.pi / omega,
            cells,
            length=4.0,
            boundary="wall",
            bed=lambda x: x**2,
        )
        errors.append(float((h - exact(x, math.pi / omega)).abs().mean()))
        assert h.min() >= 0
        assert float(h.sum()) == pytest.approx(float(exact(x, 0.0).sum()), rel=1e-13)
    assert errors[-1] < 1.3e-3
    assert all(slope > 1.1 for slope in slopes(errors)), (errors, slopes(errors))


def test_a_small_gravity_wave_travels_with_second_order(solve_on_line):
    """A wave along the diagonal of a square, ``ω = √(g H) |k|``, H = 1."""
    errors, amplitude, gravity = [], 1e-6, 4.0
    for cells in (32, 64, 128):
        x = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
        phase = 2 * math.pi * (x[:, None] + x[None, :])
        time, omega = 0.1, math.sqrt(gravity) * 2 * math.pi * math.sqrt(2)
        mean = math.sin(math.pi / cells) ** 2 / (math.pi / cells) ** 2  # of a cell over its centre's value

        def wave(time, phase=phase, omega=omega, mean=mean):
            h = amplitude * mean * torch.cos(phase - omega * time)
            u = math.sqrt(gravity) / math.sqrt(2) * h
            return torch.stack([1 + h, u, u])

        (end,) = PlanarShallowWater(gravity=gravity).frames(wave(0.0)[None], [time])
        errors.append(float((end[0] - wave(time))[0].abs().mean()) / amplitude)
    assert errors[-1] < 2e-3
    assert 1.8 < slopes(errors)[-1] < 2.2, (errors, slopes(errors))


@pytest.mark.parametrize("has_bed", [False, True])
@pytest.mark.parametrize("boundary", ["periodic", "wall"])
def test_smooth_nonlinear_flow_converges_with_second_order(has_bed, boundary):
    coarse, ends = 32, []
    for cells in (32, 64, 128):
        x = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
        wave = torch.cos(2 * math.pi * x)
        bed = 0.3 * wave[:, None] * wave[None, :] if has_bed else None
        h = 1 + 0.1 * wave[:, None] + 0.1 * wave[None, :]
        depth = h if bed is None else h - bed
        state = torch.stack([depth, torch.zeros_like(h), torch.zeros_like(h)])[None]
        (end,) = PlanarShallowWater(boundaries=(boundary,) * 2, bed=bed).frames(state, [0.15])
        ends.append(avg_pool2d(end, cells // coarse))
    errors = [float((a - b).abs().mean()) for a, b in itertools.pairwise(ends)]
    assert 1.8 < slopes(errors)[-1] < 2.4, (errors, slopes(errors))


def test_heuns_steps_converge_with_second_order_in_time():
    cells, time, ends = 16, 0.4, []
    x = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    h = 1 + 0.02 * torch.sin(2 * math.pi * x).expand(cells, cells)
    state = torch.stack([h, 0.3 * h, torch.zeros_like(h)])[None]
    for steps in (40, 80, 160, 320):
        (end,) = PlanarShallowWater(dt=time / steps).frames(state, [time])
        ends.append(end)
    errors = [float((a - b).abs().mean()) for a, b in itertools.pairwise(ends)]
    assert all(slope > 1.7 for slope in slopes(errors)), (errors, slopes(errors))


def test_the_solution_agrees_with_clawpack_and_nears_it_as_the_grid_is_refined(shared_data, radial_dam):
    """Clawpack 5.14: Roe's solver, monotonised-central limiter, dimensional splitting, 128 x 128 cells.

    Both are of second order with shocks, so that their difference ends at the error of Clawpack's own grid: the
    bound is 2.5 % of ``|h - 1|`` on the same grid, where Clawpack itself is 6 to 9 % from its own limit.
    """
    import h5py

    radii = tuple(np.random.default_rng(seed).uniform(0.3, 0.7) for seed in (0, 23))
    with h5py.File(shared_data / "reference_runs" / "2D_rdb_NA_NA_clawpack5.14_two_seeds.h5") as file:
        reference = np.stack([file[name]["data"][[10, 50, 100], :, :, 0] for name in ("0000", "0023")])
    reference = torch.from_numpy(reference).double()
    equation = PlanarShallowWater((5.0, 5.0), ("open", "open"))
    differences = []
    for cells in (32, 64, 128):
        start = avg_pool2d(radial_dam(128, radii), 128 // cells)
        depth = torch.stack([q[:, 0] for q in equation.frames(start, [0.1, 0.5, 1.0])], 1)
        theirs = avg_pool2d(reference, 128 // cells)
        norm = torch.linalg.vector_norm
        differences.append(norm(depth - theirs, dim=(-2, -1)) / norm(theirs - 1, dim=(-2, -1)))
    assert differences[-1].max() < 0.025
    assert (differences[0] > differences[1]).all()
    assert (differences[1] > 3 * differences[2]).all()

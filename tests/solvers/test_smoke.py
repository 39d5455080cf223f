"""Buoyant smoke against exact solutions, PhiFlow's runs, and its orders of convergence."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from pdesurrogate.solvers.equation import Equation
from pdesurrogate.solvers.smoke import Smoke

PDEARENA = {"dt": 1.5, "order": "pdearena", "scheme": "semi_lagrangian"}
UNIT = {"lengths": (1.0, 1.0)}

# Annotations are checked in the tests of the generator; in these long solutions that would take much of the time.
pytestmark = pytest.mark.usefixtures("as_users_run")


def slopes(errors):
    return [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]


def rms(values):
    return float(values.square().mean().sqrt())


def end_of(state, time, **options):
    (end,) = Smoke(**options).frames(state, [time])
    return end


def taylor_green(cells):
    """``ψ = sin πx sin πy / π`` between walls that let the fluid slip, of uniform smoke that the pressure bears."""
    centres = math.pi * (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    faces = math.pi * torch.arange(cells, dtype=torch.float64) / cells
    state = torch.ones(1, 3, cells, cells, dtype=torch.float64)
    state[0, 1] = torch.cos(centres)[:, None] * torch.sin(faces)[None, :]
    state[0, 2] = -torch.sin(faces)[:, None] * torch.cos(centres)[None, :]
    return state


def clouds(cells):
    """Smooth smoke at rest whose gradient does not cross walls."""
    centres = math.pi * (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    state = torch.zeros(1, 3, cells, cells, dtype=torch.float64)
    y, x = centres[:, None], centres[None, :]
    state[0, 0] = 1 + 0.5 * torch.cos(y) * torch.cos(x) + 0.3 * torch.cos(2 * x)
    return state


def on_coarse_faces(state, block):
    """Means over blocks of cells, and of the faces that lie on coarse faces."""
    if block == 1:
        return state
    along_x = avg_pool2d(state[:, 1:2, :, ::block], (block, 1))
    along_y = avg_pool2d(state[:, 2:3, ::block], (1, block))
    return torch.cat([avg_pool2d(state[:, :1], block), along_x, along_y], 1)


def test_it_is_an_equation():
    assert isinstance(Smoke(), Equation)
    assert [axis.name for axis in Smoke(lengths=(1.0,) * 3).axes] == ["z", "y", "x"]
    names = [name for field in Smoke(lengths=(1.0,) * 3).fields for name in field.channel_names]
    assert names == ["density", "velocity_x", "velocity_y", "velocity_z"]


def test_every_step_of_phiflow_is_reproduced(shared_data):
    """PhiFlow 2.5.3 in double precision, PDEArena's script on 64 x 64 cells; its arrays have the axes (x, y)."""
    with np.load(
        shared_data / "reference_runs" / "phiflow2.5.3_smoke64_fp64.npz", allow_pickle=False
    ) as file:
        density = torch.from_numpy(file["u"]).mT
        velocity = torch.from_numpy(file["velocity"])[:, :-1, :-1].permute(0, 3, 2, 1)
        times = (file["steps"] * float(file["dt"])).tolist()
    state = torch.cat([density[0][None], torch.zeros(2, 64, 64, dtype=torch.float64)])[None]
    for k, frame in enumerate(Smoke(**PDEARENA).frames(state, times[1:])):
        torch.testing.assert_close(frame[0, 0], density[k + 1], rtol=0, atol=1e-7)
        torch.testing.assert_close(frame[0, 1:], velocity[k], rtol=0, atol=1e-7)


def test_a_late_frame_of_a_public_file_develops_as_the_file_does(shared_data):
    """PhiFlow in single precision from PDEArena's script, whose own frames differ by 0.1 and 1 % from exact steps."""
    import h5py

    with h5py.File(shared_data / "reference_runs" / "NavierStokes2D_valid_5_0.50000.h5") as file:
        frames = np.stack([file["valid"][name][0] for name in ("u", "vx", "vy")], axis=1)
        spacing = float(file["valid/dt"][0])
    frames = torch.from_numpy(frames).mT.contiguous()
    for k in (0, 6, 12):
        found = end_of(frames[k][None], spacing, **PDEARENA)[0]
        errors = [rms(found[c] - frames[k + 1, c]) / rms(frames[k + 1, c]) for c in range(3)]
        assert errors[0] < 0.002
        assert max(errors[1:]) < 0.01


def test_taylor_green_vortices_decay_at_their_rate_with_second_order_or_first():
    for scheme, expected, largest in (("second_order", 2.0, 4e-5), ("semi_lagrangian", 1.0, 2e-2)):
        errors = []
        for cells in (16, 32, 64):
            options = {"viscosity": 0.002, "dt": 0.8 / cells, "walls": "free_slip", "scheme": scheme, **UNIT}
            exact = taylor_green(cells) * math.exp(-2 * math.pi**2 * 0.002 * 0.5)
            end = end_of(taylor_green(cells), 0.5, **options)
            errors.append(rms((end - exact)[:, 1:]))
            torch.testing.assert_close(end[:, 0], taylor_green(cells)[:, 0], rtol=0, atol=1e-13)
        assert errors[-1] < largest
        assert expected - 0.1 < slopes(errors)[-1] < expected + 0.3, (scheme, errors, slopes(errors))


@pytest.mark.parametrize(
    ("walls", "grids", "viscosity", "steps_a_cell"),
    [("free_slip", (16, 32, 64), 0.003, 0.5), ("no_slip", (12, 24, 48), 0.02, 2.5)],
)
def test_rising_clouds_converge_with_second_order_as_step_and_grid_are_refined_together(
    walls, grids, viscosity, steps_a_cell
):
    """Where the fluid sticks, viscosity makes layers along the walls that the coarsest grid resolves."""
    ends = []
    for cells in grids:
        options = {"viscosity": viscosity, "diffusivity": viscosity, "buoyancy": 2.0, "walls": walls, **UNIT}
        time = 0.32 if walls == "free_slip" else 0.6
        end = end_of(clouds(cells), time, dt=time / (steps_a_cell * cells), **options)
        ends.append(on_coarse_faces(end, cells // grids[0]))
    for channel in range(3):
        errors = [rms((a - b)[:, channel]) for a, b in itertools.pairwise(ends)]
        assert 1.7 < slopes(errors)[-1] < 2.4, (channel, errors, slopes(errors))


@pytest.mark.parametrize(
    ("scheme", "cells", "low", "high"),
    [("second_order", 96, 1.75, 2.2), ("semi_lagrangian", 128, 0.85, 1.25)],
)
def test_steps_converge_with_their_order_in_time(scheme, cells, low, high):
    """At Courant numbers of order one, where interpolation errs less than the steps do."""
    ends = []
    for steps in (12, 24, 48):
        options = {"viscosity": 0.0, "dt": 1.28 / steps, "walls": "free_slip", "scheme": scheme, **UNIT}
        ends.append(end_of(clouds(cells), 1.28, **options))
    for channel in range(3):
        errors = [rms((a - b)[:, channel]) for a, b in itertools.pairwise(ends)]
        assert low < slopes(errors)[-1] < high, (channel, errors, slopes(errors))


def test_pdearenas_order_converges_with_first_order():
    """Its walls hold the fluid half a cell outside: the grid's error is of first order too."""
    ends = []
    for cells in (12, 24, 48):
        options = {**PDEARENA, "buoyancy": 2.0, "viscosity": 0.02, "dt": 0.24 / cells, **UNIT}
        ends.append(on_coarse_faces(end_of(clouds(cells), 0.6, **options), cells // 12))
    errors = [rms((a - b)[:, 1:]) for a, b in itertools.pairwise(ends)]
    assert 0.7 < slopes(errors)[-1] < 1.3, (errors, slopes(errors))


def test_uniform_smoke_moves_in_pdearenas_order_exactly_as_in_phiflow():
    state = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    state[:, 0] = 1.0
    speeds = [float(q[:, 1:].abs().max()) for q in Smoke(**PDEARENA).frames(state, [1.5, 3.0, 4.5])]
    assert speeds == pytest.approx([0.04333999, 0.08147576, 0.11518761], abs=1e-8)


@pytest.mark.parametrize("scheme", ["second_order", "semi_lagrangian"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_smoke_stays_at_rest_in_the_balanced_order(scheme, dtype):
    state = torch.zeros(1, 3, 32, 64, dtype=dtype)
    state[:, 0] = 1.7
    end = end_of(state, 15.0, dt=1.5, scheme=scheme)
    assert end[:, 1:].abs().max() < (1e-12 if dtype == torch.float64 else 1e-4)
    assert torch.equal(end[:, 0], state[:, 0])


def test_layers_of_smoke_bear_on_each_other_and_stay_at_rest():
    """Density that varies upwards alone is hydrostatic: the pressure balances it exactly."""
    state = torch.zeros(1, 3, 32, 24, dtype=torch.float64)
    state[0, 0] = torch.linspace(0.1, 2.0, 32, dtype=torch.float64)[:, None]
    for scheme in ("second_order", "semi_lagrangian"):
        end = end_of(state, 1.0, dt=0.1, scheme=scheme)
        assert (end - state).abs().max() < 1e-12

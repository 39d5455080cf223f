import pytest
import torch

from pdesurrogate.fields import fourier
from pdesurrogate.solvers.random_fields import GaussianRandomField
from pdesurrogate.solvers.shallow_water import PlanarShallowWater


@pytest.fixture
def random_vorticity():
    """Smooth random vorticity, the same function on every grid: modes up to ``bound`` on a box of side 1."""

    def make(grid, num_fields=1, bound=5, seed=0):
        field = GaussianRandomField(alpha=3.0)
        coarse = torch.stack([field.sample(seed, i, (2 * bound + 1,) * 2) for i in range(num_fields)])
        return fourier.resample(2.0 * coarse, (grid, grid))

    return make


@pytest.fixture
def solve_on_line():
    """Shallow water along x on ``[-length/2, length/2]``, from h(x) and u(x) to ``(x, h, u)`` at one time."""

    def solve(depth, velocity, time, cells, *, length=5.0, boundary="open", bed=None, **options):
        x = (torch.arange(cells, dtype=torch.float64) + 0.5) * length / cells - length / 2
        state = torch.zeros(1, 3, 2, cells, dtype=torch.float64)
        state[0, 0] = depth(x)
        state[0, 1] = state[0, 0] * velocity(x)
        options["bed"] = None if bed is None else bed(x).expand(2, cells)
        equation = PlanarShallowWater((1e6, length), ("periodic", boundary), **options)
        (end,) = equation.frames(state, [time])
        assert torch.equal(end[0, :, 0], end[0, :, 1])
        assert not end[0, 2].any()
        return x, end[0, 0, 0], end[0, 1, 0]

    return solve


@pytest.fixture
def radial_dam():
    """States of water at rest, 2 deep inside discs and 1 deep around them, on a box of side 5."""

    def make(cells, radii=(0.55,), dtype=torch.float64):
        x = (torch.arange(cells, dtype=torch.float64) + 0.5) * 5.0 / cells - 2.5
        distance = torch.hypot(x[:, None], x[None, :])
        state = torch.zeros(len(radii), 3, cells, cells, dtype=dtype)
        for i, radius in enumerate(radii):
            state[i, 0] = torch.where(distance <= radius, 2.0, 1.0)
        return state

    return make

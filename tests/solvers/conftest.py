import pytest
import torch

from pdesurrogate.fields import fourier
from pdesurrogate.solvers.random_fields import GaussianRandomField


@pytest.fixture
def random_vorticity():
    """Smooth random vorticity, the same function on every grid: modes up to ``bound`` on a box of side 1."""

    def make(grid, num_fields=1, bound=5, seed=0):
        field = GaussianRandomField(alpha=3.0)
        coarse = torch.stack([field.sample(seed, i, (2 * bound + 1,) * 2) for i in range(num_fields)])
        return fourier.resample(2.0 * coarse, (grid, grid))

    return make

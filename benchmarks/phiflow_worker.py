"""The other side of `smoke_peers`: PDEArena's smoke loop in PhiFlow, run by an interpreter that has PhiFlow 2.5.3.

Each line on the input is a number of steps to take from the initial state; the end is left in a folder.
"""

import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import phi  # noqa: E402
from phi.flow import Box, CenteredGrid, Solve, StaggeredGrid, advect, diffuse, extrapolation, fluid, math  # noqa: E402
from phi.math import reshaped_native  # noqa: E402

folder = Path(sys.argv[1])
length, dt, viscosity, buoyancy, precision = map(float, sys.argv[2:])
math.set_global_precision(int(precision))
density = np.load(folder / "density.npy", allow_pickle=False)
axes = ("x", "y", "z")[: density.ndim]
sizes = dict(zip(axes, density.shape, strict=True))
box = Box(**dict.fromkeys(axes, length))
values = math.tensor(density, math.spatial(",".join(axes)))
smoke = CenteredGrid(values, extrapolation.BOUNDARY, bounds=box, **sizes)
start = smoke, StaggeredGrid(0, extrapolation.ZERO, bounds=box, **sizes)
up = (0,) * (len(axes) - 1) + (buoyancy,)
# In double precision the pressure is solved to rounding, to be compared; PDEArena takes the default.
solve = Solve("CG", 1e-9, 1e-9, max_iterations=4000) if precision == 64 else None


def step(smoke, velocity):
    """Take one step."""
    smoke = advect.semi_lagrangian(smoke, velocity, dt)
    force = (smoke * up).at(velocity)
    velocity = advect.semi_lagrangian(velocity, velocity, dt) + dt * force
    velocity = diffuse.explicit(velocity, viscosity, dt)
    options = {} if solve is None else {"solve": solve}
    velocity, _ = fluid.make_incompressible(velocity, **options)
    return smoke, velocity


print(phi.__version__, flush=True)
for line in sys.stdin:
    state = start
    for _ in range(int(line)):
        state = step(*state)
    np.save(folder / "density_end.npy", reshaped_native(state[0].values, groups=axes, to_numpy=True))
    faces = state[1].staggered_tensor()
    np.save(folder / "velocity_end.npy", reshaped_native(faces, groups=(*axes, "vector"), to_numpy=True))
    print("done", flush=True)

"""Declared symmetries hold on periodic square boxes to rounding; those that are not declared are broken."""

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field

AXES = {
    "plane": (Axis("y", 1.0), Axis("x", 1.0)),
    "box": (Axis("z", 1.0), Axis("y", 1.0), Axis("x", 1.0)),
}
DENSITY = Field("density")


def shift(frames):
    return frames.roll([1, 3], (-2, -1))


def rotate(frames):
    return frames.rot90(1, (-2, -1))


def reflect(frames):
    return frames.flip(-1).roll(1, -1)


def rotate_vector(frames):
    """A quarter turn of (v_y, v_x): positions turn and so do the components."""
    turned = frames.rot90(1, (-2, -1))
    return torch.stack([-turned[:, :, 1], turned[:, :, 0]], 2)


def reflect_vector(frames):
    return reflect(frames) * torch.tensor([1.0, -1.0], dtype=frames.dtype).view(2, 1, 1)


SCALARS = {"shift": shift, "rotation": rotate, "reflection": reflect}
VECTORS = {"shift": shift, "rotation": rotate_vector, "reflection": reflect_vector}


def defect(model, frames, parameters, act):
    future = model(frames, parameters)
    return ((model(act(frames), parameters) - act(future)).norm() / future.norm()).item()


@torch.no_grad()
@pytest.mark.parametrize("symmetry", SCALARS)
@pytest.mark.parametrize("box", AXES)
def test_scalars_keep_declared_symmetries_and_break_the_others(
    configuration, box, symmetry, plane, build_model, sample_windows
):
    case = plane._replace(spec=DataSpec((DENSITY,), AXES[box], 0.1), grid=(8,) * len(AXES[box]))
    model = build_model(configuration, case)
    error = defect(model, *sample_windows(case), SCALARS[symmetry])
    assert (error < 1e-5) if symmetry in model.symmetries else (error > 1e-3)


@torch.no_grad()
@pytest.mark.parametrize("symmetry", VECTORS)
def test_vectors_keep_declared_symmetries_and_break_the_others(
    configuration, symmetry, plane, build_model, sample_windows
):
    velocity = Field("velocity", "m s-1", "vector", ("y", "x"))
    case = plane._replace(spec=DataSpec((velocity,), AXES["plane"], 0.1))
    model = build_model(configuration, case)
    error = defect(model, *sample_windows(case), VECTORS[symmetry])
    assert (error < 1e-5) if symmetry in model.symmetries else (error > 1e-3)

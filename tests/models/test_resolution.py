"""Models for any grid are functions between fields: the same field on another grid gives the same future."""

import math

import pytest
import torch

from pdesurrogate.fields.fourier import resample


def smooth_windows(case, num_modes=5):
    """Frames whose modes all fit on a grid of ``num_modes`` points per axis, float64."""
    generator = torch.Generator().manual_seed(3)
    shape = (2, case.history, case.spec.num_channels, *[num_modes] * case.spec.ndim)
    coarse = torch.randn(shape, generator=generator, dtype=torch.float64)
    return coarse, torch.zeros(2, case.spec.num_parameters, dtype=torch.float64)


def future_on(model, frames, parameters, size, ndim):
    """The model's future on a grid of ``size`` points, as its interpolant on 32 points."""
    return resample(model(resample(frames, [size] * ndim), parameters), [32] * ndim)


@torch.no_grad()
@pytest.mark.parametrize("name", ["periodic plane", "line"])
def test_a_band_limited_input_gives_the_same_future_at_32_48_64_and_65_points(
    configuration, name, request, build_model
):
    case = request.getfixturevalue("plane" if name == "periodic plane" else "line")
    model = for_grids_of((32, 48, 64, 65), configuration, case, build_model)
    if getattr(model, "convergence", None) is not None:
        pytest.skip("its future settles with an order that it declares")
    frames, parameters = smooth_windows(case)
    reference = future_on(model, frames, parameters, 96, case.spec.ndim)
    errors = {
        size: (
            (future_on(model, frames, parameters, size, case.spec.ndim) - reference).norm() / reference.norm()
        )
        for size in (32, 48, 64, 65)
    }
    # What is left is the aliasing of the activations, which falls fast with the number of points.
    assert errors[32] < 1e-2, errors
    assert max(errors[48], errors[64], errors[65]) < 1e-3, errors


@torch.no_grad()
@pytest.mark.parametrize("name", ["periodic plane", "line"])
def test_a_future_settles_with_the_declared_order_as_the_grid_is_refined(
    configuration, name, request, build_model
):
    case = request.getfixturevalue("plane" if name == "periodic plane" else "line")
    sizes = (32, 64, 128)
    model = for_grids_of(sizes, configuration, case, build_model)
    declared = getattr(model, "convergence", None)
    if declared is None:
        pytest.skip("only aliasing tells its grids apart")
    frames, parameters = smooth_windows(case)
    coarse, middle, fine = (future_on(model, frames, parameters, size, case.spec.ndim) for size in sizes)
    change = ((coarse - middle).norm() / fine.norm()).item(), ((middle - fine).norm() / fine.norm()).item()
    if declared == 0:  # stencils count in points
        assert change[1] > 2e-2, change
        return
    order = math.log2(change[0] / change[1])
    # Hats meet the points of a grid differently from grid to grid, which shows in the order.
    assert declared - 0.4 < order < declared + 0.6, (order, change)
    assert change[1] < 2e-2, change


def for_grids_of(sizes, configuration, case, build_model):
    model = build_model(configuration, case).double() if configuration != "neuralop" else None
    if model is None or not takes(model, sizes):
        pytest.skip("made for special grids")
    return model


def takes(model, sizes):
    if model.grids == "any":
        return True
    step = model.grids.removeprefix("multiple of ")
    return step.isdigit() and not any(size % int(step) for size in sizes)

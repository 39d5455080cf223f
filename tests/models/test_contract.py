"""What every registered model promises, on every kind of domain that it declares."""

import copy
import io

import pytest
import torch

from pdesurrogate.models import MODELS


@pytest.fixture
def model(configuration, case, build_model):
    return build_model(configuration, case)


@pytest.mark.parametrize(("history", "horizon"), [(1, 1), (2, 3)])
def test_frames_go_in_and_as_many_frames_as_the_horizon_come_out(
    configuration, case, history, horizon, build_model, sample_windows
):
    changes = {"num_modes": 1} if configuration == "fno_3d" else {}
    case = case._replace(history=history, horizon=horizon)
    frames, parameters = sample_windows(case, batch=3)
    future = build_model(configuration, case, **changes)(frames, parameters)
    assert future.shape == (3, horizon, case.spec.num_channels, *case.grid)
    assert future.dtype == torch.float32


def test_it_declares_where_it_works_and_accepts_the_grid(model, case):
    assert model.geometries <= {"plane", "sphere"}
    assert model.symmetries <= {"shift", "rotation", "reflection"}
    assert model.grids == "any" or model.grids == "fixed" or model.grids.startswith("multiple of ")
    model.check_grid(case.grid)


def test_a_grid_of_another_dimension_is_refused(model, case):
    with pytest.raises(ValueError, match=str(len(case.grid) + 1)):
        model.check_grid((*case.grid, 16))


def test_a_grid_off_the_declared_multiple_is_refused(model, case):
    if model.grids == "any":
        model.check_grid([n + 1 for n in case.grid])
    else:
        with pytest.raises(ValueError, match=model.grids):
            model.check_grid([n + 1 for n in case.grid])


def test_data_on_another_geometry_are_refused(configuration, case, build_model, model):
    others = {"plane", "sphere"} - model.geometries
    for geometry in others:
        moved = case._replace(spec=case.spec.replace(geometry=geometry))
        with pytest.raises(ValueError, match=geometry):
            build_model(configuration, moved)
    assert others or configuration == "persistence"


def test_a_gradient_reaches_every_parameter_and_the_input(model, case, sample_windows):
    frames, parameters = sample_windows(case)
    frames.requires_grad_()
    parameters.requires_grad_()
    (
        model(frames, parameters) * torch.arange(1, 3).view(-1, *[1] * (frames.ndim - 1))
    ).square().sum().backward()
    for name, parameter in [*model.named_parameters(), ("input frames", frames)]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        assert parameter.grad.isfinite().all(), name
    used = parameters.grad is not None and parameters.grad.abs().min() > 0
    assert used or parameters.numel() == 0 or not list(model.parameters())


def blocks_of(model):
    """Parameters by the part of the model that they belong to, such as ``lift`` or ``blocks.2``."""
    blocks = {}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        blocks.setdefault(".".join(parts[: 2 if parts[1:2] and parts[1].isdigit() else 1]), []).append(
            parameter
        )
    return blocks


@torch.no_grad()
def test_no_block_is_dead(model, case, sample_windows):
    """That every single parameter matters is what gradients show; here the output moves by more than rounding."""
    frames, parameters = sample_windows(case)
    reference = model(frames, parameters)
    for name, block in blocks_of(model).items():
        kept = [parameter.clone() for parameter in block]
        for parameter in block:
            parameter.add_(0.1 * torch.randn_like(parameter) + 0.1)
        change = (model(frames, parameters) - reference).norm() / reference.norm()
        for parameter, value in zip(block, kept, strict=True):
            parameter.copy_(value)
        assert change > 1e-6, f"perturbing {name} leaves the output as it was"


@torch.no_grad()
def test_weights_survive_a_file_that_may_hold_tensors_only(
    configuration, case, model, build_model, sample_windows
):
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = build_model(configuration, case)
    for parameter in other.parameters():
        parameter.zero_()
    state = torch.load(file, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    other.load_state_dict(state)
    inputs = sample_windows(case)
    assert torch.equal(other(*inputs), model(*inputs))


@torch.no_grad()
def test_a_deep_copy_computes_the_same_and_shares_nothing(model, case, sample_windows):
    inputs = sample_windows(case)
    reference = model(*inputs)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(*inputs), reference)
    for parameter in twin.parameters():
        parameter.zero_()
    assert torch.equal(model(*inputs), reference)


@torch.no_grad()
def test_float64_agrees_with_float32(configuration, model, case, sample_windows):
    frames, parameters = sample_windows(case, dtype=torch.float64)
    reference = model(frames.float(), parameters.float())
    if configuration == "neuralop":
        with pytest.raises(TypeError, match="float32"):
            model(frames, parameters)
        return
    future = model.double()(frames, parameters)
    assert future.dtype == torch.float64
    torch.testing.assert_close(future.float(), reference, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_sample_alone_equals_the_sample_in_its_batch(model, case, sample_windows):
    frames, parameters = sample_windows(case, batch=3)
    together = model(frames, parameters)
    alone = model(frames[1:2], parameters[1:2])
    torch.testing.assert_close(alone, together[1:2], rtol=1e-5, atol=1e-6)


def test_bfloat16_autocast_runs_forward_and_backward_and_stays_close(model, case, sample_windows):
    frames, parameters = sample_windows(case)
    frames.requires_grad_()
    reference = model(frames, parameters)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        future = model(frames, parameters)
        future.float().square().mean().backward()
    assert (future.float() - reference).norm() <= 2e-2 * reference.norm()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [frames, *model.parameters()])


def test_the_input_is_left_as_it_was(model, case, sample_windows):
    frames, parameters = sample_windows(case)
    before = frames.clone(), parameters.clone()
    model(frames, parameters).add_(1.0)
    assert torch.equal(frames, before[0])
    assert torch.equal(parameters, before[1])


def test_an_unknown_option_gets_the_list_of_options(configuration, case, build_model):
    with pytest.raises(ValueError, match=r"no option 'widht'.*(Its options|none)"):
        build_model(configuration, case, widht=3)


def test_a_horizon_of_no_frames_is_refused(configuration, case, build_model):
    with pytest.raises(ValueError, match="horizon is 0"):
        build_model(configuration, case._replace(horizon=0))


def test_an_unknown_model_gets_the_nearest_name(plane):
    with pytest.raises(ValueError, match=r"Unknown model 'fmo'. Did you mean 'fno'"):
        MODELS.build("fmo", plane.spec, 1, 1)

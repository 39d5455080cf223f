"""FactFormer: options, positions in units of length, latent marching, memory, and what it refuses."""

import math
import sys

import pytest
import torch
import yaml
from torch.nn.functional import gelu
from torch.utils.flop_counter import FlopCounterMode

from pdesurrogate.cli import conf_dir
from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.layers import AxialKernel, axial_integral, rotary_frequencies
from pdesurrogate.layers.rotary import positions, rotate
from pdesurrogate.models import MODELS
from pdesurrogate.models.factformer_block import FactFormerBlock
from pdesurrogate.models.matching import num_real_parameters

CHANGES = {
    "width": 16,
    "depth": 1,
    "heads": 3,
    "head_dim": 8,
    "kernel_multiplier": 4,
    "latent_multiplier": 2,
    "latent_steps": 0,
    "tie_axes": True,
    "rotary_frequency": 64.0,
    "position_scale": 1.0,
    "periodic_positions": False,
    "lift": "grouped",
    "boundary_branch": True,
}
BOX = 2 * math.pi
DENSITY, VELOCITY = Field("density"), Field("velocity", kind="vector", components=("z", "y", "x"))
SQUARE = DataSpec((Field("vorticity"),), (Axis("y", BOX), Axis("x", BOX)), 0.1)
CUBE = DataSpec((DENSITY, VELOCITY), tuple(Axis(name, BOX) for name in "zyx"), 0.1)
CLOSED = DataSpec((DENSITY, VELOCITY), tuple(Axis(name, 8.0, "wall", offset=0.5) for name in "zyx"), 0.1)
IN_3D = {"heads": 6, "kernel_multiplier": 3, "latent_multiplier": 1.5, "lift": "grouped"}


@pytest.fixture
def scalar(plane):
    """One frame of a scalar in, one out, on a periodic square."""
    return plane._replace(
        spec=DataSpec((DENSITY,), (Axis("y", 1.0), Axis("x", 1.0)), 0.1), history=1, horizon=1
    )


@torch.no_grad()
@pytest.mark.parametrize(("option", "value"), CHANGES.items())
def test_every_option_changes_the_output(option, value, plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    reference = build_model("factformer", plane)(*inputs)
    changed = build_model("factformer", plane, **{option: value})(*inputs)
    assert changed.shape == reference.shape
    assert (changed - reference).abs().max() > 1e-3


@torch.no_grad()
def test_padding_changes_the_output_on_a_wall_axis(channel, build_model, sample_windows):
    inputs = sample_windows(channel)
    plain, padded = (build_model("factformer", channel, padding=p)(*inputs) for p in (0, 0.5))
    assert padded.shape == plain.shape
    assert (plain - padded).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("spec", "history", "horizon", "options", "count"),
    [
        (SQUARE, 10, 4, {"position_scale": 8.0}, 3_463_489),
        (CLOSED, 4, 4, {**IN_3D, "depth": 3, "position_scale": 1.0, "boundary_branch": True}, 4_501_764),
        (CUBE, 10, 2, {**IN_3D, "position_scale": 8.0}, 5_093_188),
    ],
    ids=["Kolmogorov flow", "smoke", "isotropic turbulence"],
)
def test_it_has_as_many_parameters_as_the_authors_model(spec, history, horizon, options, count):
    with torch.device("meta"):
        model = MODELS.build("factformer", spec, history, horizon, **options)
    assert num_real_parameters(model) == count


@torch.no_grad()
def test_with_tied_axes_a_permutation_of_the_axes_permutes_the_future(box, build_model, sample_windows):
    case = box._replace(grid=(5, 5, 5))
    frames, parameters = sample_windows(case, dtype=torch.float64)
    for tied in (True, False):
        model = build_model("factformer", case, tie_axes=tied).double()
        turned = model(frames.permute(0, 1, 2, 5, 3, 4), parameters)
        error = (turned - model(frames, parameters).permute(0, 1, 2, 5, 3, 4)).norm() / turned.norm()
        assert (error < 1e-12) if tied else (error > 1e-3)


@torch.no_grad()
def test_the_norm_of_kernels_changes_nothing_but_what_is_added_to_the_variance_of_heads(
    scalar, build_model, sample_windows, monkeypatch
):
    inputs = sample_windows(scalar, dtype=torch.float64)
    model, reference = (
        build_model("factformer", scalar, kernel_norm=norm).double() for norm in ("frobenius", "reference")
    )
    assert (model(*inputs) - reference(*inputs)).norm() > 1e-3 * reference(*inputs).norm()
    monkeypatch.setattr(sys.modules[axial_integral.__module__], "EPS", 1e-40)
    torch.testing.assert_close(model(*inputs), reference(*inputs), rtol=1e-10, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("space", [(4, 6), (3, 4, 5)])
def test_a_block_is_the_papers_with_the_field_projected_before_its_means_are_taken(space):
    """The authors project the whole field for every axis and take means then; K_a v one axis after the other."""
    width, heads, head_dim = 8, 2, 4
    kernels = [AxialKernel(width, heads, head_dim, 2, "frobenius") for _ in space]
    block = FactFormerBlock(width, heads, head_dim, kernels, keep=True, precision="full").double()
    u = torch.randn(2, *space, width, dtype=torch.float64)
    angles = [torch.randn(n, 4, dtype=torch.float64) for n in space]
    normalised = block.layer_norm(u)
    z = block.values(normalised).unflatten(-1, (heads, head_dim)).movedim(-2, 1)
    for axis, kernel in enumerate(block.kernels):
        others = [1 + other for other in range(len(space)) if other != axis]
        projected = kernel.project(block.inner(normalised)).mean(others)
        activated, gated = kernel.gate(kernel.layer_norm(projected)).chunk(2, dim=-1)
        function = kernel.mix(gelu(activated) * gated)
        query, key = (
            rotate(layer(function).unflatten(-1, (heads, -1)).transpose(1, 2), angles[axis])
            for layer in (kernel.query, kernel.key)
        )
        matrix = query @ key.mT
        matrix = matrix / matrix.norm(dim=(-2, -1), keepdim=True)
        z = torch.einsum("bhij,bhj...->bhi...", matrix, z.movedim(2 + axis, 2)).movedim(2, 2 + axis)
    everywhere = tuple(range(2, z.ndim))
    z = z - z.mean(everywhere, keepdim=True)
    z = z / (z.square().mean(everywhere, keepdim=True) + 1e-8).sqrt()
    expected = u + block.mix(gelu(block.join(z.movedim(1, -2).flatten(-2))))
    torch.testing.assert_close(block(u, angles, [0.1] * len(space)), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("norm", ["frobenius", "reference"])
def test_kernels_learn_from_the_first_step_in_three_dimensions_only_with_their_norm(norm):
    torch.manual_seed(0)
    spec = CUBE.replace(fields=(DENSITY,))
    model = MODELS.build("factformer", spec, 1, 1, width=16, depth=1, heads=2, head_dim=8, kernel_norm=norm)
    model(torch.randn(2, 1, 1, 8, 8, 8), torch.zeros(2, 0)).square().mean().backward()
    slopes = [kernel.query.weight.grad.square().mean().sqrt() for kernel in model.blocks[0].kernels]
    assert (min(slopes) > 1e-6) if norm == "frobenius" else (max(slopes) < 1e-8)


def test_a_kernel_of_low_rank_comes_in_factors_of_the_same_operator():
    kernel = AxialKernel(8, 2, 4, 1, "frobenius").double()
    mean, angles = torch.randn(2, 12, 8, dtype=torch.float64), torch.randn(12, 2, dtype=torch.float64)
    query, keys = kernel(mean, angles, 0.1)
    product = query @ keys
    assert (query.shape, keys.shape) == ((2, 2, 12, 4), (2, 2, 4, 12))
    torch.testing.assert_close(product.norm(dim=(-2, -1)), torch.ones(2, 2, dtype=torch.float64))
    kernel.channels = 100  # as if the rank were too large for factors
    torch.testing.assert_close(kernel(mean, angles, 0.1)[0], product)


def test_kernels_depend_on_differences_of_positions_alone():
    kernel = AxialKernel(8, 2, 8, 2, "frobenius").double()
    axis, mean = Axis("x", 1.0, "open"), torch.randn(1, 9, 8, dtype=torch.float64)
    frequencies = rotary_frequencies(axis, 16, 64.0, whole_periods=True)
    here, there = (
        kernel(mean, torch.outer(positions(axis, 9) + shift, frequencies), 1 / 9)[0] for shift in (0.0, 1.7)
    )
    torch.testing.assert_close(here, there)
    other = kernel(mean, torch.outer(2 * positions(axis, 9), frequencies), 1 / 9)[0]
    assert (here - other).abs().max() > 1e-2


def test_periodic_axes_count_the_point_at_both_ends_once_and_their_waves_close():
    axis = Axis("x", 3.0, origin=1.0)
    x = positions(axis, 4)
    assert x.tolist() == [1.0, 1.75, 2.5, 3.25]
    assert positions(axis, 4, 6)[-1] == 4.75
    assert positions(Axis("x", 3.0, origin=1.0, is_descending=True), 4).tolist() == x.tolist()[::-1]
    exact, whole = (
        rotary_frequencies(axis, 8, 64.0, whole_periods=w) * axis.length / (2 * math.pi)
        for w in (False, True)
    )
    torch.testing.assert_close(whole, exact.round())
    assert (whole - exact).abs().max() > 0.1


@torch.no_grad()
def test_waves_are_those_of_the_grid_and_of_the_weights_at_hand(scalar, build_model, sample_windows):
    model, other = (build_model("factformer", scalar, position_scale=1.0) for _ in range(2))
    inputs, finer = sample_windows(scalar), sample_windows(scalar, grid=(20, 18))
    before = model(*inputs)
    model(*finer)
    assert torch.equal(model(*inputs), before)
    other.directions.mul_(2)
    other(*inputs)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(*inputs), before)


def test_waves_that_inference_made_serve_training(scalar, build_model, sample_windows):
    model, inputs = build_model("factformer", scalar, position_scale=1.0), sample_windows(scalar)
    with torch.inference_mode():
        expected = model(*inputs)
    future = model(*inputs)
    future.sum().backward()
    assert torch.equal(future, expected)
    assert model.positions[0].weight.grad.abs().max() > 0


@torch.no_grad()
def test_the_future_settles_between_walls_as_the_grid_is_refined():
    axis = Axis("x", 2.0, "wall", offset=0.5)
    model = MODELS.build(
        "factformer", DataSpec((DENSITY,), (axis,), 0.1), 1, 1,
        width=16, depth=2, heads=2, head_dim=8, rotary_frequency=8.0, position_scale=0.5,
    ).double()  # fmt: skip

    def means(n):  # over eighths of the axis, the same on every grid
        x = positions(axis, n)
        frames = torch.cos(3 * x) + torch.sin(math.pi * x / 2)
        return model(frames.view(1, 1, 1, -1), torch.zeros(1, 0)).view(8, -1).mean(1)

    coarse, middle, fine = means(32), means(64), means(128)
    first, second = (coarse - middle).norm() / fine.norm(), (middle - fine).norm() / fine.norm()
    assert second < 1e-3
    assert first > 3 * second  # the midpoint rule is of second order


@torch.no_grad()
def test_frames_of_latent_marching_do_not_know_how_many_follow(plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    short, long = (build_model("factformer", plane._replace(horizon=n)) for n in (2, 4))
    state = long.state_dict()
    short.load_state_dict({**state, "march.times": state["march.times"][:2]})
    assert torch.equal(short(*inputs), long(*inputs)[:, :2])


@torch.no_grad()
def test_a_state_of_latent_marching_may_hold_several_frames(plane, build_model, sample_windows):
    model = build_model("factformer", plane._replace(horizon=4), latent_steps=2)
    assert model.march.num_steps == 2
    assert model(*sample_windows(plane)).shape == (2, 4, 1, 16, 16)


@pytest.mark.parametrize("options", [{}, {"latent_steps": 0}], ids=["marching", "one shot"])
def test_memory_modes_change_no_number(options, plane, build_model, sample_windows):
    inputs, found = sample_windows(plane, dtype=torch.float64), []
    for memory in ("speed", "lean", "minimal"):
        model = build_model("factformer", plane, memory=memory, **options).double()
        future = model(*inputs)
        future.square().sum().backward()
        found.append([future, *(p.grad for p in model.parameters())])
    for others in found[1:]:
        for a, b in zip(others, found[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("memory", ["speed", "lean", "minimal"])
def test_what_is_kept_grows_with_the_number_of_points_and_stays_below_the_estimate(memory, kept_bytes):
    model = MODELS.build(
        "factformer",
        SQUARE,
        1,
        2,
        width=32,
        depth=2,
        heads=2,
        head_dim=16,
        kernel_multiplier=1,
        memory=memory,
    )
    kept = {n: kept_bytes(model, torch.randn(1, 1, 1, n, n)) for n in (40, 80)}
    assert 3.5 < kept[80] / kept[40] < 4.1
    estimate = model.training_memory((80, 80), 1)
    assert 0.2 * estimate < kept[80] < estimate


def test_memory_modes_keep_less_and_less(kept_bytes):
    kept = []
    for memory in ("speed", "lean", "minimal"):
        model = MODELS.build(
            "factformer", SQUARE, 1, 2, width=32, depth=4, heads=4, head_dim=16, memory=memory
        )
        kept.append(kept_bytes(model, torch.randn(1, 1, 1, 32, 32)))
    assert kept[0] > 1.5 * kept[1] > 3 * kept[2]


@torch.no_grad()
def test_a_point_costs_the_same_on_every_grid_that_is_finer_than_the_rank_of_kernels():
    model = MODELS.build("factformer", SQUARE, 1, 1, width=8, depth=1, heads=2, head_dim=4)

    def per_point(n):
        with FlopCounterMode(display=False) as counter:
            model(torch.randn(1, 1, 1, n, n), torch.zeros(1, 0))
        return counter.get_total_flops() / n**2

    assert per_point(128) == pytest.approx(per_point(64), rel=0.05)


@pytest.mark.parametrize(
    ("experiment", "spec", "history"),
    [("factformer_kolmogorov", SQUARE, 10), ("factformer_smoke", CLOSED, 4)],
)
def test_the_papers_configurations_train_on_80_gb_as_their_experiments_are_written(experiment, spec, history):
    config = yaml.safe_load((conf_dir() / "experiment" / f"{experiment}.yaml").read_text())
    grid = (config["data"].get("grid", 64),) * spec.ndim
    needed = []
    for memory in ("speed", "lean", "minimal"):
        with torch.device("meta"):
            options = {"memory": memory, **config["model"]}
            model = MODELS.build("factformer", spec, history, config["data"]["horizon"], **options)
        needed.append(model.training_memory(grid, config["data"]["batch_size"]))
    assert grid[0] == {2: 256, 3: 64}[spec.ndim]
    assert 20e9 < needed[0] < 80e9
    assert needed[0] > needed[1] > needed[2]


@pytest.mark.parametrize(
    ("spec", "grid"), [(SQUARE, (256, 256)), (CLOSED, (64, 64, 64))], ids=["256²", "64³"]
)
def test_the_papers_grids_train_here_at_reduced_width(spec, grid):
    model = MODELS.build("factformer", spec, 1, 1, width=8, depth=1, heads=1, head_dim=8, memory="minimal")
    frames = torch.randn(1, 1, spec.num_channels, *grid)
    model(frames, frames.new_empty(1, 0)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["full", "bf16"])
@pytest.mark.parametrize(
    ("spec", "grid", "history", "horizon", "options"),
    [
        (SQUARE, (256, 256), 10, 4, {"position_scale": 8.0}),
        (CLOSED, (64, 64, 64), 4, 4, {**IN_3D, "depth": 3, "position_scale": 1.0, "boundary_branch": True}),
    ],
    ids=["Kolmogorov flow", "smoke"],
)
def test_the_papers_configurations_train_on_a_gpu_within_the_estimate(
    spec, grid, history, horizon, options, precision
):
    model = MODELS.build("factformer", spec, history, horizon, precision=precision, **options).cuda()
    frames = torch.randn(2, history, spec.num_channels, *grid, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    model(frames, frames.new_empty(2, 0)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    peak = torch.cuda.max_memory_allocated()
    assert peak < min(80e9, 1.3 * model.training_memory(grid, 2))


@torch.no_grad()
def test_bfloat16_integrals_stay_close_to_float32(plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    reference = build_model("factformer", plane)(*inputs)
    rounded = build_model("factformer", plane, precision="bf16")(*inputs)
    assert rounded.isfinite().all()
    assert 1e-5 < (rounded - reference).norm() / reference.norm() < 2e-2


def test_a_horizon_that_marching_cannot_reach_names_the_numbers_of_states_that_can(plane, build_model):
    with pytest.raises(ValueError, match=r"4 states cannot reach a horizon of 6 .* one of \[1, 2, 3, 6\]"):
        build_model("factformer", plane._replace(horizon=6), latent_steps=4)
    with pytest.raises(ValueError, match="8 states cannot reach a horizon of 4"):
        build_model("factformer", plane._replace(horizon=4), latent_steps=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"width": 24, "head_dim": 10},
            r"head_dim is 10 and does not divide the width 24. Give one of \[1, 2, 3",
        ),
        ({"width": 12}, "width is 12; it must be a multiple of 8"),
        ({"head_dim": 1, "kernel_multiplier": 1}, "rotary embeddings turn pairs"),
        ({"latent_multiplier": 1.5}, "latent_multiplier is 1.5"),
        ({"kernel_norm": "frobenus"}, "Did you mean 'frobenius'"),
        ({"lift": "group"}, "Did you mean 'grouped'"),
        ({"memory": "leen"}, "Did you mean 'lean'"),
        ({"heads": 0}, "heads is 0"),
        ({"padding": -1}, "padding is -1"),
        ({"padding": 0.5}, "every axis is periodic"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message, plane, build_model):
    with pytest.raises(ValueError, match=message):
        build_model("factformer", plane, **options)


def test_features_that_cannot_be_shared_out_among_fields_are_refused(channel, build_model):
    case = channel._replace(spec=channel.spec.replace(fields=(*channel.spec.fields, DENSITY)))
    with pytest.raises(ValueError, match="4 features out among 3 fields"):
        build_model("factformer", case, lift="grouped")


@torch.no_grad()
def test_a_lift_field_by_field_knows_the_parameters(channel, build_model, sample_windows):
    model = build_model("factformer", channel, lift="grouped")
    frames, parameters = sample_windows(channel)
    assert (model(frames, parameters) - model(frames, parameters + 1)).abs().max() > 1e-4

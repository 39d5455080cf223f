"""The localised neural operator: what its branches are, on every kind of domain, and what it refuses."""

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.models import MODELS

SHAPE = {"width": 6, "depth": 2, "num_modes": 6}
CHANGES = {
    "width": 8,
    "depth": 3,
    "num_modes": [6, 4],
    "local": "integral",
    "stencil": 5,
    "reference_grid": 32,
    "radius": 0.4,
    "basis": "morlet",
    "basis_shape": [2, 4],
    "depthwise": True,
    "channel_mlp": 0.5,
    "coordinates": "periodic",
    "precision": "bf16",
}
LOCALS = [
    "none",
    "differential",
    "antisymmetric",
    "integral",
    "conv",
    "differential+integral",
    "conv+integral",
]


@torch.no_grad()
@pytest.mark.parametrize(("option", "value"), CHANGES.items())
def test_every_option_changes_the_output(option, value, plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    reference = build_model("localno", plane)(*inputs)
    changed = build_model("localno", plane, **{option: value})(*inputs)
    assert changed.shape == reference.shape
    # Rounding to bfloat16 is the smallest of them.
    assert (changed - reference).abs().max() > 3e-4


@torch.no_grad()
def test_padding_changes_the_output_on_a_wall_axis(channel, build_model, sample_windows):
    inputs = sample_windows(channel)
    plain, padded = build_model("localno", channel), build_model("localno", channel, padding=0.5)
    assert (plain(*inputs) - padded(*inputs)).abs().max() > 1e-3
    assert padded.symmetries == frozenset()


@torch.no_grad()
def test_every_choice_of_local_kernels_is_another_function(plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    futures = [build_model("localno", plane, local=local)(*inputs) for local in LOCALS]
    futures.append(build_model("localno", plane, local=["differential", "none"])(*inputs))
    futures.append(build_model("localno", plane, local=["none", "differential"])(*inputs))
    for i, one in enumerate(futures):
        for other in futures[:i]:
            assert (one - other).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("channel_mlp", [0, 0.5])
@pytest.mark.parametrize("name", ["plane", "channel", "line", "box"])
def test_without_local_kernels_it_is_the_fno_of_the_same_weights(
    name, channel_mlp, request, build_model, sample_windows
):
    case = request.getfixturevalue(name)
    fno = build_model("fno", case, channel_mlp=channel_mlp)
    local = build_model("localno", case, local="none", channel_mlp=channel_mlp)
    local.load_state_dict(fno.state_dict())
    inputs = sample_windows(case)
    assert torch.equal(local(*inputs), fno(*inputs))


@torch.no_grad()
@pytest.mark.parametrize("channel_mlp", [0, 0.5])
def test_with_silent_local_kernels_it_is_the_fno_too(channel_mlp, plane, build_model, sample_windows):
    fno = build_model("fno", plane, channel_mlp=channel_mlp)
    local = build_model("localno", plane, channel_mlp=channel_mlp)
    assert local.load_state_dict(fno.state_dict(), strict=False).unexpected_keys == []
    for block in local.blocks:
        for kernel in block.kernels:
            kernel.weight.zero_()
    inputs = sample_windows(plane)
    torch.testing.assert_close(local(*inputs), fno(*inputs), rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("channel_mlp", [0, 0.5])
def test_a_layer_adds_its_local_kernels_to_its_waves_before_the_activation(
    channel_mlp, plane, build_model, sample_windows
):
    """The formula of the file's docstring, with weights of the model and operations of PyTorch."""
    from torch.nn.functional import gelu, linear

    from pdesurrogate.layers import spectral_conv

    model = build_model("localno", plane, channel_mlp=channel_mlp).double()
    frames, parameters = sample_windows(plane, dtype=torch.float64)
    u = model.frame.enter(frames, parameters)
    v = model.lift(u)
    spacings = plane.spec.spacings(plane.grid)
    for i, block in enumerate(model.blocks):
        s = linear(v, block.skip.weight, block.skip.bias) + spectral_conv(v, block.spectral.weight, (6, 6))
        s = s + sum(kernel(v, spacings) for kernel in block.kernels)
        last = i == len(model.blocks) - 1
        y = s if last else gelu(s)
        if channel_mlp:
            y = block.channel_mlp(y) + block.gate * v
            y = y if last else gelu(y)
        v = y
    torch.testing.assert_close(model(frames, parameters), model.frame.leave(model.project(v)))


@torch.no_grad()
def test_local_kernels_do_not_see_the_padding_of_the_waves(channel, build_model, sample_windows):
    """A derivative across the jump to the zeros would grow as one over the spacing."""
    model = build_model("localno", channel, padding=0.5, depth=1, local="differential")
    for parameter in (model.blocks[0].spectral.weight, *model.blocks[0].skip.parameters()):
        parameter.zero_()
    frames, parameters = sample_windows(channel)
    future = model(torch.ones_like(frames), torch.ones_like(parameters))
    torch.testing.assert_close(future, future[..., :1, :1].expand_as(future))


@torch.no_grad()
@pytest.mark.parametrize("radius", [0.13, 0.2, 0.301, 0.5])
def test_grids_need_not_be_square_and_no_radius_changes_a_size(radius, plane, build_model, sample_windows):
    model = build_model("localno", plane, radius=radius, channel_mlp=0.5)
    for grid in ((16, 32), (33, 10), (9, 21)):
        assert model(*sample_windows(plane, grid=grid)).shape[-2:] == grid


@torch.no_grad()
def test_a_rolled_input_gives_a_rolled_future_where_the_box_is_periodic(plane, build_model, sample_windows):
    model = build_model("localno", plane).double()
    frames, parameters = sample_windows(plane, dtype=torch.float64)
    moved = model(frames.roll((3, 5), (-2, -1)), parameters)
    future = model(frames, parameters)
    assert (moved - future.roll((3, 5), (-2, -1))).norm() <= 1e-12 * future.norm()


@torch.no_grad()
def test_a_model_that_was_trained_on_one_grid_is_the_one_built_for_another(
    plane, build_model, sample_windows
):
    model, fresh = build_model("localno", plane), build_model("localno", plane)
    model(*sample_windows(plane))
    inputs = sample_windows(plane, grid=(32, 48))
    assert torch.equal(model(*inputs), fresh(*inputs))


def test_the_declared_order_is_that_of_the_coarsest_kernel(plane, build_model):
    orders = {local: build_model("localno", plane, local=local).convergence for local in LOCALS}
    assert orders["none"] is None
    assert orders["integral"] == orders["antisymmetric"] == 2
    assert orders["differential"] == orders["differential+integral"] == orders["conv"] == 1


def test_the_default_radius_is_a_sixteenth_of_the_shortest_axis(plane):
    spec = plane.spec.replace(axes=(Axis("y", 3.0), Axis("x", 8.0)))
    model = MODELS.build("localno", spec, 1, 1, **SHAPE)
    (radius,) = {k.radius for block in model.blocks for k in block.kernels if hasattr(k, "radius")}
    assert radius == 3.0 / 16


LAT_LON = DataSpec((Field("h"),), (Axis("lat", 180.0, "open"), Axis("lon", 360.0)), 1.0, geometry="sphere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local": ["integral"]}, r"lists the kernels of 1 layers and depth is 2"),
        ({"local": "diferential"}, r"local is 'diferential'\. Did you mean 'differential'"),
        ({"local": "integral+integral"}, "named once"),
        ({"local": "differential+antisymmetric"}, "differential holds antisymmetric"),
        ({"local": ""}, "Allowed: none, or some of differential"),
        ({"local": None}, r"local is None\. Did you mean 'none'\? Allowed: none, or some of differential"),
        ({"local": ["none", 3]}, r"local is 3\. Allowed: none, or some of differential"),
        ({"stencil": 4}, "stencil is 4.*odd"),
        ({"stencil": 1}, "at least 3"),
        ({"reference_grid": [16]}, r"reference_grid is \[16\].*2 of them for the axes y, x"),
        ({"reference_grid": 0}, "give one positive number"),
        ({"radius": 0.51}, "at most half of the shortest axis, 'y' of length 1"),
        ({"radius": 0.0}, "radius is 0; it must be positive"),
        ({"basis": "fourier"}, "basis is 'fourier'.*Allowed: piecewise_linear"),
        ({"basis_shape": [3, 4, 5]}, "basis_shape"),
        ({"channel_mlp": -1}, "channel_mlp is -1"),
        ({"precision": "half"}, "precision 'half'"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_a_sentence(options, message, plane, as_users_run):
    with pytest.raises(ValueError, match=message):
        MODELS.build("localno", plane.spec, 1, 1, **{**SHAPE, **options})


def test_a_sphere_and_axes_of_two_units_are_refused(plane):
    with pytest.raises(ValueError, match="the data live on a 'sphere'"):
        MODELS.build("localno", LAT_LON, 1, 1, **SHAPE)
    mixed = plane.spec.replace(axes=(Axis("y", 1.0, units="m"), Axis("x", 1.0, units="km")))
    with pytest.raises(ValueError, match=r"different units \(y in m, x in km\)"):
        MODELS.build("localno", mixed, 1, 1, **SHAPE)


def test_a_grid_on_which_the_integral_is_pointwise_is_refused_before_anything_runs(plane, build_model):
    model = build_model("localno", plane, radius=0.1, num_modes=4)
    model.check_grid((11, 11))
    with pytest.raises(ValueError, match=r"radius 0\.1 does not reach the next point.*finer grid"):
        model.check_grid((11, 10))
    with pytest.raises(ValueError, match="modes on axis 'x' need at least 4"):
        model.check_grid((11, 3))

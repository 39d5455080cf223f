import pytest
import torch
from neuralop.models import FNO as PeerFNO

from pdesurrogate.layers import fold_inputs, unfold_frames
from pdesurrogate.models import MODELS
from pdesurrogate.models.fno_weights import fno_state_from_neuralop, fno_state_to_neuralop
from pdesurrogate.models.matching import match_parameters, num_real_parameters

CHANGES = {
    "width": 8,
    "depth": 3,
    "num_modes": [6, 4],
    "time": "axis",
    "channel_mlp": 1.0,
    "lift_ratio": 3.0,
    "projection_ratio": 3.0,
    "coordinates": "periodic",
    "precision": "bf16",
}
ORIGINAL = {"channel_mlp": 0, "lift_ratio": 0, "projection_ratio": 0}
"""Options whose value 0 removes a part, as in the paper's original layer."""


@torch.no_grad()
@pytest.mark.parametrize(("option", "value"), [*CHANGES.items(), *ORIGINAL.items()])
def test_every_option_changes_the_output(option, value, plane, build_model, sample_windows):
    case = plane._replace(horizon=6)
    inputs = sample_windows(case)
    reference = build_model("fno", case)(*inputs)
    changed = build_model("fno", case, **{option: value})(*inputs)
    assert changed.shape == reference.shape
    assert (changed - reference).abs().max() > 1e-3


@torch.no_grad()
def test_padding_changes_the_output_on_a_wall_axis(channel, build_model, sample_windows):
    inputs = sample_windows(channel)
    plain, padded = build_model("fno", channel), build_model("fno", channel, padding=0.5)
    assert (plain(*inputs) - padded(*inputs)).abs().max() > 1e-3
    assert plain.symmetries == {"shift"}
    assert padded.symmetries == frozenset()


@torch.no_grad()
def test_backends_give_the_same_forecast(plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    dft, fft = (build_model("fno", plane, backend=backend)(*inputs) for backend in ("dft", "fft"))
    torch.testing.assert_close(dft, fft, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("memory", ["speed", "minimal"])
@pytest.mark.parametrize("options", [{}, ORIGINAL, {"time": "axis", "num_modes": (4, 4, 3), "padding": 0.5}])
def test_memory_modes_keep_the_forecast_and_the_gradients(
    memory, options, plane, build_model, sample_windows
):
    frames, parameters = sample_windows(plane, dtype=torch.float64)
    outcomes = []
    for mode in (memory, "lean"):
        model = build_model("fno", plane, memory=mode, **options).double()
        future = model(frames, parameters)
        outcomes.append([future, *torch.autograd.grad(future.square().sum(), list(model.parameters()))])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "modes", "coordinates"),
    [
        ("plane", (8, 6), True),
        ("plane", (7, 16), False),
        ("channel", (8, 12), True),
        ("box", (4, 6, 5), True),
        ("box", (8, 6, 8), False),
    ],
)
def test_with_copied_weights_it_equals_the_fno_of_neuraloperator(
    name, modes, coordinates, request, build_model, sample_windows
):
    case = request.getfixturevalue(name)
    torch.manual_seed(2)
    peer = PeerFNO(
        n_modes=modes,
        in_channels=case.history * case.spec.num_channels + case.spec.num_parameters,
        out_channels=case.horizon * case.spec.num_channels,
        hidden_channels=10,
        n_layers=3,
        positional_embedding="grid" if coordinates else None,
    )
    case = case._replace(spec=without_offsets(case.spec))
    model = build_model(
        "fno", case, width=10, depth=3, num_modes=modes, coordinates="linear" if coordinates else "none"
    )
    model.load_state_dict(fno_state_from_neuralop(peer.state_dict()))
    frames, parameters = sample_windows(case)
    expected = unfold_frames(peer(fold_inputs(frames, parameters)), case.horizon)
    future = model(frames, parameters)
    assert (future - expected).norm() <= 1e-5 * expected.norm()
    torch.testing.assert_close(future, expected, rtol=1e-4, atol=1e-5)


def without_offsets(spec):
    return spec.replace(axes=tuple(type(a)(a.name, a.length, a.boundary) for a in spec.axes))


def test_gradients_equal_those_of_neuraloperator(plane, build_model, sample_windows):
    peer = PeerFNO((6, 6), 2, 3, 8, n_layers=2, positional_embedding=None)
    model = build_model("fno", plane, width=8, num_modes=6)
    model.load_state_dict(fno_state_from_neuralop(peer.state_dict()))
    frames, parameters = sample_windows(plane)
    model(frames, parameters).square().sum().backward()
    peer(fold_inputs(frames, parameters)).square().sum().backward()
    theirs = fno_state_from_neuralop({name: p.grad for name, p in peer.named_parameters()})
    ours = dict(model.named_parameters())
    assert theirs.keys() == ours.keys()
    for name, gradient in theirs.items():
        assert (ours[name].grad - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_weights_go_to_neuraloperator_and_back_unchanged(box, build_model):
    model = build_model("fno", box, num_modes=(4, 6, 5))
    there = fno_state_to_neuralop(model.state_dict(), (4, 6, 5))
    peer = PeerFNO((4, 6, 5), 1, 2, 6, n_layers=2, positional_embedding=None)
    peer.load_state_dict(there)
    back = fno_state_from_neuralop(peer.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(back[name], value), name


@pytest.mark.parametrize("options", [{"norm": "group_norm"}, {"factorization": "Tucker", "rank": 0.5}])
def test_a_state_dict_of_another_architecture_is_refused(options):
    peer = PeerFNO((4, 4), 1, 1, 4, n_layers=1, **options)
    with pytest.raises(ValueError, match="only neuraloperator's default FNO converts"):
        fno_state_from_neuralop(peer.state_dict())


@torch.no_grad()
def test_with_time_as_an_axis_lead_times_differ_and_later_history_matters(plane, build_model, sample_windows):
    case = plane._replace(horizon=4)
    frames, parameters = sample_windows(case)
    for padding in (0.0, 0.5):
        model = build_model("fno", case, time="axis", num_modes=(4, 4, 3), padding=padding)
        future = model(frames, parameters)
        assert (future[:, 1:] - future[:, :1]).abs().amin(dim=1).max() > 1e-5
        changed = frames.clone()
        changed[:, -1] += 1.0
        assert (model(changed, parameters) - future).abs().max() > 1e-4


@torch.no_grad()
def test_time_as_an_axis_is_the_operator_on_space_time_of_one_more_dimension(plane, build_model):
    """The same weights applied by the 3-D operator to the space-time field written out."""
    from pdesurrogate.fields import Axis, DataSpec, Field

    case = plane._replace(history=2, horizon=5)
    model = build_model("fno", case, time="axis", num_modes=(4, 4, 3))
    fields = tuple(Field(name) for name in ("first", "second", "lead"))
    spacetime = DataSpec(fields, (*plane.spec.axes, Axis("t", 1.0)), 0.1)
    oracle = MODELS.build("fno", spacetime, 1, 1, width=6, depth=2, num_modes=(4, 4, 3))
    state = model.state_dict()
    for name in ("project.2.weight", "project.2.bias"):
        state[name] = state[name].repeat_interleave(3, 0)
    oracle.load_state_dict(state)
    frames = torch.randn(2, 2, 1, 16, 16)
    lead = (torch.arange(5) / 5).expand(2, 16, 16, 5)
    first, second = (frames[:, i, 0, :, :, None].expand(-1, -1, -1, 5) for i in range(2))
    expected = oracle(torch.stack([first, second, lead], 1).unsqueeze(1), torch.zeros(2, 0))
    future = model(frames, torch.zeros(2, 0))
    torch.testing.assert_close(future[:, :, 0], expected[:, 0, 0].movedim(-1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("coordinates", ["linear", "periodic"])
def test_coordinates_give_up_the_claim_to_shift_equivariance(coordinates, plane, build_model):
    assert build_model("fno", plane).symmetries == {"shift"}
    assert build_model("fno", plane, coordinates=coordinates).symmetries == frozenset()


@torch.no_grad()
def test_frames_after_the_padding_do_not_leak_into_the_forecast_grid(channel, build_model, sample_windows):
    model = build_model("fno", channel, padding=0.25)
    seen = []
    model.blocks[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    future = model(*sample_windows(channel))
    (lifted,) = seen
    assert lifted.shape[1:3] == (12, 10)
    assert (lifted[:, :, 8:] == 0).all()
    assert (lifted[:, :, :8] != 0).any()
    assert future.shape[3:] == (8, 12)


def test_modes_above_nyquist_name_the_axis_and_the_largest_number(channel, build_model, sample_windows):
    model = build_model("fno", channel, num_modes=(8, 14))
    with pytest.raises(ValueError, match=r"14 modes on axis 'x'.*at most 12"):
        model(*sample_windows(channel))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_modes": [4, 4, 4]}, "give one positive number, or 2 of them for the axes y, x"),
        ({"num_modes": [4, 0]}, "positive number"),
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"depth": 0}, "depth is 0"),
        ({"channel_mlp": -1.0}, "channel_mlp is -1.0"),
        ({"time": "axes"}, "Did you mean 'axis'"),
        ({"time": "axis", "num_modes": [4, 4, 4]}, "the time axis has 3 .*longer horizon"),
        ({"coordinates": "linaer"}, "Did you mean 'linear'"),
        ({"padding": 0.5}, "every axis is periodic"),
        ({"padding": -0.5}, "between 0 and 1"),
        ({"backend": "dtf"}, "Did you mean"),
        ({"memory": "leen"}, "Did you mean 'lean'"),
        ({"precision": "bf61"}, "Did you mean 'bf16'"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_allowed(options, sentence, plane, build_model):
    with pytest.raises(ValueError, match=sentence):
        build_model("fno", plane, **options)


@pytest.mark.usefixtures("as_users_run")
@pytest.mark.parametrize("lift_ratio", [0, 2.0])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_complex_fields_and_whole_numbers_are_refused_and_not_cast(
    dtype, lift_ratio, plane, build_model, sample_windows
):
    history, parameters = sample_windows(plane)
    with pytest.raises(TypeError, match=rf"acts on real fields; the history is {dtype}"):
        build_model("fno", plane, lift_ratio=lift_ratio)(history.to(dtype), parameters)


def test_an_empty_batch_is_refused_with_the_shape(plane, build_model, sample_windows):
    with pytest.raises(ValueError, match=r"shape \(0, 2, 1, 16, 16\).*at least one entry"):
        build_model("fno", plane)(*sample_windows(plane, batch=0))


def test_ends_of_an_axis_that_is_not_periodic_are_not_joined_in_silence(channel, plane, build_model, caplog):
    build_model("fno", plane)
    build_model("fno", channel, padding=0.25)
    assert not caplog.records
    build_model("fno", channel)
    build_model("fno", plane, time="axis", num_modes=[6, 6, 3])
    axes = [record.args[0] for record in caplog.records]
    assert axes == ["y", "time"]
    assert "padding is 0 and not every axis is periodic (y)" in caplog.text


def test_a_model_that_is_built_many_times_warns_once_and_another_model_for_itself(
    channel, build_model, caplog
):
    fno = MODELS.build("fno", channel.spec, 1, 2, width=3, depth=1, num_modes=4)
    options = {"depth": 1, "num_modes": 4}
    match = match_parameters("fno", channel.spec, 1, 2, options, num_real_parameters(fno))
    assert match.ratio == 1
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["fno"]
    build_model("tfno", channel)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["fno", "tfno"]


@pytest.mark.parametrize("precision", ["full", "bf16"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_linear_lifting_and_projection_take_fields_of_every_dtype(
    dtype, precision, plane, build_model, sample_windows
):
    model = build_model("fno", plane, lift_ratio=0, projection_ratio=0, precision=precision)
    history, parameters = sample_windows(plane)
    exact = model(history.to(dtype).float(), parameters)
    found = model(history.to(dtype), parameters.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), exact, rtol=2e-2, atol=2e-2)


def test_the_output_under_bf16_is_not_rounded_to_bfloat16(plane, build_model, sample_windows):
    output = build_model("fno", plane, precision="bf16")(*sample_windows(plane))
    assert not torch.equal(output, output.bfloat16().float())

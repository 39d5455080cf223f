import pytest
import torch
from neuralop.models import TFNO as PeerTFNO

from pdesurrogate.layers import fold_inputs, unfold_frames
from pdesurrogate.models.tfno_weights import (
    tfno_state_from_fno,
    tfno_state_from_neuralop,
    tfno_state_to_neuralop,
)

CHANGES = {
    "width": 8,
    "depth": 3,
    "num_modes": [6, 4],
    "factorisation": "tt",
    "rank": 0.9,
    "joint": True,
    "separable": True,
    "time": "axis",
    "channel_mlp": 1.0,
    "lift_ratio": 3.0,
    "projection_ratio": 0,
    "coordinates": "periodic",
    "precision": "bf16",
}
FORMS = ["tucker", "cp", "tt"]


@torch.no_grad()
@pytest.mark.parametrize(("option", "value"), CHANGES.items())
def test_every_option_changes_the_output(option, value, plane, build_model, sample_windows):
    case = plane._replace(horizon=6)
    inputs = sample_windows(case)
    reference = build_model("tfno", case)(*inputs)
    changed = build_model("tfno", case, **{option: value})(*inputs)
    assert changed.shape == reference.shape
    assert (changed - reference).abs().max() > (1e-4 if option == "precision" else 1e-3)


@torch.no_grad()
def test_padding_changes_the_output_on_a_wall_axis(channel, build_model, sample_windows):
    inputs = sample_windows(channel)
    plain, padded = build_model("tfno", channel), build_model("tfno", channel, padding=0.5)
    assert (plain(*inputs) - padded(*inputs)).abs().max() > 1e-3
    assert plain.symmetries == {"shift"}
    assert padded.symmetries == frozenset()


@pytest.mark.parametrize(
    "changed", [{"memory": "minimal"}, {"contraction": "reconstructed"}, {"backend": "fft"}]
)
@pytest.mark.parametrize("form", FORMS)
def test_options_of_speed_and_memory_keep_the_forecast_and_the_gradients(
    form, changed, plane, build_model, sample_windows
):
    frames, parameters = sample_windows(plane, dtype=torch.float64)
    outcomes = []
    for options in ({"contraction": "factorised"}, changed):
        model = build_model("tfno", plane, factorisation=form, **options).double()
        future = model(frames, parameters)
        outcomes.append([future, *torch.autograd.grad(future.square().sum(), list(model.parameters()))])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["plane", "line", "box"])
@pytest.mark.parametrize(("form", "ranks"), [("tucker", 0.5), ("cp", 0.5), ("tt", 0.5)])
def test_with_copied_factors_values_and_gradients_are_those_of_neuraloperator(
    form, ranks, name, request, build_model, sample_windows
):
    case = request.getfixturevalue(name)
    modes = {"plane": (8, 6), "line": (7,), "box": (4, 6, 5)}[name]
    ours = build_model("tfno", case, width=6, num_modes=modes, factorisation=form, rank=ranks)
    ranks = {"tucker": ours.spectral.ranks, "cp": ours.spectral.ranks[0], "tt": (1, *ours.spectral.ranks, 1)}
    peer = PeerTFNO(
        n_modes=modes,
        in_channels=case.history * case.spec.num_channels + case.spec.num_parameters,
        out_channels=case.horizon * case.spec.num_channels,
        hidden_channels=6,
        n_layers=2,
        positional_embedding=None,
        factorization=form,
        rank=ranks[form],
    )
    ours.load_state_dict(tfno_state_from_neuralop(peer.state_dict(), form))
    frames, parameters = sample_windows(case)
    expected = unfold_frames(peer(fold_inputs(frames, parameters)), case.horizon)
    future = ours(frames, parameters)
    assert (future - expected).norm() <= 1e-5 * expected.norm()
    future.square().sum().backward()
    expected.square().sum().backward()
    theirs = tfno_state_from_neuralop({n: p.grad for n, p in peer.named_parameters()}, form)
    mine = dict(ours.named_parameters())
    assert theirs.keys() == mine.keys()
    for key, gradient in theirs.items():
        assert (mine[key].grad - gradient).norm() <= 1e-4 * gradient.norm(), key


@pytest.mark.parametrize("form", FORMS)
def test_factors_go_to_neuraloperator_and_back_unchanged(form, box, build_model):
    state = build_model("tfno", box, num_modes=(4, 6, 5), factorisation=form).state_dict()
    back = tfno_state_from_neuralop(tfno_state_to_neuralop(state, (4, 6, 5), form), form)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_a_state_dict_of_another_form_is_refused():
    peer = PeerTFNO((4, 4), 1, 1, 4, n_layers=1, factorization="cp", rank=0.5)
    with pytest.raises(ValueError, match="no place for"):
        tfno_state_from_neuralop(peer.state_dict(), "tucker")


@torch.no_grad()
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("form", ["tucker", "tt"])
def test_an_fno_becomes_a_tfno_that_is_the_more_alike_the_higher_the_rank(form, joint, plane, build_model):
    dense, errors = build_model("fno", plane), []
    for rank in (0.2, 0.5, 1.0):
        options = {"factorisation": form, "rank": rank, "joint": joint}
        model = build_model("tfno", plane, **options)
        model.load_state_dict(tfno_state_from_fno(dense.state_dict(), dense.num_modes, **options))
        weights = [block.spectral.weight for block in dense.blocks]
        found = [model.spectral.reconstructed(layer) for layer in range(2)]
        errors.append(sum((a - b).norm() / b.norm() for a, b in zip(found, weights, strict=True)) / 2)
    assert 1 > errors[0] > errors[1] > errors[2]


@torch.no_grad()
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("form", ["tucker", "tt"])
def test_an_fno_whose_weights_have_low_rank_is_compressed_without_loss(
    form, joint, plane, build_model, sample_windows
):
    inputs = sample_windows(plane)
    dense = build_model("fno", plane)
    for block in dense.blocks:
        sizes = (4, 6, 6, 6)  # half axis, axis, channels in and out
        block.spectral.weight[..., 0] = torch.einsum("k,l,i,o->klio", *map(torch.randn, sizes)).flatten(0, 1)
        block.spectral.weight[..., 1] = 0.0
    options = {"factorisation": form, "rank": 0.5, "joint": joint}
    model = build_model("tfno", plane, **options)
    model.load_state_dict(tfno_state_from_fno(dense.state_dict(), dense.num_modes, **options))
    expected = dense(*inputs)
    assert (model(*inputs) - expected).norm() <= 1e-5 * expected.norm()


def test_only_the_state_of_an_fno_is_compressed(plane, build_model):
    with pytest.raises(
        ValueError, match=r"no blocks\.0\.spectral\.weight; give that of a model of the kind 'fno'"
    ):
        tfno_state_from_fno(build_model("unet", plane).state_dict(), (6, 6))


@pytest.mark.parametrize("joint", [False, True])
def test_compression_is_reported_for_the_spectral_weights_and_for_the_whole_model(joint, plane, build_model):
    dense, model = build_model("fno", plane), build_model("tfno", plane, joint=joint, rank=0.2)
    sizes = [sum(p.numel() for p in m.parameters()) for m in (dense, model)]
    spectral = [sum(p.numel() for n, p in m.named_parameters() if "spectral" in n) for m in (dense, model)]
    assert model.compression == pytest.approx(sizes[0] / sizes[1])
    assert model.spectral_compression == pytest.approx(spectral[0] / spectral[1])
    assert model.spectral_compression > model.compression > 1
    assert f"{spectral[1]:,} real numbers for {spectral[0]:,}" in model.summary


def test_every_parameter_is_real_and_there_is_one_set_of_factors_where_layers_share_them(plane, build_model):
    for joint in (False, True):
        model = build_model("tfno", plane, joint=joint)
        assert not any(p.is_complex() for p in model.parameters())
        assert {n.split(".")[2] for n in model.state_dict() if n.startswith("spectral")} == (
            {"0"} if joint else {"0", "1"}
        )
        assert all(p.shape[-1] == 2 for n, p in model.named_parameters() if n.startswith("spectral"))


@torch.no_grad()
def test_time_as_an_axis_has_a_factor_of_its_own(plane, build_model, sample_windows):
    case = plane._replace(horizon=4)
    model = build_model("tfno", case, time="axis", num_modes=(4, 4, 3), padding=0.5)
    assert model.spectral.shape == (6, 6, 4, 4, 2)
    future = model(*sample_windows(case))
    assert (future[:, 1:] - future[:, :1]).abs().amin(dim=1).max() > 1e-5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_modes": [4, 4, 4]}, "tfno: num_modes is"),
        ({"width": 0}, "tfno: width is 0; it must be at least 1"),
        ({"channel_mlp": -1.0}, "tfno: channel_mlp is -1.0"),
        ({"time": "axes"}, "tfno: time is 'axes'"),
        ({"padding": 0.5}, "tfno: padding is 0.5 but every axis is periodic"),
        ({"rank": 0}, "rank is 0; it is the share"),
        ({"rank": 1.5}, "above 0 and at most 1"),
        ({"factorisation": "tuckr"}, "Did you mean 'tucker'"),
        ({"contraction": "fatorised"}, "Did you mean 'factorised'"),
        ({"backend": "dtf"}, "Did you mean"),
        ({"memory": "leen"}, "Did you mean 'lean'"),
        ({"precision": "bf61"}, "Did you mean 'bf16'"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_allowed(options, sentence, plane, build_model):
    with pytest.raises(ValueError, match=sentence):
        build_model("tfno", plane, **options)

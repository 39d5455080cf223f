import subprocess
import sys
import warnings

import pytest
import torch

PEERS = {
    "FNO": {"n_layers": 2},
    "TFNO": {"n_layers": 2, "rank": 0.5},
    "UNO": {"n_layers": 4, "lifting_channels": 8, "projection_channels": 8},
}


@pytest.mark.parametrize("name", PEERS)
def test_peers_train_and_their_weights_survive_a_file_of_tensors(
    name, plane, build_model, sample_windows, tmp_path
):
    model = build_model("neuralop", plane, name=name, **PEERS[name])
    inputs = sample_windows(plane)
    model(*inputs).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    torch.save({"model": torch.nn.ModuleList([model]).state_dict()}, tmp_path / "weights.pt")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)["model"]
    other = torch.nn.ModuleList([build_model("neuralop", plane, name=name, **PEERS[name])])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(state)
    assert torch.equal(other[0](*inputs), model(*inputs))


def test_a_u_shaped_peer_takes_its_own_pyramid(plane, build_model, sample_windows):
    pyramid = {
        "uno_out_channels": [6, 8, 6],
        "uno_n_modes": [[4, 4]] * 3,
        "uno_scalings": [[s, s] for s in (0.25, 1.0, 4.0)],
    }
    model = build_model("neuralop", plane, name="UNO", n_layers=3, channel_mlp_skip="linear", **pyramid)
    assert model.grids == "multiple of 8"
    assert model(*sample_windows(plane)).shape == (2, 3, 1, 16, 16)
    with pytest.raises(ValueError, match="multiple of 8 points on axis 'y'"):
        model.check_grid((12, 16))


def test_the_peer_sees_frames_and_parameters_as_channels(channel, build_model):
    model = build_model("neuralop", channel._replace(history=3, horizon=2))
    assert model.peer.in_channels == 3 * 2 + 1
    assert model.peer.out_channels == 2 * 2
    assert model.peer.n_modes == (6, 6)


@torch.no_grad()
@pytest.mark.parametrize(
    "change", [{"n_modes": [6, 4]}, {"hidden_channels": 8}, {"name": "TFNO", "rank": 0.3}]
)
def test_every_option_changes_the_output(change, plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    difference = build_model("neuralop", plane, **change)(*inputs) - build_model("neuralop", plane)(*inputs)
    assert difference.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "FN0"}, "no grid-to-grid model 'FN0'. Did you mean 'FNO'"),
        ({"name": "GINO"}, "no grid-to-grid model 'GINO'.*Available in this installation: FNO"),
        ({"n_layer": 3}, "no option 'n_layer'. Did you mean 'n_layers'"),
        ({"name": "TFNO", "rnk": 0.3}, "no option 'rnk'. Did you mean 'rank'"),
        ({"in_channels": 3}, "in_channels derives from the data"),
        ({"n_modes": [4, 4, 4]}, "or 2 of them for the axes y, x"),
        ({"name": "UNO", "n_layers": 3}, "give uno_out_channels"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_allowed(options, sentence, plane, build_model):
    with pytest.raises(ValueError, match=sentence):
        build_model("neuralop", plane, **options)


def test_odd_grids_are_refused_because_the_peers_are_wrong_there(plane, build_model):
    with pytest.raises(ValueError, match="axis 'y' and the grid has 17"):
        build_model("neuralop", plane).check_grid((17, 16))
    with pytest.raises(ValueError, match="multiple of 4 points on axis 'x'"):
        build_model("neuralop", plane, name="UNO", n_layers=4).check_grid((16, 18))


def test_modes_above_nyquist_name_the_axis(plane, build_model):
    with pytest.raises(ValueError, match="6 modes on axis 'x'"):
        build_model("neuralop", plane).check_grid((16, 4))


def test_building_a_peer_leaves_the_warning_filters_and_the_output_alone(plane, build_model, capsys):
    filters = list(warnings.filters)
    build_model("neuralop", plane, name="UNO", n_layers=4)
    assert warnings.filters == filters
    assert capsys.readouterr().out == ""


def test_the_library_is_imported_by_the_constructor_only():
    code = (
        "import sys; from pdesurrogate.models import MODELS; MODELS.names(); "
        "print(any(m.split('.')[0] == 'neuralop' for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

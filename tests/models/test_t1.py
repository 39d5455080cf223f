"""T1: what its waves are, how often it transforms, and what its first weights do to the variance."""

import importlib
import math

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.fourier import RealWaves, num_waves
from pdesurrogate.layers.native import native_library
from pdesurrogate.models import MODELS
from pdesurrogate.models.matching import num_real_parameters
from pdesurrogate.models.t1_variance import expected_energy, gelu_energy
from pdesurrogate.models.t1_waves import all_waves, fewest_modes, mean_energy, strongest

TORUS = DataSpec((Field("vorticity"),), (Axis("y", 1.0), Axis("x", 1.0)), 0.1)
BOX = DataSpec(
    (Field("density"),), (Axis("z", 1.0, "open", offset=0.5), Axis("x", 1.0, "wall", offset=0.5)), 0.1
)
CHANNEL = DataSpec((Field("u"),), (Axis("y", 1.0, "wall", offset=0.5), Axis("x", 2.0)), 0.1)

wave_layer_module = importlib.import_module("pdesurrogate.layers.wave_layer")


def build(spec=TORUS, history=1, horizon=1, **options):
    torch.manual_seed(0)
    small = {"width": 6, "depth": 2, "num_modes": 5, "head_width": 8}
    return MODELS.build("t1", spec, history, horizon, **{**small, **options}).double()


def no_parameters(frames):
    return frames.new_zeros(len(frames), 0)


def frames_of(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
def full_resolution(model, frames):
    """The published order on all waves of the grid: lift in space, transform all channels, zeros outside the block."""
    axes, grid = model.frame.spec.axes, frames.shape[3:]
    waves = all_waves(model.waves.kinds, grid, [axis.offset for axis in axes])
    fields = [frames.flatten(1, 2)]
    if model.frame.coordinates == "linear":
        for dim, (axis, n) in enumerate(zip(axes, grid, strict=True)):
            s = ((torch.arange(n).double() + axis.offset) / n).view(-1, *[1] * (len(grid) - 1 - dim))
            fields.append(s.expand(len(frames), 1, *grid))
    lifted = model.lift(torch.cat(fields, 1).movedim(1, -1)).movedim(-1, 1)
    v = waves.analyse(lifted) * model.scale
    block = (..., *[slice(m) for m in model.waves.shape])
    for layer in model.layers:
        weight = layer.weight.unflatten(0, model.waves.shape)
        h = torch.nn.functional.gelu(torch.einsum("bixy,xyio->boxy", v[block], weight))
        h = torch.einsum("bcxy,cxp,cyq->bcpq", h, *layer.mixing)
        out = torch.zeros_like(v)
        out[block] = layer.keep * v[block] + h
        v = out
    y = torch.einsum("bixy,hi->bhxy", v, model.hidden.weight).sin()
    return waves.synthesise(torch.einsum("bhxy,oh->boxy", y, model.project.weight) / model.scale, grid)


@pytest.mark.parametrize("residual", ["balanced", "sum"])
@pytest.mark.parametrize("spec", [TORUS, CHANNEL, BOX])
def test_it_is_the_network_that_lifts_first_and_carries_all_waves(spec, residual):
    model = build(spec, 2, 1, num_modes=[4, 5], residual=residual, coordinates="linear")
    with torch.no_grad():
        model.lift.bias.normal_()
    frames = frames_of(3, 2, 1, 9, 11)
    expected = full_resolution(model, frames)
    found = model(frames, no_parameters(frames))[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("history", "time", "horizon"), [(1, "channels", 1), (2, "channels", 3), (2, "axis", 4)]
)
def test_a_forward_pass_transforms_once_in_space_each_way_whatever_the_depth(
    history, time, horizon, monkeypatch
):
    model = build(BOX, history, horizon, depth=5, num_modes=3, time=time)
    calls = []
    for name in ("analyse", "synthesise"):
        original = getattr(RealWaves, name)

        def counted(self, u, *grid, name=name, original=original):
            calls.append((name, self is model.waves, len(u)))
            return original(self, u, *grid)

        monkeypatch.setattr(RealWaves, name, counted)
    for name in ("rfftn", "irfftn", "fft", "rfft"):
        monkeypatch.setattr(torch.fft, name, lambda *a, name=name, **k: pytest.fail(f"torch.fft.{name}"))
    model(frames_of(7, history, 1, 8, 8), torch.zeros(7, 0))
    assert [name for name, in_space, _ in calls if in_space] == ["analyse", "synthesise"]
    in_time = [name for name, in_space, _ in calls if not in_space]
    assert in_time == ([] if time == "channels" else ["analyse", "synthesise"])


@torch.no_grad()
def identity(spec, grid_modes=5):
    """A network whose layers add nothing and whose lifting and projection undo each other."""
    model = build(spec, num_modes=grid_modes, residual="sum")
    for parameter in (
        *model.layers.parameters(),
        model.lift.weight,
        model.hidden.weight,
        model.project.weight,
    ):
        parameter.zero_()
    small = 1e-9  # the sine is the identity there
    model.lift.weight[0, 0] = 1
    model.hidden.weight[0, 0], model.project.weight[0, 0] = small, 1 / small
    return model


@torch.no_grad()
@pytest.mark.parametrize("spec", [TORUS, CHANNEL, BOX])
@pytest.mark.parametrize("number", [(0, 3), (2, 0), (4, 1)])
def test_a_single_wave_in_is_that_wave_out_of_the_identity(spec, number):
    model = identity(spec)
    amplitudes = torch.zeros(1, 1, 1, 5, 5, dtype=torch.float64)
    amplitudes[(0, 0, 0, *number)] = 3.0
    for grid in ((6, 7), (16, 33)):
        wave = model.waves.synthesise(amplitudes, grid)
        torch.testing.assert_close(model(wave, no_parameters(wave)), wave, rtol=0, atol=1e-9)
        found = model.amplitudes(wave, no_parameters(wave))
        torch.testing.assert_close(found, amplitudes, rtol=0, atol=1e-9)


@torch.no_grad()
def test_waves_that_are_not_kept_leave_no_trace_in_or_out():
    model = build(TORUS)
    high = torch.cos(2 * math.pi * 3 * torch.arange(16).double() / 16).expand(2, 1, 1, 16, 16)
    frames = frames_of(2, 1, 1, 16, 16)
    future = model(frames, no_parameters(frames))
    torch.testing.assert_close(model(frames + 5 * high, no_parameters(frames)), future, rtol=0, atol=1e-13)
    waves = all_waves(("fourier", "fourier"), (16, 16))
    outside = waves.analyse(future)
    outside[..., :5, :5] = 0
    assert outside.abs().max() < 1e-15


@torch.no_grad()
def test_a_trajectory_at_once_takes_a_history_that_is_constant_in_time():
    """With all cosines in time kept, identity layers return the lifted history in every frame."""
    model = build(TORUS, 1, 4, num_modes=[5, 5, 4], time="axis", residual="sum")
    for parameter in (
        *model.layers.parameters(),
        model.lift.weight,
        model.hidden.weight,
        model.project.weight,
    ):
        parameter.zero_()
    model.lift.weight[0] = torch.tensor([1.0, 2.0])  # the field, and twice the lead time
    model.hidden.weight[0, 0], model.project.weight[0, 0] = 1e-9, 1e9
    wave = model.waves.synthesise(frames_of(2, 1, 1, 5, 5), (8, 9))
    lead = torch.arange(4).double().view(1, 4, 1, 1, 1) / 4
    found = model(wave, no_parameters(wave))
    torch.testing.assert_close(found, wave + 2 * lead, rtol=0, atol=1e-8)


# The variance at the start


def fields_of_decay(decay, kind, size, num):
    """Amplitudes of random fields of unit variance with the spectrum ``(1 + κ²)^(-decay/2)``, as fields."""
    waves = all_waves((kind, kind), (size, size), (0.5, 0.5))
    energy = expected_energy(waves.kinds, waves.numbers, decay).view(waves.shape)
    amplitudes = frames_of(num, 1, 1, *waves.shape) * (energy / energy.sum()).sqrt()
    return waves.synthesise(amplitudes, (size, size))


@torch.no_grad()
def variances(model, frames):
    """Mean square of the activations over that of the input, after lifting and after each layer."""
    found = []
    v = model._lifted(frames, no_parameters(frames))
    for layer in [lambda v: v, *model.layers]:
        v = layer(v)
        found.append(
            float(v.square().sum() / v.shape[-1] / model.scale**2 / frames.square().mean((1, 2, 3, 4)).sum())
        )
    return found


@pytest.mark.parametrize(("decay", "expected"), [(3, 4), (4, 4), (6, 4), (3, 3)])
@pytest.mark.parametrize("spec", [TORUS, BOX], ids=["torus", "box"])
def test_activations_keep_their_variance_through_depth_on_inputs_with_a_decaying_spectrum(
    spec, decay, expected
):
    kind = "fourier" if spec is TORUS else "cosine"
    frames = fields_of_decay(decay, kind, 32, 48)
    runs = []
    for seed in range(3):
        torch.manual_seed(seed)
        options = {"width": 48, "depth": 8, "num_modes": 13, "decay": expected, "reference_grid": 32}
        runs.append(variances(MODELS.build("t1", spec, 1, 1, **options).double(), frames))
    means = torch.tensor(runs).mean(0)
    ratios = means / means[0]
    assert (ratios - 1).abs().max() < 0.1, ratios


@torch.no_grad()
def test_on_white_noise_the_truncating_layer_has_poli_et_al_s_scale_and_keeps_the_total_variance():
    """``σ² = N / (M C)``: a random linear map of the channels on the kept waves has the variance of all waves."""
    model = build(BOX, width=48, depth=3, num_modes=6, residual="sum", decay=0, reference_grid=16)
    scales = [float(layer.weight.std()) for layer in model.layers]
    assert scales[0] == pytest.approx(math.sqrt(16**2 / 6**2 / 48), rel=0.02)
    assert scales[1:] == pytest.approx([1 / math.sqrt(48)] * 2, rel=0.02)
    noise = frames_of(8, 48, 16, 16)
    kept = model.waves.analyse(noise).flatten(2).permute(2, 0, 1)
    total = torch.bmm(kept, model.layers[0].weight).square().sum() / 48 / 8
    assert float(total) == pytest.approx(float(noise.square().mean()), rel=0.05)


@pytest.mark.parametrize("size", [24, 96])
def test_the_scale_of_truncation_in_every_layer_would_explode_and_in_the_first_alone_does_not(size):
    noise = frames_of(4, 1, 1, size, size)
    options = {"width": 24, "depth": 6, "num_modes": 8, "decay": 0, "reference_grid": size, "residual": "sum"}
    once = variances(build(BOX, **options), noise)
    assert once[-1] / once[1] < 20
    everywhere = build(BOX, **options)
    with torch.no_grad():
        for layer in everywhere.layers[1:]:
            layer.weight.mul_(size / 8)
    repeated = variances(everywhere, noise)
    assert repeated[-1] / repeated[1] > (size / 8) ** (2 * 5) / 100


def test_the_energy_that_a_gelu_lets_pass_is_that_of_the_integral():
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    for variance in (1e-4, 0.5, 7.0, 1e3):
        values = torch.nn.functional.gelu(math.sqrt(variance) * x).square()
        expected = torch.trapezoid(values * density, x)
        torch.testing.assert_close(
            gelu_energy(torch.tensor(variance, dtype=torch.float64)), expected, rtol=1e-6, atol=0
        )


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{"num_modes": 24, "reference_grid": 64}, {"num_modes": 5, "reference_grid": 9}]
)
def test_the_first_output_is_neither_nothing_nor_large(options):
    frames = fields_of_decay(4, "fourier", 64, 2)
    model = build(TORUS, width=48, depth=8, head_width=128, **options)
    assert 1e-3 < float(model(frames, no_parameters(frames)).std()) < 1


@pytest.mark.parametrize(
    "options",
    [{"num_modes": 12}, {"num_modes": 12, "depth": 6}, {"num_modes": [6, 6, 4], "time": "axis"}],
    ids=["shallow", "deep", "trajectory"],
)
def test_what_is_kept_depends_on_the_waves_and_stays_close_below_the_estimate(
    options, kept_bytes, monkeypatch
):
    horizon = 4 if "time" in options else 1
    model = build(BOX, 1, horizon, **{"width": 16, "depth": 3, "head_width": 32, **options}).float()
    weights = 4 * num_real_parameters(model)
    for batch, size in ((16, 32), (32, 32), (32, 64)):
        history = torch.randn(batch, 1, 1, size, size)
        with monkeypatch.context() as patch:  # ordinary operations, which a GPU has, keep the most
            patch.setattr(wave_layer_module, "native_applies", lambda *tensors: False)
            kept = kept_bytes(model, history) - weights
        if native_library() is not None:  # of every layer the GELU's output is taken in passing
            field = 4 * batch * 16 * math.prod(model.layers[0].shape)
            assert kept_bytes(model, history) - weights <= kept - len(model.layers) * field
        frames = 4 * batch * size**2 * (1 + 3 * horizon)
        estimate = model.training_memory((size, size), batch) - 4 * weights - frames
        assert 0.9 * kept < estimate < 1.7 * kept


# Which waves


def test_the_parameters_are_those_of_the_paper_s_configuration():
    model = MODELS.build("t1", TORUS, 1, 1, coordinates="linear")
    assert num_real_parameters(model) == 11_065_664


def test_each_axis_gets_the_waves_of_its_boundary():
    assert build(CHANNEL).waves.kinds == ("cosine", "fourier")
    assert build(BOX).waves.kinds == ("cosine", "cosine")
    assert build(TORUS, transform="dct_everywhere").waves.kinds == ("cosine", "cosine")
    assert build(TORUS, transform="rfft_real").waves.kinds == build(TORUS).waves.kinds


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (TORUS, {"transform": "dct"}, r"'dct' and the axes 'y', 'x' are periodic.*kink.*transform=auto"),
        (CHANNEL, {"transform": "dct"}, r"the axis 'x' is periodic"),
        (CHANNEL, {"transform": "rfft_real"}, r"'rfft_real' and the axis 'y' is not periodic.*jumps"),
        (BOX, {"transform": "fft"}, r"transform is 'fft'.*Allowed: auto, dct, rfft_real"),
        (TORUS, {"waves": "energy"}, r"train.py"),
        (TORUS, {"waves": "enery"}, r"Did you mean 'energy'"),
        (TORUS, {"waves": None}, r"waves is None\. Allowed: lowest, energy, or one list of numbers an axis"),
        (TORUS, {"waves": [["a"], [0]]}, r"waves is \[\['a'\], \[0\]\]\. Allowed: lowest, energy"),
        (TORUS, {"waves": [0, 1]}, r"waves is \[0, 1\]\. Allowed: lowest, energy"),
        (TORUS, {"tolerance": 0.1}, r"needs the training data"),
        (TORUS, {"waves": [[0, 1], [0, 1]]}, r"lists of \[2, 2\] numbers and num_modes is \[5, 5\]"),
        (TORUS, {"num_modes": [3, 3, 3]}, r"2 of them for the axes y, x"),
        (TORUS, {"num_modes": [3, 3, 9], "time": "axis"}, r"horizon 1"),
        (TORUS, {"reference_grid": [64]}, r"2 of them for the axes y, x"),
        (TORUS, {"residual": "sums"}, r"Did you mean 'sum'"),
        (TORUS, {"decay": -1}, r"decay is -1"),
    ],
)
def test_options_that_cannot_work_are_refused(spec, options, message, as_users_run):
    with pytest.raises(ValueError, match=message):
        build(spec, **options)


def test_waves_above_nyquist_are_refused_with_the_number_that_fits():
    model = build(TORUS, num_modes=[5, 8])
    model.check_grid((5, 9))
    with pytest.raises(ValueError, match=r"axis 'x' go up to number 7.*at most 7"):
        model.check_grid((16, 8))


def test_a_wave_of_the_torus_has_no_floor_on_fourier_waves_and_a_high_one_on_cosines():
    sine = torch.sin(2 * math.pi * torch.arange(32).double() / 32).expand(1, 1, 1, 32, 32)
    errors = {
        transform: float((build(TORUS, transform=transform).nearest(sine) - sine).norm() / sine.norm())
        for transform in ("rfft_real", "dct_everywhere")
    }
    assert errors["rfft_real"] < 1e-14
    assert errors["dct_everywhere"] > 0.05


def test_energy_keeps_the_strongest_waves_of_every_axis():
    waves = all_waves(("fourier", "cosine"), (9, 8))
    amplitudes = torch.zeros(6, 2, *waves.shape, dtype=torch.float64)
    amplitudes[..., 0, 7], amplitudes[..., 5, 3], amplitudes[..., 6, 3] = 1.0, 2.0, 4.0
    energy = mean_energy(
        waves, [waves.synthesise(amplitudes[:4], (9, 8)), waves.synthesise(amplitudes[4:], (9, 8))]
    )
    assert float(energy.sum()) == pytest.approx(1)
    assert float(energy[6, 3]) == pytest.approx(16 / 21)
    assert strongest(energy, [2, 1]) == [[5, 6], [3]]
    chosen = build(CHANNEL, num_modes=[2, 1], waves=[[5, 6], [3]])
    assert chosen.waves.numbers == ((5, 6), (3,))


def test_the_fewest_waves_are_those_whose_projection_errs_less_than_the_tolerance():
    frames = fields_of_decay(5, "cosine", 16, 8)[:, 0]
    waves = all_waves(("cosine", "cosine"), (16, 16))
    energy = mean_energy(waves, [frames])
    modes = fewest_modes(energy, 0.05, lowest=True)

    def error(count):
        near = build(BOX, num_modes=count).nearest(frames[:, None])[:, 0]
        return float(
            ((near - frames).square().mean((1, 2, 3)) / frames.square().mean((1, 2, 3))).mean().sqrt()
        )

    assert modes[0] == modes[1] < 16
    assert error(modes[0]) <= 0.05 < error(modes[0] - 1)
    with pytest.raises(ValueError, match="tolerance is 0"):
        fewest_modes(energy, 0, lowest=True)


def test_a_grid_carries_no_nyquist_wave_of_a_periodic_axis():
    assert [num_waves("fourier", n) for n in (8, 9)] == [7, 9]
    assert num_waves("cosine", 8) == 8

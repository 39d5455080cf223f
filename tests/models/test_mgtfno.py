"""Region by region equals all at once where it must, and nothing of a region but its input is kept."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pdesurrogate.fields.fourier import resample
from pdesurrogate.layers import BoundaryConv
from pdesurrogate.models import MODELS

CUTS = {
    "the paper's one level": {"regions": 2, "levels": 1, "halo": 0.125},
    "the paper's two levels": {"regions": 4, "levels": 2, "halo": 0.125},
    "no halo": {"regions": 4, "levels": 1, "halo": 0.0},
    "halo on one axis only": {"regions": 2, "levels": 0, "halo": [0.125, 0.0]},
    "an axis left whole": {"regions": [4, 1], "levels": 2, "halo": 0.125},
    "filtered": {"regions": 4, "levels": 2, "halo": 0.125, "low_pass": True},
}

CHANGES = {
    "base": "fno",
    "base_options": {"width": 8, "multipliers": [2], "num_blocks": 1},
    "regions": 4,
    "levels": 0,
    "halo": 0.25,
    "low_pass": True,
    "window_boundary": "open",
    "coordinates": "linear",
}


class Stub(nn.Module):
    """A base whose result on the box is known; it looks at the last frame."""

    geometries, symmetries, grids = frozenset({"plane"}), frozenset({"shift"}), "any"

    def __init__(self, spec, history, horizon):
        super().__init__()
        self.spec, self.history, self.horizon = spec, history, horizon
        self.build()

    def build(self): ...

    def check_grid(self, grid): ...

    def forward(self, history, parameters):
        assert history.shape[1] == self.history
        return torch.stack([self.act(history[:, -1], parameters) * (k + 1) for k in range(self.horizon)], 1)


class Pointwise(Stub):
    """A nonlinear function of a point's values and of the parameters."""

    def act(self, u, parameters):
        shift = parameters.sum(1).view(-1, *[1] * (u.ndim - 1))
        return torch.tanh(2 * u) + shift * u.square()


class AllFrames(Stub):
    """A nonlinear function of a point's values on all levels."""

    def forward(self, history, parameters):
        weights = torch.arange(1, self.history + 1, dtype=history.dtype).view(-1, *[1] * (history.ndim - 2))
        return torch.tanh((weights * history).sum(1, keepdim=True)).repeat_interleave(self.horizon, 1)


class Stencils(Stub):
    """Two 3-point stencils with a nonlinearity in between, which see two points far."""

    def build(self):
        self.stencils = nn.ModuleList(
            BoundaryConv(self.spec.num_channels, self.spec.num_channels, self.spec.boundaries)
            for _ in range(2)
        )

    def act(self, u, parameters):
        return self.stencils[1](torch.tanh(self.stencils[0](u)))


class OneStencil(Stencils):
    """One 3-point stencil."""

    def act(self, u, parameters):
        return self.stencils[0](u)


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    MODELS.names()  # the registry has looked around, before it is added to for a test
    for stub in (Pointwise, AllFrames, Stencils, OneStencil):
        monkeypatch.setitem(MODELS._entries, stub.__name__.lower(), stub)


def build(base, case, **options):
    torch.manual_seed(0)
    return MODELS.build("mgtfno", case.spec, case.history, case.horizon, base=base, **options).eval()


def plain(base, case, **options):
    torch.manual_seed(0)
    return MODELS.build(base, case.spec, case.history, case.horizon, **options).eval()


FNO_OPTIONS = {"width": 6, "depth": 2, "num_modes": 4}


@torch.no_grad()
def test_one_region_without_levels_is_the_plain_model_bit_for_bit(plane, sample_windows):
    inputs = sample_windows(plane)
    model = build("fno", plane, base_options=FNO_OPTIONS, regions=1, levels=0)
    same = plain("fno", plane, **FNO_OPTIONS)
    assert torch.equal(model(*inputs), same(*inputs))
    assert model.symmetries == same.symmetries
    assert model.grids == same.grids
    model.check_grid((15, 17))


@torch.no_grad()
@pytest.mark.parametrize("process", ["sequential", "batch"])
@pytest.mark.parametrize("options", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("grid", [(16, 16), (8, 24)])
def test_a_model_that_looks_at_points_alone_does_not_see_the_cuts(
    options, grid, process, plane, sample_windows
):
    inputs = sample_windows(plane, grid=grid)
    for base in ("persistence", "pointwise"):
        model = build(base, plane, process=process, **options)
        assert torch.equal(model(*inputs), plain(base, plane)(*inputs))


@torch.no_grad()
def test_walls_parameters_lines_and_boxes_are_cut_likewise(channel, line, box, sample_windows):
    for case, regions in ((channel, [2, 3]), (line, 4), (box, [2, 3, 4])):
        inputs = sample_windows(case)
        for process in ("sequential", "batch"):
            model = build("pointwise", case, regions=regions, levels=1, halo=0.2, process=process)
            assert torch.equal(model(*inputs), plain("pointwise", case)(*inputs))


@torch.no_grad()
@pytest.mark.parametrize("window_boundary", ["periodic", "open"])
@pytest.mark.parametrize("levels", [0, 1])
def test_stencils_do_not_see_the_cuts_once_the_halo_is_as_wide_as_they_see(
    levels, window_boundary, plane, sample_windows
):
    inputs = sample_windows(plane, dtype=torch.float64)
    reference = plain("stencils", plane).double()(*inputs)
    errors = {}
    for points in (0, 1, 2, 3):
        options = {"regions": 4, "levels": levels, "halo": points / 16, "window_boundary": window_boundary}
        model = build("stencils", plane, **options).double()
        errors[points] = (model(*inputs) - reference).abs().max().item()
    assert min(errors[0], errors[1]) > 1e-3
    assert max(errors[2], errors[3]) < 1e-14


@torch.no_grad()
def test_a_stencil_sees_a_wall_through_the_halo_as_it_does_itself(channel, sample_windows):
    """What lies beyond a wall is its mirror image: at one point's distance, the edge value."""
    inputs = sample_windows(channel, dtype=torch.float64)
    reference = plain("onestencil", channel).double()(*inputs)
    halo = [1 / 8, 1 / 12]
    model = build("onestencil", channel, regions=2, levels=1, halo=halo).double()
    torch.testing.assert_close(model(*inputs), reference)
    without = build("onestencil", channel, regions=2, levels=1, halo=0).double()
    assert (without(*inputs) - reference).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("options", CUTS.values(), ids=CUTS)
def test_a_translation_by_a_region_permutes_the_regions(options, plane, sample_windows):
    model = build("fno", plane, base_options=FNO_OPTIONS, process="batch", **options)
    frames, parameters = sample_windows(plane)
    future = model(frames, parameters)
    steps = [16 // r for r in model.counts]
    for step in ([steps[0], 0], [0, steps[1]], [-steps[0], 2 * steps[1]]):
        moved = model(frames.roll(step, (-2, -1)), parameters)
        torch.testing.assert_close(moved, future.roll(step, (-2, -1)), rtol=1e-5, atol=1e-6)
    moved = model(frames.roll(1, -2), parameters)
    assert (moved - future.roll(1, -2)).abs().max() > 1e-3


def smooth_frames(case, num_modes=5):
    shape = (2, case.history, case.spec.num_channels, *[num_modes] * case.spec.ndim)
    return torch.randn(shape, dtype=torch.float64), torch.zeros(2, 0, dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("low_pass", [False, True])
@pytest.mark.parametrize(("regions", "levels"), [(2, 1), (4, 2), ([2, 4], 2)])
def test_a_band_limited_field_on_twice_the_points_gives_the_same_values_at_shared_points(
    regions, levels, low_pass, plane
):
    options = {"regions": regions, "levels": levels, "halo": 1 / 16, "low_pass": low_pass}
    frames, parameters = smooth_frames(plane)
    model = build("allframes", plane, **options)
    coarse, fine = (model(resample(frames, [n, n + 16]), parameters) for n in (48, 96))
    shared = model(resample(frames, [96, 128]), parameters)[..., ::2, ::2]
    torch.testing.assert_close(shared, coarse)
    assert fine.shape[-2:] == (96, 112)


@torch.no_grad()
def test_a_fourier_operator_on_finer_grids_converges_at_shared_points(plane):
    """Its waves meet the jump between a window's ends, so that the order is one and not infinite."""
    model = build("fno", plane, base_options=FNO_OPTIONS, regions=2, levels=1, halo=1 / 8).double()
    frames, parameters = smooth_frames(plane)
    futures = {
        n: model(resample(frames, [n, n]), parameters)[..., :: n // 16, :: n // 16] for n in (32, 64, 128)
    }
    scale = futures[128].norm()
    errors = [((futures[n] - futures[2 * n]).norm() / scale).item() for n in (32, 64)]
    assert errors[0] < 0.1
    assert 1.7 < errors[0] / errors[1] < 4


@torch.no_grad()
def test_odd_and_oblong_grids_are_cut_where_the_regions_divide_them(plane, sample_windows):
    model = build("fno", plane, base_options=FNO_OPTIONS, regions=[3, 5], levels=2, halo=[0.2, 0.1])
    assert model.grids == "multiple of 15"
    future = model(*sample_windows(plane, grid=(15, 35)))
    assert future.shape[-2:] == (15, 35)
    assert model.region_grid((15, 35)).window == (11, 15)


@torch.no_grad()
@pytest.mark.parametrize("option", CHANGES)
def test_every_option_changes_the_output(option, plane, sample_windows):
    inputs = sample_windows(plane)
    options = {
        "base_options": {"width": 4, "multipliers": [2], "num_blocks": 1},
        "halo": 1 / 16,
        "regions": 2,
    }
    reference = build("unet", plane, **options)(*inputs)
    change = {option: CHANGES[option]}
    if option == "base":
        change["base_options"] = FNO_OPTIONS
    changed = build(**{"base": "unet", "case": plane, **options, **change})(*inputs)
    assert (changed - reference).abs().max() > 1e-3


@pytest.mark.parametrize("options", [CUTS["the paper's one level"], CUTS["an axis left whole"]])
def test_one_region_at_a_time_has_the_forecast_and_the_gradients_of_all_at_once(
    options, plane, sample_windows
):
    frames, parameters = sample_windows(plane, dtype=torch.float64)
    outcomes = []
    for process in ("sequential", "batch"):
        model = build("fno", plane, base_options=FNO_OPTIONS, process=process, **options).double()
        inputs = frames.clone().requires_grad_()
        future = model(inputs, parameters)
        future.square().sum().backward()
        outcomes.append([future, inputs.grad, *(p.grad for p in model.parameters())])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other)


def kept_bytes(model, inputs):
    """Bytes that the graph of a forward pass holds on to, apart from weights; shared memory counts once."""
    weights = {p.data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), storage)  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        future = model(*inputs)
    assert future.requires_grad
    return sum(size for size, _ in kept.values())


class LiveStorages(TorchDispatchMode):
    """Counts the bytes of what operations have made and is still there, whoever holds it."""

    def __init__(self):
        super().__init__()
        self.sizes = {}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        made = function(*arguments, **(options or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.sizes:
                    self.sizes[key] = storage.nbytes()
                    weakref.finalize(storage, self.sizes.pop, key, None)
        return made


@pytest.mark.parametrize("base", ["fno", "tfno"])
def test_more_regions_one_at_a_time_leave_no_more_behind(base, plane, sample_windows):
    frames, parameters = sample_windows(plane, grid=(64, 64))
    left = {}
    for regions in (2, 8):
        cut = {"base_options": FNO_OPTIONS, "regions": regions, "halo": 1 / 16}
        model = build(base, plane, **cut)
        model(frames, parameters)  # tables are made once and stay
        with LiveStorages() as live:
            future = model(frames, parameters)
            gc.collect()
            left[regions] = sum(live.sizes.values())
        assert future.requires_grad
    assert left[8] < 1.25 * left[2]


@pytest.mark.parametrize("base", ["fno", "tfno", "unet"])
def test_the_graph_of_one_region_at_a_time_keeps_what_regions_are_cut_from_and_no_more(
    base, plane, sample_windows
):
    frames, parameters = sample_windows(plane, grid=(32, 32))
    unet = {"width": 4, "multipliers": [1], "num_blocks": 1}
    options = unet if base == "unet" else FNO_OPTIONS
    field = frames.untyped_storage().nbytes()
    for regions, low_pass in ((2, False), (4, False), (4, True)):
        cut = {"base_options": options, "regions": regions, "halo": 1 / 16, "low_pass": low_pass}
        frames.requires_grad_(not low_pass)  # the transforms of the filter would keep their inputs
        one = kept_bytes(build(base, plane, **cut), (frames, parameters))
        everything = kept_bytes(build(base, plane, process="batch", **cut), (frames, parameters))
        tables = 4096  # the points of a window along an axis
        assert one <= field * (2 if low_pass else 1) + tables
        assert everything > 4 * field
    whole = kept_bytes(plain(base, plane, **options), (frames, parameters))
    assert whole > 4 * field


@pytest.mark.parametrize(
    ("base", "options"),
    [
        ("fno", FNO_OPTIONS),
        ("tfno", FNO_OPTIONS),
        ("unet", {"width": 4, "multipliers": [1], "num_blocks": 1}),
    ],
)
def test_every_region_is_computed_once_forward_and_once_more_backward(base, options, plane, sample_windows):
    model = build(base, plane, base_options=options, regions=2)
    calls = []
    model.base.register_forward_pre_hook(lambda *_: calls.append(1))
    future = model(*sample_windows(plane))
    assert len(calls) == 4
    future.square().sum().backward()
    assert len(calls) == 8


def test_without_gradients_nothing_is_checkpointed(plane, sample_windows, monkeypatch):
    from pdesurrogate.layers import recomputation

    monkeypatch.setattr(recomputation, "checkpoint", lambda *args, **options: pytest.fail("checkpointed"))
    with torch.no_grad():
        build("fno", plane, base_options=FNO_OPTIONS)(*sample_windows(plane))


@torch.no_grad()
def test_a_window_knows_where_in_the_box_it_is(plane, sample_windows):
    """The same values everywhere: only the position can make regions differ."""
    frames = torch.ones_like(sample_windows(plane)[0])
    parameters = torch.zeros(2, 0)
    lost = build("fno", plane, base_options=FNO_OPTIONS, regions=4)(frames, parameters)
    torch.testing.assert_close(lost, lost.roll(4, -1))
    placed = build("fno", plane, base_options=FNO_OPTIONS, regions=4, coordinates="periodic")
    future = placed(frames, parameters)
    assert (future - future.roll(4, -1)).abs().max() > 1e-3
    seen = {}
    placed.base.register_forward_pre_hook(lambda module, inputs: seen.update(frames=inputs[0]))
    placed(frames, parameters)
    x = torch.arange(16) / 16  # the last window, level 0: points 11 .. 16 of 16, the halo wrapped
    place = torch.cat([x[11:], x[:1]])
    history = seen["frames"]
    assert history.shape[1] == 2 * 2 + 4
    torch.testing.assert_close(history[0, 4, 0, 0], torch.cos(2 * torch.pi * place), rtol=0, atol=1e-6)


def test_the_halo_is_widened_to_what_the_base_needs(plane, sample_windows):
    options = {"width": 4, "multipliers": [1, 1, 1], "num_blocks": 1}
    model = build("unet", plane, base_options=options, regions=2, halo=0.1)
    assert model.grids == "multiple of 8"
    assert model.region_grid((16, 32)).halos == (2, 4)
    assert model(*sample_windows(plane)).shape[-2:] == (16, 16)
    with pytest.raises(
        ValueError, match=r"2 regions of a multiple of 4 points .* multiple of 8. Use 8 or 16"
    ):
        model.check_grid((12, 16))


def test_a_copy_of_the_model_is_its_own(plane, sample_windows):
    model = build("fno", plane, base_options=FNO_OPTIONS)
    twin = copy.deepcopy(model)
    assert twin.share == model.share
    assert twin.base is not model.base


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "fmo"}, "Unknown model 'fmo'. Did you mean 'fno'"),
        ({"base_options": {"widht": 3}}, "model 'fno' has no option 'widht'. Did you mean 'width'"),
        ({"regions": 0}, "regions is 0; give one positive number, or 2 of them for the axes y, x"),
        ({"regions": [2, 2, 2]}, "give one positive number, or 2 of them"),
        (
            {"levels": 2},
            r"levels is 2; level l covers 2\^l regions .* Use 0 to 1 levels here, or more regions",
        ),
        ({"levels": -1}, "Use 0 to 1 levels"),
        ({"regions": 1, "levels": 1}, "Use 0 to 0 levels here, or more regions"),
        ({"halo": 0.6}, "halo on axis 'y' is 0.6 of the axis, larger than a region, which is 0.5 of it"),
        ({"halo": -0.1}, "halo is -0.1; give one fraction of the axis"),
        ({"halo": [0.1]}, "give one fraction of the axis, 0 or more, or 2 of them"),
        ({"process": "sequental"}, "process is 'sequental'. Did you mean 'sequential'"),
        ({"window_boundary": "wall"}, "window_boundary is 'wall'.* Allowed: 'periodic', 'open'"),
        ({"coordinates": "polar"}, "coordinates is 'polar'"),
        (
            {"base_options": {"coordinates": "linear"}},
            "positions in a window. Give coordinates to mgtfno itself",
        ),
    ],
)
def test_options_that_cannot_work_are_refused_in_a_sentence(options, message, plane, as_users_run):
    with pytest.raises(ValueError, match=message):
        build(**{"base": "fno", "case": plane, **options})


def test_grids_that_cannot_work_are_refused_in_a_sentence(plane):
    model = build("fno", plane, base_options={**FNO_OPTIONS, "num_modes": 10}, regions=3)
    with pytest.raises(
        ValueError, match=r"axis 'x' into 3 regions and the grid has 32 .* Use 30 or 33 points"
    ):
        model.check_grid((48, 32))
    with pytest.raises(ValueError, match=r"windows have 8 x 24 points, region and halo. .*at most 8"):
        model.check_grid((18, 48))
    wide = build(
        "unet", plane, base_options={"multipliers": [1, 1, 1, 1], "num_blocks": 1}, regions=4, halo=0.01
    )
    wide.check_grid((32, 64))

"""Small models and specs that every suite of this room runs over: each registered model, each kind of domain."""

from typing import NamedTuple

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field, Parameter
from pdesurrogate.fields.spherical.grid import spherical_axes
from pdesurrogate.models import MODELS, notes

SMALL_OPTIONS = {
    "fno": {"width": 6, "depth": 2, "num_modes": 6},
    "gfno": {"width": 3, "depth": 2, "num_modes": 6},
    "localno": {"width": 6, "depth": 2, "num_modes": 6, "radius": 0.3, "reference_grid": 16},
    "unet": {"width": 4, "multipliers": [1, 2], "num_blocks": 1, "groups": 2},
    "mgtfno": {
        "base": "fno",
        "base_options": {"width": 4, "depth": 2, "num_modes": 4},
        "process": "batch",
    },
    "specboost": {"base_options": {"width": 4, "depth": 1, "num_modes": 6}},
    "ensemble": {"base_options": {"width": 4, "depth": 1, "num_modes": 6}},
    "neuralop": {"n_modes": 6, "hidden_channels": 6, "n_layers": 2},
    "t1": {"width": 6, "depth": 2, "num_modes": 5, "head_width": 8},
    "tfno": {"width": 6, "depth": 2, "num_modes": 6, "rank": 0.5},
    "sfno": {"width": 6, "depth": 2, "max_degree": 7},
    "factformer": {
        "width": 8,
        "depth": 2,
        "heads": 2,
        "head_dim": 4,
        "latent_multiplier": 1,
        "rotary_frequency": 8.0,
    },
    "ffno": {"width": 6, "depth": 2, "num_modes": 6, "mlp_ratio": 2},
    "dilated_resnet": {"width": 6, "depth": 2, "dilations": [1, 2]},
    "lsno": {"width": 6, "depth": 2, "max_degree": 7, "cutoff": 0.9, "encoder_cutoff": 0.6},
}
"""Options for the suites' speed; a model without an entry runs with its defaults."""

VARIANTS = {
    "fno_3d": ("fno", {"width": 6, "depth": 2, "num_modes": 2, "time": "axis", "padding": 0.5}),
    "localno, antisymmetric and integral by turns": (
        "localno",
        {
            **SMALL_OPTIONS["localno"],
            "local": ["antisymmetric", "integral"],
            "basis": "morlet",
            "basis_shape": 2,
        },
    ),
    "localno, control": ("localno", {**SMALL_OPTIONS["localno"], "local": "conv", "depthwise": True}),
    "gfno p4m": ("gfno", {"group": "p4m", "width": 2, "depth": 2, "num_modes": 6}),
    "fno with positions": ("fno", {**SMALL_OPTIONS["fno"], "coordinates": "periodic"}),
    "mgtfno of unet": (
        "mgtfno",
        {
            "base": "unet",
            "base_options": {**SMALL_OPTIONS["unet"], "multipliers": [2]},
            "window_boundary": "open",
            "low_pass": True,
            "coordinates": "periodic",
            "levels": 0,
        },
    ),
    "t1, whole trajectory": ("t1", {**SMALL_OPTIONS["t1"], "time": "axis"}),
    "t1, plain sum": ("t1", {**SMALL_OPTIONS["t1"], "residual": "sum", "coordinates": "periodic"}),
    "tfno, joint": ("tfno", {**SMALL_OPTIONS["tfno"], "joint": True, "contraction": "reconstructed"}),
    "tfno, cp": ("tfno", {**SMALL_OPTIONS["tfno"], "factorisation": "cp", "rank": 0.2}),
    "tfno, tt": ("tfno", {**SMALL_OPTIONS["tfno"], "factorisation": "tt", "contraction": "factorised"}),
    "tfno, separable": ("tfno", {**SMALL_OPTIONS["tfno"], "separable": True, "joint": True}),
    "specboost of unet, then of fno": (
        "specboost",
        {
            "base": "unet",
            "base_options": {"width": 4, "multipliers": [1, 2], "num_blocks": 1, "groups": 2},
            "residual": "fno",
            "residual_options": {"width": 4, "depth": 1, "num_modes": 4},
            "stage_input": "pred_only",
        },
    ),
    "factformer, one shot": (
        "factformer",
        {**SMALL_OPTIONS["factformer"], "latent_steps": 0, "tie_axes": True, "position_scale": 0.5},
    ),
    "sfno, isotropic": ("sfno", {**SMALL_OPTIONS["sfno"], "isotropic": True, "coordinates": "none"}),
    "sfno, coarser inside": (
        "sfno",
        {**SMALL_OPTIONS["sfno"], "max_degree": 4, "scale_factor": 2, "coordinates": "none", "max_order": 3},
    ),
    "lsno, isotropic": ("lsno", {**SMALL_OPTIONS["lsno"], "isotropic": True, "coordinates": "none"}),
    "lsno, parallel, coarser inside": (
        "lsno",
        {
            **SMALL_OPTIONS["lsno"],
            "max_degree": 4,
            "scale_factor": 2,
            "arrangement": "parallel",
            "coordinates": "position",
        },
    ),
}
"""Further configurations that go through every suite: name to kind and options."""

VORTICITY = Field("vorticity", "1 s-1", "pseudoscalar")
VELOCITY = Field("velocity", "m s-1", "vector", ("y", "x"))


class Case(NamedTuple):
    spec: DataSpec
    grid: tuple[int, ...]
    history: int
    horizon: int


CASES = {
    "periodic plane": Case(DataSpec((VORTICITY,), (Axis("y", 1.0), Axis("x", 1.0)), 0.1), (16, 16), 2, 3),
    "channel flow": Case(
        DataSpec(
            (VELOCITY,),
            (Axis("y", 1.0, "wall", offset=0.5), Axis("x", 2.0)),
            0.1,
            parameters=(Parameter("viscosity", "m2 s-1"),),
        ),
        (8, 12),
        1,
        2,
    ),
    "line": Case(DataSpec((Field("u"),), (Axis("x", 1.0),), 0.1), (16,), 3, 2),
    "periodic box": Case(
        DataSpec((Field("density"),), (Axis("z", 1.0), Axis("y", 1.0), Axis("x", 1.0)), 0.1), (8, 6, 8), 1, 2
    ),
    "sphere": Case(
        DataSpec(
            (Field("height", "m"), VORTICITY),
            spherical_axes(),
            0.1,
            geometry="sphere",
            parameters=(Parameter("rotation_rate", "s-1"),),
        ),
        (10, 20),
        2,
        2,
    ),
}


def configurations():
    known = {name: (name, SMALL_OPTIONS.get(name, {})) for name in MODELS.names()}
    return {**known, **VARIANTS}


def fitted(kind, options, case):
    """Options for a case: the groups with quarter turns work on square boxes alone, and on a line there are none."""
    *_, width = case.grid
    is_square = len(set(case.spec.lengths[-2:])) == 1 and case.grid[-2:] == (width, width)
    if kind != "gfno" or is_square:
        return options
    return {**options, "group": "pmm" if case.spec.ndim > 1 else "p1"}


def suits(configuration, geometry):
    """Whether a configuration declares a geometry; a peer's adapter learns its own with its options."""
    kind, _ = configurations()[configuration]
    return geometry in getattr(MODELS.get(kind), "geometries", {"plane"})


def build(configuration, case, **changes):
    kind, options = configurations()[configuration]
    torch.manual_seed(0)
    options = {**fitted(kind, options, case), **changes}
    return MODELS.build(kind, case.spec, case.history, case.horizon, **options).eval()


def windows(case, batch=2, grid=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    shape = (batch, case.history, case.spec.num_channels, *(grid or case.grid))
    history = torch.randn(shape, generator=generator, dtype=dtype)
    return history, torch.randn(batch, case.spec.num_parameters, generator=generator, dtype=dtype)


def pytest_generate_tests(metafunc):
    """Run a suite over the configurations and cases whose geometries fit; without a case, on the plane."""
    if "case" in metafunc.fixturenames:
        pairs = {
            f"{configuration}-{name}": (configuration, case)
            for name, case in CASES.items()
            for configuration in configurations()
            if suits(configuration, case.spec.geometry)
        }
        if "configuration" in metafunc.fixturenames:
            metafunc.parametrize(("configuration", "case"), pairs.values(), ids=pairs)
        else:
            metafunc.parametrize("case", CASES.values(), ids=CASES)
    elif "configuration" in metafunc.fixturenames:
        metafunc.parametrize("configuration", [c for c in configurations() if suits(c, "plane")])
    if "spherical_configuration" in metafunc.fixturenames:
        metafunc.parametrize("spherical_configuration", [c for c in configurations() if suits(c, "sphere")])


@pytest.fixture(autouse=True)
def _nothing_was_said():
    """Whatever tests before this one were warned of."""
    notes.forget()


@pytest.fixture
def plane():
    return CASES["periodic plane"]


@pytest.fixture
def channel():
    return CASES["channel flow"]


@pytest.fixture
def build_model():
    return build


@pytest.fixture
def case_for():
    """The first case on a geometry that a model declares; a peer's adapter learns its own with its options."""

    def first(kind):
        geometries = getattr(MODELS.get(kind), "geometries", {"plane"})
        return next(case for case in CASES.values() if case.spec.geometry in geometries)

    return first


@pytest.fixture
def sample_windows():
    return windows


@pytest.fixture
def line():
    return CASES["line"]


@pytest.fixture
def sphere():
    return CASES["sphere"]


@pytest.fixture
def box():
    return CASES["periodic box"]


@pytest.fixture
def kept_bytes():
    """Count the bytes of all storages that a model's forward pass on some frames keeps for the backward pass."""

    def count(model, frames):
        storages = {}

        def note(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            future = model(frames, frames.new_empty(len(frames), 0))
        kept = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
        del future
        return kept

    return count

"""Small models and specs that every suite of this room runs over: each registered model, each kind of domain."""

from typing import NamedTuple

import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field, Parameter
from pdesurrogate.models import MODELS

SMALL_OPTIONS = {
    "fno": {"width": 6, "depth": 2, "num_modes": 6},
    "unet": {"width": 4, "multipliers": [1, 2], "num_blocks": 1, "groups": 2},
    "neuralop": {"n_modes": 6, "hidden_channels": 6, "n_layers": 2},
    "tfno": {"width": 6, "depth": 2, "num_modes": 6, "rank": 0.5},
}
"""Options for the suites' speed; a model without an entry runs with its defaults."""

VARIANTS = {
    "fno_3d": ("fno", {"width": 6, "depth": 2, "num_modes": 2, "time": "axis", "padding": 0.5}),
    "fno with positions": ("fno", {**SMALL_OPTIONS["fno"], "coordinates": "periodic"}),
    "tfno, joint": ("tfno", {**SMALL_OPTIONS["tfno"], "joint": True, "contraction": "reconstructed"}),
    "tfno, cp": ("tfno", {**SMALL_OPTIONS["tfno"], "factorisation": "cp", "rank": 0.2}),
    "tfno, tt": ("tfno", {**SMALL_OPTIONS["tfno"], "factorisation": "tt", "contraction": "factorised"}),
    "tfno, separable": ("tfno", {**SMALL_OPTIONS["tfno"], "separable": True, "joint": True}),
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
}


def configurations():
    known = {name: (name, SMALL_OPTIONS.get(name, {})) for name in MODELS.names()}
    return {**known, **VARIANTS}


def build(configuration, case, **changes):
    kind, options = configurations()[configuration]
    torch.manual_seed(0)
    options = {**options, **changes}
    return MODELS.build(kind, case.spec, case.history, case.horizon, **options).eval()


def windows(case, batch=2, grid=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    shape = (batch, case.history, case.spec.num_channels, *(grid or case.grid))
    history = torch.randn(shape, generator=generator, dtype=dtype)
    return history, torch.randn(batch, case.spec.num_parameters, generator=generator, dtype=dtype)


def pytest_generate_tests(metafunc):
    if "configuration" in metafunc.fixturenames:
        metafunc.parametrize("configuration", configurations())
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", CASES.values(), ids=CASES)


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
def box():
    return CASES["periodic box"]

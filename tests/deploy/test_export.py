"""Surrogates leave as programs: the same numbers without this package, on grids and batches not seen in tracing."""

import importlib.util
import json

import pytest
import torch

from pdesurrogate.deploy.export import export, export_program
from pdesurrogate.fields import Axis, DataSpec, Field, Normaliser, Parameter
from pdesurrogate.fields.spherical.grid import spherical_axes
from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate

SPEC = DataSpec(
    fields=(Field("vorticity"), Field("bed", is_static=True)),
    axes=(Axis("y", 1.0), Axis("x", 1.0)),
    dt=0.5,
    parameters=(Parameter("viscosity"),),
)
FNO = {"width": 4, "depth": 1, "num_modes": 4}

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime: pip install 'pdesurrogate[export]'",
)


def make(kind="fno", spec=SPEC, predict="increment", grid=(8, 8), **options):
    torch.manual_seed(0)
    channels, parameters = spec.num_channels, spec.num_parameters
    normaliser = Normaliser(
        [3.0] * channels, [2.0] * channels, [1e-3] * parameters, [1e-3] * parameters, [0.5] * channels
    )
    model = MODELS.build(kind, spec, 1, 2, **options)
    provenance = {"config": {"model": {"kind": kind, **options}}, "training_grid": list(grid)}
    return Surrogate(
        spec, normaliser, model, history=1, horizon=2, predict=predict, provenance=provenance
    ).eval()


def window(surrogate, batch, grid):
    generator = torch.Generator().manual_seed(batch)
    spec = surrogate.spec
    history = 3 + 2 * torch.randn(batch, 1, spec.num_channels, *grid, generator=generator)
    return history, torch.rand(batch, spec.num_parameters, generator=generator) * 2e-3


@torch.no_grad()
def test_a_torch_program_takes_physical_units_on_any_grid_and_knows_what_it_is(tmp_path, as_users_run):
    spec = SPEC.replace(axes=(Axis("y", 1.0, "wall"), Axis("x", 1.0)))
    surrogate = make(spec=spec, **FNO)
    made = export_program(surrogate, tmp_path / "fno.pt2")
    assert made.grid is None, made.reason
    facts = {"pdesurrogate": ""}
    program = torch.export.load(made.path, extra_files=facts).module()
    for batch, grid in ((1, (9, 7)), (5, (22, 5)), (2, (8, 8))):
        inputs = window(surrogate, batch, grid)
        torch.testing.assert_close(program(*inputs), surrogate.step(*inputs), rtol=1e-4, atol=1e-5)
    assert DataSpec.from_dict(json.loads(facts["pdesurrogate"])["spec"]) == spec
    assert {grid for _, grid in made.checks}.isdisjoint({(8, 8)})
    assert any(n % 2 for _, grid in made.checks for n in grid)


@needs_onnx
@torch.no_grad()
def test_an_onnx_program_is_one_file_that_takes_any_grid(tmp_path, as_users_run):
    import onnx
    import onnxruntime

    surrogate = make(**FNO)
    made = export_program(surrogate, tmp_path / "fno.onnx", "onnx")
    assert made.grid is None, made.reason
    assert [path.name for path in tmp_path.iterdir()] == ["fno.onnx"]
    session = onnxruntime.InferenceSession(made.path, providers=["CPUExecutionProvider"])
    for batch, grid in ((1, (9, 7)), (3, (16, 5))):
        history, parameters = window(surrogate, batch, grid)
        (future,) = session.run(None, {"history": history.numpy(), "parameters": parameters.numpy()})
        expected = surrogate.step(history, parameters)
        torch.testing.assert_close(torch.from_numpy(future), expected, rtol=1e-4, atol=1e-4)
    facts = {p.key: p.value for p in onnx.load(made.path).metadata_props}
    assert json.loads(facts["pdesurrogate"])["horizon"] == 2


class Halving(torch.nn.Module):
    """Means over cells of two by two points."""

    grids = "multiple of 2"

    def check_grid(self, grid):
        if any(n % 2 for n in grid):
            raise ValueError("an odd size")

    def forward(self, history, parameters):
        self.check_grid(history.shape[3:])
        means = torch.nn.functional.avg_pool2d(history.flatten(1, 2), 2)
        means = torch.nn.functional.interpolate(means, scale_factor=2).unflatten(1, history.shape[1:3])
        return means.repeat(1, 2, 1, 1, 1)


@torch.no_grad()
def test_a_model_on_multiples_keeps_its_multiples_open(tmp_path, as_users_run):
    surrogate = make(spec=SPEC.replace(parameters=()), **FNO)
    surrogate.model = Halving()
    made = export_program(surrogate, tmp_path / "halving.pt2")
    assert made.grid is None, made.reason
    assert all(n % 2 == 0 for _, grid in made.checks for n in grid)
    history, none = window(surrogate, 3, (12, 6))
    program = torch.export.load(made.path).module()
    torch.testing.assert_close(program(history), surrogate.step(history, none))


@torch.no_grad()
def test_a_sphere_has_a_program_for_its_grid_that_says_why(tmp_path, as_users_run):
    spec = DataSpec((Field("height"),), spherical_axes(), 1.0, geometry="sphere")
    surrogate = make("sfno", spec, grid=(6, 12), width=2, depth=1, max_degree=3)
    made = export_program(surrogate, tmp_path / "sfno.pt2")
    assert made.grid == (6, 12)
    assert "Legendre" in made.reason
    history, none = window(surrogate, 5, (6, 12))
    program = torch.export.load(made.path).module()
    torch.testing.assert_close(program(history), surrogate.step(history, none), rtol=1e-4, atol=1e-5)


class Bend(torch.nn.Module):
    """Branches on a value, which no program can."""

    def forward(self, history, parameters):
        return history.repeat(1, 2, 1, 1, 1) if history.sum() > 0 else -history.repeat(1, 2, 1, 1, 1)


class Sized(torch.nn.Module):
    """Bakes the size at tracing into the numbers: right on that grid only."""

    def forward(self, history, parameters):
        size = int(history.shape[-1]) if not torch.compiler.is_compiling() else 8
        return (history / size).repeat(1, 2, 1, 1, 1)


def test_a_model_that_cannot_be_exported_says_why_and_leaves_no_file(tmp_path, as_users_run):
    surrogate = make(**FNO)
    surrogate.model = Bend()
    with pytest.raises(ValueError, match=r"fno cannot be exported with format=torch: .*data-dependent"):
        export_program(surrogate, tmp_path / "bend.pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_wrong_on_another_grid_is_not_called_one_for_any(tmp_path, as_users_run):
    surrogate = make(**FNO)
    surrogate.model = Sized()
    made = export_program(surrogate, tmp_path / "sized.pt2")
    assert made.grid == (8, 8)
    assert "deviates from the model by" in made.reason


def test_complex_weights_are_refused_for_onnx(tmp_path):
    pytest.importorskip("onnx")
    surrogate = make(**FNO)
    surrogate.model.weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.cfloat))
    with pytest.raises(ValueError, match="fno cannot be exported to ONNX: its weights are complex"):
        export_program(surrogate, tmp_path / "x.onnx", "onnx")


def test_the_command_refuses_what_it_cannot_do_before_anything_is_written(tmp_path):
    artifact = make(**FNO).save(tmp_path / "artifact.pt")
    config = {"artifact": str(artifact), "format": "torch", "output": None, "grid": None, "overwrite": False}
    for changes, sentence in (
        ({"artifact": None}, "no artifact given"),
        ({"artifact": str(tmp_path / "artefact.pt")}, r"Near it: artifact\.pt"),
        ({"format": "onxx"}, "Did you mean 'onnx'"),
        ({"output": str(tmp_path)}, "is a folder"),
        ({"output": str(artifact)}, "is there already"),
        ({"grid": [8]}, "2 of them for the axes y, x"),
        ({"grid": [2, 8]}, "modes"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=sentence):
            export({**config, **changes})
    assert [path.name for path in tmp_path.iterdir()] == ["artifact.pt"]


def test_the_command_writes_a_program_beside_the_artifact(tmp_path, caplog, as_users_run):
    artifact = make("persistence").save(tmp_path / "artifact.pt")
    config = {"artifact": str(artifact), "format": "torch", "output": None, "grid": 8, "overwrite": False}
    with caplog.at_level("INFO"):
        export(config)
    assert (tmp_path / "surrogate.pt2").is_file()
    assert "It takes the grid 8 x 8 only: the grid was chosen." in caplog.text
    assert "batch 3 at 8 x 8: deviates by 0.0e+00" in caplog.text

"""Every registered model leaves as an ONNX program that is right on grids it was not traced on, or says why not.

`export_program` itself compares a program with its surrogate, on odd and non-square grids and other batches, before the
file gets its name; what is told here is what it made of each model, as small as models can be.
"""

import importlib.util

import pytest

from pdesurrogate.deploy.export import export_program
from pdesurrogate.fields import Axis, DataSpec, Field, Normaliser
from pdesurrogate.fields.spherical.grid import spherical_axes
from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime: pip install 'pdesurrogate[export]'",
)
PLANE = DataSpec((Field("tracer"),), (Axis("y", 1.0), Axis("x", 1.0)), 0.1)
SPHERE = DataSpec((Field("height"),), spherical_axes(), 0.1, geometry="sphere")
SMALLEST = {"width": 2, "depth": 1}
OPTIONS = {
    "dilated_resnet": {**SMALLEST, "dilations": [1]},
    "ensemble": {"base": "dilated_resnet", "base_options": {**SMALLEST, "dilations": [1]}},
    "factformer": {
        "width": 8,
        "depth": 1,
        "heads": 1,
        "head_dim": 4,
        "latent_multiplier": 1,
        "rotary_frequency": 8.0,
    },
    "ffno": {**SMALLEST, "num_modes": 4, "mlp_ratio": 1},
    "fno": {**SMALLEST, "num_modes": 4},
    "gfno": {**SMALLEST, "num_modes": 4},
    "localno": {**SMALLEST, "num_modes": 4, "radius": 0.3, "reference_grid": 16},
    "lsno": {**SMALLEST, "max_degree": 3, "cutoff": 0.9, "encoder_cutoff": 0.6},
    "mgtfno": {"base": "fno", "base_options": {**SMALLEST, "num_modes": 4}, "process": "batch"},
    "neuralop": {"n_modes": 4, "hidden_channels": 2, "n_layers": 1},
    "sfno": {**SMALLEST, "max_degree": 3},
    "specboost": {
        "base": "dilated_resnet",
        "base_options": {**SMALLEST, "dilations": [1]},
        "residual": "dilated_resnet",
        "residual_options": {**SMALLEST, "dilations": [1]},
    },
    "t1": {**SMALLEST, "num_modes": 3, "head_width": 2},
    "tfno": {**SMALLEST, "num_modes": 4, "rank": 0.5},
    "unet": {"width": 2, "multipliers": [1], "num_blocks": 1, "groups": 1},
}
"""The smallest of each model; one without an entry is made with its defaults."""
REASONS = {
    "localno": "an integral kernel has more taps on a finer grid",
    "lsno": "tables of Legendre functions",
    "sfno": "tables of Legendre functions",
}
"""What models say that take one grid only; all others take any."""
REFUSALS = {"neuralop": "its weights are complex numbers"}


def smallest(kind):
    """The smallest surrogate of a model, and the grid that it is traced at."""
    model = MODELS.get(kind)
    is_flat = "plane" in getattr(model, "geometries", {"plane"})
    spec, grid = (PLANE, (8, 8)) if is_flat else (SPHERE, (6, 12))
    network = MODELS.build(kind, spec, 1, 1, **OPTIONS.get(kind, {}))
    return Surrogate(
        spec,
        Normaliser([3.0], [2.0], increment_std=[0.5]),
        network,
        history=1,
        horizon=1,
        provenance={"config": {"model": {"kind": kind}}, "training_grid": list(grid)},
    ).eval()


@pytest.mark.parametrize("kind", MODELS.names())
def test_a_model_is_exported_to_onnx_for_any_grid_or_says_why_not(kind, tmp_path, as_users_run):
    surrogate, path = smallest(kind), tmp_path / "program.onnx"
    if kind in REFUSALS:
        with pytest.raises(ValueError, match=f"{kind} cannot be exported to ONNX: {REFUSALS[kind]}"):
            export_program(surrogate, path, "onnx")
        assert not path.exists()
        return
    made = export_program(surrogate, path, "onnx")
    assert path.stat().st_size > 0
    assert len({batch for batch, _ in made.checks}) > 1
    if kind in REASONS:
        assert REASONS[kind] in made.reason
        return
    assert made.grid is None, made.reason
    grids = {grid for _, grid in made.checks}
    assert len(grids) == 3
    if kind != "gfno":  # whose quarter turns take square grids alone
        assert all(y != x for y, x in grids)
    if kind not in ("unet", "mgtfno"):  # which halve their grids
        assert any(n % 2 for grid in grids for n in grid)

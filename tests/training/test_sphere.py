"""From a store of spherical fields to a report: waves of a rotating planet, on their grid and on a coarser one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pdesurrogate.cli import conf_dir
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.evaluation.run import evaluate
from pdesurrogate.fields import DataSpec, Field
from pdesurrogate.fields.spherical.grid import spherical_axes, spherical_grid
from pdesurrogate.fields.spherical.transforms import SphericalTransform
from pdesurrogate.training.run import train

GRID, NUM_FRAMES = (16, 32), 6
SPEC = DataSpec(
    fields=(Field("vorticity", "s-1", "pseudoscalar"),),
    axes=spherical_axes(),
    dt=0.5,
    geometry="sphere",
    equation="ζ_t + 2 ∂ψ/∂λ = 0, Δψ = ζ (Rossby waves on the unit sphere, Ω = 1)",
)


def rossby_waves(num: int) -> np.ndarray:
    """Exact solutions ``ζ_lm e^{2imt/(l(l+1))}``, which all drift westward, as (num, time, 1, lat, lon)."""
    transform = SphericalTransform(spherical_grid(SPEC, GRID), 6, dtype=torch.float64)
    degree, order = transform.degrees.double()[:, None], transform.degrees.double()
    start = torch.randn(num, 1, 1, 7, 7, dtype=torch.complex128).tril()
    start[..., 0] = start[..., 0].real.to(torch.complex128)
    start[..., 0, 0] = 0
    times = (SPEC.dt * torch.arange(NUM_FRAMES, dtype=torch.float64)).view(-1, 1, 1, 1)
    phase = 2 * order * times / (degree * (degree + 1)).clamp(min=1)
    return transform.synthesise(start * torch.polar(torch.ones_like(phase), phase)).numpy()


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rossby")
    torch.manual_seed(5)
    for split, num in {"train": 24, "valid": 4, "test": 4}.items():
        writer = StoreWriter(
            root / f"{split}.h5",
            spec=SPEC,
            grid=GRID,
            num_trajectories=num,
            times=np.arange(NUM_FRAMES) * SPEC.dt,
            attributes={"solver": "exact", "seed": 5},
        )
        with writer:
            for i, frames in enumerate(rossby_waves(num).astype(np.float32)):
                writer.write(i, frames, np.zeros(0, np.float32))
            writer.finish()
    return root


def composed(name: str, *overrides: str) -> dict[str, Any]:
    """A configuration as the command line composes it."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("new_run_id", lambda: "test", replace=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = OmegaConf.to_container(compose(name, list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def test_rossby_waves_are_learnt_and_forecast_on_their_grid_and_on_a_coarser_one(
    waves: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    model = ["model=sfno", "model.max_degree=7", "model.width=12", "model.depth=2", "predict=increment"]
    data = [f"data.root={waves}", "data.grid=null", "data.history=1", "data.batch_size=24"]
    short = ["trainer.max_epochs=16", "trainer.figure_every=0", "optim.lr=2e-2", "logger=none"]
    error = train(composed("train", *model, *data, *short, f"run_dir={run}", "run_id=test"))
    small = ["horizon=4", "resolutions=[[12, 24]]", "device=cpu", "data_root=null"]
    evaluate(composed("evaluate", f"artifact={run / 'artifact.pt'}", *small))
    results = json.loads((run / "evaluation" / "metrics.json").read_text())["results"]
    errors = {
        (r["role"], tuple(r["grid"])): r["one_step"]["relative_l2"]["summary"]["mean"]
        for r in results
        if "one_step" in r
    }
    # Waves that drift one way: an operator that cannot tell east from west does no better than persistence.
    assert error < 0.6 * errors["persistence", GRID]
    assert errors["main", GRID] < 0.6 * errors["persistence", GRID]
    assert errors["main", (12, 24)] == pytest.approx(errors["main", GRID], rel=0.02)
    assert errors["coarse", (12, 24)] == pytest.approx(errors["main", GRID], rel=0.02)

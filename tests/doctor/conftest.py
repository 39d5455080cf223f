"""Small stores, healthy and sick, and configurations composed as the command line does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pdesurrogate.cli import conf_dir
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.fields import Axis, DataSpec, Field, Parameter

SPEC = DataSpec(
    fields=(Field("tracer"), Field("bed", is_static=True)),
    axes=(Axis("y", 1.0), Axis("x", 1.0)),
    dt=0.5,
    parameters=(Parameter("viscosity"),),
)
SIZES = {"train": 5, "valid": 2, "test": 2}
NUM_FRAMES, GRID = 4, (8, 8)


def healthy() -> dict[str, np.ndarray]:
    """Random tracers over random beds that stay, ``(trajectory, time, channel, y, x)`` by split."""
    rng = np.random.default_rng(0)
    frames = {split: rng.normal(size=(n, NUM_FRAMES, 2, *GRID)) for split, n in SIZES.items()}
    for values in frames.values():
        values[:, :, 1] = values[:, :1, 1]
    return frames


@pytest.fixture
def write_set(tmp_path: Path) -> Callable[..., Path]:
    def write(
        frames: Mapping[str, np.ndarray],
        parameters: Mapping[str, Any] | None = None,
        spec: DataSpec = SPEC,
        dt: float = SPEC.dt,
    ) -> Path:
        root, number = tmp_path / "set", 0
        for split, values in frames.items():
            times = np.arange(values.shape[1]) * dt
            with StoreWriter(
                root / f"{split}.h5",
                spec=spec,
                grid=GRID,
                num_trajectories=len(values),
                times=times,
                attributes={},
            ) as writer:
                own = (parameters or {}).get(split)
                for i, trajectory in enumerate(values):
                    number += 1
                    inner = 1 + i / 4 if split == "train" else 1.1 + 0.07 * number
                    inner = inner if own is None else own[i]
                    writer.write(
                        i, trajectory.astype(np.float32), np.array([inner], np.float32)[: spec.num_parameters]
                    )
                writer.finish()
        return root

    return write


@pytest.fixture
def spec() -> DataSpec:
    return SPEC


@pytest.fixture
def healthy_frames() -> dict[str, np.ndarray]:
    return healthy()


@pytest.fixture
def compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Compose conf/doctor.yaml for the small sets; without the measurement of memory unless asked for."""
    monkeypatch.setenv("PDESURROGATE_RUN_ID", "test")

    def composed(*overrides: str) -> dict[str, Any]:
        from hydra import compose as hydra_compose
        from hydra import initialize_config_dir
        from omegaconf import OmegaConf

        from pdesurrogate.cli import _register_resolvers

        _register_resolvers()
        small = [
            f"data.root={tmp_path / 'set'}",
            "data.grid=null",
            "data.batch_size=4",
            "model.width=4",
            "model.num_modes=4",
            "model.depth=1",
            "measure_memory=false",
            f"run_dir={tmp_path}",
        ]
        given = {o.split("=", 1)[0] for o in overrides}
        kept = [o for o in small if o.split("=", 1)[0] not in given]
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = OmegaConf.to_container(
                hydra_compose("doctor", overrides=[*kept, *overrides]), resolve=True
            )
        assert isinstance(config, dict)
        return {str(k): v for k, v in config.items()}

    return composed

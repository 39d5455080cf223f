from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pdesurrogate.data.store import StoredTrajectories
from pdesurrogate.data.trajectories import Trajectories
from pdesurrogate.data.views import Regridded, Strided, Subset
from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.spherical.grid import spherical_axes, spherical_grid
from pdesurrogate.fields.spherical.transforms import SphericalTransform

WriteStore = Callable[..., np.ndarray]


class Waves:
    """Three modes on the unit torus, with amplitudes that grow in time, at any grid."""

    def __init__(self, spec: DataSpec, grid: tuple[int, int]) -> None:
        self.spec, self.grid = spec, grid
        self.num_trajectories, self.num_frames = 2, 4
        self.times = spec.dt * np.arange(4.0)

    def frames(self, trajectory: int, start: int, stop: int) -> np.ndarray:
        y, x = np.meshgrid(*(np.arange(n) / n for n in self.grid), indexing="ij")
        u = 1.0 + np.cos(2 * np.pi * (3 * y - 2 * x)) + np.sin(2 * np.pi * (y + 4 * x))
        amplitudes = (1.0 + trajectory + np.arange(start, stop))[:, None, None, None]
        return (amplitudes * u).astype(np.float32)

    def parameters(self, trajectory: int) -> np.ndarray:
        return np.array([trajectory], dtype=np.float32)

    def checksum(self) -> str:
        return "waves"


def test_the_test_double_is_what_the_package_calls_trajectories(torus_spec: DataSpec) -> None:
    assert isinstance(Waves(torus_spec, (24, 32)), Trajectories)


@pytest.mark.parametrize("grid", [(9, 12), (12, 9), (11, 15), (24, 16), (13, 32)])
def test_spectral_regridding_is_exact_for_resolved_fields(
    torus_spec: DataSpec, grid: tuple[int, int]
) -> None:
    view = Regridded(Waves(torus_spec, (24, 32)), grid)
    assert view.method == "spectral"
    assert view.grid == grid
    np.testing.assert_allclose(
        view.frames(1, 1, 4), Waves(torus_spec, grid).frames(1, 1, 4), rtol=0, atol=3e-6
    )


def test_regridding_by_stride_keeps_every_kth_value(torus_spec: DataSpec) -> None:
    waves = Waves(torus_spec, (24, 32))
    view = Regridded(waves, (12, 8), "stride")
    assert view.method == "stride"
    np.testing.assert_array_equal(view.frames(0, 0, 2), waves.frames(0, 0, 2)[..., ::2, ::4])
    np.testing.assert_array_equal(view.parameters(1), [1.0])


def test_auto_is_native_on_the_stored_grid_means_over_cells_and_stride_of_nodes_between_walls(
    tmp_path: Path, torus_spec: DataSpec, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    waves = Waves(torus_spec, (24, 32))
    native = Regridded(waves, (24, 32))
    assert native.method == "native"
    np.testing.assert_array_equal(native.frames(0, 0, 4), waves.frames(0, 0, 4))
    assert native.checksum() == waves.checksum()
    write_store(tmp_path / "a.h5", smoke_spec)
    walls = StoredTrajectories(tmp_path / "a.h5")
    cells = Regridded(walls, (4, 6))
    assert cells.method == "cells"
    blocks = walls.frames(0, 0, 2).reshape(2, 3, 4, 2, 6, 2).mean((3, 5))
    np.testing.assert_allclose(cells.frames(0, 0, 2), blocks, atol=1e-6)
    assert Regridded(walls, (3, 5)).frames(0, 0, 2).shape == (2, 3, 3, 5)
    with pytest.raises(ValueError, match=r"boundaries are \('wall', 'open'\). Use regrid=cells"):
        Regridded(walls, (4, 6), "spectral")
    with pytest.raises(
        ValueError, match=r"among the stored ones: \[8\] x \[4, 12\]\. Or use regrid=cells\.$"
    ):
        Regridded(walls, (4, 6), "stride")
    np.testing.assert_array_equal(
        Regridded(walls, (8, 4), "stride").frames(0, 0, 2), walls.frames(0, 0, 2)[..., 1::3]
    )
    on_nodes = tuple(dataclasses.replace(axis, offset=0.0) for axis in smoke_spec.axes)
    write_store(tmp_path / "b.h5", smoke_spec.replace(axes=on_nodes))
    nodes = StoredTrajectories(tmp_path / "b.h5")
    assert Regridded(nodes, (4, 6)).method == "stride"
    with pytest.raises(
        ValueError, match=r"offsets of the axes \('y', 'x'\) are \(0.0, 0.0\). Use regrid=stride"
    ):
        Regridded(nodes, (4, 6), "cells")
    with pytest.raises(ValueError, match=r"\[1, 2, 4, 8\] x \[1, 2, 3, 4, 6, 12\]\.$"):
        Regridded(nodes, (3, 6))


@pytest.mark.parametrize("grid", [(25, 32), (24, 64)])
def test_a_grid_finer_than_the_stored_one_is_refused(torus_spec: DataSpec, grid: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"finer than the stored one, \(24, 32\)"):
        Regridded(Waves(torus_spec, (24, 32)), grid)


def test_impossible_regriddings_are_refused(torus_spec: DataSpec) -> None:
    waves = Waves(torus_spec, (24, 32))
    with pytest.raises(ValueError, match="allowed: 'auto', 'stride', 'cells', 'spectral'"):
        Regridded(waves, (12, 16), "linear")
    with pytest.raises(ValueError, match="Or use regrid=spectral"):
        Regridded(waves, (9, 16), "stride")
    for grid in ((24,), (0, 16)):
        with pytest.raises(ValueError, match="need one positive size each"):
            Regridded(waves, grid)


class Winds:
    """Height, vorticity and wind of one smooth state of the sphere, within T = 5, at any grid."""

    def __init__(self, grid: tuple[int, int], nodes: str = "gauss-legendre") -> None:
        fields = (
            Field("height", "m"),
            Field("vorticity", "s-1", "pseudoscalar"),
            Field("wind", "m s-1", "vector", ("lon", "lat")),
        )
        self.spec = DataSpec(fields, spherical_axes(nodes), 1.0, "s", geometry="sphere")
        self.grid = grid
        self.num_trajectories, self.num_frames = 1, 2
        self.times = np.arange(2.0)

    def frames(self, trajectory: int, start: int, stop: int) -> np.ndarray:
        transform = SphericalTransform(spherical_grid(self.spec, self.grid), 5, dtype=torch.float64)
        draws = torch.randn(3, 6, 6, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
        draws[..., 0] = draws[..., 0].real.to(torch.complex128)
        spectra = draws.tril()
        scalars = transform.synthesise(spectra[:2])
        one = torch.cat([scalars, transform.velocity(spectra[1:])]).float().numpy()
        return np.stack([one * (1 + k) for k in range(start, stop)])

    def parameters(self, trajectory: int) -> np.ndarray:
        return np.zeros(0, dtype=np.float32)

    def checksum(self) -> str:
        return "winds"


@pytest.mark.parametrize("nodes", ["gauss-legendre", "equiangular"])
def test_spheres_are_regridded_by_harmonics_and_winds_as_vectors(nodes: str) -> None:
    view = Regridded(Winds((24, 48), nodes), (12, 20))
    assert view.method == "spectral"
    expected = Winds((12, 20), nodes).frames(0, 0, 2)
    np.testing.assert_allclose(view.frames(0, 0, 2), expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=f"24 {nodes} ones, and those of 12 are others. Use regrid=spectral"):
        Regridded(Winds((24, 48), nodes), (12, 24), "stride")


def test_vectors_on_a_sphere_whose_components_are_not_known_are_not_regridded(as_users_run: None) -> None:
    winds = Winds((24, 48))
    turned = dataclasses.replace(winds.spec.fields[2], components=("lat", "lon"))
    winds.spec = winds.spec.replace(fields=(*winds.spec.fields[:2], turned))
    with pytest.raises(
        ValueError, match=r"components \('lat', 'lon'\); on a sphere they are \('lon', 'lat'\)"
    ):
        Regridded(winds, (12, 20)).frames(0, 0, 1)


def test_a_subset_renumbers_trajectories(torus_spec: DataSpec) -> None:
    waves = Waves(torus_spec, (8, 8))
    subset = Subset(waves, [1])
    assert subset.num_trajectories == 1
    np.testing.assert_array_equal(subset.frames(0, 1, 3), waves.frames(1, 1, 3))
    np.testing.assert_array_equal(subset.parameters(0), [1.0])
    assert subset.checksum() != Subset(waves, [0]).checksum()
    with pytest.raises(ValueError, match="trajectory 1 was asked for; there are 1"):
        subset.frames(1, 0, 1)
    for indices in ([2], [-1], []):
        with pytest.raises(ValueError, match="between 0 and 1"):
            Subset(waves, indices)


def test_strided_trajectories_keep_every_kth_frame_and_a_longer_step(torus_spec: DataSpec) -> None:
    waves = Waves(torus_spec, (8, 8))
    view = Strided(waves, 3)
    assert view.num_frames == 2
    assert view.spec.dt == 3.0
    np.testing.assert_array_equal(view.times, [0.0, 3.0])
    np.testing.assert_array_equal(view.frames(0, 0, 2), waves.frames(0, 0, 4)[::3])
    np.testing.assert_array_equal(view.frames(0, 1, 2), waves.frames(0, 3, 4))
    assert view.checksum() != Strided(waves, 2).checksum()


def test_views_of_a_three_dimensional_field_work_alike(torus_spec: DataSpec) -> None:
    spec = torus_spec.replace(axes=(Axis("z", 1.0), Axis("y", 1.0), Axis("x", 1.0)))
    u = np.random.default_rng(0).standard_normal((2, 1, 4, 6, 8)).astype(np.float32)
    base: Any = SimpleNamespace(
        spec=spec,
        grid=(4, 6, 8),
        num_trajectories=1,
        num_frames=2,
        times=np.arange(2.0),
        frames=lambda trajectory, start, stop: u[start:stop],
        parameters=lambda trajectory: np.zeros(1, dtype=np.float32),
        checksum=lambda: "u",
    )
    np.testing.assert_array_equal(Regridded(base, (2, 3, 8), "stride").frames(0, 0, 2), u[..., ::2, ::2, :])

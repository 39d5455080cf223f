"""Cells and faces on other grids: sums stay, linear fields are interpolated exactly, divergence does not appear."""

import numpy as np
import pytest
import torch

from pdesurrogate.fields import Axis, DataSpec, Field
from pdesurrogate.fields.regridding import cell_matrix, kept_points, regrid, regrid_cells, regrid_faces
from pdesurrogate.solvers.staggered import StaggeredBox


@pytest.mark.parametrize("grid", [(12, 8), (8, 5), (3, 1)])
def test_means_over_coarser_cells_keep_the_sum(grid):
    u = torch.randn(2, 3, 12, 8, dtype=torch.float64)
    torch.testing.assert_close(regrid_cells(u, grid).mean((-1, -2)), u.mean((-1, -2)))


def test_blocks_are_averaged_and_linear_fields_interpolated():
    centres = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    torch.testing.assert_close(regrid_cells(centres, (4,)), centres.view(4, 2).mean(1))
    fine = regrid_cells(centres, (24,))
    torch.testing.assert_close(fine[2:-2], ((torch.arange(24).double() + 0.5) / 24)[2:-2])
    assert cell_matrix(5, 5).equal(torch.eye(5, dtype=torch.float64))


@pytest.mark.parametrize("grid", [(6, 4), (5, 3), (7, 8)])
def test_a_velocity_without_divergence_has_none_on_coarser_cells(grid):
    fine = StaggeredBox((12, 8), (3.0, 2.0))
    faces = [torch.randn(1, 13, 8, dtype=torch.float64), torch.randn(1, 12, 9, dtype=torch.float64)]
    for axis, component in enumerate(faces):
        fine.set_walls(component, torch.zeros_like(component), axis)
    faces = fine.project(faces)
    coarse = StaggeredBox(grid, (3.0, 2.0))
    velocity = torch.stack([regrid_faces(values, grid, axis) for axis, values in enumerate(faces)][::-1], 1)
    assert coarse.divergence(coarse.faces_of(velocity)).abs().max() < 1e-12 < velocity.abs().max()


def test_interpolation_crosses_the_ends_of_a_periodic_axis_and_stops_at_walls():
    u = torch.tensor([1.0, 0.0, 0.0, 3.0], dtype=torch.float64)
    around = regrid_cells(u, (8,), [True])
    assert around.tolist() == [1.5, 0.75, 0.25, 0.0, 0.0, 0.75, 2.25, 2.5]
    assert regrid_cells(u, (8,)).tolist() == [1.0, 0.75, 0.25, 0.0, 0.0, 0.75, 2.25, 3.0]
    torch.testing.assert_close(around.roll(2), regrid_cells(u.roll(1), (8,), [True]))


def placed(boundary, offset=0.5, descending=False, origin=-1.0):
    return Axis("x", 3.0, boundary, origin=origin, offset=offset, is_descending=descending)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    ("offset", "old", "new"), [(0.0, 12, 4), (0.5, 12, 4), (0.5, 15, 3), (1.0, 12, 6), (0.25, 20, 4)]
)
def test_kept_points_have_the_coordinates_of_the_coarse_axis(offset, old, new, descending):
    axis = placed("wall", offset, descending)
    kept = kept_points(axis.lead, old, new)
    assert kept is not None
    np.testing.assert_allclose(axis.coordinates(old)[kept], axis.coordinates(new), atol=1e-12)


@pytest.mark.parametrize(("offset", "old", "new"), [(0.5, 12, 6), (0.0, 12, 5), (0.25, 12, 4)])
def test_points_that_are_not_among_the_fine_ones_are_not_kept(offset, old, new):
    assert kept_points(offset, old, new) is None


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("offset", [0.0, 0.5, 0.3])
@pytest.mark.parametrize(("old", "new"), [(16, 9), (16, 6), (15, 8), (12, 24)])
def test_waves_are_evaluated_at_the_points_of_the_other_grid(old, new, offset, descending):
    spec = DataSpec((Field("u"),), (placed("periodic", offset, descending),), dt=1.0)

    def wave(size):
        x = spec.axes[0].coordinates(size)
        return torch.from_numpy(1 + np.cos(2 * np.pi * 2 * (x - 0.2) / 3.0))[None]

    torch.testing.assert_close(regrid(wave(old), spec, (new,), "spectral"), wave(new), atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", ["stride", "cells", "spectral"])
@pytest.mark.parametrize("descending", [False, True])
def test_components_on_faces_go_to_the_faces_of_the_other_grid(method, descending):
    boundary = "periodic" if method == "spectral" else "wall"
    axes = (Axis("y", 2.0, boundary, offset=0.5), placed(boundary, descending=descending))
    velocity = Field("velocity", kind="vector", components=("x", "y"), is_on_faces=True)
    spec = DataSpec((Field("density"), velocity), axes, dt=1.0)

    def fields(grid):
        y, x = (axis.coordinates(n) for axis, n in zip(axes, grid, strict=True))
        half_y, half_x = 1.0 / grid[0], 1.5 / grid[1]
        if method != "spectral":  # linear fields are their own means and interpolants
            rows = [2 * y[:, None] - x, y[:, None] + 3 * (x - half_x), (y[:, None] - half_y) - x]
        else:
            ky, kx = 2 * np.pi / 2.0, 2 * np.pi / 3.0
            rows = [
                np.cos(ky * y[:, None] + kx * x),
                np.sin(ky * y[:, None] - kx * (x - half_x)),
                np.cos(ky * (y[:, None] - half_y) - kx * x + 0.4),
            ]
        return torch.from_numpy(np.stack(rows))

    coarse = (4, 12) if method == "stride" else (4, 6)
    found = regrid(fields((12, 12)), spec, coarse, method)
    torch.testing.assert_close(found, fields(coarse), atol=1e-12, rtol=0)


def test_an_unknown_method_and_points_that_are_not_there_are_refused():
    spec = DataSpec((Field("u"),), (placed("wall"),), dt=1.0)
    u = torch.zeros(1, 8)
    assert regrid(u, spec, (4,), "native") is u
    with pytest.raises(ValueError, match="method of regridding is 'mean'"):
        regrid(u, spec, (4,), "mean")
    with pytest.raises(ValueError, match=r"points of the grid \(4,\) are not among those of \(8,\)"):
        regrid(u, spec, (4,), "stride")

"""Cells and faces on other grids: sums stay, linear fields are interpolated exactly, divergence does not appear."""

import pytest
import torch

from pdesurrogate.solvers.regridding import cell_matrix, regrid_cells, regrid_faces
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

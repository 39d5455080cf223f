"""Traced programs of Fourier neural operators, and of local kernels: other grids than the traced one.

What ONNX makes of every registered model is told in ``tests/deploy``.
"""

import pytest
import torch
from torch.export import Dim

GRIDS = [(16, 18), (33, 21), (6, 7), (40, 64)]
"""The traced one, an odd one, nearly the smallest and a large one."""


@pytest.fixture
def sizes():
    """The sizes that a program shall leave open: batch, height and width."""
    batch, height, width = (Dim(name, min=low, max=1024) for name, low in zip("byx", (1, 6, 6), strict=True))
    return ({0: batch, 3: height, 4: width}, {0: batch})


@torch.no_grad()
@pytest.mark.parametrize("kind", ["fno", "tfno, joint", "tfno, cp"])
def test_a_program_is_real_and_forecasts_on_grids_and_batches_that_it_has_not_seen(
    kind, plane, build_model, sample_windows, sizes, as_users_run
):
    model, inputs = build_model(kind, plane), sample_windows(plane, grid=GRIDS[0])
    graph = torch.export.export(model, inputs, dynamic_shapes=sizes, strict=False)
    values = [node.meta.get("val") for node in graph.graph.nodes]
    assert not any(isinstance(value, torch.Tensor) and value.is_complex() for value in values)
    program = graph.module()
    for batch, grid in enumerate(GRIDS, start=1):
        others = sample_windows(plane, batch=batch, grid=grid)
        torch.testing.assert_close(program(*others), model(*others), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_stencils_that_carry_the_spacing_are_exported_for_grids_of_any_size(
    plane, build_model, sample_windows, sizes, as_users_run
):
    stencils = ["differential", "antisymmetric", "conv"]
    model = build_model("localno", plane, depth=3, width=3, local=stencils)
    inputs = sample_windows(plane, grid=GRIDS[0])
    program = torch.export.export(model, inputs, dynamic_shapes=sizes, strict=False).module()
    for batch, grid in enumerate(GRIDS, start=1):
        others = sample_windows(plane, batch=batch, grid=grid)
        torch.testing.assert_close(program(*others), model(*others), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_an_integral_kernel_is_exported_for_one_grid_and_says_why_not_for_all(
    plane, build_model, sample_windows, sizes, as_users_run
):
    # A radius of its own, because filters are kept between models.
    model, inputs = build_model("localno", plane, radius=0.31), sample_windows(plane, grid=GRIDS[0])
    batch = tuple({0: size[0]} for size in sizes)
    program = torch.export.export(model, inputs, dynamic_shapes=batch, strict=False).module()
    others = sample_windows(plane, batch=3, grid=GRIDS[0])
    torch.testing.assert_close(program(*others), model(*others), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"more taps on a finer grid.*Export it for one grid"):
        torch.export.export(model, inputs, dynamic_shapes=sizes, strict=False)

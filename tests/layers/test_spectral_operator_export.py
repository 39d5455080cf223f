"""Traced programs of operators on kept modes between walls: other grids than the traced one, and ONNX."""

import importlib.util
import math

import pytest
import torch
from torch.export import Dim

from pdesurrogate.fields.fourier import kept_shape
from pdesurrogate.layers import SpectralConv, mode_matmul, mode_multiply, spectral_operator

NUM_MODES = (6, 5)
GRIDS = [(16, 18), (33, 21), (6, 5), (40, 150)]
"""The traced one, odd ones, the smallest and a large one."""

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime: pip install 'pdesurrogate[export]'",
)


class LowRank:
    """``û → (f(k) ⊙ (û A)) B`` on numbers and on planes."""

    def __init__(self, inward, factors, outward):
        self.factors = inward, factors, outward

    def __call__(self, modes):
        inward, factors, outward = self.factors
        return mode_matmul(mode_multiply(mode_matmul(modes, inward), factors), outward)

    on_planes = __call__


class Operator(torch.nn.Module):
    """A dense and a low-rank convolution with an activation between them."""

    def __init__(self, boundaries):
        super().__init__()
        self.boundaries = boundaries
        planes, modes = 1 + ("periodic" in boundaries), math.prod(kept_shape(NUM_MODES, boundaries))
        self.dense = SpectralConv(2, 3, NUM_MODES, boundaries=boundaries)
        self.inward, self.factors, self.outward = (
            torch.nn.Parameter(torch.randn(*shape, planes)) for shape in ((3, 2), (modes, 2), (2, 2))
        )

    def forward(self, u):
        mixing = LowRank(self.inward, self.factors, self.outward)
        v = torch.nn.functional.gelu(self.dense(u))
        return u + spectral_operator(v, mixing, NUM_MODES, boundaries=self.boundaries)


def field(grid, batch):
    return torch.randn(batch, grid[-1], *grid[:-1], 2)


@pytest.fixture(params=[("wall", "wall"), ("wall", "periodic")], ids="-".join)
def traced(request, as_users_run):
    """An operator, its input on the traced grid, and the sizes that the program shall leave open."""
    torch.manual_seed(0)
    height, width = (
        Dim(name, min=least, max=1024) for name, least in zip(("height", "width"), NUM_MODES, strict=True)
    )
    sizes = ({0: Dim("batch", min=1, max=1024), 1: width, 2: height},)
    return Operator(request.param).eval(), (field(GRIDS[0], 2),), sizes


@torch.no_grad()
def test_an_exported_program_acts_on_grids_that_it_has_not_seen_and_names_no_complex_numbers(traced):
    operator, inputs, sizes = traced
    exported = torch.export.export(operator, inputs, dynamic_shapes=sizes, strict=False)
    values = [node.meta.get("val") for node in exported.graph.nodes]
    assert not any(isinstance(value, torch.Tensor) and value.is_complex() for value in values)
    program = exported.module()
    for batch, grid in enumerate(GRIDS, start=1):
        u = field(grid, batch)
        torch.testing.assert_close(program(u), operator(u), rtol=1e-4, atol=1e-5)


@needs_onnx
@torch.no_grad()
@pytest.mark.parametrize("traced", [("wall", "periodic")], ids="-".join, indirect=True)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_an_onnx_program_acts_on_even_and_odd_grids(traced, tmp_path):
    import onnxruntime

    operator, inputs, sizes = traced
    path = tmp_path / "operator.onnx"
    names = {"input_names": ["u"], "output_names": ["v"]}
    torch.onnx.export(operator, inputs, path, dynamo=True, dynamic_shapes=sizes, verbose=False, **names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, grid in enumerate(GRIDS, start=1):
        u = field(grid, batch)
        (v,) = session.run(None, {"u": u.numpy()})
        torch.testing.assert_close(torch.from_numpy(v), operator(u), rtol=1e-4, atol=1e-5)

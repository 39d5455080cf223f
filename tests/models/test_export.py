"""Traced programs of the Fourier neural operator: other grids than the traced one, ONNX, and the compiler."""

import importlib.util

import pytest
import torch
from torch.export import Dim

GRIDS = [(16, 18), (33, 21), (6, 5), (40, 64)]
"""The traced one, odd ones, the smallest and a large one."""

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime: pip install 'pdesurrogate[export]'",
)


@pytest.fixture
def traced(plane, build_model, sample_windows, as_users_run):
    """A model, its inputs on the traced grid, and the sizes that the program shall leave open."""
    model = build_model("fno", plane, num_modes=(6, 4))
    height, width = Dim("height", min=6, max=1024), Dim("width", min=4, max=1024)
    batch = Dim("batch", min=1, max=1024)
    sizes = ({0: batch, 3: height, 4: width}, {0: batch})
    return model, sample_windows(plane, grid=GRIDS[0]), sizes


@torch.no_grad()
def test_an_exported_program_forecasts_on_grids_and_batches_that_it_has_not_seen(
    traced, plane, sample_windows
):
    model, inputs, sizes = traced
    program = torch.export.export(model, inputs, dynamic_shapes=sizes, strict=False).module()
    for batch, grid in enumerate(GRIDS, start=1):
        others = sample_windows(plane, batch=batch, grid=grid)
        torch.testing.assert_close(program(*others), model(*others), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_an_exported_program_names_no_complex_numbers(traced):
    model, inputs, sizes = traced
    program = torch.export.export(model, inputs, dynamic_shapes=sizes, strict=False)
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert not any(isinstance(value, torch.Tensor) and value.is_complex() for value in values)


@needs_onnx
@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_an_onnx_program_forecasts_on_even_and_odd_grids(traced, plane, sample_windows, tmp_path):
    import onnxruntime

    model, inputs, sizes = traced
    path = tmp_path / "fno.onnx"
    names = {"input_names": ["history", "parameters"], "output_names": ["future"]}
    torch.onnx.export(model, inputs, path, dynamo=True, dynamic_shapes=sizes, verbose=False, **names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, grid in enumerate(GRIDS, start=1):
        history, parameters = sample_windows(plane, batch=batch, grid=grid)
        feed = {"history": history.numpy(), "parameters": parameters.numpy()}
        (future,) = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})
        expected = model(history, parameters)
        torch.testing.assert_close(torch.from_numpy(future), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("local", ["differential", "antisymmetric", "conv"])
def test_stencils_that_carry_the_spacing_are_exported_for_grids_of_any_size(
    local, traced, plane, build_model, sample_windows
):
    _, inputs, sizes = traced
    model = build_model("localno", plane, num_modes=(6, 4), local=local)
    program = torch.export.export(model, inputs, dynamic_shapes=sizes, strict=False).module()
    for batch, grid in enumerate(GRIDS, start=1):
        others = sample_windows(plane, batch=batch, grid=grid)
        torch.testing.assert_close(program(*others), model(*others), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("warm", [False, True])
def test_an_integral_kernel_is_exported_for_one_grid_and_says_why_not_for_all(
    warm, traced, plane, build_model, sample_windows
):
    _, inputs, sizes = traced
    # Another radius each time, because filters are kept between models.
    model = build_model("localno", plane, num_modes=(6, 4), radius=0.31 + 0.01 * warm)
    if warm:
        model(*inputs)
    batch = ({0: sizes[0][0]}, {0: sizes[0][0]})
    program = torch.export.export(model, inputs, dynamic_shapes=batch, strict=False).module()
    others = sample_windows(plane, batch=3, grid=GRIDS[0])
    torch.testing.assert_close(program(*others), model(*others), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"more taps on a finer grid.*Export it for one grid"):
        torch.export.export(model, inputs, dynamic_shapes=sizes, strict=False)


@needs_onnx
@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_an_onnx_program_of_local_kernels_forecasts_on_its_grid(
    traced, plane, build_model, sample_windows, tmp_path
):
    import onnxruntime

    model = build_model("localno", plane, num_modes=(6, 4))
    _, inputs, _ = traced
    path = tmp_path / "localno.onnx"
    names = {"input_names": ["history", "parameters"], "output_names": ["future"]}
    torch.onnx.export(model, inputs, path, dynamo=True, verbose=False, **names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {"history": inputs[0].numpy(), "parameters": inputs[1].numpy()}
    (future,) = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})
    torch.testing.assert_close(torch.from_numpy(future), model(*inputs), rtol=1e-4, atol=1e-5)

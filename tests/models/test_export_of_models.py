"""Every registered model leaves as a traced program; low-rank weights leave as products of real matrices."""

import importlib.util

import pytest
import torch
from torch.export import Dim

from pdesurrogate.models import MODELS

GRIDS = [(16, 18), (33, 21), (6, 7)]
"""The traced one, an odd one and nearly the smallest."""
LOW_RANK = ["tfno", "tfno, joint", "tfno, cp"]

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="needs onnx, onnxscript and onnxruntime: pip install 'pdesurrogate[export]'",
)


def open_sizes():
    """Batch, height and width of the history and batch of the parameters."""
    batch, height, width = (
        Dim(name, min=low, max=512) for name, low in {"batch": 1, "height": 6, "width": 6}.items()
    )
    return ({0: batch, 3: height, 4: width}, {0: batch})


@torch.no_grad()
@pytest.mark.parametrize("kind", sorted({*MODELS.names()} - {"neuralop"}))  # a peer's tracing is its own
def test_a_program_of_any_registered_model_forecasts_batches_that_it_has_not_seen(
    kind, case_for, build_model, sample_windows, as_users_run
):
    case = case_for(kind)
    model, batch = build_model(kind, case), Dim("batch", min=1, max=512)
    program = torch.export.export(
        model, sample_windows(case), dynamic_shapes=({0: batch}, {0: batch}), strict=False
    ).module()
    for size in (1, 3):
        others = sample_windows(case, batch=size)
        torch.testing.assert_close(program(*others), model(*others), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("low_rank", LOW_RANK)
def test_a_program_of_low_rank_weights_is_real_and_forecasts_on_any_grid(
    low_rank, plane, build_model, sample_windows, as_users_run
):
    model = build_model(low_rank, plane)
    program = torch.export.export(
        model, sample_windows(plane, grid=GRIDS[0]), dynamic_shapes=open_sizes(), strict=False
    )
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert not any(isinstance(value, torch.Tensor) and value.is_complex() for value in values)
    for batch, grid in enumerate(GRIDS, start=1):
        others = sample_windows(plane, batch=batch, grid=grid)
        torch.testing.assert_close(program.module()(*others), model(*others), rtol=1e-4, atol=1e-5)


@needs_onnx
@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_an_onnx_program_of_low_rank_weights_forecasts_on_even_and_odd_grids(
    plane, build_model, sample_windows, as_users_run, tmp_path
):
    import onnxruntime

    model, path = build_model("tfno", plane), tmp_path / "tfno.onnx"
    torch.onnx.export(
        model,
        sample_windows(plane, grid=GRIDS[0]),
        path,
        dynamo=True,
        dynamic_shapes=open_sizes(),
        verbose=False,
        input_names=["history", "parameters"],
        output_names=["future"],
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, grid in enumerate(GRIDS, start=1):
        history, parameters = sample_windows(plane, batch=batch, grid=grid)
        feed = {"history": history.numpy(), "parameters": parameters.numpy()}
        (future,) = session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})
        expected = model(history, parameters)
        torch.testing.assert_close(torch.from_numpy(future), expected, rtol=1e-4, atol=1e-5)

"""Every model on a CUDA device: futures and gradients of the CPU, and steps that can be recorded as a graph."""

import copy

import pytest
import torch

from pdesurrogate.fields import Batch
from pdesurrogate.training.captured_step import CapturedStep

pytestmark = pytest.mark.gpu
TOLERANCE = 1e-3  # of float32 sums in another order, through all layers and back


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch):
    for flags in (torch.backends.cuda.matmul, torch.backends.cudnn.conv):
        monkeypatch.setattr(flags, "fp32_precision", "ieee")


@pytest.fixture
def model(configuration, case, build_model):
    model = build_model(configuration, case)
    if not list(model.parameters()):
        pytest.skip("nothing to train")
    return model


def relative(found, expected):
    return float((found.detach().cpu() - expected.detach()).norm() / expected.detach().norm().clamp_min(1e-6))


def test_futures_and_gradients_are_those_of_the_cpu(model, case, sample_windows):
    frames, parameters = sample_windows(case)
    twin = copy.deepcopy(model).cuda()
    expected, found = model(frames, parameters), twin(frames.cuda(), parameters.cuda())
    assert relative(found, expected) < TOLERANCE
    expected.square().mean().backward()
    found.square().mean().backward()
    largest = max(p.grad.norm() for p in model.parameters())
    for (name, mine), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        difference = (theirs.grad.cpu() - mine.grad).norm()
        assert difference < TOLERANCE * max(mine.grad.norm(), 1e-2 * largest), name


def test_a_recorded_step_is_an_ordinary_one(model, case, sample_windows):
    if any(p.is_complex() for p in model.parameters()):
        pytest.skip("complex weights have no fused update")
    model.cuda()
    frames, parameters = (t.cuda() for t in sample_windows(case))
    numbers = torch.arange(len(frames), device="cuda")
    with torch.no_grad():
        future = torch.randn_like(model(frames, parameters))
    batch = Batch(frames, future, parameters, numbers, numbers)
    twin = copy.deepcopy(model)

    def losses_of(module):
        return lambda b: (module(b.history, b.parameters) - b.future).square().flatten(1).mean(1)

    recorded = CapturedStep(losses_of(model), optimiser_of(model), max_norm=1.0)
    found = [recorded(batch).clone() for _ in range(6)]
    plain, losses = optimiser_of(twin), losses_of(twin)
    for step, values in enumerate(found):
        plain.zero_grad()
        expected = losses(batch)
        expected.mean().backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        plain.step()
        torch.testing.assert_close(values, expected, rtol=1e-2, atol=1e-4, msg=f"step {step}")


def optimiser_of(model):
    return torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

"""Counting the parameters of a model whose large tensors are not made."""

import pytest
import torch
from torch import nn

from pdesurrogate.models import MODELS, counting
from pdesurrogate.models.counting import count_parameters
from pdesurrogate.models.matching import num_real_parameters


@pytest.fixture(autouse=True)
def _small_models_are_large(monkeypatch):
    monkeypatch.setattr(counting, "_SMALL", 100)


def require_same_count(configuration, case, build_model):
    with counting._LargeTensorsEmpty():
        empty = build_model(configuration, case)
    assert num_real_parameters(empty) == num_real_parameters(build_model(configuration, case))
    assert [name for name, p in empty.named_parameters() if p.numel() > 400 and not p.is_meta] == []


def test_the_count_is_that_of_the_model_and_large_weights_are_not_made(configuration, plane, build_model):
    require_same_count(configuration, plane, build_model)


def test_so_it_is_on_a_sphere(spherical_configuration, sphere, build_model):
    require_same_count(spherical_configuration, sphere, build_model)


def test_counting_leaves_the_random_numbers_as_they_were(plane):
    state = torch.get_rng_state()
    assert count_parameters("fno", plane.spec, plane.history, plane.horizon, {"width": 12, "depth": 2}) > 100
    assert torch.equal(torch.get_rng_state(), state)


def test_a_constructor_that_reads_its_weights_is_not_counted(plane, monkeypatch):
    class Reads(nn.Module):
        def __init__(self, spec, history, horizon):
            super().__init__()
            self.scale = float(torch.ones(1000).sum())

    monkeypatch.setattr(MODELS, "get", lambda kind: Reads)
    assert count_parameters("reads", plane.spec, 1, 1, {}) is None

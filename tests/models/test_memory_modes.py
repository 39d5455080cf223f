"""Models that can keep less for the backward pass: the same numbers and gradients, and fewer bytes kept."""

import inspect

import pytest
import torch

from pdesurrogate.models import MODELS
from pdesurrogate.training.out_of_memory import explain_out_of_memory

HAVE_MODES = [
    kind for kind in MODELS.names() if "memory" in inspect.signature(MODELS.get(kind).__init__).parameters
]


def saved_bytes(model, inputs):
    """Bytes of the tensors that a forward leaves for the backward pass, weights apart, each storage counted once."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        future = model(*inputs)
    total = sum(storage.nbytes() for storage in storages.values())
    return total, future


def test_the_models_with_the_option_are_these():
    assert HAVE_MODES == ["dilated_resnet", "factformer", "ffno", "fno", "localno", "tfno", "unet"]


@pytest.mark.parametrize("kind", HAVE_MODES)
@pytest.mark.parametrize("memory", ["lean", "minimal"])
def test_forecast_and_gradients_are_those_of_the_fast_mode(kind, memory, plane, build_model, sample_windows):
    inputs = sample_windows(plane, dtype=torch.float64)
    outcomes = []
    for mode in ("speed", memory):
        model = build_model(kind, plane, memory=mode).double()
        future = model(*inputs)
        outcomes.append([future, *torch.autograd.grad(future.square().sum(), list(model.parameters()))])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", HAVE_MODES)
def test_the_leanest_mode_keeps_fewer_bytes(kind, plane, build_model, sample_windows):
    inputs = sample_windows(plane)
    kept = {
        mode: saved_bytes(build_model(kind, plane, memory=mode), inputs)[0] for mode in ("speed", "minimal")
    }
    assert kept["minimal"] < 0.9 * kept["speed"], kept


@pytest.mark.parametrize("kind", HAVE_MODES)
def test_an_unknown_mode_is_refused_with_the_nearest(kind, plane, build_model):
    with pytest.raises(ValueError, match=r"Unknown memory mode 'leen'\. Did you mean 'lean'"):
        build_model(kind, plane, memory="leen")


@pytest.mark.parametrize("kind", HAVE_MODES)
def test_when_memory_runs_out_the_mode_is_advised_unless_it_is_set(kind, plane, build_model):
    for memory, advice in (("speed", True), ("minimal", False)):
        model = build_model(kind, plane, memory=memory)
        with (
            pytest.raises(ValueError, match="memory ran out") as caught,
            explain_out_of_memory(model, kind, (16, 16), 4),
        ):
            raise torch.OutOfMemoryError
        assert ("Set model.memory=minimal" in str(caught.value)) is advice
        assert "model.width" in str(caught.value)

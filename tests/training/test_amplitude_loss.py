"""The loss on amplitudes: the number of the fields, the same gradients, and no transform out."""

import pytest
import torch

from pdesurrogate.fields import Axis, Batch, DataSpec, Field, Normaliser
from pdesurrogate.fields.fourier import RealWaves
from pdesurrogate.metrics import relative_l2
from pdesurrogate.models import MODELS
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training.amplitude_loss import AmplitudeLoss
from pdesurrogate.training.run import train
from pdesurrogate.training.unrolls import OneStep

SPEC = DataSpec(
    (
        Field("velocity", kind="vector", components=("y", "x")),
        Field("density"),
        Field("coefficient", is_static=True),
    ),
    (Axis("y", 1.0, "wall", offset=0.5), Axis("x", 1.0)),
    0.1,
)
T1 = ("model=t1", "model.width=4", "model.depth=2", "model.num_modes=4", "model.head_width=8")


def surrogate_and_batch(predict, time="channels", horizon=2):
    torch.manual_seed(0)
    options = {"width": 4, "depth": 1, "num_modes": 5, "head_width": 8, "time": time}
    model = MODELS.build("t1", SPEC, 1, horizon, **options).double()
    normaliser = Normaliser([1.0, -2.0, 3.0, 0.5], [2.0, 0.5, 4.0, 1.0], increment_std=[0.3, 0.2, 2.0, 1.0])
    surrogate = Surrogate(SPEC, normaliser, model, history=1, horizon=horizon, predict=predict).double()
    frames = torch.randn(
        3, 1 + horizon, 4, 9, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    zeros = torch.zeros(3, dtype=torch.int64)
    return surrogate, Batch(
        frames[:, :1], frames[:, 1:], torch.zeros(3, 0, dtype=torch.float64), zeros, zeros
    )


@pytest.mark.parametrize(
    ("predict", "time"), [("state", "channels"), ("increment", "channels"), ("state", "axis")]
)
def test_it_is_the_loss_of_the_fields_with_its_gradients(predict, time):
    surrogate, batch = surrogate_and_batch(predict, time)
    found = AmplitudeLoss().of_batch(surrogate, batch)
    expected = relative_l2(OneStep()(surrogate, batch), batch.future, SPEC)
    assert found.shape == (3, 2, 2)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    parameters = list(surrogate.parameters())
    for own, other in zip(
        torch.autograd.grad(found.mean(), parameters),
        torch.autograd.grad(expected.mean(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-14)


def test_it_takes_no_transform_out(monkeypatch):
    surrogate, batch = surrogate_and_batch("state")
    monkeypatch.setattr(RealWaves, "synthesise", lambda *a: pytest.fail("a field was formed"))
    AmplitudeLoss().of_batch(surrogate, batch).mean().backward()


def test_training_on_amplitudes_is_training_on_fields(compose_train, tmp_path):
    errors = [
        train(compose_train("trainer.max_epochs=3", *T1, f"loss.space={space}", run_dir=tmp_path / space))
        for space in ("field", "amplitudes")
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("loss.space=amplitude",), "loss.space is 'amplitude'. Did you mean 'amplitudes'"),
        (("loss.space=amplitudes",), "FNO predicts fields. Use loss.space=field"),
        ((*T1, "loss.space=amplitudes", "unroll=k_step"), "feeds fields back"),
        (
            (*T1, "loss.space=amplitudes", "loss.regions=2"),
            "no number for loss.kind=relative_l2 and loss.regions=2",
        ),
        ((*T1, "loss=h1", "+loss.space=amplitudes"), "no number for loss.kind=h1"),
    ],
)
def test_what_has_no_amplitudes_is_refused_before_training(overrides, message, compose_train):
    with pytest.raises(ValueError, match=message):
        train(compose_train(*overrides))


def test_waves_are_chosen_by_the_training_data_and_stay_with_the_artifact(compose_train, tmp_path):
    """The data are waves of up to two periods along y and x, of which one of each kind is kept."""
    train(
        compose_train(
            "trainer.max_epochs=1", *T1, "model.waves=energy", "model.num_modes=3", run_dir=tmp_path / "run"
        )
    )
    surrogate = Surrogate.load(tmp_path / "run" / "artifact.pt")
    chosen = surrogate.provenance["config"]["model"]
    assert surrogate.model.waves.numbers == tuple(map(tuple, chosen["waves"]))
    assert chosen["num_modes"] == [3, 3]
    assert max(max(own) for own in chosen["waves"]) <= 4


def test_a_tolerance_keeps_the_waves_that_it_needs(compose_train, tmp_path):
    train(compose_train("trainer.max_epochs=1", *T1, "model.tolerance=0.01", run_dir=tmp_path / "run"))
    model = Surrogate.load(tmp_path / "run" / "artifact.pt").model
    assert model.waves.shape == (5, 5)  # a constant, and two cosines and sines

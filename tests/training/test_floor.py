"""The error below which no weights can bring a model on some waves, beside the validation error of its training."""

import logging
import re

import numpy as np
import pytest

from pdesurrogate.data.opening import open_data
from pdesurrogate.training import floor as floor_module
from pdesurrogate.training.floor import validation_floor
from pdesurrogate.training.run import build_surrogate, train
from pdesurrogate.training.unrolls import OneStep

from .conftest import travelling_waves

T1 = ("model=t1", "model.width=4", "model.depth=1", "model.head_width=4", "model.num_modes=3")
FIRST = r"No weights bring the validation relative L2 below the truncation floor, ([\d.]+) %"
LAST = r"Best validation relative L2 [\d.]+ %, truncation floor ([\d.]+) %"


def prepared(config):
    data = open_data(config["data"])
    return build_surrogate(config, data), data


def said(caplog, pattern):
    (found,) = [m for r in caplog.records if (m := re.match(pattern, r.getMessage()))]
    return found


@pytest.mark.parametrize("predict", ["state", "unscaled_increment"])
def test_it_is_the_error_of_the_projection_of_all_that_validation_compares(compose_train, predict):
    surrogate, data = prepared(compose_train(*T1, f"predict={predict}"))
    found = validation_floor(surrogate, data)
    frames = travelling_waves(1, 3)[:, :, 0].astype(np.float64)
    starts, future = frames[:, :-1], frames[:, 1:]
    wanted = future if predict == "state" else future - starts
    spectra = np.fft.fft2(wanted)
    low = np.abs(np.fft.fftfreq(16, 1 / 16)) <= 1  # the three lowest waves of every axis
    left_out = np.fft.ifft2(np.where(low[:, None] & low, 0, spectra)).real
    errors = np.linalg.norm(left_out, axis=(2, 3)) / np.linalg.norm(future, axis=(2, 3))
    assert 0.05 < errors.mean() < 1
    assert found.error == pytest.approx(errors.mean(), rel=1e-4)
    assert (found.windows, found.of) == (15, 15)


@pytest.mark.parametrize(
    "terms", [(), ("unroll=k_step", "unroll.num_steps=2")], ids=["one step", "two steps"]
)
def test_a_training_whose_forecast_is_the_nearest_has_this_validation_error(
    compose_train, caplog, monkeypatch, terms
):
    def nearest(_, surrogate, batch):
        untouched = 0 * surrogate.step(batch.history, batch.parameters).mean()  # a gradient to be had
        return surrogate.nearest(batch.history, batch.future) + untouched

    monkeypatch.setattr(OneStep, "__call__", nearest)
    monkeypatch.setattr("pdesurrogate.training.unrolls.KStep.__call__", nearest)
    with caplog.at_level(logging.INFO):
        error = train(compose_train(*T1, *terms, "trainer.max_epochs=1"))
    assert 100 * error == pytest.approx(float(said(caplog, FIRST)[1]), rel=5e-3)
    assert said(caplog, LAST)[1] == said(caplog, FIRST)[1]


def test_of_a_large_split_some_windows_are_taken_and_it_is_said(compose_train, monkeypatch):
    surrogate, data = prepared(compose_train(*T1))
    whole = validation_floor(surrogate, data)
    assert "windows" not in str(whole)
    monkeypatch.setattr(floor_module, "MOST_WINDOWS", 6)
    part = validation_floor(surrogate, data)
    assert (part.windows, part.of) == (6, 15)
    assert str(part).endswith(" % (of 6 of 15 validation windows)")
    assert part.error == pytest.approx(whole.error, rel=0.5)
    assert part.error != whole.error


def test_a_model_that_can_predict_every_field_has_none_and_nothing_is_said_or_read(
    compose_train, caplog, monkeypatch
):
    surrogate, data = prepared(compose_train())
    monkeypatch.setattr(data, "windows", None)
    assert validation_floor(surrogate, data) is None
    with caplog.at_level(logging.INFO):
        train(compose_train("trainer.max_epochs=1"))
    assert "floor" not in caplog.text
    assert re.search(r"Best validation relative L2 [\d.]+ %\. Artifact", caplog.text)

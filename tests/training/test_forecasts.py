import numpy as np
import pytest

from pdesurrogate.training.forecasts import draw_forecast, magnification


@pytest.mark.parametrize(
    ("share", "factor"),
    [(2.0, 1), (0.6, 1), (0.5, 2), (0.11, 5), (0.1, 10), (0.0001, 100), (float("nan"), 1)],
)
def test_errors_are_magnified_by_a_round_factor_that_keeps_them_on_the_scale(share, factor):
    assert magnification(share) == factor


def test_a_picture_has_a_row_for_truth_prediction_and_error(tmp_path):
    truth = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    draw_forecast(truth, 1.02 * truth, ["t + 1", "t + 2", "t + 3"], "vorticity", tmp_path / "a.png")
    from matplotlib.image import imread

    height, width, _ = imread(tmp_path / "a.png").shape
    assert height > 400
    assert width > 600

import numpy as np

from pdesurrogate.training.forecasts import draw_forecast


def test_a_picture_has_a_row_for_truth_prediction_and_error(tmp_path):
    truth = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    draw_forecast(truth, 1.02 * truth, ["t + 1", "t + 2", "t + 3"], "vorticity", tmp_path / "a.png")
    from matplotlib.image import imread

    height, width, _ = imread(tmp_path / "a.png").shape
    assert height > 400
    assert width > 600

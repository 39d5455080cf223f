import math

import pytest

from pdesurrogate.metrics.magnification import error_magnification


@pytest.mark.parametrize(
    ("largest", "factor"),
    [(0.9, 1), (0.6, 1), (0.5, 2), (0.11, 5), (0.1, 10), (0.05, 20), (0.0012, 500), (2.0, 1), (0.0, 1)],
)
@pytest.mark.parametrize("limit", [1.0, 4.0])
def test_errors_are_magnified_by_a_round_factor_that_keeps_them_on_the_scale(largest, factor, limit):
    assert error_magnification(largest * limit, limit) == factor
    assert factor == 1 or factor * largest <= 1.0


@pytest.mark.parametrize("largest", [math.nan, math.inf])
def test_errors_that_are_not_finite_are_not_magnified(largest):
    assert error_magnification(largest, 1.0) == 1

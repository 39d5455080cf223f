import pytest

from pdesurrogate.fields.units import same_units, seconds


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("m s-1", "m/s"),
        ("m s-1", "m*s**-1"),
        ("m^2/s", "m2 s-1"),
        ("1/s", "s-1"),
        ("W/m2/s", "W m-2 s-1"),
        ("", "1"),
        ("dimensionless", "1"),
        ("meters", "m"),
        ("degree_north", "degrees_north"),
        ("hours", "h"),
    ],
)
def test_spellings_of_one_unit_are_the_same(one, other):
    assert same_units(one, other)
    assert same_units(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("km", "m"),
        ("m2 s-1", "m s-1"),
        ("s", "s-1"),
        ("K", "1"),
        ("degrees_north", "degrees_east"),
        ("Pa s", "Pas"),
    ],
)
def test_other_units_are_others(one, other):
    assert not same_units(one, other)


def test_units_of_time_are_known_in_seconds():
    assert [seconds(unit) for unit in ("s", "minutes", "h", "days", "1", "m")] == [
        1,
        60,
        3600,
        86400,
        None,
        None,
    ]

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdesurrogate.fields import Axis, DataSpec, Field, Parameter
from pdesurrogate.fields.spherical.nodes import latitude_rule

VELOCITY = Field("velocity", "m s-1", "vector", ("x", "y"), "flow velocity")
SMOKE = Field("smoke", "kg m-3")
SPEC = DataSpec(
    fields=(SMOKE, VELOCITY),
    axes=(Axis("y", 2.0, "wall", "m", origin=-1.0, offset=0.5), Axis("x", 3.0, units="m")),
    dt=0.25,
    time_units="s",
    parameters=(Parameter("viscosity", "m2 s-1"), Parameter("buoyancy")),
    equation="∂u/∂t + u·∇u = -∇p + ν Δu",
)


def test_channels_follow_from_fields_and_their_components():
    assert SPEC.channel_names == ("smoke", "velocity_x", "velocity_y")
    assert SPEC.channel_units == ("kg m-3", "m s-1", "m s-1")
    assert SPEC.num_channels == 3


def test_axes_and_parameters_are_in_array_order():
    assert SPEC.axis_names == ("y", "x")
    assert SPEC.lengths == (2.0, 3.0)
    assert SPEC.boundaries == ("wall", "periodic")
    assert SPEC.parameter_names == ("viscosity", "buoyancy")
    assert (SPEC.ndim, SPEC.num_parameters) == (2, 2)
    assert SPEC.spacings((4, 6)) == (0.5, 0.5)


def test_a_spec_is_periodic_only_if_every_axis_is():
    assert not SPEC.is_periodic
    assert SPEC.replace(axes=(Axis("y", 1.0), Axis("x", 1.0))).is_periodic


def test_coordinates_of_nodes_omit_the_far_end_and_those_of_cells_are_centres():
    np.testing.assert_allclose(Axis("x", 3.0).coordinates(6), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    np.testing.assert_allclose(SPEC.axes[0].coordinates(4), [-0.75, -0.25, 0.25, 0.75])


@pytest.mark.parametrize("nodes", ["gauss-legendre", "equiangular", "cell-centred"])
def test_latitudes_of_a_rule_are_its_own_and_run_the_way_that_the_axis_says(nodes):
    north_first = Axis("lat", 180.0, "open", "degrees_north", -90.0, nodes=nodes, is_descending=True)
    south_first = dataclasses.replace(north_first, is_descending=False)
    expected = 90 - np.rad2deg(latitude_rule(nodes, 9)[0])
    np.testing.assert_allclose(north_first.coordinates(9), expected, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(south_first.coordinates(9), north_first.coordinates(9)[::-1])
    assert north_first.coordinates(9)[0] > 75


def test_a_spec_comes_back_from_json_unchanged():
    text = json.dumps(SPEC.to_dict())
    assert DataSpec.from_dict(json.loads(text)) == SPEC


@given(
    lengths=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=3),
    dt=st.floats(1e-9, 1e9),
    names=st.lists(st.text(min_size=1), min_size=1, max_size=4, unique=True),
)
def test_any_spec_comes_back_from_json_unchanged(lengths, dt, names):
    axes = tuple(Axis(name, length) for name, length in zip("zyx", lengths, strict=False))
    spec = DataSpec(tuple(Field(name) for name in names), axes, dt)
    back = DataSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert back == spec
    assert back.mismatches(spec) == []


def test_numbers_of_numpy_become_plain_ones():
    spec = DataSpec((Field("u"),), (Axis("x", np.float64(2.0), offset=np.float64(0.5)),), np.float64(0.1))
    axis = spec.to_dict()["axes"][0]
    assert {type(spec.to_dict()["dt"]), type(axis["length"]), type(axis["offset"])} == {float}


def test_static_fields_are_told_apart_and_come_back_from_json():
    bed = Field("bed", "m", is_static=True)
    spec = SPEC.replace(fields=(SMOKE, bed, VELOCITY))
    assert spec.forecast_fields == (SMOKE, VELOCITY)
    assert spec.static_channels == (False, True, False, False)
    assert DataSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert [field["name"] for field in spec.to_dict()["fields"] if "is_static" in field] == ["bed"]


def test_components_on_faces_are_told_apart_and_come_back_from_json():
    staggered = dataclasses.replace(VELOCITY, is_on_faces=True)
    spec = SPEC.replace(fields=(SMOKE, staggered))
    assert (spec.face_axes, SPEC.face_axes) == ((None, *VELOCITY.components), (None, None, None))
    assert DataSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert [field["name"] for field in spec.to_dict()["fields"] if "is_on_faces" in field] == ["velocity"]
    assert "axes on whose faces channels live are" in spec.mismatches(SPEC)[0]
    with pytest.raises(
        ValueError, match="kind 'scalar' is said to live on faces; only the components of a vector do"
    ):
        Field("smoke", is_on_faces=True)


def test_a_spec_can_be_a_key_because_it_is_frozen():
    assert len({SPEC, DataSpec.from_dict(SPEC.to_dict())}) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fields": (Field("soot", "kg m-3"), VELOCITY)}, "channels are"),
        ({"fields": (SMOKE, Field("velocity", "km h-1", "vector", ("x", "y")))}, "units are"),
        ({"fields": (Field("smoke", "kg m-3", "pseudoscalar"), VELOCITY)}, "kinds of fields are"),
        ({"axes": (Axis("y", 2.0, "wall", "m"), Axis("z", 3.0, units="m"))}, "axes are"),
        ({"axes": (Axis("y", 2.0, "wall", "km"), Axis("x", 3.0, units="m"))}, "units of axes are"),
        ({"axes": (Axis("y", 2.0, "open", "m"), Axis("x", 3.0, units="m"))}, "boundaries are"),
        ({"axes": (Axis("y", 2.0, "wall", "m"), Axis("x", 3.1, units="m"))}, "lengths are"),
        (
            {"axes": (dataclasses.replace(SPEC.axes[0], is_descending=True), SPEC.axes[1])},
            "nodes and directions of axes are",
        ),
        ({"fields": (dataclasses.replace(SMOKE, is_static=True), VELOCITY)}, "static channels are"),
        ({"geometry": "sphere"}, "geometry are"),
        ({"time_units": "h"}, "units of time are"),
        ({"dt": 0.5}, "dt is 0.25 on one side and 0.5 on the other"),
        ({"parameters": ()}, "parameters are"),
    ],
)
def test_each_physical_difference_is_told_in_one_sentence(change, sentence):
    sentences = SPEC.mismatches(SPEC.replace(**change))
    assert [s for s in sentences if s.startswith(sentence)] == sentences
    assert len(sentences) == 1


def test_a_missing_axis_is_told_without_comparing_further():
    sentences = SPEC.mismatches(SPEC.replace(axes=SPEC.axes[:1]))
    assert any(s.startswith("axes are ('y', 'x') on one side and ('y',)") for s in sentences)


def test_words_for_people_and_rounding_do_not_count_as_differences():
    other = SPEC.replace(equation="Boussinesq", dt=SPEC.dt * (1 + 1e-9))
    assert SPEC.mismatches(other) == []


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Field("u", kind="tensor"), "kind of field 'u' is 'tensor'; allowed: 'scalar'"),
        (lambda: Field("u", kind="vector"), "a vector names one axis per component"),
        (lambda: Field("u", components=("x",)), "other kinds name none"),
        (
            lambda: Axis("x", 1.0, "slip"),
            "boundary of axis 'x' is 'slip'; allowed: 'periodic', 'wall', 'open'",
        ),
        (
            lambda: Axis("lat", 180.0, nodes="chebyshev"),
            "nodes of axis 'lat' is 'chebyshev'; allowed: 'gauss-",
        ),
        (lambda: Axis("x", 1.0, nodes="equiangular"), "belong to an axis 'lat' without offset"),
        (lambda: Axis("lat", 180.0, offset=0.5, nodes="equiangular"), "offset = 0.5"),
        (lambda: Axis("x", 0.0), "length of axis 'x' is 0.0; it must be positive"),
        (lambda: Axis("x", math.nan), "length of axis 'x' is nan"),
        (lambda: Axis("x", None), "length of axis 'x' is None; it must be positive and finite: spacings"),
        (lambda: SPEC.replace(dt=0.0), "dt is 0.0; the time between frames must be positive"),
        (lambda: SPEC.replace(dt=math.inf), "dt is inf"),
        (lambda: SPEC.replace(geometry="torus"), "geometry is 'torus'; allowed: 'plane', 'sphere'"),
        (lambda: SPEC.replace(fields=()), "at least one field and one axis"),
        (lambda: SPEC.replace(axes=()), "at least one field and one axis"),
        (
            lambda: SPEC.replace(fields=(Field("bed", is_static=True),)),
            "fields bed are all static: none to forecast",
        ),
        (lambda: SPEC.replace(fields=(SMOKE, SMOKE)), r"channel names \('smoke', 'smoke'\) repeat"),
        (lambda: SPEC.replace(axes=(Axis("x", 1.0),) * 2), "axis names .* repeat"),
        (lambda: SPEC.replace(parameters=(Parameter("nu"),) * 2), "parameter names .* repeat"),
        (lambda: SPEC.spacings((4,)), "zip"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(build, message, as_users_run):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("dt"), "needs the keys fields, axes and dt"),
        (lambda d: d.update(viscosity=1.0), "allows .*given: .*viscosity"),
        (lambda d: d["axes"][0].update(lenght=1.0), "no option 'lenght'. Did you mean 'length'"),
        (lambda d: d["axes"][0].pop("length"), "needs the option 'length'"),
        (lambda d: d["fields"][0].pop("name"), "needs the option 'name'"),
        (lambda d: d["parameters"][0].update(value=1.0), "Parameter of a DataSpec has no option 'value'"),
    ],
)
def test_a_damaged_dict_is_refused_by_key(damage, message):
    data = SPEC.to_dict()
    damage(data)
    with pytest.raises(ValueError, match=message):
        DataSpec.from_dict(data)

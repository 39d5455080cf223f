"""Operators on a sphere are functions between fields: on other grids, under turns, mirror images and rotations."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from pdesurrogate.fields import DataSpec, Field
from pdesurrogate.fields.spherical.grid import spherical_axes, spherical_grid
from pdesurrogate.fields.spherical.transforms import SphericalTransform

SIZES = (24, 48)
DEGREE = 3


def scalars(nodes="gauss-legendre"):
    return DataSpec((Field("height"), Field("tracer")), spherical_axes(nodes), 0.1, geometry="sphere")


def smooth_windows(case, sizes, degree=DEGREE):
    """The same frames of few degrees on any grid, float64, and their parameters."""
    generator = torch.Generator().manual_seed(3)
    lead = (2, case.history, case.spec.num_channels, degree + 1, degree + 1)
    spectrum = torch.randn(lead, generator=generator, dtype=torch.complex128).tril()
    spectrum[..., 0] = spectrum[..., 0].real.to(torch.complex128)
    transform = SphericalTransform(spherical_grid(case.spec, sizes), degree, dtype=torch.float64)
    return transform.synthesise(spectrum), torch.zeros(2, case.spec.num_parameters, dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("nodes", ["gauss-legendre", "equiangular"])
def test_a_band_limited_input_gives_the_same_future_on_every_grid(
    spherical_configuration, nodes, sphere, build_model
):
    case = sphere._replace(spec=scalars(nodes))
    model = build_model(spherical_configuration, case).double()

    def future_on(sizes):
        """The lowest degrees of the model's future: all that the coarsest grid here analyses exactly."""
        grid = spherical_grid(case.spec, sizes)
        return SphericalTransform(grid, 9, dtype=torch.float64).analyse(model(*smooth_windows(case, sizes)))

    reference = future_on((49, 98))
    errors = {
        sizes: ((future_on(sizes) - reference).norm() / reference.norm()).item()
        for sizes in ((21, 42), (30, 62), (40, 80))
    }
    # Global operators differ by the aliasing of activations; local ones also by quadrature, of second order.
    finest, first = (0.02, 0.08) if spherical_configuration.startswith("lsno") else (1e-3, 1e-2)
    assert errors[21, 42] < first, errors
    assert max(errors[30, 62], errors[40, 80]) < max(finest, first / 2), errors
    assert errors[40, 80] < finest, errors


ACTIONS = {
    "shift": lambda frames: frames.roll(
        4, -1
    ),  # a whole number of points inside as well, where those are fewer
    "mirror at the equator": lambda frames: frames.flip(-2),
    "mirror at a meridian": lambda frames: frames.flip(-1).roll(1, -1),
}


@torch.no_grad()
def test_turns_about_the_axis_and_mirror_images_are_kept_where_declared_and_broken_elsewhere(
    spherical_configuration, sphere, build_model
):
    case = sphere._replace(spec=scalars())
    model = build_model(spherical_configuration, case).double()
    # Random numbers, not smooth: with few harmonics some symmetry may hold by chance.
    frames, parameters = (
        torch.randn(2, 2, 2, 20, 40, dtype=torch.float64),
        torch.zeros(2, 0, dtype=torch.float64),
    )
    future = model(frames, parameters)
    errors = {
        name: ((model(act(frames), parameters) - act(future)).norm() / future.norm()).item()
        for name, act in ACTIONS.items()
    }
    mirrors = [errors["mirror at the equator"], errors["mirror at a meridian"]]
    assert errors["shift"] < 1e-12 if "shift" in model.symmetries else errors["shift"] > 1e-3, errors
    assert max(mirrors) < 1e-12 if "reflection" in model.symmetries else max(mirrors) > 1e-3, errors


@torch.no_grad()
def test_rotations_are_kept_up_to_aliasing_where_declared_and_broken_elsewhere(
    spherical_configuration, sphere, build_model, turned
):
    case = sphere._replace(spec=scalars())
    model = build_model(spherical_configuration, case).double()
    grid, sizes = spherical_grid(case.spec, (32, 64)), (32, 64)
    frames, parameters = smooth_windows(case, sizes)
    then = turned(model(frames, parameters), grid, 31)
    error = ((model(turned(frames, grid, DEGREE), parameters) - then).norm() / then.norm()).item()
    aliasing = 2e-2 if spherical_configuration.startswith("lsno") else 2e-3
    assert error < aliasing if "rotation" in model.symmetries else error > 2 * aliasing


@torch.no_grad()
def test_an_operator_of_real_weights_cannot_let_a_wave_drift(sphere, build_model):
    """Why complex weights are the default: with real ones a wave that drifts has a mirror image that drifts back."""
    case = sphere._replace(spec=scalars())
    grid = spherical_grid(case.spec, SIZES)
    lat, lon = torch.tensor(grid.latitudes)[:, None], torch.tensor(grid.longitudes)
    wave = (lat.cos() ** 3 * (3 * lon).cos()).expand(1, 2, 2, *SIZES)
    nothing = torch.zeros(1, 0, dtype=torch.float64)

    def drift(**options):
        """The part of the future that is in quadrature with the wave."""
        future = build_model("sfno", case, **options).double()(wave, nothing)
        return (future * (3 * lon).sin()).mean(-1).abs().max() / future.abs().max()

    assert drift(isotropic=True) < 1e-12
    assert drift(isotropic=False) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("sfno", {"max_order": 2}),
        ("sfno", {"isotropic": True}),
        ("sfno", {"scale_factor": 2, "max_degree": 4}),
        ("sfno", {"coordinates": "position"}),
        ("sfno", {"big_skip": False}),
        ("sfno", {"mlp_ratio": 1.0}),
        ("lsno", {"arrangement": "parallel"}),
        ("lsno", {"basis": "morlet"}),
        ("lsno", {"basis_shape": [2, 5]}),
        ("lsno", {"cutoff": 1.3}),
        ("lsno", {"encoder_cutoff": 1.1}),
        ("lsno", {"scale_factor": 2, "max_degree": 4}),
        ("lsno", {"coordinates": "none"}),
    ],
)
def test_every_option_changes_the_output(kind, change, sphere, build_model, sample_windows):
    inputs = sample_windows(sphere)
    plain = build_model(kind, sphere)(*inputs)
    assert (build_model(kind, sphere, **change)(*inputs) - plain).norm() > 1e-3 * plain.norm()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("sfno", {"max_order": 9}, r"sfno: max_order is 9; .* at most max_degree = 7"),
        ("sfno", {"coordinates": "latitud"}, r"Did you mean 'latitude'\? Allowed on a sphere"),
        ("sfno", {"coordinates": "periodic"}, "Allowed on a sphere: none, latitude, position"),
        ("sfno", {"width": 0}, "width is 0; it must be at least 1"),
        ("sfno", {"mlp_ratio": 0.1}, "sfno: mlp_ratio is 0.1; times the width 6 it must be at least 1"),
        ("sfno", {"scale_factor": 0}, "scale_factor is 0"),
        ("lsno", {"arrangement": "paralel"}, "Did you mean 'parallel'"),
        ("lsno", {"basis": "wavelet"}, "basis is 'wavelet'"),
        ("lsno", {"isotropic": True, "basis": "morlet"}, "isotropic=true needs filters without directions"),
        (
            "lsno",
            {"isotropic": True, "basis_shape": [3, 4]},
            "isotropic=true needs filters without directions",
        ),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_sentence(kind, options, message, sphere, build_model):
    with pytest.raises(ValueError, match=message):
        build_model(kind, sphere, **options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "sfno",
            {"max_degree": 10},
            r"sfno: max_degree is 10; .*exactly up to T = 9.*at least 11 x 21 points",
        ),
        ("sfno", {"scale_factor": 2}, r"5 gauss-legendre latitudes and 10 longitudes"),
        ("lsno", {"max_degree": 10}, r"lsno: max_degree is 10"),
        ("lsno", {"cutoff": 0.2}, r"lsno: cutoff: cutoff is 0\.2 rad .*lie 0\.29\d+ rad apart"),
        ("lsno", {"encoder_cutoff": 0.2}, r"lsno: encoder_cutoff: cutoff is 0\.2 rad"),
        ("lsno", {"cutoff": 4.0}, "at most π"),
    ],
)
def test_grids_that_an_operator_cannot_take_are_refused_with_what_would_do(
    kind, options, message, sphere, build_model
):
    with pytest.raises(ValueError, match=message):
        build_model(kind, sphere, **options).check_grid((10, 20))


@pytest.mark.parametrize("kind", ["sfno", "lsno"])
def test_planes_and_latitudes_without_a_rule_are_refused(kind, plane, sphere, build_model):
    with pytest.raises(ValueError, match=rf"{kind} works on the geometries \['sphere'\].*on a 'plane'"):
        build_model(kind, plane)
    unruled = sphere._replace(spec=plane.spec.replace(geometry="sphere"))
    with pytest.raises(
        ValueError, match=r"latitudes after a rule; given: .* y \(evenly spread\).*gauss-legendre"
    ):
        build_model(kind, unruled)


@pytest.mark.parametrize("kind", ["sfno", "lsno"])
def test_winds_are_taken_for_scalars_with_a_word_of_warning(kind, sphere, build_model, caplog):
    winds = sphere.spec.replace(fields=(Field("height"), Field("wind", "m s-1", "vector", ("lon", "lat"))))
    with caplog.at_level(logging.WARNING):
        build_model(kind, sphere._replace(spec=winds)).check_grid((10, 20))
    assert "wind is given by components" in caplog.text
    assert "vorticity and divergence" in caplog.text
    caplog.clear()
    build_model(kind, sphere)
    assert not caplog.text


def test_points_near_a_pole_get_no_larger_answers_than_others(sphere, build_model):
    """No row of latitude is amplified: filters are normalised around every one of them, and harmonics know no pole."""
    case = sphere._replace(spec=scalars("equiangular"))
    for kind in ("sfno", "lsno"):
        model = build_model(kind, case)
        frames = torch.randn(4, 2, 2, 21, 40)
        rows = model(frames, torch.zeros(4, 0)).square().mean((0, 1, 2, 4)).sqrt()
        assert rows.isfinite().all()
        assert rows[[0, -1]].max() < 3 * rows.median(), kind
        assert not math.isclose(rows.min().item(), 0.0)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "options"), [("sfno", {}), ("lsno", {"arrangement": "parallel"})])
def test_an_exported_program_forecasts_any_number_of_samples_on_the_grid_it_was_traced_on(
    kind, options, sphere, build_model, sample_windows, as_users_run
):
    model = build_model(kind, sphere, depth=1, **options)
    batch = torch.export.Dim("batch", min=1, max=64)
    inputs = sample_windows(sphere, batch=3)
    program = torch.export.export(
        model, inputs, dynamic_shapes=({0: batch}, {0: batch}), strict=False
    ).module()
    for count in (1, 3, 5):
        others = sample_windows(sphere, batch=count)
        torch.testing.assert_close(program(*others), model(*others), rtol=1e-5, atol=1e-6)

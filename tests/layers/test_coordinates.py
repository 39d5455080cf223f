import math

import pytest
import torch

from pdesurrogate.fields import Axis
from pdesurrogate.fields.fourier import resample
from pdesurrogate.fields.point_group import point_group, transform
from pdesurrogate.fields.spherical.grid import SphericalGrid, spherical_axes
from pdesurrogate.layers import append_coordinates, check_coordinates, num_coordinate_channels

CHANNEL = (Axis("y", 2.0, "wall", offset=0.5), Axis("x", 3.0))
BOX = (Axis("y", 1.0, offset=0.5), Axis("x", 1.0))


def added(grid, axes, kind):
    u = torch.randn(2, 3, *grid, dtype=torch.float64)
    extended = append_coordinates(u, axes, kind)
    assert torch.equal(extended[:, :3], u)
    assert extended.shape[1] == 3 + num_coordinate_channels(axes, kind)
    assert torch.equal(extended[0, 3:], extended[1, 3:])
    return extended[0, 3:]


def test_linear_coordinates_are_the_positions_of_the_points_over_the_length():
    y, x = added((8, 6), CHANNEL, "linear")
    torch.testing.assert_close(y[:, 0], (torch.arange(8).double() + 0.5) / 8)
    torch.testing.assert_close(x[0], torch.arange(6).double() / 6)
    assert (y == y[:, :1]).all()
    assert (x == x[:1]).all()


def test_coordinates_of_a_sphere_fall_from_the_north_pole_at_the_latitudes_of_the_grid():
    grid = SphericalGrid(6, 8)
    lat, lon = added(grid.shape, spherical_axes(), "linear")
    torch.testing.assert_close(lat[:, 0], torch.from_numpy(grid.latitudes / math.pi + 0.5))
    torch.testing.assert_close(lon[0], torch.arange(8).double() / 8)


def test_periodic_coordinates_wind_around_periodic_axes_and_stay_linear_elsewhere():
    y, cosine, sine = added((8, 6), CHANNEL, "periodic")
    angle = 2 * math.pi * torch.arange(6).double() / 6
    torch.testing.assert_close(y[:, 0], (torch.arange(8).double() + 0.5) / 8)
    torch.testing.assert_close(cosine[3], angle.cos())
    torch.testing.assert_close(sine[3], angle.sin())


@pytest.mark.parametrize("size", [9, 16])
def test_periodic_coordinates_are_the_same_function_on_every_grid(size):
    axes = tuple(Axis(a.name, a.length) for a in BOX)
    torch.testing.assert_close(
        resample(added((8, 8), axes, "periodic"), (size, size)), added((size, size), axes, "periodic")
    )


def test_without_coordinates_the_field_passes_unchanged():
    assert added((4, 4), BOX, "none").shape[0] == 0


def test_on_a_sphere_positions_are_smooth_functions_of_the_point():
    axes = spherical_axes("equiangular")
    u = torch.zeros(2, 1, 5, 8)
    (latitude,) = append_coordinates(u, axes, "latitude")[0, 1:]
    assert torch.allclose(latitude[:, 0], torch.tensor([1.0, 0.5**0.5, 0.0, -(0.5**0.5), -1.0]), atol=1e-6)
    assert (latitude == latitude[:, :1]).all()
    x, y, z = append_coordinates(u, axes, "position")[1, 1:]
    assert torch.allclose(x**2 + y**2 + z**2, torch.ones(5, 8))
    assert torch.equal(z, latitude)
    assert x[2, 0] == 1
    assert torch.allclose(y[2, 2], torch.tensor(1.0))
    assert x[0].abs().max() < 1e-6  # one value at the pole, whatever the longitude
    for kind in ("none", "latitude", "position"):
        assert append_coordinates(u, axes, kind).shape[1] == 1 + num_coordinate_channels(axes, kind)


def test_each_geometry_has_coordinates_of_its_own():
    check_coordinates("latitude", "sphere")
    with pytest.raises(ValueError, match="Allowed on a sphere: none, latitude, position"):
        check_coordinates("periodic", "sphere")
    with pytest.raises(ValueError, match="Allowed: none, linear, periodic"):
        check_coordinates("latitude")


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("size", [6, 7])
def test_symmetric_coordinates_are_left_alone_by_rotations_and_reflections_about_the_centre(offset, size):
    axes = (Axis("z", 1.0), *(Axis(name, 2.0, offset=offset) for name in "yx"))
    group = point_group("p4m")
    found = append_coordinates(torch.zeros(1, 1, 3, size, size), axes, "symmetric")
    assert found.shape[1] == 1 + num_coordinate_channels(axes, "symmetric") == 3
    assert found[0, 1:].flatten(1).std(dim=1).min() > 0.05
    for element in group.elements:
        torch.testing.assert_close(transform(found, element, torch.eye(3), axes), found)

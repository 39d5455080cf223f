"""Images of volumes: integrals along the line of sight, with the spec and the checksum of a film."""

import numpy as np
import pytest

from pdesurrogate.data.camera import Filmed, camera
from pdesurrogate.data.store import StoreWriter
from pdesurrogate.fields import Axis, DataSpec, Field, Parameter

SPEC = DataSpec(
    (Field("density"), Field("velocity", kind="vector", components=("z", "y", "x"))),
    (
        Axis("z", 2.0, "open", offset=0.5),
        Axis("y", 3.0, "wall", offset=0.5),
        Axis("x", 1.0, "wall", offset=0.5),
    ),
    1.0,
    parameters=(Parameter("buoyancy"),),
)
GRID = (4, 6, 5)


@pytest.fixture
def volumes(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.random((2, 3, 4, *GRID), dtype=np.float32)
    for split in ("train", "test"):
        path = tmp_path / f"{split}.h5"
        facts = {"times": np.arange(3.0), "attributes": {"solver": "none", "seed": 0}}
        with StoreWriter(path, spec=SPEC, grid=GRID, num_trajectories=2, **facts) as writer:
            for i, trajectory in enumerate(frames):
                writer.write(i, trajectory, np.ones(1, np.float32))
            writer.finish()
    return tmp_path, frames


def open_film(root, **options):
    return camera(str(root), splits={"train": "train.h5", "test": "test.h5"}, **options)


@pytest.mark.parametrize(("axis", "place", "spacing"), [("y", 3, 0.5), ("z", 2, 0.5), ("x", 4, 0.2)])
def test_an_image_is_the_integral_of_the_density_along_the_line_of_sight(volumes, axis, place, spacing):
    root, frames = volumes
    film = open_film(root, line_of_sight=axis).splits["train"]
    expected = frames[1, 1:3, :1].sum(place, dtype=np.float64) * spacing
    found = film.frames(1, 1, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert film.grid == found.shape[2:]
    assert film.spec.axis_names == tuple(name for name in "zyx" if name != axis)


def test_a_film_has_images_and_no_parameters_and_ends_as_the_volumes_do(volumes):
    film = open_film(volumes[0]).splits["test"]
    assert film.spec.channel_names == ("image",)
    assert film.spec.boundaries == ("open", "wall")
    assert (film.num_trajectories, film.num_frames) == (2, 3)
    assert film.parameters(0).shape == (0,)


def test_its_checksum_tells_films_of_one_volume_apart(volumes):
    sums = {axis: open_film(volumes[0], line_of_sight=axis).splits["train"].checksum() for axis in "zyx"}
    assert len(set(sums.values())) == 3
    assert open_film(volumes[0]).splits["train"].checksum() == sums["y"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"line_of_sight": "w"}, "line_of_sight is 'w'.*The axes are z, y, x"),
        ({"field": "densty"}, "Did you mean 'density'"),
    ],
)
def test_what_cannot_be_filmed_is_refused(volumes, options, message):
    with pytest.raises(ValueError, match=message):
        open_film(volumes[0], **options)


def test_frames_that_are_not_there_are_refused(volumes):
    film = open_film(volumes[0]).splits["train"]
    assert isinstance(film, Filmed)
    with pytest.raises(ValueError, match="frames 1 to 3"):
        film.frames(0, 1, 4)

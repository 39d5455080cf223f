"""Writing of a store: interruptions, full disks, second writers, and values that are refused."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pdesurrogate.data.store import StoredTrajectories, StoreWriter
from pdesurrogate.fields import Axis, DataSpec

WriteStore = Callable[..., np.ndarray]


def settings(spec: DataSpec, **changes: Any) -> dict[str, Any]:
    return {
        "spec": spec,
        "grid": (4, 6),
        "num_trajectories": 3,
        "times": spec.dt * np.arange(5),
        "attributes": {"title": "a", "seed": 1},
    } | changes


def noise(spec: DataSpec) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((3, 5, spec.num_channels, 4, 6)).astype(np.float32)


def no_parameters() -> np.ndarray:
    return np.zeros(0, dtype=np.float32)


def test_a_file_of_float64_times_and_lists_resumes_as_itself(tmp_path: Path, smoke_spec: DataSpec) -> None:
    facts = {"viscosity": [1e-3, 2e-3], "dt": np.float64(0.1), "flag": True, "nothing": None}
    for _ in range(2):
        writer = StoreWriter(tmp_path / "a.h5", **settings(smoke_spec, attributes=facts))
        writer.close()
    assert writer.pending == [0, 1, 2]


def test_an_interrupted_file_is_continued(tmp_path: Path, smoke_spec: DataSpec) -> None:
    frames = noise(smoke_spec)
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)) as writer:
        writer.write(1, frames[1], no_parameters())
    assert not (tmp_path / "a.h5").exists()
    with pytest.raises(ValueError, match="not finished: its generation was interrupted"):
        StoredTrajectories(tmp_path / "a.h5")
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)) as writer:
        assert writer.pending == [0, 2]
        with pytest.raises(ValueError, match="2 of 3 trajectories are not written"):
            writer.finish()
        writer.write(0, frames[0], no_parameters())
        writer.write(2, frames[2], no_parameters())
        assert writer.finish() == tmp_path / "a.h5"
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    np.testing.assert_array_equal(StoredTrajectories(tmp_path / "a.h5").frames(1, 0, 5), frames[1])


def test_a_kill_while_writing_loses_no_finished_trajectory(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        import numpy as np
        from pdesurrogate.data.store import StoreWriter
        from pdesurrogate.fields import Axis, DataSpec, Field

        spec = DataSpec((Field("u"),), (Axis("y", 1.0), Axis("x", 1.0)), dt=1.0)
        writer = StoreWriter(sys.argv[1], spec=spec, grid=(32, 32), num_trajectories=50, times=np.arange(8.0),
                             attributes={"seed": 0})
        for i in writer.pending.copy():
            if len(writer.pending) == int(sys.argv[2]):
                writer._file["u"][i, :3] = 7.0  # half of a trajectory
                writer._file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            writer.write(i, np.full((8, 1, 32, 32), i, np.float32), np.zeros(0, np.float32))
        writer.finish()
    """
    path = tmp_path / "a.h5"
    sizes = set()
    for left in (37, 12):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(path), str(left)], check=False
        )
        assert done.returncode == -9
        assert not path.exists()
        sizes.add((tmp_path / "a.h5.part").stat().st_size)
    assert len(sizes) == 1, "the file must have its final size from the start"
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path), "-1"], check=True)
    stored = StoredTrajectories(path)
    for i in range(50):
        stored.verify(i)
        assert (stored.frames(i, 0, 8) == i).all()


def test_disk_space_is_claimed_before_the_first_trajectory(tmp_path: Path, smoke_spec: DataSpec) -> None:
    StoreWriter(tmp_path / "a.h5", **settings(smoke_spec, grid=(64, 64))).close()
    part = tmp_path / "a.h5.part"
    assert part.stat().st_blocks * 512 >= 3 * 5 * 3 * 64 * 64 * 4


def test_a_disk_that_is_too_small_is_noticed_at_once(
    tmp_path: Path, smoke_spec: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(ValueError, match=r"needs 0.0 MiB; 0.0 MiB are free there. Free some space"):
        StoreWriter(tmp_path / "a.h5", **settings(smoke_spec))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    script = """
        import resource, sys
        import numpy as np
        from pdesurrogate.data.store import StoreWriter
        from pdesurrogate.fields import Axis, DataSpec, Field

        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))  # writing fails as on a full disk
        spec = DataSpec((Field("u"),), (Axis("y", 1.0), Axis("x", 1.0)), dt=1.0)
        try:
            StoreWriter(sys.argv[1], spec=spec, grid=(64, 64), num_trajectories=200, times=np.arange(8.0),
                        attributes={})
        except ValueError as error:
            assert "cannot be created" in str(error) and "25.0 MiB" in str(error), error
        else:
            raise SystemExit("no error")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a.h5")], check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path, smoke_spec: DataSpec) -> None:
    script = """
        import sys
        from pdesurrogate.data.store import StoreWriter
        from pdesurrogate.fields import DataSpec
        import json, numpy as np

        facts = json.loads(sys.argv[2])
        try:
            StoreWriter(sys.argv[1], spec=DataSpec.from_dict(facts), grid=(4, 6), num_trajectories=3,
                        times=facts["dt"] * np.arange(5), attributes={"title": "a", "seed": 1})
        except ValueError as error:
            assert "is being written by another process" in str(error), error
        else:
            raise SystemExit("no error")
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a.h5")]
    arguments += [json.dumps(smoke_spec.to_dict())]
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)):
        subprocess.run(arguments, check=True)
    (tmp_path / "a.h5.part").rename(tmp_path / "a.h5.part.new")  # the same while it is being allocated
    before = (tmp_path / "a.h5.part.new").read_bytes()
    with (tmp_path / "a.h5.part.new").open("rb") as unborn:
        fcntl.flock(unborn, fcntl.LOCK_EX)
        subprocess.run(arguments, check=True)
    assert (tmp_path / "a.h5.part.new").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attributes": {"title": "a", "seed": 2}}, "seed is 1 there and 2 here"),
        ({"attributes": {"title": "a"}}, "seed is 1 there and None here"),
        ({"grid": (8, 6)}, r"\(3, 5, 4, 6\) there and \(3, 5, 8, 6\) here"),
        ({"num_trajectories": 4}, r"\(3, 5, 4, 6\) there and \(4, 5, 4, 6\) here"),
        ({"times": 1.0 + 0.5 * np.arange(5)}, "its times are others"),
    ],
)
def test_a_part_file_of_other_settings_is_not_continued(
    tmp_path: Path, smoke_spec: DataSpec, change: dict[str, Any], message: str
) -> None:
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)) as writer:
        writer.write(1, noise(smoke_spec)[1], no_parameters())
    before = (tmp_path / "a.h5.part").read_bytes()
    with pytest.raises(ValueError, match=message):
        StoreWriter(tmp_path / "a.h5", **settings(smoke_spec, **change))
    assert (tmp_path / "a.h5.part").read_bytes() == before


def test_a_part_file_of_other_settings_without_a_trajectory_is_replaced(
    tmp_path: Path, smoke_spec: DataSpec
) -> None:
    """As a run leaves it whose first trajectory cannot be solved."""
    StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)).close()
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec, num_trajectories=2)) as writer:
        assert writer.pending == [0, 1]
        for i in range(2):
            writer.write(i, noise(smoke_spec)[i], no_parameters())
        writer.finish()
    assert StoredTrajectories(tmp_path / "a.h5").num_trajectories == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_part_file_of_another_spec_is_not_continued(tmp_path: Path, smoke_spec: DataSpec) -> None:
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)) as writer:
        writer.write(1, noise(smoke_spec)[1], no_parameters())
    other = smoke_spec.replace(axes=(Axis("y", 3.0, "wall"), smoke_spec.axes[1]))
    with pytest.raises(ValueError, match=r"spec is .* there and .* here"):
        StoreWriter(tmp_path / "a.h5", **settings(other))


def test_a_damaged_trajectory_is_written_again(tmp_path: Path, smoke_spec: DataSpec) -> None:
    frames = noise(smoke_spec)
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)) as writer:
        for i in range(3):
            writer.write(i, frames[i], no_parameters())
    with h5py.File(tmp_path / "a.h5.part", "r+") as file:
        file["smoke"][1, 2, 3, 4] += 1.0
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)) as writer:
        assert writer.pending == [1]


def test_a_trajectory_with_a_damaged_parameter_is_written_again(tmp_path: Path, torus_spec: DataSpec) -> None:
    frames, parameters = noise(torus_spec), np.full(torus_spec.num_parameters, 0.5, dtype=np.float32)
    with StoreWriter(tmp_path / "a.h5", **settings(torus_spec)) as writer:
        for i in range(3):
            writer.write(i, frames[i], parameters)
    with h5py.File(tmp_path / "a.h5.part", "r+") as file:
        file[torus_spec.parameter_names[-1]][2] *= 2
    with StoreWriter(tmp_path / "a.h5", **settings(torus_spec)) as writer:
        assert writer.pending == [2]


def test_an_unfinished_file_of_the_first_format_is_continued_in_it(
    tmp_path: Path, torus_spec: DataSpec
) -> None:
    frames, parameters = noise(torus_spec), np.full(torus_spec.num_parameters, 0.5, dtype=np.float32)
    with StoreWriter(tmp_path / "a.h5", **settings(torus_spec)) as writer:
        writer.write(0, frames[0], parameters)
    with h5py.File(tmp_path / "a.h5.part", "r+") as file:
        del file.attrs["store_format"]
        file["checksum"][0] = zlib.crc32(frames[0])
    with StoreWriter(tmp_path / "a.h5", **settings(torus_spec)) as writer:
        assert writer.pending == [1, 2]
        for i in (1, 2):
            writer.write(i, frames[i], parameters)
        writer.finish()
    stored = StoredTrajectories(tmp_path / "a.h5")
    for i in range(3):
        stored.verify(i)


def test_a_finished_file_is_never_overwritten(
    tmp_path: Path, smoke_spec: DataSpec, write_store: WriteStore
) -> None:
    write_store(tmp_path / "a.h5", smoke_spec)
    with pytest.raises(ValueError, match="exists already"):
        StoreWriter(tmp_path / "a.h5", **settings(smoke_spec))


def test_non_finite_values_are_refused_by_name(tmp_path: Path, smoke_spec: DataSpec) -> None:
    frames = noise(smoke_spec)[0]
    frames[3, 1, 2, 2] = np.nan
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)) as writer:
        with pytest.raises(ValueError, match=r"trajectory 2 .*channel 'velocity_x', frame 3"):
            writer.write(2, frames, no_parameters())
        with (
            np.errstate(over="ignore"),
            pytest.raises(ValueError, match=r"trajectory 0 .*channel 'smoke', frame 0"),
        ):
            writer.write(0, np.full((5, 3, 4, 6), 1e300), no_parameters())
        assert writer.pending == [0, 1, 2]


def test_wrong_shapes_are_refused(tmp_path: Path, smoke_spec: DataSpec) -> None:
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)) as writer:
        with pytest.raises(ValueError, match=r"has shape \(4, 3, 4, 6\); the store takes \(5, 3, 4, 6\)"):
            writer.write(0, noise(smoke_spec)[0, :4], no_parameters())
        with pytest.raises(ValueError, match="trajectory is 3; allowed: 0 to 2"):
            writer.write(3, noise(smoke_spec)[0], no_parameters())
        with pytest.raises(ValueError, match="parameters of shape"):
            writer.write(0, noise(smoke_spec)[0], np.zeros(2, dtype=np.float32))


def test_times_must_be_dt_apart(tmp_path: Path, smoke_spec: DataSpec) -> None:
    with pytest.raises(ValueError, match=r"are not spec.dt = 0.5 apart"):
        StoreWriter(tmp_path / "a.h5", **settings(smoke_spec, times=[0.0, 0.5, 1.5]))
    assert list(tmp_path.iterdir()) == []


def test_a_part_file_renamed_by_hand_is_not_taken_for_complete(tmp_path: Path, smoke_spec: DataSpec) -> None:
    with StoreWriter(tmp_path / "a.h5", **settings(smoke_spec)) as writer:
        writer.write(0, noise(smoke_spec)[0], no_parameters())
    (tmp_path / "a.h5.part").rename(tmp_path / "a.h5")
    with pytest.raises(ValueError, match="not finished: 1 of 3 trajectories"):
        StoredTrajectories(tmp_path / "a.h5")

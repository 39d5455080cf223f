"""What every test runs under: fixed seeds, one thread, no network, no account, nothing written outside tmp."""

from __future__ import annotations

import importlib.util
import os
import platform
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

SCRATCH = Path(tempfile.mkdtemp(prefix="pdesurrogate-tests-"))
# Before the libraries are imported, and inherited by the processes that tests start.
os.environ.update(
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    WANDB_DIR=str(SCRATCH),
    WANDB_CACHE_DIR=str(SCRATCH / "wandb-cache"),
    WANDB_CONFIG_DIR=str(SCRATCH / "wandb-config"),
    WANDB_DATA_DIR=str(SCRATCH / "wandb-data"),
    MPLBACKEND="Agg",
    MPLCONFIGDIR=str(SCRATCH / "matplotlib"),
)
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
OF_A_JOB = [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]
for variable in ("WANDB_API_KEY", "PDESURROGATE_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", *OF_A_JOB):
    os.environ.pop(variable, None)

import jaxtyping  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from pdesurrogate.fields import Axis, DataSpec, Field, Parameter  # noqa: E402
from pdesurrogate.fields.spherical.grid import SphericalGrid  # noqa: E402
from pdesurrogate.fields.spherical.legendre import legendre_degrees  # noqa: E402
from pdesurrogate.fields.spherical.transforms import SphericalTransform  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = Path(os.environ.get("PDESURROGATE_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

if not torch.cuda.is_available():
    # The fused kernels run on CPU tensors then; Triton reads this when it is first imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_unconfigure() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the trainings on a SLURM cluster, which take minutes, to ``-m slurm``."""
    if "slurm" not in config.option.markexpr:
        on_slurm = [item for item in items if item.get_closest_marker("slurm")]
        config.hook.pytest_deselected(items=on_slurm)
        items[:] = [item for item in items if item not in on_slurm]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if item.get_closest_marker("triton") and importlib.util.find_spec("triton") is None:
        if os.environ.get("CI") and sys.platform == "linux" and platform.machine() == "x86_64":
            pytest.fail(
                "triton is among the dev requirements and not installed: the fused kernels go untested."
            )
        pytest.skip("needs the package triton, which is made for Linux only")
    if item.get_closest_marker("browser") and _browser() is None:
        reason = f"needs a Chromium executable; looked for {', '.join(BROWSERS)}"
        if os.environ.get("CI") and SHARED_DATA.is_dir():
            pytest.fail(f"{reason}. Continuous integration must not leave the browser tests out.")
        pytest.skip(reason)


def _browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (third-party code under test may still use the global state)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Refuse connections that would leave this machine; loopback and local sockets stay."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            original = getattr(socket.socket, name)

            def guarded(self: socket.socket, address: Any, original: Any = original) -> Any:
                if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
                    raise OSError(f"a test tried to reach {address[0]}; the tests run without a network.")
                return original(self, address)

            patch.setattr(socket.socket, name, guarded)
        yield


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return host in ("localhost", socket.gethostname())


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of third-party files that readers and solvers are checked against."""
    if not SHARED_DATA.is_dir():
        pytest.skip(
            f"the reference files are not at {SHARED_DATA}; PDESURROGATE_SHARED_DATA can name their folder"
        )
    return SHARED_DATA


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium executable; ask for it in tests marked ``browser``."""
    path = _browser()
    if path is None:
        pytest.skip("needs a Chromium executable")
    return path


@pytest.fixture
def as_users_run() -> Iterator[None]:
    """Switch the run-time check of annotations off, so that our own messages speak, as they do for users."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def torus_spec() -> DataSpec:
    """Vorticity on the periodic unit square with one parameter."""
    return DataSpec(
        fields=(Field("vorticity", "s-1", "pseudoscalar"),),
        axes=(Axis("y", 1.0, units="m"), Axis("x", 1.0, units="m")),
        dt=1.0,
        time_units="s",
        parameters=(Parameter("viscosity", "m2 s-1"),),
    )


@pytest.fixture
def smoke_spec() -> DataSpec:
    """Smoke and velocity in a box with walls: four kinds of things that the torus does not have."""
    return DataSpec(
        fields=(Field("smoke"), Field("velocity", "m s-1", "vector", ("x", "y"))),
        axes=(Axis("y", 2.0, "wall", "m", offset=0.5), Axis("x", 1.0, "open", "m", offset=0.5)),
        dt=0.5,
        time_units="s",
    )


def _turned(field: torch.Tensor, grid: SphericalGrid, truncation: int) -> torch.Tensor:
    """Fields ``(*lead, lat, lon)`` of degrees up to a truncation, turned about an axis through no pole."""
    sine, cosine = np.sin(grid.colatitudes)[:, None], np.cos(grid.colatitudes)[:, None]
    points = np.stack(
        np.broadcast_arrays(sine * np.cos(grid.longitudes), sine * np.sin(grid.longitudes), cosine)
    )
    tilt, turn = 1.1, 0.7
    about_y = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    x, y, z = (about_z @ about_y @ points.reshape(3, -1)).clip(-1, 1)
    waves = np.exp(1j * np.arange(truncation + 1)[:, None] * np.arctan2(y, x))
    waves[1:] *= 2  # orders m and -m
    spectrum = SphericalTransform(grid, truncation, dtype=torch.float64).analyse(field).numpy()
    values = sum(
        (spectrum[..., degree, :] @ (functions * waves)).real
        for degree, (functions, _, _) in enumerate(legendre_degrees(truncation, np.arccos(z)))
    )
    return torch.from_numpy(values).reshape(field.shape)


@pytest.fixture(scope="session")
def turned() -> Callable[[torch.Tensor, SphericalGrid, int], torch.Tensor]:
    """A rotation of the sphere that moves the poles, for band-limited fields."""
    return _turned

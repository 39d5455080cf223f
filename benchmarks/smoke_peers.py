"""PhiFlow's smoke step, run by a Python of its own.

PhiFlow 2.5.3, which PDEArena's data came from, needs NumPy 1 and cannot live in this environment. `PhiFlowSmoke`
starts the interpreter of another environment, which holds the state and takes steps when it is told to; so runs can
be interleaved with ours in one process. ``python -m venv FOLDER`` and ``FOLDER/bin/pip install "numpy<2" scipy
phiflow==2.5.3`` make one.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from .options import OptionError

WORKER = Path(__file__).with_name("phiflow_worker.py")


class PhiFlowSmoke:
    """PDEArena's loop in PhiFlow, on a density that is kept by another process; a context manager.

    Args:
        python: interpreter of the environment that PhiFlow is installed in.
        density: initial density, ``(y, x)`` or ``(z, y, x)``; the fluid is at rest.
        length: side of the box.
        dt: time step.
        viscosity: of the fluid.
        buoyancy: acceleration of a unit of density.
        precision: 32, or 64 with a pressure solved to rounding.

    Raises:
        OptionError: if the interpreter cannot be run, or has no PhiFlow.
    """

    def __init__(
        self,
        python: str,
        density: Tensor,
        *,
        length: float,
        dt: float,
        viscosity: float,
        buoyancy: float,
        precision: int,
        threads: int = 1,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        # Its axes are (x, y[, z]).
        np.save(folder / "density.npy", np.ascontiguousarray(density.double().numpy().T))
        values = [str(value) for value in (length, dt, viscosity, buoyancy, precision)]
        environment = {"PATH": "", "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        try:
            self._process = subprocess.Popen(
                [python, str(WORKER), str(folder), *values],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        except OSError as error:
            self._folder.cleanup()
            raise OptionError(
                f"phiflow={python}: this interpreter cannot be run ({error.strerror})."
            ) from error
        self.version = self._answer()

    def steps(self, count: int) -> None:
        """Take some steps from the initial state."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        self._answer()

    def state(self) -> Tensor:
        """Return density and velocity on lower faces after the last steps, ``(channel, *space)`` as ours."""
        folder = Path(self._folder.name)
        density = torch.from_numpy(np.load(folder / "density_end.npy", allow_pickle=False))
        faces = torch.from_numpy(np.load(folder / "velocity_end.npy", allow_pickle=False))
        for axis in range(faces.ndim - 1):
            faces = faces.narrow(axis, 0, faces.shape[axis] - 1)
        ndim = faces.ndim - 1
        velocity = faces.permute(ndim, *reversed(range(ndim)))
        return torch.cat([density.permute(*reversed(range(ndim)))[None], velocity]).contiguous()

    def __enter__(self) -> PhiFlowSmoke:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.wait(timeout=60)
        self._folder.cleanup()

    def _answer(self) -> str:
        stdout, stderr = self._process.stdout, self._process.stderr
        assert stdout is not None
        assert stderr is not None
        line = stdout.readline().strip()
        if line:
            return line
        said = stderr.read().strip().splitlines()
        self.__exit__(None, None, None)
        raise OptionError(
            f"phiflow=..: the process ended with {said[-1] if said else 'nothing'!r}. Is PhiFlow 2.5.3 there?"
        )

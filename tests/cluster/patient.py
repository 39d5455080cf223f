"""A plugin for the tests: steps that last, so that a job's time limit or the loss of a node finds it in the middle."""

from __future__ import annotations

import os
import time

from torch import Tensor

from pdesurrogate.fields import Batch
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training import UNROLLS
from pdesurrogate.training.unrolls import OneStep


@UNROLLS.register("patient")
class Patient(OneStep):
    """One step, and some seconds of doing nothing until the job is started for the second time."""

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Tensor:
        """Return one model step."""
        if os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
            time.sleep(float(os.environ["SECONDS_A_STEP"]))
        return super().__call__(surrogate, batch)

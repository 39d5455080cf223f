"""A plugin for the tests: steps that last, so that a job's time limit or the loss of a node finds it in the middle."""

from __future__ import annotations

import os
import time
from pathlib import Path

from torch import Tensor

from pdesurrogate.fields import Batch
from pdesurrogate.surrogate import Surrogate
from pdesurrogate.training import UNROLLS
from pdesurrogate.training.unrolls import OneStep

SECONDS_A_STEP = float(os.environ["SECONDS_A_STEP"])
GOES_ON = Path("runs/run/checkpoints/last.ckpt").exists()


@UNROLLS.register("patient")
class Patient(OneStep):
    """One step, and some seconds of doing nothing unless the run goes on from a checkpoint."""

    def __call__(self, surrogate: Surrogate, batch: Batch) -> Tensor:
        """Return one model step."""
        if not GOES_ON:
            time.sleep(SECONDS_A_STEP)
        return super().__call__(surrogate, batch)

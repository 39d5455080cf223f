"""Measure the constants of the transforms' cost model on a device: ``python -m benchmarks.calibrate device=cpu``.

The command prints an entry for `pdesurrogate.layers.spectral_cost.COSTS`, and the one in force. With
``triton=true`` the fused kernels are measured too, on a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pdesurrogate.fields.fourier import FusedTransform, TruncatedTransform
from pdesurrogate.layers.spectral_cost import CALIBRATED, CALIBRATION_CASES, COSTS, calibrate

from .devices import choose_device
from .machine import tune_allocator
from .options import OptionError, parse_options, require_at_least_1, run_command


@dataclass(frozen=True)
class CalibrateOptions:
    """What can be given as ``key=value``."""

    device: str = "cpu"
    threads: int = 1
    repeats: int = 5
    triton: bool = False
    cases: int = len(CALIBRATION_CASES)

    def __post_init__(self) -> None:
        require_at_least_1(self, "threads", "repeats")
        if not 4 <= self.cases <= len(CALIBRATION_CASES):
            raise OptionError(
                f"cases is {self.cases}; a fit of four constants needs 4 to {len(CALIBRATION_CASES)} cases."
            )
        choose_device(self.device, "device=cpu measures this processor.")


def main(words: Sequence[str]) -> None:
    """Measure, fit and print."""
    options = parse_options(CalibrateOptions, words)
    torch.set_num_threads(options.threads)
    tune_allocator("tuned")
    routes: dict[str, type[TruncatedTransform]] = dict(CALIBRATED)
    if options.triton:
        routes["triton"] = FusedTransform
    cases = CALIBRATION_CASES[-options.cases :]
    found = calibrate(options.device, repeats=options.repeats, cases=cases, routes=routes)
    rounded = {name: {key: float(f"{v:.2g}") for key, v in costs.items()} for name, costs in found.items()}
    kind = torch.device(options.device).type
    print(json.dumps({kind: rounded}, indent=1))
    print(f"the entry in force: {json.dumps(COSTS.get(kind, COSTS['cuda']))}")


if __name__ == "__main__":
    run_command(main)

"""The command: plan, train, test, record, write the pages.

    python -m benchmarks.claims claims=tfno scale=cpu                # minutes on two cores
    python -m benchmarks.claims claims=tfno scale=gpu                # minutes on one large GPU
    python -m benchmarks.claims claims=tfno plan=true                # generate the data and show the runs
    python -m benchmarks.claims                                      # write docs/results.md and the README again

What is finished is kept under ``runs/claims`` and ``data/generated/claims``: after Ctrl-C, or with further seeds, the
same command does what is missing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..options import OptionError, parse_options, require_one_of
from ..record import Record, check_name
from . import page, schema
from .planning import (
    OpenedSet,
    Run,
    build_model,
    choose_scale,
    compose_all,
    open_sets,
    plan_runs,
)
from .running import Trainer, costs, validated
from .schema import ClaimFile


@dataclass(frozen=True)
class ClaimOptions:
    """What can be given as ``key=value``.

    Attributes:
        claims: name of a claim file, or its path.
        scale: one of its scales.
        device: cpu or cuda, of generation, training and test; auto is what the scale is made for.
        jobs: runs at a time.
        threads: of each run.
        plan: only generate the data, match sizes and show the runs.
        overwrite: replace data that were made with other options, as ``data/generate.py`` does.
        name: of the result file; ``CLAIMS_SCALE`` by default.
    """

    claims: str = ""
    scale: str = "cpu"
    device: str = "auto"
    jobs: int = 2
    threads: int = 1
    plan: bool = False
    overwrite: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        for key in ("jobs", "threads"):
            if getattr(self, key) < 1:
                raise OptionError(f"{key} is {getattr(self, key)}; it must be at least 1.")
        require_one_of("device", self.device, ("auto", "cpu", "cuda"))
        check_name(self.name)


def main(words: Sequence[str]) -> None:
    """Test the claims of a file, or only write the pages."""
    options = parse_options(ClaimOptions, words)
    if options.claims:
        file = schema.load(options.claims)
        choose_scale(file, options.scale)
        device = {"auto": "cuda" if options.scale == "gpu" else "cpu"}.get(options.device, options.device)
        options = replace(options, device=device)
        compose_all(file, options.scale, options.device)
        put_to_test(file, options, words)
    if not options.plan:
        page.write()


def put_to_test(file: ClaimFile, options: ClaimOptions, words: Sequence[str]) -> None:
    """Run one scale of a file and record it."""
    import torch

    from pdesurrogate.deploy.devices import choose_device

    from .scoring import errors_on_test

    choose_device(options.device)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    torch.set_num_threads(min(options.jobs * options.threads, os.cpu_count() or 1))
    scale = file.scales[options.scale]
    sets = open_sets(file, options.scale, options.device, options.overwrite)
    runs = plan_runs(file, options.scale, sets, options.device)
    sizes = {(run.arm, run.set): sizes_of(run, sets[run.set]) for run in runs}
    for run in runs:
        print(f"{run.title}: {sizes[run.arm, run.set]['parameters']:,} parameters, {run.steps} steps")
    if options.plan:
        return
    settings = {
        "scale": options.scale,
        "device": options.device,
        "jobs": options.jobs,
        "threads": options.threads,
    }
    record = Record("claims", file.title, words, settings)
    Trainer(options.jobs, options.threads).train(runs)
    scored = []
    persistence: dict[str, Any] = {}
    for run in runs:
        errors = errors_on_test(run, scale.grids, scale.horizon, file.metric, options.device)
        persistence[run.set] = errors["persistence"]
        scored.append({**_facts(run), **sizes[run.arm, run.set], "errors": errors["model"]})
    record.add("claims", options.claims)
    record.add("design", file.design(options.scale))
    record.add("sets", {name: _set_facts(opened, persistence.get(name)) for name, opened in sets.items()})
    record.add("runs", scored)
    path = record.write(f"claims/{options.name or f'{file.name}_{options.scale}'}")
    print(f"wrote {path}")


def sizes_of(run: Run, opened: OpenedSet) -> dict[str, int]:
    """Return the real degrees of freedom of a run's model, and of them those of weights on spectra.

    The latter are the parameters that belong to a module or attribute called spectral.
    """
    from pdesurrogate.models.matching import num_real_parameters

    model = build_model(run.config, opened.spec)
    spectral = sum(
        p.numel() * (2 if p.is_complex() else 1)
        for name, p in model.named_parameters()
        if any("spectral" in part for part in name.split("."))
    )
    return {"parameters": num_real_parameters(model), "spectral_parameters": spectral}


def _facts(run: Run) -> dict[str, Any]:
    from pdesurrogate.surrogate import Surrogate

    made = Surrogate.load(run.folder / "artifact.pt").provenance
    return {
        "arm": run.arm,
        "set": run.set,
        "seed": run.seed,
        "overrides": list(run.overrides),
        "steps": made["steps"],
        "validated": validated(run),
        "validation": {key: float(f"{value:.4g}") for key, value in made["metrics"].items()},
        **costs(run),
    }


def _set_facts(opened: OpenedSet, persistence: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "overrides": list(opened.overrides),
        "training_windows": opened.num_windows,
        "test_checksum": opened.test_checksum,
        "persistence": persistence,
    }

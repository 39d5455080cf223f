"""One evaluation: from a plain configuration to a report."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Mapping
from typing import Any

import torch

from ..durable import durable_folder
from ..metrics.spectral_errors import DominantModes
from ..version import __version__
from .cases import show_cases
from .contenders import Joined, Native, native_of
from .cost import joint_cost, measure_cost
from .ensembles import score_ensembles
from .metrics_file import to_dict
from .plan import Plan, file_digest, prepare
from .probing import against_solver, certificates, measure_transfers, reference_of
from .report import render
from .results import HEADLINE, Evaluation
from .sample_file import write_samples
from .scoring import score
from .tracking import track
from .trust_tables import certificate_lines
from .typography import counted, estimate_text, on_grid

log = logging.getLogger(__name__)

FLOOR = "  its floor"
"""Label of the line below a contender that cannot predict every field: the error of the nearest that it can."""


def evaluate(config: dict[str, Any]) -> float:
    """Roll a surrogate out on every requested grid and write ``report.html``, ``metrics.json`` and ``results.nc``.

    Args:
        config: plain containers with the keys of ``conf/evaluate.yaml``.

    Returns:
        The rollout error of the main surrogate on its training grid, for a sweep to minimise: relative L2,
        mean over test trajectories, lead times and fields.

    Raises:
        ValueError, FileNotFoundError, OSError: as `prepare`, before anything heavy runs.
        OSError: if the report cannot be written; all of an older one stays as it was.
    """
    plan = prepare(config)
    evaluation = run(plan, config)
    for line in [*console_table(evaluation), *certificate_lines(evaluation)]:
        log.info(line)
    with durable_folder(plan.output) as folder:
        write_samples(evaluation, folder / "results.nc")
        numbers = json.dumps(to_dict(evaluation), allow_nan=False)
        (folder / "metrics.json").write_text(numbers, encoding="utf-8")
        (folder / "report.html").write_text(render(evaluation), encoding="utf-8")
    if config["wandb"]:
        track(evaluation, plan.output / "report.html", config["wandb"])
    log.info("Report: %s  (%s)", plan.output / "report.html", summary(evaluation))
    return evaluation.rollout(evaluation.main, evaluation.training_grid).mean


def run(plan: Plan, config: Mapping[str, Any]) -> Evaluation:
    """Score all contenders on all grids, time them, and look at the extreme cases."""
    begin = time.perf_counter()
    chosen = plan.main.provenance.get("dominant_modes")
    dominant = None if chosen is None else DominantModes.from_dict(chosen)
    scores = []
    for grid, truth in plan.truths.items():
        count = counted(len(truth.indices), "test trajectory", "test trajectories")
        log.info("Evaluating at %s: %s", on_grid(grid), count)
        scores += score(
            plan.contenders,
            truth,
            plan.data.spec,
            horizon=plan.horizon,
            metrics=plan.metrics,
            batch_size=plan.batch_size,
            dominant=dominant,
            trained=plan.training_grid,
        )
    home = plan.truths[plan.training_grid]
    window = home.frames([home.indices[0]], 0, home.lead_in)
    parameters = home.parameters([home.indices[0]])
    costs = []
    for contender in (c for c in plan.contenders if not c.refuses(plan.training_grid)):
        if isinstance(contender, Native):
            costs.append(measure_cost(contender, window, parameters))
        elif isinstance(contender, Joined):
            members = [measure_cost(member, window, parameters) for member in contender.members]
            costs.append(joint_cost(contender.label, members))
    own = next(s for s in scores if s.contender.role == "main" and s.grid == plan.training_grid)
    log.info("Certificates, ensembles and the data's own solver")
    reference = reference_of(plan, config)
    transfers = measure_transfers(plan)
    evaluation = Evaluation(
        spec=plan.data.spec,
        training_grid=plan.training_grid,
        horizon=plan.horizon,
        lead_in=home.lead_in,
        scores=scores,
        costs=costs,
        cases=show_cases(own.contender, home, own.rollout[HEADLINE], plan.horizon),
        regridding={grid: truth.regridding for grid, truth in plan.truths.items()},
        config={k: v for k, v in config.items() if k != "data"},
        provenance=provenance(plan, config),
        transfers=transfers,
        certificates=certificates(plan, transfers, reference),
        ensembles=score_ensembles(plan.contenders, home, plan.horizon, plan.batch_size),
        **against_solver(plan, reference, scores),
    )
    log.info("Evaluated in %.0f s", time.perf_counter() - begin)
    return evaluation


def provenance(plan: Plan, config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what made these numbers, by section: data, each artifact, software, configurations."""
    test = plan.data.dataset.splits["test"]
    home = plan.truths[plan.training_grid]
    spec = plan.data.spec
    sections: dict[str, dict[str, Any]] = {
        "Data": {
            "name": plan.data.dataset.name,
            "fields": ", ".join(spec.channel_names),
            "equation": spec.equation,
            "test trajectories": f"{len(home.indices)} of {test.num_trajectories}",
            "frames": home.num_frames,
            "dt": spec.dt,
            "stored grid": on_grid(tuple(test.grid)),
            "test checksum": test.checksum(),
        }
    }
    made = plan.data.dataset.provenance
    test_facts = made.get("test", made)  # the store tells each split apart, other data sets need not
    sections["How the test data were made"] = {
        key: value for key, value in dict(test_facts).items() if key not in ("equation", "Conventions")
    }
    natives = {n.label: n for c in plan.contenders if (n := native_of(c)) is not None and n.role != "stage"}
    for joined in (c for c in plan.contenders if isinstance(c, Joined)):
        _, *others = joined.members  # the first is the main surrogate
        natives |= {f"member {number} of the ensemble": n for number, n in enumerate(others, start=2)}
    for label, contender in natives.items():
        sections[f"Artifact: {label}"] = _artifact_facts(contender)
    sections["Software"] = {
        "pdesurrogate": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {plan.device}",
    }
    for label, contender in natives.items():
        settings = contender.surrogate.provenance.get("config", {})
        sections[f"Configuration: training of {label}"] = dict(settings)
    sections["Configuration: this evaluation"] = dict(config)
    return sections


def _artifact_facts(contender: Native) -> dict[str, Any]:
    surrogate = contender.surrogate
    made = surrogate.provenance
    facts = {
        "file": str(contender.path),
        "sha256": file_digest(contender.path),
        "parameters": f"{surrogate.num_parameters:,} real numbers",
        "frames in, out": f"{surrogate.history}, {surrogate.horizon}",
        "training grid": on_grid(tuple(made.get("training_grid", ()))),
        "training seed": made.get("config", {}).get("seed"),
    }
    for key in ("steps", "metrics", "data", "versions"):
        if key in made:
            facts[f"training {key}"] = made[key]
    return facts


def summary(evaluation: Evaluation) -> str:
    """Return one line with the errors of the main surrogate on every grid."""
    main = evaluation.main
    parts = []
    for grid in evaluation.grids:
        runner = evaluation.runner(grid)
        if not evaluation.score(runner, grid).refused:
            one, many = evaluation.one_step(runner, grid), evaluation.rollout(runner, grid)
            parts.append(
                f"one-step {estimate_text(one)}, {evaluation.horizon}-frame rollout {estimate_text(many)} "
                f"at {'x'.join(map(str, grid))}"
            )
    return f"{main.label}: {'; '.join(parts)}"


def console_table(evaluation: Evaluation) -> list[str]:
    """Return the main table as lines of text: one-step and rollout error of every row on every grid."""
    grids = evaluation.grids
    width = max(len(FLOOR), *(len(c.label) for c in evaluation.contenders)) + 2
    head = "relative L2".ljust(width) + "".join(f"{on_grid(g):>22}" for g in grids)
    lines = [head, " " * width + f"{'one step':>11}{'rollout':>11}" * len(grids)]
    for contender in evaluation.contenders:
        cells = []
        for grid in grids:
            if evaluation.score(contender, grid).refused:
                cells.append(f"{'-':>11}{'-':>11}")
            else:
                one, many = evaluation.one_step(contender, grid), evaluation.rollout(contender, grid)
                cells.append(f"{estimate_text(one):>11}{estimate_text(many):>11}")
        lines.append(contender.label.ljust(width) + "".join(cells))
        floors = [
            evaluation.floor(contender, grid, protocol)
            for grid in grids
            for protocol in ("one_step", "rollout")
        ]
        if any(floors):
            texts = ("-" if floor is None else estimate_text(floor) for floor in floors)
            lines.append(FLOOR.ljust(width) + "".join(f"{text:>11}" for text in texts))
    return lines

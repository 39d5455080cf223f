"""Evaluate a surrogate: ``python evaluate.py artifact=runs/RUN_ID/artifact.pt resolutions=[32,64,128] horizon=20``.

Hydra composes ``conf/evaluate.yaml`` with the overrides on the command line, and
`pdesurrogate.evaluation.run.evaluate` does the work. It writes ``report.html``, ``metrics.json`` and ``results.nc``
and returns the rollout error on the training grid, the number that a sweep minimises.
"""

from pdesurrogate.cli import run

if __name__ == "__main__":
    run("evaluate")

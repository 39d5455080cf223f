"""Train a surrogate: ``python train.py data=navier_stokes model=fno optim.lr=1e-3 trainer=cpu``.

Hydra composes ``conf/train.yaml`` with the overrides on the command line, and
`pdesurrogate.training.run.train` does the work. It returns the best validation error, the number that a
sweep minimises. ``python train.py --help`` lists what can be set.
"""

from pdesurrogate.cli import run

if __name__ == "__main__":
    run("train")

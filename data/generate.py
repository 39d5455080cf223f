"""Generate a data set with a verified solver: ``python data/generate.py data=navier_stokes``.

The split files go to ``data.root``. An interrupted run goes on when the same command is given again. Options of
``conf/generate.yaml`` and of the chosen ``conf/data/*.yaml`` are set on the command line, for example::

    python data/generate.py data.generator.viscosity=1e-4 data.root=data/generated/navier_stokes_1e-4
"""

from pdesurrogate.cli import run

if __name__ == "__main__":
    run("generate")

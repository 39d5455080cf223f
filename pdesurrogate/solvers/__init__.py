"""Equations to trajectories: verified solvers in batched torch, and the ensembles that they generate.

A solver is a module of this package: an `Equation` filed in ``EQUATIONS``, which users solve by name. What data
generation can name in a yaml (``generator.kind``) is a `TrajectoryGenerator` filed in ``GENERATORS``; time integrators
and forcings have registries of their own.
"""

from pdesurrogate.registry import Registry

EQUATIONS = Registry("equation", "pdesurrogate.solvers")
GENERATORS = Registry("generator", "pdesurrogate.solvers")
INTEGRATORS = Registry("integrator", "pdesurrogate.solvers")
FORCINGS = Registry("forcing", "pdesurrogate.solvers")

__all__ = ["EQUATIONS", "FORCINGS", "GENERATORS", "INTEGRATORS"]

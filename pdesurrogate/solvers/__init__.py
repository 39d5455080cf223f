"""Equations to trajectories: verified solvers in batched torch, and the ensembles that they generate.

`solve` is the way in for users: an equation, an initial state and times give a solution. A solver is a module of
this package: an `Equation` filed in ``EQUATIONS``, which users solve by name. What data generation can name in a
yaml (``generator.kind``) is a `TrajectoryGenerator` filed in ``GENERATORS``; time integrators, forcings and initial
states on the sphere have registries of their own.
"""

from typing import TYPE_CHECKING, Any

from pdesurrogate.registry import Registry

if TYPE_CHECKING:
    from .solution import solve

EQUATIONS = Registry("equation", "pdesurrogate.solvers")
GENERATORS = Registry("generator", "pdesurrogate.solvers")
INTEGRATORS = Registry("integrator", "pdesurrogate.solvers")
FORCINGS = Registry("forcing", "pdesurrogate.solvers")
SPHERICAL_STATES = Registry("initial state", "pdesurrogate.solvers")

__all__ = ["EQUATIONS", "FORCINGS", "GENERATORS", "INTEGRATORS", "SPHERICAL_STATES", "solve"]


def __getattr__(name: str) -> Any:
    """Import `solve`, and torch with it, when it is first asked for."""
    if name == "solve":
        from .solution import solve

        return solve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

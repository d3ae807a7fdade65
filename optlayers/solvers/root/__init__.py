"""Solvers of systems of equations and fixed points, imported when first named."""

from typing import TYPE_CHECKING

from optlayers.solvers.lazy import first_named

if TYPE_CHECKING:
    from optlayers.solvers.root.anderson import Anderson
    from optlayers.solvers.root.auto import Auto
    from optlayers.solvers.root.bisection import Bisection
    from optlayers.solvers.root.broyden import Broyden
    from optlayers.solvers.root.chandrupatla import Chandrupatla
    from optlayers.solvers.root.fixed_point import FixedPoint
    from optlayers.solvers.root.levenberg_marquardt import LevenbergMarquardt
    from optlayers.solvers.root.newton import Newton
    from optlayers.solvers.root.newton_krylov import NewtonKrylov

__all__ = [
    "Anderson",
    "Auto",
    "Bisection",
    "Broyden",
    "Chandrupatla",
    "FixedPoint",
    "LevenbergMarquardt",
    "Newton",
    "NewtonKrylov",
]

_HOMES = {
    "Anderson": "anderson",
    "Auto": "auto",
    "Bisection": "bisection",
    "Broyden": "broyden",
    "Chandrupatla": "chandrupatla",
    "FixedPoint": "fixed_point",
    "LevenbergMarquardt": "levenberg_marquardt",
    "Newton": "newton",
    "NewtonKrylov": "newton_krylov",
}

__getattr__, __dir__ = first_named(__name__, _HOMES)

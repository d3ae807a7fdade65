"""Minimizers of smooth functions, imported when first named."""

from typing import TYPE_CHECKING

from optlayers.solvers.lazy import first_named

if TYPE_CHECKING:
    from optlayers.solvers.minimize.augmented_lagrangian import AugmentedLagrangian
    from optlayers.solvers.minimize.auto import Auto
    from optlayers.solvers.minimize.bfgs import Bfgs
    from optlayers.solvers.minimize.gauss_newton import GaussNewton
    from optlayers.solvers.minimize.gradient_descent import GradientDescent
    from optlayers.solvers.minimize.interior_point import InteriorPoint
    from optlayers.solvers.minimize.ipopt import Ipopt
    from optlayers.solvers.minimize.lbfgs import Lbfgs
    from optlayers.solvers.minimize.levenberg_marquardt import LevenbergMarquardt
    from optlayers.solvers.minimize.newton import Newton
    from optlayers.solvers.minimize.newton_cg import NewtonCg
    from optlayers.solvers.minimize.slsqp import Slsqp
    from optlayers.solvers.minimize.sqp import Sqp
    from optlayers.solvers.minimize.trust_constr import TrustConstr

__all__ = [
    "AugmentedLagrangian",
    "Auto",
    "Bfgs",
    "GaussNewton",
    "GradientDescent",
    "InteriorPoint",
    "Ipopt",
    "Lbfgs",
    "LevenbergMarquardt",
    "Newton",
    "NewtonCg",
    "Slsqp",
    "Sqp",
    "TrustConstr",
]

_HOMES = {
    "AugmentedLagrangian": "augmented_lagrangian",
    "Auto": "auto",
    "Bfgs": "bfgs",
    "GaussNewton": "gauss_newton",
    "GradientDescent": "gradient_descent",
    "InteriorPoint": "interior_point",
    "Ipopt": "ipopt",
    "Lbfgs": "lbfgs",
    "LevenbergMarquardt": "levenberg_marquardt",
    "Newton": "newton",
    "NewtonCg": "newton_cg",
    "Slsqp": "slsqp",
    "Sqp": "sqp",
    "TrustConstr": "trust_constr",
}

__getattr__, __dir__ = first_named(__name__, _HOMES)

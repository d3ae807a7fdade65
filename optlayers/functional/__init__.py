"""Implicit layers as functions of tensors, without the declaration language."""

from optlayers.functional.convex import cone_program, quadratic_program
from optlayers.functional.integrate import integrate
from optlayers.functional.integration import integration
from optlayers.functional.least_squares import least_squares
from optlayers.functional.minimize import minimize
from optlayers.functional.root import fixed_point, root
from optlayers.programs.cones import Cones
from optlayers.programs.initial_value import Event
from optlayers.solution import Solution, Status

__all__ = [
    "Cones",
    "Event",
    "Solution",
    "Status",
    "cone_program",
    "fixed_point",
    "integrate",
    "integration",
    "least_squares",
    "minimize",
    "quadratic_program",
    "root",
]

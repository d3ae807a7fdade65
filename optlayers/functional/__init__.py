"""Implicit layers as functions of tensors, without the declaration language."""

from optlayers.functional.convex import cone_program, quadratic_program
from optlayers.functional.root import fixed_point, root
from optlayers.programs.cones import Cones
from optlayers.solution import Solution, Status

__all__ = [
    "Cones",
    "Solution",
    "Status",
    "cone_program",
    "fixed_point",
    "quadratic_program",
    "root",
]

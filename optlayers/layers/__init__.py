"""The torch face of declared problems: problems, layers, results."""

from optlayers.layers.layer import Layer
from optlayers.layers.problem import Problem, problem
from optlayers.layers.result import Multipliers, Result

__all__ = ["Layer", "Multipliers", "Problem", "Result", "problem"]

"""The torch face of declared problems: problems, layers, results."""

from optlayers.layers.layer import Layer
from optlayers.layers.neural_ode import NeuralODE
from optlayers.layers.problem import Problem, problem
from optlayers.layers.result import Multipliers, Result
from optlayers.layers.trajectory import Trajectory

__all__ = [
    "Layer",
    "Multipliers",
    "NeuralODE",
    "Problem",
    "Result",
    "Trajectory",
    "problem",
]

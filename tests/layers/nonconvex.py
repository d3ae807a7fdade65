"""Declarations that are not convex, shared by the tests of minimize layers;
module-level, so that layers of them pickle.
"""

import torch
from torch import nn

import optlayers as ol
from optlayers import Parameter, Variable, maximize, minimize

DOUBLE = {"dtype": torch.float64}
torch.manual_seed(0)
potential = nn.Sequential(
    nn.Linear(2, 8, **DOUBLE), nn.Tanh(), nn.Linear(8, 1, **DOUBLE)
)


@ol.problem
def ring(x=Variable("2", start=(0.5, 0.5)), a=Parameter(), r=Parameter(nonneg=True)):
    """Rosenbrock's function on a disk."""
    return minimize(
        (1 - x[0]) ** 2 + a * (x[1] - x[0] ** 2) ** 2, outer=ol.sum_squares(x) <= r**2
    )


@ol.problem
def wave(x=Variable(lower=-1, upper=1, start=0.2), w=Parameter()):
    return minimize(torch.sin(3 * x) + w * x)


@ol.problem
def rectangle(side=Variable("2", start=1), length=Parameter(nonneg=True)):
    """The largest area of a given circumference."""
    return maximize(side[0] * side[1], rope=2 * ol.sum(side) == length)


@ol.problem
def farthest(x=Variable("2", nonneg=True, upper=3, start=1), p=Parameter("2")):
    return maximize(ol.sum_squares(x - p))


@ol.problem
def learned(x=Variable("2", lower=-2, upper=2), u=Parameter("2")):
    return minimize(potential(x - u)[0] + 0.5 * ol.sum_squares(x - u))


@ol.problem(convex=False)
def well(x=Variable(nonneg=True, start=1.0), a=Parameter(), shared=Parameter()):
    """Two wells, of which one is left; its minimum is the root of a * shared."""
    return minimize(x**4 / 4 - a * shared * x**2 / 2)


def double(*numbers, requires_grad=False):
    return torch.tensor(numbers, **DOUBLE, requires_grad=requires_grad)

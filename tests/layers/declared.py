"""Declarations the layer tests share; module-level, so that layers of them pickle."""

import torch
from torch import nn

import optlayers as ol
from optlayers import Control, Parameter, State, Variable, minimize

encoder = nn.Linear(3, 2, dtype=torch.float64)
gain = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))


@ol.problem
def box(
    x=Variable("n"), y=Parameter("n"), w=Parameter("n", nonneg=True), r=Parameter()
):
    """Weighted distance within a sum limit."""
    return minimize(w @ (x - y) ** 2, limit=ol.sum(x) <= r, floor=x >= -1)


@ol.problem
def encoded(x=Variable("2", lower=0), obs=Parameter("3")):
    """Projection of a network's output onto the orthant."""
    return minimize(ol.sum_squares(x - gain * encoder(obs)))


@ol.problem
def regulator(
    x=State("n"),
    u=Control("m", lower=-1, upper=1),
    x0=Parameter("n"),
    A=Parameter("n n"),
    B=Parameter("n m"),
    q=Parameter("n", nonneg=True),
    r=Parameter("m", nonneg=True),
):
    """Linear-quadratic control with bounded input."""
    return minimize(
        ol.total(q @ x**2 + r @ u**2),
        start=x.first == x0,
        dynamics=x.next == A @ x + B @ u,
    )

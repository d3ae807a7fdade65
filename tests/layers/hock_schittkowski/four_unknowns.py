"""Problems 38 to 44 and 71 to 76 of the book, with four unknowns."""

import math

import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from tests.layers.hock_schittkowski.entries import table

ENTRIES, minimum = table()


@minimum(0.0, tie=torch.tensor([10.1, 19.8]))
def hs38(
    x=Variable("4", lower=-10, upper=10, start=(-3, -1, -3, -1)), tie=Parameter("2")
):
    a, b, c, d = x
    first = 100 * (b - a**2) ** 2 + (1 - a) ** 2
    second = 90 * (d - c**2) ** 2 + (1 - c) ** 2
    coupled = tie[0] * ol.sum_squares(x[1::2] - 1) + tie[1] * (b - 1) * (d - 1)
    return minimize(first + second + coupled)


@minimum(-1.0, power=torch.tensor([1.0, 1.0]))
def hs39(x=Variable("4", start=2), power=Parameter("2")):
    a, b, c, d = x
    return minimize(-a, b == power[0] * a**3 + c**2, a**2 == power[1] * b + d**2)


@minimum(-0.25, level=1.0)
def hs40(x=Variable("4", start=0.8), level=Parameter()):
    a, b, c, d = x
    return minimize(
        -ol.prod(x), top=a**3 + b**2 == level, rest=[a**2 * d == c, d**2 == b]
    )


@minimum(52 / 27, height=2.0)
def hs41(
    x=Variable("3", lower=0, upper=1),
    s=Variable(lower=0, start=2),
    height=Parameter(),
):
    return minimize(
        2 - x[0] * x[1] * x[2], sum=x[0] + 2 * x[1] + 2 * x[2] == s, cap=s <= height
    )


@minimum(28 - 10 * math.sqrt(2), aim=torch.tensor([1.0, 2.0, 3.0, 4.0]), radius=2.0)
def hs42(x=Variable("4", start=1), aim=Parameter("4"), radius=Parameter()):
    return minimize(
        ol.sum_squares(x - aim), wall=x[0] == 2, ring=ol.sum_squares(x[2:]) == radius
    )


@minimum(-44.0, q=torch.tensor([-5.0, -5.0, -21.0, 7.0]), limit=[8.0, 10.0, 5.0])
def hs43(x=Variable("4"), q=Parameter("4"), limit=Parameter("3")):
    weights = torch.tensor([[1, 1, 1, 1], [1, 2, 1, 2], [2, 1, 1, 0]])
    slopes = torch.tensor([[1, -1, 1, -1], [-1, 0, 0, -1], [2, -1, 0, -1]])
    return minimize(
        ol.sum_squares(x) + x[2] ** 2 + q @ x,
        inside=weights @ ol.square(x) + slopes @ x <= limit,
    )


@minimum(-15.0)
def hs44(x=Variable("4", nonneg=True)):
    rows = [[1, 2, 0, 0], [4, 1, 0, 0], [3, 4, 0, 0]]
    other = [[0, 0, 2, 1], [0, 0, 1, 2], [0, 0, 1, 1]]
    a, b, c, d = x
    return minimize(
        a - b - c - a * c + a * d + b * c - b * d,
        first=torch.tensor(rows) @ x <= torch.tensor([8, 12, 12]),
        second=torch.tensor(other) @ x <= torch.tensor([8, 8, 5]),
    )


@minimum(17.0140173, low=25.0, radius=40.0)
def hs71(
    x=Variable("4", lower=1, upper=5, start=(1, 5, 5, 1)),
    low=Parameter(),
    radius=Parameter(),
):
    return minimize(
        x[0] * x[3] * ol.sum(x[:3]) + x[2],
        product=ol.prod(x) >= low,
        sphere=ol.sum_squares(x) == radius,
    )


@minimum(29.89437816, cost=torch.tensor([24.55, 26.75, 39.0, 40.5]), fat=5.0)
def hs73(x=Variable("4", nonneg=True, start=1), cost=Parameter("4"), fat=Parameter()):
    deviation = torch.sqrt(x**2 @ [0.28, 0.19, 20.5, 0.62])
    return minimize(
        cost @ x,
        fat=x @ [2.3, 5.6, 11.1, 1.3] >= fat,
        protein=x @ [12, 11.9, 41.8, 52.1] - 1.645 * deviation >= 21,
        mix=ol.sum(x) == 1,
    )


@minimum(
    -4.681818181,
    q=torch.tensor([-1.0, -3.0, 1.0, -1.0]),
    limit=torch.tensor([5.0, 4.0, -1.5]),
)
def hs76(
    x=Variable("4", nonneg=True, start=0.5), q=Parameter("4"), limit=Parameter("3")
):
    P = torch.tensor([[2, 0, -1, 0], [0, 1, 0, 0], [-1, 0, 2, 1], [0, 0, 1, 1]])
    G = torch.tensor([[1, 2, 1, 1], [3, 1, 2, -1], [0, -1, -4, 0]])
    return minimize(ol.quad_form(x, P) / 2 + q @ x, rows=G @ x <= limit)

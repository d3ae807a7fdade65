"""Problems 45 to 53 and 77 to 81 of the book, with five unknowns."""

import math

import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from tests.layers.hock_schittkowski.entries import table

ENTRIES, minimum = table()
ROOT2 = math.sqrt(2)
LIMIT = torch.tensor([2.3, 2.3, 3.2, 3.2, 3.2])


@minimum(1.0, top=torch.arange(1.0, 6.0))
def hs45(x=Variable("5", nonneg=True, start=2), top=Parameter("5")):
    return minimize(2 - ol.prod(x) / 120, box=x <= top)


@minimum(0.0)
def hs46(x=Variable("5", start=(ROOT2 / 2, 1.75, 0.5, 2, 2))):
    a, b, c, d, e = x
    return minimize(
        (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4 + (e - 1) ** 6,
        [a**2 * d + torch.sin(d - e) == 1, b + c**4 * d**2 == 2],
    )


@minimum(0.0)
def hs48(x=Variable("5", start=(3, 5, -3, 2, -2))):
    return minimize(
        (x[0] - 1) ** 2 + ol.sum_squares(x[1::2] - x[2::2]),
        ol.sum(x) == 5,
        x[2] - 2 * (x[3] + x[4]) == -3,
    )


@minimum(0.0)
def hs49(x=Variable("5", start=(10, 7, 2, -3, 0.8))):
    a, b, c, d, e = x
    return minimize(
        (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4 + (e - 1) ** 6,
        [a + b + c + 4 * d == 7, c + 5 * e == 6],
    )


@minimum(0.0)
def hs50(x=Variable("5", start=(35, -31, 11, 5, -5))):
    rows = [x[k] + 2 * x[k + 1] + 3 * x[k + 2] == 6 for k in range(3)]
    step = x[:-1] - x[1:]
    return minimize(ol.sum_squares(step[:2]) + step[2] ** 4 + step[3] ** 2, rows)


@minimum(0.0)
def hs51(x=Variable("5", start=(2.5, 0.5, 2, -1, 0.5))):
    a, b, c, d, e = x
    return minimize(
        (a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2 + (e - 1) ** 2,
        [a + 3 * b == 4, c + d == 2 * e, b == e],
    )


PLANE = torch.tensor([[1, 3, 0, 0, 0], [0, 0, 1, 1, -2], [0, 1, 0, 0, -1]])


@minimum(1859 / 349, h=torch.zeros(3))
def hs52(x=Variable("5", start=2), h=Parameter("3")):
    a, b, c = x[:3]
    return minimize(
        (4 * a - b) ** 2 + (b + c - 2) ** 2 + ol.sum_squares(x[3:] - 1),
        plane=PLANE @ x == h,
    )


@minimum(176 / 43, h=torch.zeros(3))
def hs53(x=Variable("5", lower=-10, upper=10, start=2), h=Parameter("3")):
    a, b, c = x[:3]
    return minimize(
        (a - b) ** 2 + (b + c - 2) ** 2 + ol.sum_squares(x[3:] - 1),
        plane=PLANE @ x == h,
    )


@minimum(0.24150513, level=torch.tensor([2 * ROOT2, 8 + ROOT2]))
def hs77(x=Variable("5", start=2), level=Parameter("2")):
    a, b, c, d, e = x
    return minimize(
        (a - 1) ** 2 + (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4 + (e - 1) ** 6,
        a**2 * d + torch.sin(d - e) == level[0],
        b + c**4 * d**2 == level[1],
    )


def of_78(x, radius):
    """The constraints of problems 78, 80 and 81."""
    return [
        ol.sum_squares(x) == radius,
        x[1] * x[2] == 5 * x[3] * x[4],
        x[0] ** 3 + x[1] ** 3 == -1,
    ]


@minimum(-2.91970041, radius=10.0)
def hs78(x=Variable("5", start=(-2, 1.5, 2, -1, -1)), radius=Parameter()):
    return minimize(ol.prod(x), of_78(x, radius))


@minimum(0.0787768209, level=torch.tensor([2 + 3 * ROOT2, 2 * ROOT2 - 2, 2.0]))
def hs79(x=Variable("5", start=2), level=Parameter("3")):
    a, b, c, d, e = x
    return minimize(
        (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 2 + (c - d) ** 4 + (d - e) ** 4,
        bent=ol.hstack([a + b**2 + c**3, b - c**2 + d, a * e]) == level,
    )


@minimum(0.0539498478, radius=10.0)
def hs80(
    x=Variable("5", lower=-LIMIT, upper=LIMIT, start=(-2, 2, 2, -1, -1)),
    radius=Parameter(),
):
    return minimize(ol.exp(ol.prod(x)), of_78(x, radius))


@minimum(0.0539498478, weight=0.5)
def hs81(
    x=Variable("5", lower=-LIMIT, upper=LIMIT, start=(-2, 2, 2, -1, -1)),
    weight=Parameter(),
):
    squared = (x[0] ** 3 + x[1] ** 3 + 1) ** 2
    return minimize(torch.exp(torch.prod(x)) - weight * squared, of_78(x, 10))

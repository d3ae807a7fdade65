"""Problems of W. Hock, K. Schittkowski, Test Examples for Nonlinear Programming Codes
(1981), as declarations: start and minimum are the book's.
"""

import math

import torch

import optlayers as ol
from optlayers import Variable, maximize, minimize

LIMIT = torch.tensor([2.3, 2.3, 3.2, 3.2, 3.2])
# By number: the declaration, and the book's minimum.
HOCK_SCHITTKOWSKI = {}


def constraints_of_78(x):
    return [
        ol.sum_squares(x) == 10,
        x[1] * x[2] == 5 * x[3] * x[4],
        x[0] ** 3 + x[1] ** 3 == -1,
    ]


def minimum(value):
    """Enter a declaration with its minimum in the table."""

    def enter(function):
        problem = ol.problem(function)
        HOCK_SCHITTKOWSKI[function.__name__] = (problem, value)
        return problem

    return enter


@minimum(0.0)
def hs1(a=Variable(start=-2), b=Variable(lower=-1.5, start=1)):
    return minimize(100 * (b - a**2) ** 2 + (1 - a) ** 2)


@minimum(-math.sqrt(3) / 2 - math.pi / 3)
def hs5(a=Variable(lower=-1.5, upper=4), b=Variable(lower=-3, upper=3)):
    return minimize(torch.sin(a + b) + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1)


@minimum(0.0)
def hs6(x=Variable("2", start=(-1.2, 1))):
    return minimize((1 - x[0]) ** 2, 10 * (x[1] - x[0] ** 2) == 0)


@minimum(-math.sqrt(3))
def hs7(x=Variable("2", start=2)):
    return minimize(ol.log(1 + x[0] ** 2) - x[1], (1 + x[0] ** 2) ** 2 + x[1] ** 2 == 4)


@minimum(-0.5)
def hs9(x=Variable("2")):
    wave = torch.sin(math.pi * x[0] / 12) * torch.cos(math.pi * x[1] / 16)
    return minimize(wave, 4 * x[0] - 3 * x[1] == 0)


@minimum(-30.0)
def hs12(x=Variable("2")):
    a, b = x[0], x[1]
    return minimize(
        0.5 * a**2 + b**2 - a * b - 7 * a - 7 * b, 25 - 4 * a**2 - b**2 >= 0
    )


@minimum(2.0)
def hs23(x=Variable("2", lower=-50, upper=50, start=(3, 1))):
    a, b = x[0], x[1]
    return minimize(
        ol.sum_squares(x),
        a + b >= 1,
        [a**2 + b**2 >= 1, 9 * a**2 + b**2 >= 9, a**2 >= b, b**2 >= a],
    )


@minimum(-1.0)
def hs24(x=Variable("2", nonneg=True, start=(1, 0.5))):
    a, b, root = x[0], x[1], math.sqrt(3)
    return minimize(
        ((a - 3) ** 2 - 9) * b**3 / (27 * root),
        [a / root - b >= 0, a + root * b >= 0, 6 - a - root * b >= 0],
    )


@minimum(0.04)
def hs27(x=Variable("3", start=2)):
    return minimize(
        0.01 * (x[0] - 1) ** 2 + (x[1] - x[0] ** 2) ** 2, x[0] + x[2] ** 2 == -1
    )


@minimum(-16 * math.sqrt(2))
def hs29(x=Variable("3", start=1)):
    return minimize(-ol.prod(x), x[0] ** 2 + 2 * x[1] ** 2 + 4 * x[2] ** 2 <= 48)


@minimum(-3300.0)
def hs36(x=Variable("3", nonneg=True, upper=torch.tensor([20, 11, 42]), start=10)):
    return minimize(-x[0] * x[1] * x[2], x[0] + 2 * x[1] + 2 * x[2] <= 72)


@minimum(3456.0)  # The book minimizes the negative.
def hs37(x=Variable("3", lower=0, upper=42, start=10)):
    return maximize(x[0] * x[1] * x[2], ol.between(0, x[0] + 2 * x[1] + 2 * x[2], 72))


@minimum(-1.0)
def hs39(x=Variable("4", start=2)):
    return minimize(-x[0], x[1] == x[0] ** 3 + x[2] ** 2, x[0] ** 2 == x[1] + x[3] ** 2)


@minimum(-0.25)
def hs40(x=Variable("4", start=0.8)):
    return minimize(
        -ol.prod(x),
        [x[0] ** 3 + x[1] ** 2 == 1, x[0] ** 2 * x[3] == x[2], x[3] ** 2 == x[1]],
    )


@minimum(52 / 27)
def hs41(x=Variable("3", lower=0, upper=1), s=Variable(lower=0, upper=2, start=2)):
    return minimize(2 - x[0] * x[1] * x[2], x[0] + 2 * x[1] + 2 * x[2] == s)


@minimum(28 - 10 * math.sqrt(2))
def hs42(x=Variable("4", start=1)):
    aim = torch.tensor([1.0, 2.0, 3.0, 4.0])
    return minimize(ol.sum_squares(x - aim), x[0] == 2, x[2] ** 2 + x[3] ** 2 == 2)


@minimum(0.03256820025)
def hs60(x=Variable("3", lower=-10, upper=10, start=2)):
    a, b, c = x[0], x[1], x[2]
    return minimize(
        (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 4,
        a * (1 + b**2) + c**4 == 4 + 3 * math.sqrt(2),
    )


@minimum(-143.6461422)
def hs61(x=Variable("3")):
    a, b, c = x[0], x[1], x[2]
    return minimize(
        4 * a**2 + 2 * b**2 + 2 * c**2 - 33 * a + 16 * b - 24 * c,
        [3 * a - 2 * b**2 == 7, 4 * a - c**2 == 11],
    )


@minimum(961.7151721)
def hs63(x=Variable("3", nonneg=True, start=2)):
    a, b, c = x[0], x[1], x[2]
    return minimize(
        1000 - a**2 - 2 * b**2 - c**2 - a * b - a * c,
        plane=8 * a + 14 * b + 7 * c == 56,
        ball=ol.sum_squares(x) == 25,
    )


@minimum(17.0140173)
def hs71(x=Variable("4", lower=1, upper=5, start=(1, 5, 5, 1))):
    return minimize(
        x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2],
        ol.prod(x) >= 25,
        ol.sum_squares(x) == 40,
    )


@minimum(0.24150513)
def hs77(x=Variable("5", start=2)):
    a, b, c, d, e = (x[k] for k in range(5))
    return minimize(
        (a - 1) ** 2 + (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4 + (e - 1) ** 6,
        a**2 * d + torch.sin(d - e) == 2 * math.sqrt(2),
        b + c**4 * d**2 == 8 + math.sqrt(2),
    )


@minimum(-2.91970041)
def hs78(x=Variable("5", start=(-2, 1.5, 2, -1, -1))):
    return minimize(ol.prod(x), constraints_of_78(x))


@minimum(0.0787768209)
def hs79(x=Variable("5", start=2)):
    a, b, c, d, e = (x[k] for k in range(5))
    root = math.sqrt(2)
    return minimize(
        (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 2 + (c - d) ** 4 + (d - e) ** 4,
        [a + b**2 + c**3 == 2 + 3 * root, b - c**2 + d == 2 * root - 2, a * e == 2],
    )


@minimum(0.0539498478)
def hs80(x=Variable("5", lower=-LIMIT, upper=LIMIT, start=(-2, 2, 2, -1, -1))):
    return minimize(ol.exp(ol.prod(x)), constraints_of_78(x))


@minimum(0.0539498478)
def hs81(x=Variable("5", lower=-LIMIT, upper=LIMIT, start=(-2, 2, 2, -1, -1))):
    squared = (x[0] ** 3 + x[1] ** 3 + 1) ** 2
    return minimize(ol.exp(ol.prod(x)) - 0.5 * squared, constraints_of_78(x))

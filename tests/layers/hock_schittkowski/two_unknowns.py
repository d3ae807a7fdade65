"""Problems 1 to 24 of the book, with two unknowns."""

import math

import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from tests.layers.hock_schittkowski.entries import table

ENTRIES, minimum = table()
ROOT3 = math.sqrt(3)


def rosenbrock(a, b, steep=100):
    return steep * (b - a**2) ** 2 + (1 - a) ** 2


@minimum(0.0, steep=100.0)
def hs1(a=Variable(start=-2), b=Variable(lower=-1.5, start=1), steep=Parameter()):
    return minimize(rosenbrock(a, b, steep))


@minimum(0.0504261879, steep=100.0, low=1.5)
def hs2(a=Variable(start=-2), b=Variable(start=1), steep=Parameter(), low=Parameter()):
    return minimize(rosenbrock(a, b, steep), floor=b >= low)


@minimum(0.0)
def hs3(x=Variable("2", start=(10, 1))):
    return minimize(x[1] + 1e-5 * (x[1] - x[0]) ** 2, x[1] >= 0)


@minimum(8 / 3, p=torch.tensor([1.0, 0.0]))
def hs4(x=Variable("2", start=(1.125, 0.125)), p=Parameter("2")):
    return minimize((x[0] + 1) ** 3 / 3 + x[1], corner=x >= p)


@minimum(-ROOT3 / 2 - math.pi / 3, slope=torch.tensor([-1.5, 2.5]))
def hs5(
    a=Variable(lower=-1.5, upper=4), b=Variable(lower=-3, upper=3), slope=Parameter("2")
):
    return minimize(torch.sin(a + b) + (a - b) ** 2 + slope[0] * a + slope[1] * b + 1)


@minimum(0.0, bend=10.0)
def hs6(x=Variable("2", start=(-1.2, 1)), bend=Parameter()):
    return minimize((1 - x[0]) ** 2, bend * (x[1] - x[0] ** 2) == 0)


@minimum(-ROOT3, radius=4.0)
def hs7(x=Variable("2", start=2), radius=Parameter()):
    squared = 1 + x[0] ** 2
    return minimize(ol.log(squared) - x[1], oval=squared**2 + x[1] ** 2 == radius)


@minimum(-1.0)
def hs8(x=Variable("2", start=(2, 1))):
    # A system of equations in the dress of a minimization.
    return minimize(0 * ol.sum(x) - 1, ol.sum_squares(x) == 25, ol.prod(x) == 9)


@minimum(-0.5, period=torch.tensor([12.0, 16.0]))
def hs9(x=Variable("2"), period=Parameter("2")):
    angle = math.pi * x / period
    return minimize(torch.sin(angle[0]) * torch.cos(angle[1]), 4 * x[0] == 3 * x[1])


@minimum(-1.0, size=1.0)
def hs10(x=Variable("2", start=(-10, 10)), size=Parameter()):
    a, b = x
    return minimize(a - b, ellipse=-3 * a**2 + 2 * a * b - b**2 + size >= 0)


@minimum(-8.498464223, center=torch.tensor([5.0, 0.0]))
def hs11(x=Variable("2", start=(4.9, 0.1)), center=Parameter("2")):
    return minimize(ol.sum_squares(x - center) - 25, bowl=x[1] >= x[0] ** 2)


@minimum(-30.0, Q=[[1.0, -1.0], [-1.0, 2.0]], size=25.0)
def hs12(x=Variable("2"), Q=Parameter("2 2"), size=Parameter()):
    return minimize(
        x @ Q @ x / 2 - 7 * ol.sum(x), inside=4 * x[0] ** 2 + x[1] ** 2 <= size
    )


@minimum(9 - 2.875 * math.sqrt(7), p=torch.tensor([2.0, 1.0]))
def hs14(x=Variable("2", start=2), p=Parameter("2")):
    return minimize(
        ol.sum_squares(x - p),
        line=x[0] - 2 * x[1] == -1,
        inside=x[0] ** 2 / 4 + x[1] ** 2 <= 1,
    )


@minimum(306.5, steep=100.0, low=1.0)
def hs15(x=Variable("2", start=(-2, 1)), steep=Parameter(), low=Parameter()):
    a, b = x
    return minimize(
        rosenbrock(a, b, steep), product=a * b >= low, bent=a + b**2 >= 0, a=a <= 0.5
    )


@minimum(0.25, steep=100.0)
def hs16(
    a=Variable(lower=-0.5, upper=0.5, start=-2),
    b=Variable(upper=1, start=1),
    steep=Parameter(),
):
    return minimize(rosenbrock(a, b, steep), a + b**2 >= 0, a**2 + b >= 0)


@minimum(1.0)
def hs17(a=Variable(lower=-0.5, upper=0.5, start=-2), b=Variable(upper=1, start=1)):
    return minimize(rosenbrock(a, b), b**2 >= a, a**2 >= b)


@minimum(5.0, area=25.0)
def hs18(
    a=Variable(lower=2, upper=50, start=2),
    b=Variable(lower=0, upper=50, start=2),
    area=Parameter(),
):
    return minimize(0.01 * a**2 + b**2, a * b >= area, a**2 + b**2 >= 25)


@minimum(-6961.81381, reach=82.81)
def hs19(
    x=Variable("2", lower=torch.tensor([13, 0]), upper=100, start=(20.1, 5.84)),
    reach=Parameter(),
):
    return minimize(
        (x[0] - 10) ** 3 + (x[1] - 20) ** 3,
        beyond=ol.sum_squares(x - 5) >= 100,
        within=(x[0] - 6) ** 2 + (x[1] - 5) ** 2 <= reach,
    )


@minimum(81.5 - 25 * ROOT3, radius=1.0)
def hs20(
    a=Variable(lower=-0.5, upper=0.5, start=-2), b=Variable(start=1), radius=Parameter()
):
    return minimize(
        rosenbrock(a, b), [a + b**2 >= 0, a**2 + b >= 0], a**2 + b**2 >= radius
    )


@minimum(-99.96)
def hs21(
    x=Variable(
        "2", lower=torch.tensor([2, -50]), upper=torch.tensor([50, 50]), start=-1
    ),
):
    return minimize(0.01 * x[0] ** 2 + x[1] ** 2 - 100, 10 * x[0] - x[1] >= 10)


@minimum(1.0, p=torch.tensor([2.0, 1.0]))
def hs22(x=Variable("2", start=2), p=Parameter("2")):
    return minimize(ol.sum_squares(x - p), ol.sum(x) <= 2, x[0] ** 2 <= x[1])


@minimum(2.0)
def hs23(x=Variable("2", lower=-50, upper=50, start=(3, 1))):
    a, b = x
    return minimize(
        ol.sum_squares(x),
        a + b >= 1,
        [a**2 + b**2 >= 1, 9 * a**2 + b**2 >= 9, a**2 >= b, b**2 >= a],
    )


@minimum(-1.0, width=6.0)
def hs24(x=Variable("2", nonneg=True, start=(1, 0.5)), width=Parameter()):
    a, b = x
    return minimize(
        ((a - 3) ** 2 - 9) * b**3 / (27 * ROOT3),
        below=[a / ROOT3 - b >= 0, a + ROOT3 * b >= 0],
        within=a + ROOT3 * b <= width,
    )

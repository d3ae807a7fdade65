"""Problems 26 to 37 and 60 to 66 of the book, with three unknowns."""

import math

import torch

import optlayers as ol
from optlayers import Parameter, Variable, maximize, minimize
from tests.layers.hock_schittkowski.entries import table

ENTRIES, minimum = table()
ROOT2 = math.sqrt(2)


@minimum(0.0)
def hs26(x=Variable("3", start=(-2.6, 2, 2))):
    a, b, c = x
    return minimize((a - b) ** 2 + (b - c) ** 4, (1 + b**2) * a + c**4 == 3)


@minimum(0.04, level=-1.0)
def hs27(x=Variable("3", start=2), level=Parameter()):
    return minimize(
        0.01 * (x[0] - 1) ** 2 + (x[1] - x[0] ** 2) ** 2,
        valley=x[0] + x[2] ** 2 == level,
    )


@minimum(0.0)
def hs28(x=Variable("3", start=(-4, 1, 1))):
    return minimize(ol.sum_squares(x[:-1] + x[1:]), x @ [1, 2, 3] == 1)


@minimum(-16 * ROOT2, weight=torch.tensor([1.0, 2.0, 4.0]), size=48.0)
def hs29(x=Variable("3", start=1), weight=Parameter("3"), size=Parameter()):
    return minimize(-ol.prod(x), ellipsoid=weight @ x**2 <= size)


@minimum(1.0)
def hs30(
    x=Variable("3", lower=torch.tensor([1, -10, -10]), upper=10, start=1),
):
    return minimize(ol.sum_squares(x), x[0] ** 2 + x[1] ** 2 >= 1)


@minimum(6.0, weight=torch.tensor([9.0, 1.0, 9.0]), low=1.0)
def hs31(
    x=Variable(
        "3",
        lower=torch.tensor([-10, 1, -10]),
        upper=torch.tensor([10, 10, 1]),
        start=1,
    ),
    weight=Parameter("3", nonneg=True),
    low=Parameter(),
):
    return minimize(weight @ x**2, x[0] * x[1] >= low)


@minimum(1.0, low=3.0)
def hs32(x=Variable("3", nonneg=True, start=(0.1, 0.7, 0.2)), low=Parameter()):
    a, b, c = x
    return minimize(
        (a + 3 * b + c) ** 2 + 4 * (a - b) ** 2,
        share=1 - ol.sum(x) == 0,
        cubic=6 * b + 4 * c - a**3 >= low,
    )


@minimum(ROOT2 - 6)
def hs33(x=Variable("3", nonneg=True, start=(0, 0, 3))):
    a, b, c = x
    return minimize(
        (a - 1) * (a - 2) * (a - 3) + c,
        cone=c**2 >= a**2 + b**2,
        outside=ol.sum_squares(x) >= 4,
        top=c <= 5,
    )


@minimum(-math.log(math.log(10)))
def hs34(
    x=Variable(
        "3", nonneg=True, upper=torch.tensor([100, 100, 10]), start=(0, 1.05, 2.9)
    ),
):
    return minimize(-x[0], x[1:] >= ol.exp(x[:-1]))


@minimum(1 / 9, q=torch.tensor([-8.0, -6.0, -4.0]), total=3.0)
def hs35(x=Variable("3", nonneg=True, start=0.5), q=Parameter("3"), total=Parameter()):
    a, b, c = x
    return minimize(
        9 + q @ x + (a + b) ** 2 + (a + c) ** 2 + b**2, budget=a + b + 2 * c <= total
    )


@minimum(-3300.0, top=torch.tensor([20.0, 11.0, 42.0]))
def hs36(x=Variable("3", nonneg=True, start=10), top=Parameter("3")):
    return minimize(-ol.prod(x), x <= top, girth=x[0] + 2 * x[1] + 2 * x[2] <= 72)


@minimum(3456.0, girth=72.0)  # The book minimizes the negative.
def hs37(x=Variable("3", lower=0, upper=42, start=10), girth=Parameter()):
    return maximize(ol.prod(x), post=ol.between(0, x[0] + 2 * x[1] + 2 * x[2], girth))


@minimum(0.03256820025, level=4 + 3 * ROOT2)
def hs60(x=Variable("3", lower=-10, upper=10, start=2), level=Parameter()):
    a, b, c = x
    return minimize(
        (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 4,
        surface=a * (1 + b**2) + c**4 == level,
    )


@minimum(-143.6461422, weight=torch.tensor([4.0, 2.0, 2.0]), q=[-33.0, 16.0, -24.0])
def hs61(x=Variable("3"), weight=Parameter("3"), q=Parameter("3")):
    a, b, c = x
    return minimize(weight @ x**2 + q @ x, [3 * a - 2 * b**2 == 7, 4 * a - c**2 == 11])


@minimum(-26272.51448, price=torch.tensor([255.0, 280.0, 290.0]))
def hs62(
    x=Variable("3", lower=0, upper=1, start=(0.7, 0.2, 0.1)), price=Parameter("3")
):
    # Sums of x[k] and all that follows, and these with less of x[k].
    whole = torch.triu(torch.ones(3, 3, dtype=torch.float64)) @ x + 0.03
    part = whole - [0.91, 0.93, 0.87] * x
    return minimize(-32.174 * (price @ torch.log(whole / part)), ol.sum(x) == 1)


@minimum(961.7151721, radius=25.0)
def hs63(x=Variable("3", nonneg=True, start=2), radius=Parameter()):
    a, b, c = x
    return minimize(
        1000 - a**2 - 2 * b**2 - c**2 - a * b - a * c,
        plane=x @ [8, 14, 7] == 56,
        ball=ol.sum_squares(x) == radius,
    )


@minimum(
    6299.842428,
    cost=torch.tensor([5.0, 20.0, 10.0]),
    once=torch.tensor([5e4, 7.2e4, 1.44e5]),
)
def hs64(
    x=Variable("3", lower=1e-5, start=1), cost=Parameter("3"), once=Parameter("3")
):
    return minimize(cost @ x + ol.sum(once / x), ol.sum([4, 32, 120] / x) <= 1)


@minimum(0.9535288567, radius=48.0, p=5.0)
def hs65(
    x=Variable(
        "3",
        lower=torch.tensor([-4.5, -4.5, -5]),
        upper=torch.tensor([4.5, 4.5, 5]),
        start=(-5, 5, 0),
    ),
    radius=Parameter(),
    p=Parameter(),
):
    a, b, c = x
    return minimize(
        (a - b) ** 2 + (a + b - 10) ** 2 / 9 + (c - p) ** 2,
        ball=ol.sum_squares(x) <= radius,
    )


@minimum(0.5181632741, q=torch.tensor([-0.8, 0.0, 0.2]))
def hs66(
    x=Variable("3", lower=0, upper=torch.tensor([100, 100, 10]), start=(0, 1.05, 2.9)),
    q=Parameter("3"),
):
    return minimize(q @ x, tower=[x[1] >= torch.exp(x[0]), x[2] >= torch.exp(x[1])])

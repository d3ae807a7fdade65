"""Problems 100 and 113 of the book, with seven and ten unknowns."""

import torch

import optlayers as ol
from optlayers import Parameter, Variable, minimize
from tests.layers.hock_schittkowski.entries import table

ENTRIES, minimum = table()


@minimum(680.6300573, limit=torch.tensor([127.0, 282.0, 196.0, 0.0]))
def hs100(x=Variable("7", start=(1, 2, 0, 4, 0, 1, 1)), limit=Parameter("4")):
    a, b, c, d, e, f, g = x
    return minimize(
        (a - 10) ** 2 + 5 * (b - 12) ** 2 + c**4 + 3 * (d - 11) ** 2 + 10 * e**6
        + 7 * f**2 + g**4 - 4 * f * g - 10 * f - 8 * g,
        first=2 * a**2 + 3 * b**4 + c + 4 * d**2 + 5 * e <= limit[0],
        second=7 * a + 3 * b + 10 * c**2 + d - e <= limit[1],
        third=23 * a + b**2 + 6 * f**2 - 8 * g <= limit[2],
        fourth=4 * a**2 + b**2 - 3 * a * b + 2 * c**2 + 5 * f - 11 * g <= limit[3],
    )  # fmt: skip


@minimum(
    24.3062091,
    weight=torch.tensor([4.0, 1.0, 2.0, 5.0, 7.0, 2.0, 1.0]),
    aim=torch.tensor([5.0, 3.0, 1.0, 0.0, 11.0, 10.0, 7.0]),
    limit=torch.tensor([105.0, 0.0, 12.0]),
)
def hs113(
    x=Variable("10", start=(2, 3, 5, 5, 1, 2, 7, 3, 6, 10)),
    weight=Parameter("7", nonneg=True),
    aim=Parameter("7"),
    limit=Parameter("3"),
):
    a, b, c, d, e, f, g, h, i, j = x
    plane = ol.hstack(
        [4 * a + 5 * b - 3 * g + 9 * h, 10 * a - 8 * b - 17 * g + 2 * h,
         -8 * a + 2 * b + 5 * i - 2 * j]
    )  # fmt: skip
    return minimize(
        a**2 + b**2 + a * b - 14 * a - 16 * b + (c - 10) ** 2
        + weight @ (x[3:] - aim) ** 2 + 45,
        planes=plane <= limit,
        bowls=[
            3 * (a - 2) ** 2 + 4 * (b - 3) ** 2 + 2 * c**2 - 7 * d <= 120,
            5 * a**2 + 8 * b + (c - 6) ** 2 - 2 * d <= 40,
            0.5 * (a - 8) ** 2 + 2 * (b - 4) ** 2 + 3 * e**2 - f <= 30,
            a**2 + 2 * (b - 2) ** 2 - 2 * a * b + 14 * e - 6 * f <= 0,
            12 * (i - 8) ** 2 - 3 * a + 6 * b - 7 * j <= 0,
        ],
    )  # fmt: skip

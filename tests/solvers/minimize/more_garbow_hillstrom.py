"""Unconstrained test problems with their minima.

Source: J. More, B. Garbow, K. Hillstrom, Testing unconstrained optimization software
(1981), ACM TOMS 7; residuals, standard starts and minima as printed there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from optlayers.programs.minimize import MinimizeProgram


@dataclass(frozen=True)
class Problem:
    """Residuals [B, n] -> [B, k], standard start, and sums of squares at minima."""

    name: str
    residuals: Callable[[Tensor], Tensor]
    start: tuple[float, ...]
    minima: tuple[float, ...]

    def program(self, batch=1):
        return MinimizeProgram(
            lambda x: self.residuals(x).square().sum(1), batch, len(self.start),
            residuals=self.residuals,
        )  # fmt: skip

    def starts(self, batch=1):
        return torch.tensor([self.start] * batch, dtype=torch.float64)


def table(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def stack(*columns):
    return torch.stack(columns, 1)


def rosenbrock(x):
    odd, even = x[:, ::2], x[:, 1::2]
    return torch.cat([10 * (even - odd**2), 1 - odd], 1)


def freudenstein_roth(x):
    a, b = x.unbind(1)
    return stack(-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b)


def powell_badly_scaled(x):
    a, b = x.unbind(1)
    return stack(1e4 * a * b - 1, torch.exp(-a) + torch.exp(-b) - 1.0001)


def brown_badly_scaled(x):
    a, b = x.unbind(1)
    return stack(a - 1e6, b - 2e-6, a * b - 2)


def beale(x):
    a, b = x.unbind(1)
    return stack(1.5 - a * (1 - b), 2.25 - a * (1 - b**2), 2.625 - a * (1 - b**3))


def jennrich_sampson(x):
    i = torch.arange(1, 11, dtype=x.dtype)
    return 2 + 2 * i - torch.exp(i * x[:, :1]) - torch.exp(i * x[:, 1:])


def helical_valley(x):
    a, b, c = x.unbind(1)
    # An angle from 1/4 turn below to 3/4 above, as printed.
    turns = torch.atan(b / a) / (2 * math.pi) + 0.5 * (a < 0)
    return stack(10 * (c - 10 * turns), 10 * (torch.hypot(a, b) - 1), c)


BARD = (
    0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10,
    4.39,
)  # fmt: skip


def bard(x):
    u = torch.arange(1, 16, dtype=x.dtype)
    v = 16 - u
    w = torch.minimum(u, v)
    return table(BARD) - (x[:, :1] + u / (v * x[:, 1:2] + w * x[:, 2:]))


GAUSSIAN = (
    0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989, 0.3521, 0.2420,
    0.1295, 0.0540, 0.0175, 0.0044, 0.0009,
)  # fmt: skip


def gaussian(x):
    t = (8 - torch.arange(1, 16, dtype=x.dtype)) / 2
    return x[:, :1] * torch.exp(-x[:, 1:2] * (t - x[:, 2:]) ** 2 / 2) - table(GAUSSIAN)


MEYER = (
    34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427,
    3820, 3307, 2872,
)  # fmt: skip


def meyer(x):
    t = 45 + 5 * torch.arange(1, 17, dtype=x.dtype)
    return x[:, :1] * torch.exp(x[:, 1:2] / (t + x[:, 2:])) - table(MEYER)


def box(x):
    t = 0.1 * torch.arange(1, 11, dtype=x.dtype)
    rest = x[:, 2:] * (torch.exp(-t) - torch.exp(-10 * t))
    return torch.exp(-t * x[:, :1]) - torch.exp(-t * x[:, 1:2]) - rest


def powell_singular(x):
    a, b, c, d = x.unbind(1)
    return stack(a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2)


def wood(x):
    a, b, c, d = x.unbind(1)
    return stack(
        10 * (b - a**2), 1 - a, 90**0.5 * (d - c**2), 1 - c,
        10**0.5 * (b + d - 2), 10**-0.5 * (b - d),
    )  # fmt: skip


KOWALIK_Y = (
    0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235,
    0.0246,
)  # fmt: skip
KOWALIK_U = (4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625)


def kowalik_osborne(x):
    y, u = table(KOWALIK_Y), table(KOWALIK_U)
    a, b, c, d = x.unsqueeze(2).unbind(1)
    return y - a * (u**2 + u * b) / (u**2 + u * c + d)


def brown_dennis(x):
    t = torch.arange(1, 21, dtype=x.dtype) / 5
    a, b, c, d = x.unsqueeze(2).unbind(1)
    return (a + t * b - torch.exp(t)) ** 2 + (c + d * torch.sin(t) - torch.cos(t)) ** 2


def biggs(x):
    t = 0.1 * torch.arange(1, 14, dtype=x.dtype)
    y = torch.exp(-t) - 5 * torch.exp(-10 * t) + 3 * torch.exp(-4 * t)
    a, b, c, d, e, f = x.unsqueeze(2).unbind(1)
    return c * torch.exp(-t * a) - d * torch.exp(-t * b) + f * torch.exp(-t * e) - y


def watson(x):
    t = torch.arange(1, 30, dtype=x.dtype).unsqueeze(1) / 29
    j = torch.arange(x.shape[1], dtype=x.dtype)
    slope = x[:, 1:] @ (j[1:] * t ** (j[1:] - 1)).mT
    value = x @ (t**j).mT
    last = stack(x[:, 0], x[:, 1] - x[:, 0] ** 2 - 1)
    return torch.cat([slope - value**2 - 1, last], 1)


def penalty(x):
    rest = x.square().sum(1, keepdim=True) - 0.25
    return torch.cat([1e-5**0.5 * (x - 1), rest], 1)


def variably_dimensioned(x):
    j = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)
    total = ((x - 1) * j).sum(1, keepdim=True)
    return torch.cat([x - 1, total, total**2], 1)


def broyden_tridiagonal(x):
    before = torch.nn.functional.pad(x, (1, 0))[:, :-1]
    after = torch.nn.functional.pad(x, (0, 1))[:, 1:]
    return (3 - 2 * x) * x - before - 2 * after + 1


PROBLEMS = (
    Problem("rosenbrock", rosenbrock, (-1.2, 1.0), (0.0,)),
    Problem("freudenstein_roth", freudenstein_roth, (0.5, -2.0), (0.0, 48.9842)),
    Problem("powell_badly_scaled", powell_badly_scaled, (0.0, 1.0), (0.0,)),
    Problem("brown_badly_scaled", brown_badly_scaled, (1.0, 1.0), (0.0,)),
    Problem("beale", beale, (1.0, 1.0), (0.0,)),
    Problem("jennrich_sampson", jennrich_sampson, (0.3, 0.4), (124.362,)),
    Problem("helical_valley", helical_valley, (-1.0, 0.0, 0.0), (0.0,)),
    Problem("bard", bard, (1.0, 1.0, 1.0), (8.21487e-3,)),
    Problem("gaussian", gaussian, (0.4, 1.0, 0.0), (1.12793e-8,)),
    Problem("meyer", meyer, (0.02, 4000.0, 250.0), (87.9458,)),
    Problem("box", box, (0.0, 10.0, 20.0), (0.0,)),
    Problem("powell_singular", powell_singular, (3.0, -1.0, 0.0, 1.0), (0.0,)),
    Problem("wood", wood, (-3.0, -1.0, -3.0, -1.0), (0.0,)),
    Problem("kowalik", kowalik_osborne, (0.25, 0.39, 0.415, 0.39), (3.07505e-4,)),
    Problem("brown_dennis", brown_dennis, (25.0, 5.0, -5.0, -1.0), (85822.2,)),
    Problem("biggs", biggs, (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), (0.0, 5.65565e-3)),
    Problem("watson", watson, (0.0,) * 6, (2.28767e-3,)),
    Problem("extended_rosenbrock", rosenbrock, (-1.2, 1.0) * 5, (0.0,)),
    Problem("penalty", penalty, (1.0, 2.0, 3.0, 4.0), (2.24997e-5,)),
    Problem(
        "variably_dimensioned", variably_dimensioned,
        tuple(1 - j / 10 for j in range(1, 11)), (0.0,),
    ),
    Problem("broyden_tridiagonal", broyden_tridiagonal, (-1.0,) * 10, (0.0,)),
)  # fmt: skip

"""MINPACK's fourteen systems of equations, each [B, n] -> [B, n], and their starts.

Source: J. More, B. Garbow, K. Hillstrom, Testing unconstrained optimization software
(1981), problems 1, 13, 3, 14, 7, 20, 35, 27, 28, 29, 26, 25, 30 and 31.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


class System(NamedTuple):
    """One system and its standard start, [n]."""

    function: Callable[[Tensor], Tensor]
    start: Tensor


def _numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _counting(n: int) -> Tensor:
    return torch.arange(1, n + 1, dtype=torch.float64)


def rosenbrock(x: Tensor) -> Tensor:
    return torch.stack([1 - x[:, 0], 10 * (x[:, 1] - x[:, 0] ** 2)], 1)


def powell_singular(x: Tensor) -> Tensor:
    a, b, c, d = x.unbind(1)
    rows = [a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2]
    return torch.stack(rows, 1)


def powell_badly_scaled(x: Tensor) -> Tensor:
    a, b = x.unbind(1)
    return torch.stack([1e4 * a * b - 1, (-a).exp() + (-b).exp() - 1.0001], 1)


def wood(x: Tensor) -> Tensor:
    a, b, c, d = x.unbind(1)
    t1, t2 = b - a**2, d - c**2
    return torch.stack(
        [
            -200 * a * t1 - (1 - a),
            200 * t1 + 20.2 * (b - 1) + 19.8 * (d - 1),
            -180 * c * t2 - (1 - c),
            180 * t2 + 20.2 * (d - 1) + 19.8 * (b - 1),
        ],
        1,
    )


def helical_valley(x: Tensor) -> Tensor:
    a, b, c = x.unbind(1)
    angle = (b / a).atan() / (2 * math.pi) + torch.where(a < 0, 0.5, 0.0)
    return torch.stack([10 * (c - 10 * angle), 10 * ((a**2 + b**2).sqrt() - 1), c], 1)


def watson(x: Tensor) -> Tensor:
    n = x.shape[1]
    t = _counting(29) / 29
    powers = t[:, None] ** torch.arange(n)
    slopes = torch.zeros(29, n, dtype=torch.float64)
    slopes[:, 1:] = torch.arange(1, n) * powers[:, :-1]
    total = x @ powers.mT
    r = x @ slopes.mT - total**2 - 1
    F = (r[:, :, None] * (slopes - 2 * total[:, :, None] * powers)).sum(1)
    last = x[:, 1] - x[:, 0] ** 2 - 1
    first = x[:, 0] * (1 - 2 * last)
    return F + torch.stack([first, last, *[torch.zeros_like(last)] * (n - 2)], 1)


def chebyquad(x: Tensor) -> Tensor:
    before, now, rows = torch.ones_like(x), 2 * x - 1, []
    for i in range(1, x.shape[1] + 1):
        rows.append(now.mean(1) + (1 / (i * i - 1) if i % 2 == 0 else 0))
        before, now = now, 2 * (2 * x - 1) * now - before
    return torch.stack(rows, 1)


def brown_almost_linear(x: Tensor) -> Tensor:
    linear = x + x.sum(1, keepdim=True) - (x.shape[1] + 1)
    return torch.cat([linear[:, :-1], x.prod(1, keepdim=True) - 1], 1)


def discrete_boundary_value(x: Tensor) -> Tensor:
    n = x.shape[1]
    h, near = 1 / (n + 1), pad(x, (1, 1))
    cubes = (x + _counting(n) * h + 1) ** 3
    return 2 * x - near[:, :-2] - near[:, 2:] + h**2 * cubes / 2


def discrete_integral(x: Tensor) -> Tensor:
    n = x.shape[1]
    h = 1 / (n + 1)
    t = _counting(n) * h
    cubes = (x + t + 1) ** 3
    below, above = (t * cubes).cumsum(1), (1 - t) * cubes
    rest = above.sum(1, keepdim=True) - above.cumsum(1)
    return x + h * ((1 - t) * below + t * rest) / 2


def trigonometric(x: Tensor) -> Tensor:
    n = x.shape[1]
    total = n - x.cos().sum(1, keepdim=True)
    return total + _counting(n) * (1 - x.cos()) - x.sin()


def variably_dimensioned(x: Tensor) -> Tensor:
    j = _counting(x.shape[1])
    s = (j * (x - 1)).sum(1, keepdim=True)
    return x - 1 + j * s * (1 + 2 * s**2)


def broyden_tridiagonal(x: Tensor) -> Tensor:
    near = pad(x, (1, 1))
    return (3 - 2 * x) * x - near[:, :-2] - 2 * near[:, 2:] + 1


def broyden_banded(x: Tensor) -> Tensor:
    n = x.shape[1]
    i, j = torch.arange(n)[:, None], torch.arange(n)
    band = ((j >= i - 5) & (j <= i + 1) & (j != i)).double()
    return x * (2 + 5 * x**2) + 1 - (x * (1 + x)) @ band.mT


_MESH = _counting(10) / 11
SYSTEMS = {
    "rosenbrock": System(rosenbrock, _numbers(-1.2, 1)),
    "powell_singular": System(powell_singular, _numbers(3, -1, 0, 1)),
    "powell_badly_scaled": System(powell_badly_scaled, _numbers(0, 1)),
    "wood": System(wood, _numbers(-3, -1, -3, -1)),
    "helical_valley": System(helical_valley, _numbers(-1, 0, 0)),
    "watson": System(watson, torch.zeros(6, dtype=torch.float64)),
    "chebyquad": System(chebyquad, _counting(7) / 8),
    "brown_almost_linear": System(brown_almost_linear, _numbers(*[0.5] * 10)),
    "discrete_boundary_value": System(discrete_boundary_value, _MESH * (_MESH - 1)),
    "discrete_integral": System(discrete_integral, _MESH * (_MESH - 1)),
    "trigonometric": System(trigonometric, _numbers(*[0.1] * 10)),
    "variably_dimensioned": System(variably_dimensioned, 1 - _counting(10) / 10),
    "broyden_tridiagonal": System(broyden_tridiagonal, _numbers(*[-1.0] * 10)),
    "broyden_banded": System(broyden_banded, _numbers(*[-1.0] * 10)),
}
